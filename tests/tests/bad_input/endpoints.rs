//! Endpoints that do not answer as a store does: bounded tries, a clear error, nothing deleted.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use hardprune_tests::s3_server::{Effect, Fault, Operation};

use crate::scene::{On, Scene};

#[test]
fn an_endpoint_that_refuses_connections() {
    let mut scene = Scene::new(On::S3).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.program = scene.program.with("AWS_ENDPOINT_URL", format!("http://{free}"));
    scene
        .both_fail(
            1,
            &[],
            &["s3://registry at http://127.0.0.1", "check the endpoint"],
        )
        .unwrap();
    assert_eq!(scene.server().counters().list, 0);
}

#[test]
fn an_endpoint_whose_name_is_not_known() {
    let mut scene = Scene::new(On::S3).unwrap();
    scene.program = scene
        .program
        .with("AWS_ENDPOINT_URL", "http://no-such-host.invalid");
    scene
        .both_fail(1, &[], &["no-such-host.invalid", "check the endpoint"])
        .unwrap();
}

#[test]
fn an_endpoint_that_is_no_address() {
    let mut scene = Scene::new(On::S3).unwrap();
    scene.program = scene.program.with("AWS_ENDPOINT_URL", "not an address");
    scene.both_fail(2, &[], &["endpoint"]).unwrap();
}

/// Five tries, each of which ends after the time that is set: thirty seconds where none is.
#[test]
fn an_endpoint_that_hangs() {
    let scene = Scene::new(On::S3).unwrap();
    scene.server().faults().add(Fault::on_all(Effect::Hang));
    let began = Instant::now();
    scene
        .fails(
            1,
            "check",
            &["--request-timeout", "200ms"],
            &["no answer in time", "s3://registry"],
        )
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(scene.server().counters().list, 5);
}

#[test]
fn answers_that_come_at_the_second_try_are_taken() {
    for effect in [
        Effect::Status(500, "InternalError"),
        Effect::Status(503, "SlowDown"),
        Effect::DropConnection,
        Effect::Html200,
        Effect::ErrorDocument200,
        Effect::CutBody(100),
    ] {
        let scene = Scene::new(On::S3).unwrap();
        for operation in [Operation::List, Operation::Get] {
            // A manifest's or link's bytes have no form of their own; what is cut or refused is seen.
            let is_seen = !matches!(effect, Effect::Html200 | Effect::ErrorDocument200);
            if operation == Operation::List || is_seen {
                let fault = Fault::on(operation, effect.clone()).after(3).times(2);
                scene.server().faults().add(fault.of_keys_with("docker/"));
            }
        }
        scene.prunes_exactly(&[]).unwrap();
        assert!(scene.server().faults().met() >= 2, "{effect:?} met nobody");
    }
}

#[test]
fn an_answer_that_hangs_once_is_asked_for_again() {
    let scene = Scene::new(On::S3).unwrap();
    for operation in [Operation::List, Operation::Get] {
        let fault = Fault::on(operation, Effect::Hang).after(2).times(1);
        scene.server().faults().add(fault.of_keys_with("docker/"));
    }
    scene
        .prunes_exactly_with(&[], &["--request-timeout", "3s"])
        .unwrap();
    assert_eq!(scene.server().faults().met(), 2);
}

/// What a proxy says in place of a manifest is neither a manifest nor the proof that there is none.
#[test]
fn a_login_page_in_place_of_a_manifest() {
    for effect in [Effect::Html200, Effect::ErrorDocument200] {
        let scene = Scene::new(On::S3).unwrap();
        let fault = Fault::on(Operation::Get, effect).of_keys_with("docker/registry/v2/blobs/");
        scene.server().faults().add(fault);
        scene
            .both_fail(
                1,
                &["--prune-broken"],
                &["could not read", "docker/registry/v2/blobs/"],
            )
            .unwrap();
    }
}

#[test]
fn an_endpoint_that_is_no_store_at_all() {
    let scene = Scene::new(On::S3).unwrap();
    scene.server().faults().add(Fault::on_all(Effect::Html200));
    let parts = ["s3://registry", "page 1", "cannot be believed"];
    scene.both_fail(1, &[], &parts).unwrap();
    scene.server().faults().clear();
    scene
        .server()
        .faults()
        .add(Fault::on_all(Effect::ErrorDocument200));
    scene.both_fail(1, &[], &parts).unwrap();
    scene.server().faults().clear();
    scene
        .server()
        .faults()
        .add(Fault::on_all(Effect::Status(500, "InternalError")));
    scene.both_fail(1, &[], &["s3://registry", "HTTP 500"]).unwrap();
}

/// A redirect is not followed: it would send what was signed to another place.
#[test]
fn a_bucket_that_is_served_elsewhere() {
    let scene = Scene::new(On::S3).unwrap();
    let moved = Effect::Status(301, "PermanentRedirect");
    scene.server().faults().add(Fault::on(Operation::List, moved));
    scene
        .both_fail(2, &[], &["served elsewhere", "AWS_REGION"])
        .unwrap();
}

#[test]
fn a_clock_that_the_store_does_not_accept() {
    let scene = Scene::new(On::S3).unwrap();
    let skewed = Effect::Status(403, "RequestTimeTooSkewed");
    scene.server().faults().add(Fault::on(Operation::List, skewed));
    scene.both_fail(2, &[], &["set this machine's clock"]).unwrap();
}
