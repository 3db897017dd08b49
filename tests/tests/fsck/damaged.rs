//! Every kind of damage, made by hand: exactly that is found.

use std::collections::BTreeSet;

use anyhow::Result;
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::{
    blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};
use sha2::{Digest, Sha512};

use crate::scene::{
    EVERYWHERE, Finding, Image, broken_tags, findings, fsck, images, indexes, point_tag, put, scene,
};

#[test]
fn an_intact_registry_is_intact() {
    for on in EVERYWHERE {
        let scene = scene(on, 1).unwrap();
        let report = fsck(&scene, 0).unwrap();
        assert_eq!(findings(&report), BTreeSet::new());
        let seen = &report["seen"];
        assert_eq!(seen["manifests"], scene.truth.manifests);
        assert_eq!(seen["tags"], scene.truth.tags.len());
        let needed = scene.truth.live.len() + scene.truth.untagged.len();
        assert_eq!(seen["needed_blobs"], needed);
        assert_eq!(
            (&seen["dangling"], &seen["unrecognized_keys"]),
            (&0.into(), &0.into())
        );
        for written in ["put", "delete", "copy"] {
            assert_eq!(report["requests"][written], 0, "{written}");
        }
    }
}

/// One kind of damage: does it, and says what is to be found.
type Damage = fn(&Scene, &Image) -> Result<(&'static str, String)>;

const OF_IMAGES: [Damage; 14] = [
    |scene, image| {
        scene.storage().remove(&blob_key(&image.digest))?;
        Ok(("manifest_missing", String::new()))
    },
    |scene, image| {
        put(scene, &blob_key(&image.digest), b"{}")?;
        Ok(("manifest_corrupt", String::new()))
    },
    |scene, image| {
        put(scene, &blob_key(&image.digest), b"")?;
        Ok(("manifest_corrupt", String::new()))
    },
    |scene, image| {
        scene.storage().remove(&blob_key(image.config()))?;
        Ok(("config_missing", image.config().to_owned()))
    },
    |scene, image| {
        scene.storage().remove(&blob_key(image.layer()))?;
        Ok(("layer_missing", image.layer().to_owned()))
    },
    |scene, image| {
        put(scene, &blob_key(image.layer()), b"half of ")?;
        Ok(("size_differs", image.layer().to_owned()))
    },
    |scene, image| {
        put(scene, &blob_key(image.config()), b"")?;
        Ok(("size_differs", image.config().to_owned()))
    },
    |scene, image| {
        let key = layer_link_key(&image.repository, image.layer());
        scene.storage().remove(&key)?;
        Ok(("layer_link_missing", image.layer().to_owned()))
    },
    |scene, image| {
        let key = layer_link_key(&image.repository, image.config());
        put(scene, &key, b"")?;
        Ok(("layer_link_invalid", image.config().to_owned()))
    },
    |scene, image| {
        // As a power failure leaves it: the right length, and no bytes.
        let key = layer_link_key(&image.repository, image.layer());
        put(scene, &key, &[0; 71])?;
        Ok(("layer_link_invalid", image.layer().to_owned()))
    },
    |scene, image| {
        let key = layer_link_key(&image.repository, image.layer());
        put(scene, &key, image.config().as_bytes())?;
        Ok(("layer_link_invalid", image.layer().to_owned()))
    },
    |scene, image| {
        let key = revision_link_key(&image.repository, &image.digest);
        scene.storage().remove(&key)?;
        Ok(("revision_link_missing", String::new()))
    },
    |scene, image| {
        let key = revision_link_key(&image.repository, &image.digest);
        put(scene, &key, image.config().as_bytes())?;
        Ok(("revision_link_invalid", String::new()))
    },
    |scene, image| {
        // Registries do not take white space for nothing.
        let key = revision_link_key(&image.repository, &image.digest);
        put(scene, &key, format!("{}\n", image.digest).as_bytes())?;
        Ok(("revision_link_invalid", String::new()))
    },
];

#[test]
fn every_damage_of_an_image_is_found_where_it_is() {
    for on in EVERYWHERE {
        let scene = scene(on, 2).unwrap();
        let images = images(&scene).unwrap();
        assert!(images.len() >= OF_IMAGES.len(), "{} images", images.len());
        let mut expected: BTreeSet<Finding> = BTreeSet::new();
        let mut tags = BTreeSet::new();
        for (damage, image) in OF_IMAGES.iter().zip(&images) {
            let (kind, needs) = damage(&scene, image).unwrap();
            let of = (image.repository.clone(), image.digest.clone());
            expected.insert((of.0, of.1, kind.to_owned(), needs));
            tags.insert((image.repository.clone(), image.tag.clone()));
        }
        let report = fsck(&scene, 6).unwrap();
        assert_eq!(findings(&report), expected, "{on:?}");
        assert_eq!(broken_tags(&report), tags, "{on:?}");
        assert_eq!(report["broken"]["images"], OF_IMAGES.len());
        assert_eq!(report["broken"]["tags"], OF_IMAGES.len());
    }
}

#[test]
fn tags_that_say_nothing_are_found() {
    for on in EVERYWHERE {
        let scene = scene(on, 3).unwrap();
        let images = images(&scene).unwrap();
        let mut expected: BTreeSet<Finding> = BTreeSet::new();
        let contents: [(&[u8], &str); 4] = [
            (b"", "tag_link_invalid"),
            (b"sha256:abc", "tag_link_invalid"),
            (b"\0\0\0\0", "tag_link_invalid"),
            (b"-", "tag_link_missing"),
        ];
        for (image, (content, kind)) in images.iter().zip(contents) {
            if kind == "tag_link_missing" {
                let key = tag_link_key(&image.repository, &image.tag);
                scene.storage().remove(&key).unwrap();
            } else {
                point_tag(&scene, image, content).unwrap();
            }
            let named = (image.repository.clone(), image.tag.clone());
            expected.insert((named.0, named.1, kind.to_owned(), String::new()));
        }
        // One that is gone altogether is none.
        let gone = &images[contents.len()];
        let keys = [
            tag_link_key(&gone.repository, &gone.tag),
            tag_index_key(&gone.repository, &gone.tag, &gone.digest),
        ];
        keys.iter().for_each(|key| scene.storage().remove(key).unwrap());
        // One that names what is not there.
        let astray = &images[contents.len() + 1];
        let nothing = format!("sha256:{}", "0".repeat(64));
        point_tag(&scene, astray, nothing.as_bytes()).unwrap();
        let missing = "manifest_missing".to_owned();
        expected.insert((astray.repository.clone(), nothing, missing, String::new()));
        let report = fsck(&scene, 6).unwrap();
        assert_eq!(findings(&report), expected, "{on:?}");
        assert_eq!(report["broken"]["tags"], contents.len() + 1);
    }
}

#[test]
fn indexes_are_broken_by_their_children() {
    for on in EVERYWHERE {
        let scene = scene(on, 4).unwrap();
        let indexes = indexes(&scene).unwrap();
        let children = |index: &Image| -> Vec<String> {
            let children = index.manifest["manifests"].as_array().unwrap();
            let digests = children.iter().map(|child| child["digest"].as_str().unwrap());
            digests.map(str::to_owned).collect()
        };
        let mut expected: BTreeSet<Finding> = BTreeSet::new();
        let mut expect = |index: &Image, of: &str, kind: &str, needs: &str| {
            let found = (index.repository.clone(), of.to_owned(), kind.to_owned());
            expected.insert((found.0, found.1, found.2, needs.to_owned()));
        };
        let [missing, unlinked, broken, ..] = indexes.as_slice() else {
            panic!("{} indexes", indexes.len());
        };
        let child = &children(missing)[0];
        scene.storage().remove(&blob_key(child)).unwrap();
        expect(missing, child, "manifest_missing", "");
        expect(missing, &missing.digest, "child_missing", child);

        let child = &children(unlinked)[1];
        let link = revision_link_key(&unlinked.repository, child);
        scene.storage().remove(&link).unwrap();
        expect(unlinked, &unlinked.digest, "child_link_missing", child);

        let child = &children(broken)[0];
        let manifest = crate::scene::manifest(&scene, child).unwrap();
        let config = manifest["config"]["digest"].as_str().unwrap();
        scene.storage().remove(&blob_key(config)).unwrap();
        expect(broken, child, "config_missing", config);
        expect(broken, &broken.digest, "child_broken", child);

        let report = fsck(&scene, 6).unwrap();
        assert_eq!(findings(&report), expected, "{on:?}");
    }
}

#[test]
fn what_does_no_harm_is_counted() {
    for on in EVERYWHERE {
        let scene = scene(on, 5).unwrap();
        for digest in scene.truth.orphans.keys() {
            scene.storage().remove(&blob_key(digest)).unwrap();
        }
        put(
            &scene,
            "docker/registry/v2/repositories/team-0/_layers/notes.txt",
            b"x",
        )
        .unwrap();
        let report = fsck(&scene, 0).unwrap();
        assert_eq!(
            report["seen"]["dangling"],
            scene.truth.dangling_links.len(),
            "{on:?}"
        );
        assert_eq!(report["seen"]["unrecognized_keys"], 1, "{on:?}");
    }
}

/// What registries before 2.1 wrote, and what others serve.
#[test]
fn what_is_served_otherwise_is_not_missing() {
    for on in EVERYWHERE {
        let scene = scene(on, 6).unwrap();
        let images = images(&scene).unwrap();
        // A manifest by its layer link.
        let old = &images[0];
        let link = revision_link_key(&old.repository, &old.digest);
        scene.storage().remove(&link).unwrap();
        let link = layer_link_key(&old.repository, &old.digest);
        put(&scene, &link, old.digest.as_bytes()).unwrap();
        // A signature beside a manifest, and one that is gone.
        for (image, signature) in [(&images[1], images[1].layer()), (&images[2], &*"0".repeat(64))] {
            let hex = signature.trim_start_matches("sha256:");
            let folder = revision_link_key(&image.repository, &image.digest);
            let folder = folder.trim_end_matches("link");
            let key = format!("{folder}signatures/sha256/{hex}/link");
            put(&scene, &key, format!("sha256:{hex}").as_bytes()).unwrap();
        }
        // A foreign layer, and one by another algorithm: its link names the blob by the registry's own.
        let image = &images[3];
        let mut manifest = image.manifest.clone();
        let layer = scene.storage().get(&blob_key(image.layer())).unwrap().unwrap();
        let other_name = format!("sha512:{}", hex::encode(Sha512::digest(&layer)));
        let link = layer_link_key(&image.repository, &other_name);
        put(&scene, &link, image.layer().as_bytes()).unwrap();
        manifest["layers"][0]["digest"] = other_name.into();
        manifest["layers"][0]["size"] = layer.len().into();
        manifest["layers"]
            .as_array_mut()
            .unwrap()
            .push(serde_json::json!({
                "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "size": 5, "digest": format!("sha256:{}", "f".repeat(64)), "urls": ["https://example.com"],
            }));
        let bytes = manifest.to_string().into_bytes();
        let digest = hardprune_tests::content::digest_of(&bytes);
        put(&scene, &blob_key(&digest), &bytes).unwrap();
        let link = revision_link_key(&image.repository, &digest);
        put(&scene, &link, digest.as_bytes()).unwrap();

        let report = fsck(&scene, 6).unwrap();
        let missing = format!("sha256:{}", "0".repeat(64));
        let of = (images[2].repository.clone(), images[2].digest.clone());
        let only = (of.0, of.1, "signature_missing".to_owned(), missing);
        assert_eq!(findings(&report), BTreeSet::from([only]), "{on:?}");
    }
}
