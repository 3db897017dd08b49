//! The references must be there, most of them; and what is no sign of anything is not counted.

use std::time::SystemTime;

use anyhow::Result;
use hardprune_tests::content::{Seeded, digest_of};
use hardprune_tests::generate::Shape;
use hardprune_tests::manifests::{self, Family};
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::{blob_key, layer_link_key, tag_index_key};
use serde_json::json;

use crate::scene::{EVERYWHERE, passes, put, put_manifest, refuses, scene};

/// Distinct references of a generated registry.
fn references(scene: &Scene) -> usize {
    scene.truth.live.len() + scene.truth.untagged.len()
}

/// Removes so many live blobs that are no manifests: no repository is frozen for want of them.
fn lose(scene: &Scene, count: usize) -> Result<()> {
    let is_layer = |digest: &&String| {
        let bytes = scene.storage().get(&blob_key(digest)).unwrap().unwrap();
        !String::from_utf8_lossy(&bytes).contains("schemaVersion")
    };
    let lost: Vec<_> = scene.truth.live.keys().filter(is_layer).take(count).collect();
    assert_eq!(lost.len(), count);
    lost.into_iter()
        .try_for_each(|digest| scene.storage().remove(&blob_key(digest)))
}

/// As many as may be lost, and one more.
fn limits(references: usize) -> (usize, usize) {
    let most = references / 20;
    (most, most + 1)
}

#[test]
fn a_twentieth_of_the_references_may_be_missing_and_no_more() {
    for on in EVERYWHERE {
        let scene = scene(on, &Shape::small(51)).unwrap();
        let all = references(&scene);
        let (most, too_many) = limits(all);
        lose(&scene, too_many).unwrap();
        let seen = format!("only {} of {all} referenced digests have a blob", all - too_many);
        refuses(&scene, &[], &["min_present"], &[&seen, "--min-present"]).unwrap();
        assert!(most > 0);
        scene.check(&["--min-present", "90"]).unwrap();
        let report = scene.report(0, &scene.delete(&["--min-present", "90"])).unwrap();
        assert_eq!(report["blobs"]["deleted"], 30, "{report:#}");
    }
}

#[test]
fn as_many_as_may_be_missing() {
    for on in EVERYWHERE {
        let mut scene = scene(on, &Shape::small(52)).unwrap();
        lose(&scene, limits(references(&scene)).0).unwrap();
        scene.start = scene.inventory().unwrap();
        passes(&scene, &[]).unwrap();
    }
}

fn absent(number: usize) -> String {
    digest_of(format!("nobody has this: {number}").as_bytes())
}

/// Two hundred digests of each sort that count as references, though healthy registries have no blobs of them.
fn add_what_may_be_absent(scene: &Scene) -> Result<usize> {
    let mut seeded = Seeded::new(7);
    let foreign = |number: usize| {
        json!({
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "size": 1,
            "digest": absent(number),
            "urls": ["https://go.microsoft.com/layer"],
        })
    };
    let layer = manifests::layer(Family::Docker, &mut seeded, 100);
    let config = manifests::config(Family::Docker, "amd64", &[&layer]);
    let mut layers: Vec<_> = (0..200).map(foreign).collect();
    layers.push(layer.descriptor());
    let windows = manifests::image_of_descriptors(Family::Docker, &config, layers, None);
    for blob in [&layer, &config] {
        put(scene, &blob_key(&blob.digest), &blob.bytes)?;
        put(
            scene,
            &layer_link_key("windows", &blob.digest),
            blob.digest.as_bytes(),
        )?;
    }
    put_manifest(scene, "windows", "ltsc", &windows.digest, &windows.bytes)?;

    // An index of which one child was copied.
    let children: Vec<_> = (200..400)
        .map(|number| json!({"mediaType": manifests::OCI_MANIFEST, "size": 1, "digest": absent(number)}))
        .chain([json!({"mediaType": manifests::DOCKER_MANIFEST, "size": 1, "digest": windows.digest})])
        .collect();
    let index =
        json!({"schemaVersion": 2, "mediaType": manifests::OCI_INDEX, "manifests": children}).to_string();
    let index_digest = digest_of(index.as_bytes());
    put_manifest(scene, "windows", "sparse", &index_digest, index.as_bytes())?;

    // Links of long ago, in a repository that is frozen for one manifest that is no JSON.
    let broken = "this names sha256:".to_owned() + &absent(400)[7..];
    let broken_digest = digest_of(broken.as_bytes());
    put_manifest(scene, "frozen", "latest", &broken_digest, broken.as_bytes())?;
    for digest in (401..600).map(absent) {
        put(scene, &layer_link_key("frozen", &digest), digest.as_bytes())?;
    }
    for digest in (600..800).map(absent) {
        put(
            scene,
            &tag_index_key("frozen", "latest", &digest),
            digest.as_bytes(),
        )?;
    }
    // Links without their blobs, copied this morning with all others.
    for digest in (800..1_000).map(absent) {
        let key = layer_link_key("young", &digest);
        scene.storage().put(&key, digest.as_bytes(), SystemTime::now())?;
    }
    // What must be there: the image, its layer and config, the index, the broken manifest.
    Ok(5)
}

#[test]
fn what_may_well_be_absent_says_nothing_about_what_is_missing() {
    for on in EVERYWHERE {
        let mut scene = scene(on, &Shape::small(53)).unwrap();
        let all = references(&scene) + add_what_may_be_absent(&scene).unwrap();
        scene.start = scene.inventory().unwrap();
        let (_, too_many) = limits(all);
        // It neither makes the share smaller, nor larger.
        let check = scene.check(&[]).unwrap();
        assert!(crate::scene::names(&check).is_empty(), "{check:#}");
        assert!(
            check["references"].as_u64().unwrap() >= all as u64 + 900,
            "{check:#}"
        );
        assert_eq!(check["frozen_repositories"], 1, "{check:#}");
        lose(&scene, too_many).unwrap();
        let seen = format!("only {} of {all} referenced digests have a blob", all - too_many);
        refuses(&scene, &[], &["min_present"], &[&seen]).unwrap();
    }
}

/// What may be absent and is there is not counted among those that must be there, either.
#[test]
fn what_may_be_absent_and_is_there_makes_up_for_nothing() {
    for on in EVERYWHERE {
        let scene = scene(on, &Shape::small(54)).unwrap();
        put_manifest(&scene, "frozen", "latest", &digest_of(b"broken"), b"broken").unwrap();
        for number in 0..300 {
            let bytes = format!("an old layer: {number}");
            let digest = digest_of(bytes.as_bytes());
            put(&scene, &blob_key(&digest), bytes.as_bytes()).unwrap();
            put(&scene, &layer_link_key("frozen", &digest), digest.as_bytes()).unwrap();
        }
        let all = references(&scene) + 1;
        let (_, too_many) = limits(all);
        lose(&scene, too_many).unwrap();
        let seen = format!("only {} of {all} referenced digests have a blob", all - too_many);
        refuses(&scene, &[], &["min_present"], &[&seen]).unwrap();
    }
}

/// Only the links are of this registry: every manifest is missing, every repository frozen.
#[test]
fn the_blobs_of_another_registry() {
    for on in EVERYWHERE {
        let scene = scene(on, &Shape::small(55)).unwrap();
        for digest in scene.truth.live.keys().chain(scene.truth.untagged.keys()) {
            scene.storage().remove(&blob_key(digest)).unwrap();
        }
        let options = ["--max-delete-percent", "100"];
        refuses(&scene, &options, &["min_present"], &["only 0 of "]).unwrap();
    }
}
