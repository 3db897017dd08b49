//! Buckets in which a delete frees nothing, and stores that cannot hold a lock.

use anyhow::Result;
use hardprune_tests::inventory::Inventory;
use hardprune_tests::s3_server::S3Options;

use crate::scene::{Scene, number};

fn versioned() -> Result<Scene> {
    Scene::on_s3(S3Options {
        versioned: true,
        ..S3Options::default()
    })
}

#[test]
fn a_bucket_that_keeps_versions_is_refused() {
    let scene = versioned().unwrap();
    let parts = ["refused", "s3://registry", "keeps versions", "--accept-versioned"];
    scene.fails(3, "delete", &[], &parts).unwrap();
    let listed = scene.server().counters().list;
    assert!(listed < 10, "{listed} listings before it was refused");
    assert_eq!(
        scene.storage().get("hardprune/lock.json").unwrap(),
        None,
        "the lock was kept"
    );
}

#[test]
fn a_check_says_that_a_delete_would_only_hide() {
    let scene = versioned().unwrap();
    let before = Inventory::take(scene.storage()).unwrap();
    let report = scene.report(0, "check", &[]).unwrap();
    let bytes = scene.truth.orphan_bytes();
    assert_eq!(number(&report, "/bytes/orphaned"), bytes);
    assert_eq!(number(&report, "/bytes/hidden"), bytes);
    assert!(
        before
            .until(&Inventory::take(scene.storage()).unwrap())
            .is_empty()
    );
}

#[test]
fn accepted_versions_are_hidden_and_free_nothing() {
    let scene = versioned().unwrap();
    let before = scene.snapshot().unwrap();
    let report = scene.report(0, "delete", &["--accept-versioned"]).unwrap();
    assert_eq!(before.gone(&scene).unwrap().removed_blobs(), scene.truth.orphans);
    assert_eq!(number(&report, "/bytes/freed"), 0, "{report:#}");
    assert_eq!(number(&report, "/bytes/hidden"), scene.truth.orphan_bytes());
    assert!(scene.server().hidden_bytes() >= scene.truth.orphan_bytes());
}

#[test]
fn a_store_that_ignores_conditions_holds_no_lock() {
    let scene = Scene::on_s3(S3Options {
        honours_conditions: false,
        ..S3Options::default()
    })
    .unwrap();
    scene.report(0, "check", &[]).unwrap();
    let parts = [
        "s3://registry",
        "does not honour conditional writes",
        "deletes nothing",
    ];
    scene.fails(3, "delete", &[], &parts).unwrap();
    let left: Vec<_> = scene
        .storage()
        .keys()
        .unwrap()
        .into_keys()
        .filter(|key| key.starts_with("hardprune/"))
        .collect();
    assert!(left.is_empty(), "{left:?} was left");
}
