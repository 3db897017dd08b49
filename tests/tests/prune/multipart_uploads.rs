//! Multipart uploads that nobody completed (`--abort-multipart-older-than`).

use std::time::Duration;

use anyhow::Result;
use hardprune_tests::content::digest_of;
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Hardprune;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::scene::{Scene, report_of};
use hardprune_tests::storage_writer::{REGISTRY_ROOT, blob_key};

const HOUR: Duration = Duration::from_secs(3_600);
const OLDER: [&str; 2] = ["--abort-multipart-older-than", "48h"];

fn upload_key(name: &str) -> String {
    format!("{REGISTRY_ROOT}repositories/team/app/_uploads/{name}/data")
}

/// A registry with uploads of every kind. Returns the keys of those that are to go, and of all others.
fn scene() -> Result<(Scene, Vec<String>, Vec<String>)> {
    let options = S3Options {
        // So that there are pages, of uploads and of parts.
        page_size: 3,
        ..S3Options::default()
    };
    let scene = Scene::on_s3(&Shape::small(101), options)?;
    let server = scene.server()?;
    let hours_ago = |hours| server.now() - hours * HOUR;
    let old = hours_ago(50);
    let parts: &[(&'static [u8], _)] = &[
        (b"12345", old),
        (b"123", old),
        (b"1", old),
        (b"1", old),
        (b"", old),
    ];
    let mut abandoned: Vec<String> = ["one", "two", "three", "four"].map(upload_key).to_vec();
    // A registry moves large blobs to their place in parts.
    abandoned.push(blob_key(&digest_of(b"a large blob")));
    for key in &abandoned {
        server.begin_upload(key, old, parts);
    }
    server.begin_upload(&upload_key("two"), old, &[]);
    abandoned.push(upload_key("two"));
    let mut others = vec![upload_key("young"), upload_key("goes-on")];
    server.begin_upload(&others[0], hours_ago(47), &[]);
    server.begin_upload(&others[1], old, &[(b"1", old), (b"2", hours_ago(1))]);
    for strange in ["repositories/team/app/_uploads/x/other", "backup"] {
        others.push(format!("{REGISTRY_ROOT}{strange}"));
    }
    others.push("backups/registry.tar".to_owned());
    for key in &others[2..] {
        server.begin_upload(key, old, parts);
    }
    abandoned.sort();
    others.sort();
    Ok((scene, abandoned, others))
}

fn figures(report: &serde_json::Value) -> Vec<u64> {
    let names = ["aborted", "parts", "bytes", "failed", "young", "unrecognized"];
    let figures = &report["garbage"]["multipart_uploads"];
    let all = names.iter().filter_map(|name| figures[name].as_u64());
    all.collect()
}

#[test]
fn old_uploads_of_the_registry_are_aborted_and_no_others() {
    let (scene, abandoned, others) = scene().unwrap();
    let all = scene.server().unwrap().uploads();
    assert_eq!(all.len(), abandoned.len() + others.len());
    // Those outside of the registry are not even listed.
    let expected = [6, 25, 50, 0, 2, 2];
    let check = scene.check(&OLDER).unwrap();
    assert_eq!(figures(&check), expected, "{:#}", check["garbage"]);
    assert_eq!(scene.server().unwrap().uploads(), all, "R7");

    let finished = scene.program.run(&scene.delete(&OLDER)).unwrap();
    let report = report_of(&finished, 0).unwrap();
    assert_eq!(figures(&report), expected, "{:#}", report["garbage"]);
    assert!(
        finished.stderr.contains("will abort 6 multipart uploads (50 B)"),
        "{}",
        finished.stderr
    );
    assert_eq!(scene.server().unwrap().uploads(), others);
    scene.check_finished(&report, &scene.orphans()).unwrap();
    let again = scene.check(&OLDER).unwrap();
    assert_eq!(figures(&again), [0, 0, 0, 0, 2, 2]);
}

#[test]
fn without_the_option_or_where_a_guard_refuses_none_is() {
    let (mut scene, _, _) = scene().unwrap();
    let all = scene.server().unwrap().uploads();
    scene.program = Hardprune::new().unwrap().guarded().on_s3(scene.server().unwrap());
    let refused = [&OLDER[..], &["--max-delete-blobs", "1"]].concat();
    let report = scene.report(3, &scene.delete(&refused)).unwrap();
    assert_eq!(figures(&report), [0; 6], "{:#}", report["garbage"]);
    let report = scene.report(0, &scene.delete(&[])).unwrap();
    assert_eq!(figures(&report), [0; 6], "{:#}", report["garbage"]);
    assert_eq!(scene.server().unwrap().uploads(), all);
}

#[test]
fn a_folder_has_none() {
    let scene = Scene::on_folder(&Shape::small(102)).unwrap();
    let finished = scene.program.run(&scene.delete(&OLDER)).unwrap();
    assert_eq!(finished.status, 2, "{finished:?}");
    assert!(
        finished.stderr.contains("has no multipart uploads"),
        "{finished:?}"
    );
}

#[test]
fn one_that_cannot_be_aborted_is_counted_and_said() {
    let (scene, _, mut others) = scene().unwrap();
    let key = upload_key("three");
    // Its parts are listed before the plan, and again before it is aborted.
    let fault = Fault::on(Operation::Multipart, Effect::Status(403, "AccessDenied"))
        .of_keys_with(&key)
        .after(4);
    scene.server().unwrap().faults().add(fault);
    let report = scene.report(5, &scene.delete(&OLDER)).unwrap();
    assert_eq!(figures(&report)[..4], [5, 20, 40, 1], "{:#}", report["garbage"]);
    assert_eq!(report["outcome"], "completed");
    let problem = report["problems"]["first"][0]["message"].as_str().unwrap();
    assert!(problem.contains(&key), "{problem}");
    others.push(key);
    others.sort();
    assert_eq!(scene.server().unwrap().uploads(), others);
}

/// R10, R11: who no longer has the lock aborts nothing.
#[test]
fn without_the_lock_none_is_aborted() {
    let (scene, ..) = scene().unwrap();
    let all = scene.server().unwrap().uploads();
    let running = scene
        .hold_at("before-multipart-aborts", 0, &scene.delete(&OLDER))
        .unwrap();
    scene.storage().remove("hardprune/lock.json").unwrap();
    running.release().unwrap();
    let finished = running.finish().unwrap();
    assert_eq!(finished.status, 4, "{finished:?}");
    assert_eq!(scene.server().unwrap().uploads(), all);
    scene.check_intact().unwrap();
}

/// R12.
#[test]
fn a_listing_that_does_not_prove_itself_ends_the_run_before_anything_is_deleted() {
    let (scene, ..) = scene().unwrap();
    let all = scene.server().unwrap().uploads();
    for effect in [Effect::Html200, Effect::CutBody(200)] {
        scene.server().unwrap().faults().clear();
        scene
            .server()
            .unwrap()
            .faults()
            .add(Fault::on(Operation::Multipart, effect));
        let options = [&OLDER[..], &["--retry-pause", "1ms"]].concat();
        let finished = scene.program.run(&scene.delete(&options)).unwrap();
        assert_eq!(finished.status, 1, "{finished:?}");
        assert!(scene.difference().unwrap().removed_blobs().is_empty());
        assert_eq!(scene.server().unwrap().uploads(), all);
    }
}
