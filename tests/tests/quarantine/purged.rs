//! Purge: what is still not needed goes for good and counts as freed; what is needed again goes back first.

use hardprune_tests::content::digest_of;
use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{Scene, number};
use hardprune_tests::storage_writer::{blob_key, layer_link_key, revision_link_key, tag_link_key};

use crate::scene::{
    check_restored, copies, everywhere, has_blob, long_ago, of, purge, quarantine, quarantined, registry_of,
    restore,
};

#[test]
fn only_a_purge_frees() {
    for scene in everywhere().unwrap() {
        let (run, report) = quarantine(&scene, &[]).unwrap();
        let before = registry_of(&scene).unwrap();
        let purged = purge(&scene, 0, &[&run]).unwrap();
        for part in ["blobs", "bytes"] {
            let (freed, moved) = match part {
                "blobs" => ("/blobs/deleted", "/blobs/quarantined"),
                _ => ("/bytes/freed", "/bytes/quarantined"),
            };
            let freed = number(&purged, freed).unwrap();
            assert_eq!(freed, number(&report, moved).unwrap(), "{part}: {purged}");
        }
        assert_eq!(purged["mode"], "purge");
        assert_eq!(purged["quarantine"]["purges"], run.as_str());
        assert!(quarantined(&scene).unwrap().is_empty());
        assert_eq!(
            registry_of(&scene).unwrap(),
            before,
            "a purge touched the registry"
        );
        scene.check_intact().unwrap();
        let names = scene.store_names();
        let again = of(&names, &["purge", &run, "--assume-read-only"]);
        assert_eq!(scene.run_with("", &again).unwrap().status, 2);
    }
}

/// An index was pushed that lists a manifest which is away: it goes back, then what only it could name, and only the rest is freed.
#[test]
fn what_is_needed_again_goes_back_first() {
    for scene in everywhere().unwrap() {
        let mut scene = scene;
        let repository = "late/index";
        // A manifest of two layers, all of them long orphaned.
        let layers: Vec<Vec<u8>> = (0..2u8).map(|n| vec![n; 700]).collect();
        let config = b"{\"late\":true}".to_vec();
        let descriptor = |media_type: &str, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len()});
        let child = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|bytes| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", bytes)).collect::<Vec<_>>(),
        });
        let child = serde_json::to_vec(&child).unwrap();
        let put = |key: &str, bytes: &[u8]| scene.storage().put(key, bytes, long_ago()).unwrap();
        for bytes in layers.iter().chain([&config]) {
            put(&blob_key(&digest_of(bytes)), bytes);
            put(
                &layer_link_key(repository, &digest_of(bytes)),
                digest_of(bytes).as_bytes(),
            );
        }
        put(&blob_key(&digest_of(&child)), &child);
        scene.begin().unwrap();
        let (run, report) = quarantine(&scene, &[]).unwrap();
        for bytes in layers.iter().chain([&config, &child]) {
            assert!(!has_blob(&scene, &digest_of(bytes)).unwrap());
        }
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor("application/vnd.oci.image.manifest.v1+json", &child)],
        });
        let index = serde_json::to_vec(&index).unwrap();
        let put = |key: &str, bytes: &[u8]| scene.storage().put(key, bytes, long_ago()).unwrap();
        put(&blob_key(&digest_of(&index)), &index);
        for digest in [digest_of(&index), digest_of(&child)] {
            put(&revision_link_key(repository, &digest), digest.as_bytes());
        }
        put(&tag_link_key(repository, "v1"), digest_of(&index).as_bytes());

        let purged = purge(&scene, 0, &[&run]).unwrap();
        let all: Vec<&Vec<u8>> = layers.iter().chain([&config, &child]).collect();
        for bytes in &all {
            assert_eq!(
                scene
                    .storage()
                    .get(&blob_key(&digest_of(bytes)))
                    .unwrap()
                    .as_ref(),
                Some(*bytes)
            );
        }
        for bytes in layers.iter().chain([&config]) {
            let link = layer_link_key(repository, &digest_of(bytes));
            assert!(scene.storage().get(&link).unwrap().is_some(), "{link}");
        }
        let back: u64 = all.iter().map(|bytes| bytes.len() as u64).sum();
        assert_eq!(
            number(&purged, "/quarantine/put_back/blobs").unwrap(),
            4,
            "{purged}"
        );
        assert_eq!(
            number(&purged, "/quarantine/put_back/bytes").unwrap(),
            back,
            "{purged}"
        );
        assert_eq!(
            number(&purged, "/quarantine/put_back/links").unwrap(),
            3,
            "{purged}"
        );
        let moved = number(&report, "/bytes/quarantined").unwrap();
        assert_eq!(number(&purged, "/bytes/freed").unwrap(), moved - back, "{purged}");
        assert!(quarantined(&scene).unwrap().is_empty());
        scene.check_intact().unwrap();
    }
}

#[test]
fn a_purge_needs_read_only_mode_and_a_run_that_has_ended() {
    let scene = Scene::on_folder(&Shape::small(5)).unwrap();
    let before = registry_of(&scene).unwrap();
    let killed = scene
        .run_with(
            "delete-after-request=1*off->return",
            &scene.delete(&crate::scene::UNTAGGED),
        )
        .unwrap();
    assert_eq!(killed.status, hardprune_tests::scene::KILLED, "{killed:?}");
    let run = scene.run_id().unwrap();
    let names = scene.store_names();
    let bare = of(&names, &["purge", &run]);
    let refused = scene
        .run_with("", &of(&names, &["purge", &run, "--assume-read-only"]))
        .unwrap();
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("has not ended"), "{refused:?}");
    assert!(!copies(&scene).unwrap().is_empty());
    restore(&scene, &run, &[]).unwrap();
    check_restored(&scene, &before).unwrap();

    let report = scene.report(0, &scene.resume()).unwrap();
    assert_eq!(report["outcome"], "completed");
    let refused = scene.run_with("", &bare).unwrap();
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("--assume-read-only"), "{refused:?}");
    purge(&scene, 0, &[&run]).unwrap();
    assert!(quarantined(&scene).unwrap().is_empty());
}

#[test]
fn old_runs_are_purged_one_after_another() {
    let scene = Scene::on_folder(&Shape::small(5)).unwrap();
    let (first, _) = quarantine(&scene, &[]).unwrap();
    // Another orphan, of another run.
    let orphan = b"orphaned later";
    scene
        .storage()
        .put(&blob_key(&digest_of(orphan)), orphan, long_ago())
        .unwrap();
    let second = scene.report(0, &scene.delete(&crate::scene::UNTAGGED)).unwrap();
    let second = second["run"].as_str().unwrap().to_owned();
    let names = scene.store_names();
    let purge_old = |age: &'static str| {
        let arguments = of(&names, &["purge", "--assume-read-only", "--older-than", age]);
        scene.run_with("", &arguments).unwrap()
    };
    let young = purge_old("1h");
    assert_eq!(young.status, 0, "{young:?}");
    assert!(young.stdout.contains("Nothing is old enough"), "{young:?}");
    let there: Vec<String> = copies(&scene).unwrap().into_keys().collect();
    assert!(
        [&first, &second]
            .iter()
            .all(|run| there.iter().any(|key| key.contains(run.as_str())))
    );
    let old = purge_old("0s");
    assert_eq!(old.status, 0, "{old:?}");
    assert!(quarantined(&scene).unwrap().is_empty());
    assert!(!has_blob(&scene, &digest_of(orphan)).unwrap());
}
