//! Restore: everything, a repository, an image; and nothing that was pushed since is overwritten.

use hardprune_tests::content::digest_of;
use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{Scene, number};
use hardprune_tests::storage_writer::{
    blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};

use crate::scene::{
    UNTAGGED, check_restored, copies, everywhere, has_blob, long_ago, quarantine, quarantined, registry_of,
    restore,
};

#[test]
fn what_was_quarantined_comes_back_exactly() {
    for scene in everywhere().unwrap() {
        let before = registry_of(&scene).unwrap();
        let (run, report) = quarantine(&scene, &[]).unwrap();
        let restored = restore(&scene, &run, &[]).unwrap();
        check_restored(&scene, &before).unwrap();
        assert_eq!(restored["all"], true, "{restored}");
        for (part, of_report) in [("/blobs", "/blobs/quarantined"), ("/bytes", "/bytes/quarantined")] {
            let said = number(&restored, part).unwrap();
            assert_eq!(said, number(&report, of_report).unwrap(), "{part}: {restored}");
        }
    }
}

#[test]
fn a_manifest_brings_back_all_that_it_names_and_nothing_else() {
    for scene in everywhere().unwrap() {
        let before = registry_of(&scene).unwrap();
        let (run, _) = quarantine(&scene, &[]).unwrap();
        let quarantined_keys = copies(&scene).unwrap();
        let link = quarantined_keys
            .keys()
            .find(|key| key.contains("/revisions/") && key.ends_with("/link"))
            .unwrap();
        let bytes = scene.storage().get(link).unwrap().unwrap();
        let digest = String::from_utf8(bytes).unwrap();
        let repository = link.split("/repositories/").nth(1).unwrap();
        let repository = repository.split("/_manifests/").next().unwrap();
        let restored = restore(&scene, &run, &["--digest", &digest]).unwrap();
        assert_eq!(restored["all"], false, "{restored}");

        let manifest = scene.storage().get(&blob_key(&digest)).unwrap().unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let mut named = vec![manifest["config"].clone()];
        named.extend(manifest["layers"].as_array().cloned().unwrap_or_default());
        for part in named {
            let part = part["digest"].as_str().unwrap();
            assert!(has_blob(&scene, part).unwrap(), "{part} of {digest} is missing");
            let link = layer_link_key(repository, part);
            assert!(scene.storage().get(&link).unwrap().is_some(), "{link} is missing");
        }
        let link = revision_link_key(repository, &digest);
        assert!(scene.storage().get(&link).unwrap().is_some());
        // All other orphans are still away, and come back as well.
        assert!(!copies(&scene).unwrap().is_empty());
        let orphan = scene.truth.orphans.keys().next().unwrap();
        assert!(!has_blob(&scene, orphan).unwrap());
        restore(&scene, &run, &[]).unwrap();
        check_restored(&scene, &before).unwrap();
    }
}

#[test]
fn a_repository_comes_back_with_the_blobs_that_it_linked() {
    for scene in everywhere().unwrap() {
        let before = registry_of(&scene).unwrap();
        let (run, _) = quarantine(&scene, &[]).unwrap();
        let (repository, digest) = scene.truth.dangling_links.iter().next().unwrap();
        let of_it = format!("/repositories/{repository}/_");
        restore(&scene, &run, &["--repository", repository]).unwrap();
        assert!(has_blob(&scene, digest).unwrap());
        let left = copies(&scene).unwrap();
        assert!(!left.keys().any(|key| key.contains(&of_it)), "{left:?}");
        let now = registry_of(&scene).unwrap();
        for key in before.keys().filter(|key| key.contains(&of_it)) {
            assert!(now.contains_key(key), "{key} is missing");
        }
        // A repository that shares no part of its name.
        assert!(left.keys().any(|key| key.contains("/repositories/")), "{left:?}");
        restore(&scene, &run, &[]).unwrap();
        check_restored(&scene, &before).unwrap();
    }
}

