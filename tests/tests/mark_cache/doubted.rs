//! A manifest that is known, and whose blob is not what it was (R8).

use std::time::SystemTime;

use anyhow::Result;
use hardprune_tests::s3_server::Operation;
use hardprune_tests::scene::{Scene, number};
use hardprune_tests::storage_writer::blob_key;

use crate::scene::*;

const AGAIN: &str = "are marked again";

/// What a check says on its standard error, and its report.
fn check_aloud(scene: &Scene, options: &[&str]) -> Result<(String, serde_json::Value)> {
    let state = scene.state().display().to_string();
    let server = scene.server().map(|server| format!("s3://{}", server.bucket()));
    let name = server.unwrap_or_else(|_| state.clone());
    let arguments = [&["check", &name, "--output", "json"][..], options].concat();
    let finished = scene.program.run(&arguments)?;
    let report = hardprune_tests::scene::report_of(&finished, 0)?;
    Ok((finished.stderr, report))
}

#[test]
fn a_missing_manifest_freezes_its_repository() {
    let scene = on_s3();
    let server = scene.server().unwrap();
    let all = scene.truth.manifests as u64;
    scene.check(&[]).unwrap();
    let (_, digest) = revisions(scene.storage()).unwrap().swap_remove(3);
    scene.storage().remove(&blob_key(&digest)).unwrap();

    server.reset_counters();
    let (said, report) = check_aloud(&scene, &SEED).unwrap();
    assert!(said.contains(AGAIN), "{said}");
    assert_eq!(number(&report, "/frozen_repositories").unwrap(), 1);
    assert_eq!(number(&report, "/manifests/missing").unwrap(), 1);
    assert_eq!(manifests_of(&report).unwrap(), (0, all - 1));
    // Marking asks for it, and the guard that looks for it again.
    assert_eq!(
        blobs_read(&scene).unwrap(),
        std::collections::BTreeMap::from([(blob_key(&digest), 2)])
    );

    check_both_ways(&scene, &[]).unwrap();
    // What is missing is not known: it is asked for, and nothing is looked at again.
    let (said, report) = check_aloud(&scene, &SEED).unwrap();
    assert!(!said.contains(AGAIN), "{said}");
    assert_eq!(number(&report, "/manifests/missing").unwrap(), 1);
}

#[test]
fn a_manifest_that_was_written_since_is_read() {
    let scene = on_s3();
    scene.check(&[]).unwrap();
    let all = revisions(scene.storage()).unwrap();
    let key = |place: usize| blob_key(&all[place].1);
    // Cut, made longer, other bytes of the same length, and the same bytes.
    let bytes = |place| scene.storage().get(&key(place)).unwrap().unwrap();
    let now = SystemTime::now() + std::time::Duration::from_secs(2);
    let put = |place, bytes: &[u8], when| scene.storage().put(&key(place), bytes, when).unwrap();
    put(0, &bytes(0)[..20], long_ago());
    put(9, &[bytes(9).as_slice(), b" "].concat(), long_ago());
    put(19, &vec![b' '; bytes(19).len()], now);
    put(29, &bytes(29), now);
    let report = check_both_ways(&scene, &[]).unwrap();
    assert_eq!(number(&report, "/manifests/corrupt").unwrap(), 3);
    assert_eq!(manifests_of(&report).unwrap().0, 1);
    check_both_ways(&scene, &["--delete-untagged", "--prune-broken"]).unwrap();
}

/// The same references give the same filters, and what was planned by them is a plan still.
#[test]
fn only_what_went_by_a_doubted_manifest_is_looked_at_again() {
    let scene = on_s3();
    let server = scene.server().unwrap();
    let all = scene.truth.manifests as u64;
    scene.check(&[]).unwrap();
    let (_, digest) = revisions(scene.storage()).unwrap().swap_remove(3);
    let key = blob_key(&digest);
    let bytes = scene.storage().get(&key).unwrap().unwrap();
    let now = SystemTime::now() + std::time::Duration::from_secs(2);
    scene.storage().put(&key, &bytes, now).unwrap();

    server.reset_counters();
    let (said, report) = check_aloud(&scene, &SEED).unwrap();
    assert!(said.contains(AGAIN), "{said}");
    assert_eq!(manifests_of(&report).unwrap(), (1, all - 1));
    assert_eq!(server.counters().get, 1);
    let shards = number(&report, "/shards").unwrap();
    let listings = |key: &str| {
        let log = server.log();
        let of = |operation, found: &str| operation == Operation::List && found.contains(key);
        log.iter().filter(|entry| of(entry.operation, &entry.key)).count() as u64
    };
    // Each shard once and its own again; and the folders of the blob space, twice.
    assert_eq!(listings("/blobs/sha256/"), shards + 1 + 2);
}

