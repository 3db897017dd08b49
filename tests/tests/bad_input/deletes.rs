//! Deletes that the store refuses, key by key: the run goes on, and its accounts are exact.

use std::collections::BTreeSet;

use hardprune_tests::generate::Shape;
use hardprune_tests::inventory::Inventory;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::storage_writer::{blob_key, layer_link_key};
use serde_json::Value;

use crate::scene::{On, Scene, number, problems, tiny};

#[test]
fn one_blob_that_may_not_be_deleted() {
    let scene = Scene::new(On::S3).unwrap();
    let before = scene.snapshot().unwrap();
    let (kept, size) = scene.truth.orphans.iter().next().unwrap();
    let refused = Effect::KeyError {
        code: "AccessDenied",
        message: "under legal hold",
    };
    let fault = Fault::on(Operation::DeleteObjects, refused).of_keys_with(blob_key(kept));
    scene.server().faults().add(fault);
    let report = scene.report(5, "delete", &[]).unwrap();
    let gone = before.gone(&scene).unwrap();
    let mut expected = scene.truth.orphans.clone();
    expected.remove(kept);
    assert_eq!(gone.removed_blobs(), expected);
    let orphans = scene.truth.orphans.len() as u64;
    assert_eq!(number(&report, "/blobs/orphaned"), orphans);
    assert_eq!(number(&report, "/blobs/deleted"), orphans - 1);
    assert_eq!(number(&report, "/blobs/failed"), 1);
    assert_eq!(number(&report, "/blobs/not_attempted"), 0);
    assert_eq!(number(&report, "/bytes/freed"), scene.truth.orphan_bytes() - size);
    assert_eq!(number(&report, "/bytes/freed"), gone.freed_blob_bytes());
    assert_eq!(problems(&report, "delete_failed"), 1);
    let problem = &report["problems"]["first"][0];
    assert_eq!(problem["digest"], kept.as_str(), "{report:#}");
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains("AccessDenied: under legal hold"), "{message}");

    // Once it may be, the next run has only this one left.
    scene.server().faults().clear();
    let report = scene.report(0, "delete", &[]).unwrap();
    assert_eq!(number(&report, "/blobs/deleted"), 1);
    assert_eq!(number(&report, "/bytes/freed"), *size);
}

#[test]
fn deletes_that_are_all_refused() {
    let scene = Scene::new(On::S3).unwrap();
    let before = scene.snapshot().unwrap();
    let denied = Fault::on(Operation::DeleteObjects, Effect::Status(403, "AccessDenied"));
    scene.server().faults().add(denied.of_keys_with("docker/"));
    let report = scene.report(5, "delete", &[]).unwrap();
    before.is_unchanged(&scene).unwrap();
    assert_eq!(number(&report, "/blobs/deleted"), 0);
    assert_eq!(number(&report, "/bytes/freed"), 0);
    assert_eq!(number(&report, "/blobs/failed"), scene.truth.orphans.len() as u64);
    assert_eq!(number(&report, "/links/layer"), 0);
}

/// The report shows the first ones; all of them are in the state store, once, however often the store refused them.
#[test]
fn every_delete_that_was_refused_is_written_down() {
    let shape = Shape {
        orphans: 60,
        ..tiny()
    };
    let scene = Scene::on_s3_of_shape(S3Options::default(), shape).unwrap();
    let denied = Fault::on(Operation::DeleteObjects, Effect::Status(403, "AccessDenied"));
    scene.server().faults().add(denied.of_keys_with("/blobs/"));
    let report = scene.report(5, "delete", &[]).unwrap();
    let all = scene.truth.orphans.len() as u64;
    assert!(all > 20);
    assert_eq!(problems(&report, "delete_failed"), all);
    assert_eq!(number(&report, "/problems/total"), all);
    assert_eq!(report["problems"]["first"].as_array().unwrap().len(), 20);

    let mut written = BTreeSet::new();
    for key in Inventory::take(scene.storage()).unwrap().0.into_keys() {
        if key.starts_with("hardprune/") && key.ends_with(".problems.jsonl") {
            let lines = scene.storage().get(&key).unwrap().unwrap();
            for line in std::str::from_utf8(&lines).unwrap().lines() {
                let problem: Value = serde_json::from_str(line).unwrap();
                assert_eq!(problem["kind"], "delete_failed", "{problem}");
                let digest = problem["digest"].as_str().unwrap();
                assert!(written.insert(digest.to_owned()), "twice: {problem}");
            }
        }
    }
    assert!(written.iter().eq(scene.truth.orphans.keys()), "{written:?}");
}

/// A layer link that stays is no harm; that its blob goes is what it would have been without the link, too.
#[test]
fn one_layer_link_that_may_not_be_deleted() {
    let scene = Scene::new(On::S3).unwrap();
    let before = scene.snapshot().unwrap();
    let (repository, digest) = scene.truth.dangling_links.iter().next().unwrap();
    let link = layer_link_key(repository, digest);
    let refused = Effect::KeyError {
        code: "AccessDenied",
        message: "no",
    };
    scene
        .server()
        .faults()
        .add(Fault::on(Operation::DeleteObjects, refused).of_keys_with(&link));
    let report = scene.report(5, "delete", &[]).unwrap();
    let gone = before.gone(&scene).unwrap();
    assert!(!gone.removed.contains_key(&link));
    assert_eq!(
        number(&report, "/links/layer"),
        scene.truth.dangling_links.len() as u64 - 1
    );
    assert_eq!(number(&report, "/bytes/freed"), gone.freed_blob_bytes());
    assert_eq!(problems(&report, "delete_failed"), 1, "{report:#}");
}

/// A key that the answer does not name is asked for again; here it is gone at the second try.
#[test]
fn a_key_that_the_answer_leaves_out() {
    let scene = Scene::new(On::S3).unwrap();
    let (digest, _) = scene.truth.orphans.iter().next().unwrap();
    let fault = Fault::on(Operation::DeleteObjects, Effect::KeySilentlyMissing);
    scene
        .server()
        .faults()
        .add(fault.of_keys_with(blob_key(digest)).times(1));
    scene.prunes_exactly(&[]).unwrap();
    assert_eq!(scene.server().faults().met(), 1);
}

#[test]
fn an_answer_that_names_a_key_too_many() {
    let scene = Scene::new(On::S3).unwrap();
    let fault = Fault::on(
        Operation::DeleteObjects,
        Effect::UnexpectedKey("docker/registry/v2/blobs/other"),
    );
    scene.server().faults().add(fault);
    scene.prunes_exactly(&[]).unwrap();
    assert!(scene.server().faults().met() > 0);
}