/// The tag of a repository whose only manifest is lost moved with it, and then somebody pushed the tag again.
#[test]
fn what_was_pushed_since_stays() {
    for scene in everywhere().unwrap() {
        let repository = "gone/away";
        let lost = digest_of(b"a manifest that was lost");
        let tag = tag_link_key(repository, "v1");
        let put = |key: &str, bytes: &[u8]| scene.storage().put(key, bytes, long_ago()).unwrap();
        put(&tag, lost.as_bytes());
        put(&tag_index_key(repository, "v1", &lost), lost.as_bytes());
        put(&revision_link_key(repository, &lost), lost.as_bytes());
        let mut options = UNTAGGED.to_vec();
        options.extend(["--prune-broken", "--delete-empty-repositories"]);
        let report = scene.report(0, &scene.delete(&options)).unwrap();
        let run = report["run"].as_str().unwrap().to_owned();
        assert!(scene.storage().get(&tag).unwrap().is_none(), "the tag did not go");

        let new = scene.truth.live.keys().next().unwrap().clone();
        put(&tag, new.as_bytes());
        // A blob was pushed again, too, and it is the same.
        let pushed = scene.truth.orphans.keys().next().unwrap();
        let copy = format!("hardprune/quarantine/{run}/{}", blob_key(pushed));
        put(&blob_key(pushed), &scene.storage().get(&copy).unwrap().unwrap());

        let restored = restore(&scene, &run, &[]).unwrap();
        assert_eq!(number(&restored, "/left").unwrap(), 1, "{restored}");
        assert_eq!(number(&restored, "/already_there").unwrap(), 1, "{restored}");
        assert_eq!(restored["all"], false, "{restored}");
        let means = scene.storage().get(&tag).unwrap().unwrap();
        assert_eq!(String::from_utf8(means).unwrap(), new);
        let left: Vec<_> = copies(&scene).unwrap().into_keys().collect();
        assert_eq!(left, [format!("hardprune/quarantine/{run}/{tag}")]);
    }
}

#[test]
fn a_blob_of_another_size_in_the_place_is_not_overwritten() {
    let scene = Scene::on_folder(&Shape::small(5)).unwrap();
    let (run, _) = quarantine(&scene, &[]).unwrap();
    let digest = scene.truth.orphans.keys().next().unwrap();
    scene
        .storage()
        .put(&blob_key(digest), b"other", long_ago())
        .unwrap();
    let restored = restore(&scene, &run, &[]).unwrap();
    assert_eq!(number(&restored, "/left").unwrap(), 1, "{restored}");
    assert_eq!(scene.storage().get(&blob_key(digest)).unwrap().unwrap(), b"other");
    assert_eq!(copies(&scene).unwrap().len(), 1);
}

#[test]
fn it_is_listed_and_there_is_nothing_to_restore_of_other_runs() {
    for scene in everywhere().unwrap() {
        let (run, report) = quarantine(&scene, &[]).unwrap();
        let names = scene.store_names();
        let listed = scene
            .report(0, &["quarantine", "list", &names[0], "--output", "json"])
            .unwrap();
        assert_eq!(listed[0]["run"], run.as_str(), "{listed}");
        assert_eq!(listed[0]["bytes"], report["bytes"]["quarantined"], "{listed}");
        assert_eq!(listed[0]["blobs"], report["blobs"]["quarantined"], "{listed}");
        assert!(!quarantined(&scene).unwrap().is_empty());

        let other = "01J8X3M4Q5V6W7X8Y9Z0A1B2C3";
        let refused = scene
            .run_with("", &["restore", other, "--registry", &names[0]])
            .unwrap();
        assert_eq!(refused.status, 2, "{refused:?}");
        assert!(refused.stderr.contains("nothing is kept of run"), "{refused:?}");
    }
}

/// What came from where stands beside the copies, so that no state store is needed to know it.
#[test]
fn a_manifest_beside_the_copies_names_every_key() {
    let scene = Scene::on_folder(&Shape::small(5)).unwrap();
    let (run, _) = quarantine(&scene, &[]).unwrap();
    let manifest = format!("hardprune/quarantine/{run}.manifest-0.jsonl");
    let manifest = scene.storage().get(&manifest).unwrap().unwrap();
    let mut named: Vec<String> = String::from_utf8(manifest)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| format!("hardprune/quarantine/{run}/{}", line["key"].as_str().unwrap()))
        .collect();
    named.sort();
    let there: Vec<String> = copies(&scene).unwrap().into_keys().collect();
    assert_eq!(named, there);
}
