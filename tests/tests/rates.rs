//! How fast a registry's store is asked: no faster than it takes, and no faster than somebody has said.

use hardprune_tests::fleet::Fleet;
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::scene::{Scene, number};

fn shape() -> Shape {
    Shape {
        images: 60,
        orphans: 300,
        ..Shape::small(17)
    }
}

fn scene() -> Scene {
    let options = S3Options {
        keeps_log: true,
        ..S3Options::default()
    };
    Scene::on_s3(&shape(), options).expect("a server and the program")
}

/// 503 is no failure: what was refused is asked again, and all of it is done in the end.
#[test]
fn a_store_that_refuses_some_requests_is_pruned_all_the_same() {
    let scene = scene();
    let faults = scene.server().unwrap().faults();
    for (operation, requests) in [
        (Operation::List, 7),
        (Operation::Get, 5),
        (Operation::DeleteObjects, 3),
    ] {
        faults.add(Fault::on(operation, Effect::Status(503, "SlowDown")).one_in(requests));
    }
    let throttled = Effect::KeyError {
        code: "SlowDown",
        message: "Please reduce your request rate.",
    };
    faults.add(Fault::on(Operation::DeleteObjects, throttled).one_in(4));
    let report = scene.report(0, &scene.delete(&[])).unwrap();
    assert!(faults.met() > 20, "{} were refused", faults.met());
    scene.check_finished(&report, &scene.orphans()).unwrap();
    assert_eq!(number(&report, "/blobs/failed").unwrap(), 0);
}

/// What the server was asked from the first to the last request about the registry's own keys: how many, and in how many seconds.
fn asked(scene: &Scene) -> (f64, f64) {
    let log = scene.server().expect("the registry is on a server").log();
    let mut times: Vec<i64> = log
        .iter()
        .filter(|entry| entry.operation != Operation::DeleteObjects && !entry.key.starts_with("hardprune/"))
        .map(|entry| entry.unix_micros)
        .collect();
    times.sort_unstable();
    let (first, last) = (times[0], times[times.len() - 1]);
    let count = u32::try_from(times.len()).expect("a test has few requests");
    let micros = u32::try_from(last - first).expect("a test takes no hour");
    (f64::from(count), f64::from(micros) / 1e6)
}

const MOST: f64 = 40.0;

#[test]
fn no_more_requests_are_made_than_somebody_has_said() {
    let scene = scene();
    scene.server().unwrap().reset_counters();
    let report = scene
        .report(0, &scene.delete(&["--max-requests-per-second", "40"]))
        .unwrap();
    let (requests, seconds) = asked(&scene);
    scene.check_finished(&report, &scene.orphans()).unwrap();
    assert!(requests > 2.0 * MOST, "too few to tell: {requests}");
    // Some may have been under way when the first arrived.
    assert!(requests <= MOST * (seconds + 0.5), "{requests} in {seconds} s");
}

#[test]
fn workers_share_what_somebody_has_said() {
    let fleet = Fleet::of(scene()).unwrap();
    let scene = &fleet.scene;
    fleet.set_up().unwrap();
    let _workers = fleet.workers(3).unwrap();
    scene.server().unwrap().reset_counters();
    let url = fleet.nats.url();
    let options = fleet.options(&url, &["--max-requests-per-second", "40"]);
    let report = scene.report(0, &scene.delete(&options)).unwrap();
    let (requests, seconds) = asked(scene);
    scene.check_finished(&report, &scene.orphans()).unwrap();
    assert!(requests > 2.0 * MOST, "too few to tell: {requests}");
    // Each that was not counted yet may have asked once a second, for four.
    assert!(
        requests <= MOST * (seconds + 0.5) + 12.0,
        "{requests} in {seconds} s"
    );
}

#[test]
fn a_folder_has_no_requests_to_bound() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let arguments = scene.delete(&["--max-requests-per-second", "40"]);
    let finished = scene.program.run(&arguments).unwrap();
    assert_eq!(finished.status, 2, "{}", finished.stderr);
    assert!(finished.stderr.contains("is a folder"), "{}", finished.stderr);
    assert!(scene.difference().unwrap().is_empty(), "something was changed");
}
