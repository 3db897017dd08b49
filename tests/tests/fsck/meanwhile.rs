//! Pushes and deletes go on meanwhile: what is in flight is no false alarm.

use std::collections::BTreeSet;

use hardprune_tests::scene::{Scene, report_of};
use hardprune_tests::storage_writer::{
    blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};

use crate::scene::{EVERYWHERE, Image, findings, images, put, scene};

/// The keys of an image, in the order in which they are deleted.
fn keys(image: &Image) -> Vec<String> {
    let Image {
        repository,
        tag,
        digest,
        ..
    } = image;
    let mut keys = vec![
        tag_link_key(repository, tag),
        tag_index_key(repository, tag, digest),
        revision_link_key(repository, digest),
    ];
    for blob in [image.layer(), image.config()] {
        keys.extend([layer_link_key(repository, blob), blob_key(blob)]);
    }
    keys.push(blob_key(digest));
    keys
}

fn remove(scene: &Scene, image: &Image) {
    for key in keys(image) {
        scene.storage().remove(&key).unwrap();
    }
}

#[test]
fn what_is_deleted_meanwhile_is_not_missed() {
    for failpoint in ["fsck-repositories-listed", "fsck-blobs-looked-for"] {
        for on in EVERYWHERE {
            let scene = scene(on, 61).unwrap();
            let images = images(&scene).unwrap();
            let name = scene.store_names().remove(0);
            // One that is really broken.
            scene.storage().remove(&blob_key(images[1].layer())).unwrap();
            // Of one that is deleted something is missing already when blobs are listed.
            scene.storage().remove(&blob_key(images[2].layer())).unwrap();
            let held = scene
                .hold_at(failpoint, 0, &["fsck", &name, "--output", "json"])
                .unwrap();
            remove(&scene, &images[0]);
            put(&scene, &blob_key(images[2].layer()), b"").unwrap();
            remove(&scene, &images[2]);
            held.release().unwrap();
            let report = report_of(&held.finish().unwrap(), 6).unwrap();
            let of = (images[1].repository.clone(), images[1].digest.clone());
            let layer = images[1].layer().to_owned();
            let only = (of.0, of.1, "layer_missing".to_owned(), layer);
            assert_eq!(findings(&report), BTreeSet::from([only]), "{on:?} {failpoint}");
        }
    }
}

/// A listing is no moment: of a push it may show the end and not the beginning, and a link while it is written.
#[test]
fn what_is_pushed_meanwhile_is_not_broken() {
    for on in EVERYWHERE {
        let scene = scene(on, 62).unwrap();
        let images = images(&scene).unwrap();
        let name = scene.store_names().remove(0);
        let late = |image: &Image| {
            [
                layer_link_key(&image.repository, image.layer()),
                layer_link_key(&image.repository, image.config()),
                blob_key(image.layer()),
                blob_key(&image.digest),
                revision_link_key(&image.repository, &image.digest),
            ]
        };
        let mut kept = Vec::new();
        for key in images.iter().take(3).flat_map(late) {
            kept.push((key.clone(), scene.storage().get(&key).unwrap().unwrap()));
            scene.storage().remove(&key).unwrap();
        }
        for image in images.iter().skip(3).take(2) {
            let key = tag_link_key(&image.repository, &image.tag);
            kept.push((key.clone(), scene.storage().get(&key).unwrap().unwrap()));
            put(&scene, &key, b"").unwrap();
        }
        let held = scene
            .hold_at(
                "fsck-repositories-listed",
                0,
                &["fsck", &name, "--output", "json"],
            )
            .unwrap();
        for (key, bytes) in kept {
            put(&scene, &key, &bytes).unwrap();
        }
        held.release().unwrap();
        let report = report_of(&held.finish().unwrap(), 0).unwrap();
        assert_eq!(findings(&report), BTreeSet::new(), "{on:?}");
    }
}

#[test]
fn a_signal_ends_it_and_nothing_stays_behind() {
    for signal in ["INT", "TERM"] {
        let scene = scene(EVERYWHERE[0], 63).unwrap();
        let name = scene.store_names().remove(0);
        let spools = scene.folder().join("spools");
        std::fs::create_dir(&spools).unwrap();
        let arguments = ["fsck", &name, "--spool-dir", spools.to_str().unwrap()];
        let held = scene.hold_at("fsck-blobs-looked-for", 0, &arguments).unwrap();
        held.signal(signal).unwrap();
        let finished = held.finish().unwrap();
        assert_eq!(finished.status, 1, "{}", finished.stderr);
        assert_eq!(std::fs::read_dir(&spools).unwrap().count(), 0);
    }
}
