//! What a second run asks for: what is new, exactly.

use hardprune_tests::fleet::Fleet;
use hardprune_tests::scene::number;
use hardprune_tests::storage_writer::blob_key;
use std::collections::BTreeMap;

use crate::scene::*;

#[test]
fn a_second_run_reads_only_new_manifests() {
    let scene = on_s3();
    let server = scene.server().unwrap();
    let all = scene.truth.manifests as u64;
    let first = scene.check(&[]).unwrap();
    assert_eq!(manifests_of(&first).unwrap(), (all, 0));

    server.reset_counters();
    let second = scene.check(&[]).unwrap();
    assert_eq!(manifests_of(&second).unwrap(), (0, all));
    let counters = server.counters();
    assert_eq!((counters.get, counters.head), (0, 0), "{counters:?}");
    assert_eq!(number(&second, "/requests/get").unwrap(), 0);

    let new = [
        push(scene.storage(), "team-01/app-1", "new").unwrap(),
        push(scene.storage(), "team-05", "new").unwrap(),
        push(scene.storage(), "aaa/first", "new").unwrap(),
        push(scene.storage(), "zzz/last", "new").unwrap(),
    ];
    server.reset_counters();
    let third = check_both_ways(&scene, &[]).unwrap();
    assert_eq!(manifests_of(&third).unwrap(), (4, all));
    server.reset_counters();
    assert_eq!(manifests_of(&scene.check(&[]).unwrap()).unwrap(), (0, all + 4));
    assert_eq!(server.counters().get, 0);

    // Tags change, so they are read each time; what they name is known.
    server.reset_counters();
    let untagged = scene.check(&["--delete-untagged"]).unwrap();
    assert_eq!(manifests_of(&untagged).unwrap(), (0, all + 4));
    let tags = scene.truth.tags.len() + new.len();
    assert_eq!(server.counters().get, tags as u64);
}

#[test]
fn exactly_the_new_manifests_are_asked_for_each_once() {
    let scene = on_s3();
    scene.check(&[]).unwrap();
    let new: Vec<_> = (0..9)
        .map(|number| push(scene.storage(), &format!("team-0{number}"), "new").unwrap())
        .collect();
    scene.server().unwrap().reset_counters();
    scene.check(&[]).unwrap();
    let wanted: BTreeMap<_, _> = new.iter().map(|image| (blob_key(&image.digest), 1)).collect();
    assert_eq!(blobs_read(&scene).unwrap(), wanted);
    assert_eq!(scene.server().unwrap().counters().get, 9);
}

/// A second run knows where repositories are, so that it need not look for them before it lists them.
#[test]
fn a_second_run_lists_no_more_than_the_first() {
    let scene = on_s3();
    let server = scene.server().unwrap();
    server.reset_counters();
    scene.check(&[]).unwrap();
    let first = server.counters().list;
    server.reset_counters();
    scene.check(&[]).unwrap();
    assert!(
        server.counters().list < first,
        "{} after {first}",
        server.counters().list
    );
}

#[test]
fn without_the_cache_everything_is_read_and_nothing_is_kept() {
    let scene = on_s3();
    let all = scene.truth.manifests as u64;
    for _ in 0..2 {
        let report = scene.check(&["--no-mark-cache"]).unwrap();
        assert_eq!(manifests_of(&report).unwrap(), (all, 0));
    }
    let scene = scene.with("HARDPRUNE_NO_MARK_CACHE", "true");
    let report = scene.check(&[]).unwrap();
    assert_eq!(manifests_of(&report).unwrap(), (all, 0));
    assert_eq!(cache_files(&scene).unwrap(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn in_a_folder_and_for_deletes_as_well() {
    let scene = on_folder();
    let all = scene.truth.manifests as u64;
    let report = scene.report(0, &scene.delete(&SEED)).unwrap();
    assert_eq!(manifests_of(&report).unwrap(), (all, 0));
    scene.check_accounts(&report).unwrap();
    push(scene.storage(), "team-01", "new").unwrap();
    let report = scene.report(0, &scene.delete(&SEED)).unwrap();
    assert_eq!(manifests_of(&report).unwrap(), (1, all));
    assert_eq!(number(&report, "/blobs/orphaned").unwrap(), 0);
    scene.check_intact().unwrap();
    // A check keeps its runs elsewhere; where it is told to use the same place, it knows the same.
    assert_eq!(manifests_of(&scene.check(&[]).unwrap()).unwrap(), (all + 1, 0));
    let state = scene.state().display().to_string();
    let report = scene.check(&["--state", &state]).unwrap();
    assert_eq!(manifests_of(&report).unwrap(), (0, all + 1));
}

/// A manifest that two repositories have is in both places, whichever comes first the next time.
#[test]
fn a_manifest_of_several_repositories_is_known_to_each() {
    let scene = on_s3();
    let storage = scene.storage();
    let (repository, digest) = revisions(storage).unwrap().swap_remove(0);
    for other in ["aaa/copy", "team-03/copy", "zzz/copy"] {
        copy(storage, &repository, other, &digest).unwrap();
    }
    scene.check(&[]).unwrap();
    for _ in 0..5 {
        let report = scene.check(&[]).unwrap();
        assert_eq!(manifests_of(&report).unwrap().0, 0);
    }
}

#[test]
fn over_nats_as_well() {
    let scene = on_s3();
    let all = scene.truth.manifests as u64;
    let fleet = Fleet::of(scene).unwrap();
    let url = fleet.nats.url();
    let _workers = fleet.workers(2).unwrap();
    let state = fleet.scene.state().display().to_string();
    let options = [fleet.options(&url, &["--state", &state]), SEED.to_vec()].concat();
    assert_eq!(
        manifests_of(&fleet.scene.check(&options).unwrap()).unwrap(),
        (all, 0)
    );
    let new = push(fleet.scene.storage(), "team-02", "new").unwrap();
    fleet.scene.server().unwrap().reset_counters();
    let report = fleet.scene.check(&options).unwrap();
    assert_eq!(manifests_of(&report).unwrap(), (1, all));
    let wanted = BTreeMap::from([(blob_key(&new.digest), 1)]);
    assert_eq!(blobs_read(&fleet.scene).unwrap(), wanted);
    // What one process read others know, too, and the other way round.
    let report = fleet.scene.check(&["--state", &state]).unwrap();
    assert_eq!(manifests_of(&report).unwrap(), (0, all + 1));
    let report = fleet
        .scene
        .report(0, &fleet.scene.delete(&options[..options.len() - 4]))
        .unwrap();
    assert_eq!(manifests_of(&report).unwrap(), (0, all + 1));
    fleet.scene.check_accounts(&report).unwrap();
    fleet.scene.check_intact().unwrap();
}

/// What the latest two runs kept stays, and no more.
#[test]
fn old_blocks_are_removed() {
    let scene = on_s3();
    let mut sizes = Vec::new();
    for number in 0..5 {
        push(scene.storage(), "team-01", &format!("new-{number}")).unwrap();
        scene.check(&[]).unwrap();
        sizes.push(cache_files(&scene).unwrap().len());
    }
    assert!(sizes[4] <= sizes[2], "{sizes:?}");
}