/// What no listing shows: a disk that lost bits. What the manifest needs is known, so nothing of it goes.
#[test]
fn a_manifest_that_rotted_unseen_loses_nothing() {
    let scene = on_folder();
    let report = scene.report(0, &scene.delete(&SEED)).unwrap();
    scene.check_accounts(&report).unwrap();
    let live = scene.inventory().unwrap();
    for (_, digest) in revisions(scene.storage()).unwrap() {
        let key = blob_key(&digest);
        let length = scene.storage().get(&key).unwrap().unwrap().len();
        scene
            .storage()
            .put(&key, &vec![b'{'; length], long_ago())
            .unwrap();
    }
    let report = scene.report(0, &scene.delete(&SEED)).unwrap();
    assert_eq!(number(&report, "/manifests/corrupt").unwrap(), 0);
    assert_eq!(number(&report, "/blobs/deleted").unwrap(), 0);
    assert!(live.until(&scene.inventory().unwrap()).removed_blobs().is_empty());
    let report = scene.check(&["--no-mark-cache"]).unwrap();
    assert_eq!(
        number(&report, "/manifests/corrupt").unwrap(),
        scene.truth.manifests as u64
    );
}

/// With all blobs gone there is no listing that could show a manifest.
#[test]
fn a_registry_that_lost_all_its_blobs_is_noticed() {
    let scene = on_s3();
    scene.check(&[]).unwrap();
    for key in scene.storage().keys().unwrap().keys() {
        if key.contains("/blobs/") {
            scene.storage().remove(key).unwrap();
        }
    }
    let report = check_both_ways(&scene, &[]).unwrap();
    let all = scene.truth.manifests as u64;
    assert_eq!(number(&report, "/manifests/missing").unwrap(), all);
    assert_eq!(manifests_of(&report).unwrap(), (0, 0));
}

/// A manifest that was deleted and pushed again is what it was.
#[test]
fn a_manifest_that_was_pushed_again_is_known_again() {
    let scene = on_s3();
    scene.check(&[]).unwrap();
    let (_, digest) = revisions(scene.storage()).unwrap().swap_remove(3);
    let key = blob_key(&digest);
    let bytes = scene.storage().get(&key).unwrap().unwrap();
    scene.storage().remove(&key).unwrap();
    scene.check(&[]).unwrap();
    scene.storage().put(&key, &bytes, long_ago()).unwrap();
    let report = check_both_ways(&scene, &[]).unwrap();
    assert_eq!(manifests_of(&report).unwrap().0, 1);
    let (said, report) = check_aloud(&scene, &SEED).unwrap();
    assert!(!said.contains(AGAIN), "{said}");
    assert_eq!(manifests_of(&report).unwrap().0, 0);
}

/// What lies behind a symbolic link is read each time: its listing says nothing of it.
#[test]
fn a_manifest_behind_a_symbolic_link_is_read_each_time() {
    let scene = on_folder();
    let (_, digest) = revisions(scene.storage()).unwrap().swap_remove(3);
    let path = scene.state().join(blob_key(&digest));
    let elsewhere = scene.folder().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let mut read = Vec::new();
    for _ in 0..4 {
        let (said, report) = check_aloud(&scene, &SEED).unwrap();
        assert!(!said.contains(AGAIN), "{said}");
        read.push(manifests_of(&report).unwrap().0);
    }
    assert_eq!(read, [scene.truth.manifests as u64, 1, 1, 1]);
    check_both_ways(&scene, &[]).unwrap();
    // Once it is there by itself again, it is read once more, and then known.
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&elsewhere, &path).unwrap();
    let mut read = Vec::new();
    for _ in 0..2 {
        read.push(manifests_of(&check_aloud(&scene, &SEED).unwrap().1).unwrap().0);
    }
    assert_eq!(read, [1, 0]);
}
