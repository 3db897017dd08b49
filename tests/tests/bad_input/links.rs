//! Links whose content is not what their path says. The registry serves what the content says; both are kept.

use anyhow::Result;
use hardprune_tests::content::digest_of;
use hardprune_tests::manifests::{self, Content, Family};
use hardprune_tests::s3_server::{ETags, S3Options};
use hardprune_tests::storage_writer::{blob_key, layer_link_key, revision_link_key, tag_link_key};
use sha2::{Digest, Sha512};

use crate::scene::{EVERYWHERE, Image, Scene, blob, number, problems};

const REPOSITORY: &str = "odd/app";

/// Two images of which only one has a revision link, and that says the other. `served` has no link of its own.
fn mismatched_revision(scene: &Scene, content: impl Fn(&Image) -> String) -> Result<(Image, Image)> {
    let (named, served) = (Image::new(1), Image::new(2));
    scene.put_image(REPOSITORY, &named)?;
    for blob in [&served.config, &served.layer, &served.manifest] {
        scene.put_blob(blob)?;
    }
    let key = revision_link_key(REPOSITORY, &named.manifest.digest);
    scene.put(&key, content(&served).as_bytes())?;
    Ok((named, served))
}

#[test]
fn a_revision_link_that_names_another_manifest_keeps_both() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        mismatched_revision(&scene, |served| served.manifest.digest.clone()).unwrap();
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(problems(&report, "link_mismatch"), 1, "{report:#}");
        assert_eq!(report["problems"]["first"][0]["repository"], REPOSITORY);
    }
}

/// Nor does an ETag tell that is no MD5, or the MD5 of something else; and links that were right do not speak for others.
#[test]
fn a_revision_link_that_names_another_manifest_keeps_both_whatever_etags_are() {
    for etags in [ETags::Encrypted, ETags::Opaque] {
        for options in [&[][..], &["--delete-untagged"]] {
            let scene = Scene::on_s3(S3Options {
                etags,
                ..S3Options::default()
            })
            .unwrap();
            let (_, served) = mismatched_revision(&scene, |served| served.manifest.digest.clone()).unwrap();
            let report = scene.report(0, "check", options).unwrap();
            assert_eq!(problems(&report, "link_mismatch"), 1, "{etags:?}: {report:#}");
            scene.report(0, "delete", options).unwrap();
            for blob in [&served.config, &served.layer, &served.manifest] {
                let left = scene.storage().get(&blob_key(&blob.digest)).unwrap();
                assert!(left.is_some(), "{etags:?} {options:?}: {} went", blob.digest);
            }
        }
    }
}

#[test]
fn also_where_untagged_manifests_go() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let (_, served) = mismatched_revision(&scene, |served| served.manifest.digest.clone()).unwrap();
        let before = scene.snapshot().unwrap();
        scene.report(0, "delete", &["--delete-untagged"]).unwrap();
        // What only untagged manifests need has gone from other repositories; here all of both must be left.
        let gone = before.gone_unchecked(&scene).unwrap().removed_blobs();
        for blob in [&served.config, &served.layer, &served.manifest] {
            assert!(!gone.contains_key(&blob.digest), "{on:?}: {} went", blob.digest);
        }
    }
}

#[test]
fn a_revision_link_with_white_space_around_another_digest() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        mismatched_revision(&scene, |served| format!("  {}\n", served.manifest.digest)).unwrap();
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(problems(&report, "link_mismatch"), 1, "{report:#}");
    }
}

#[test]
fn a_link_with_white_space_around_its_own_digest_is_no_problem() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let image = Image::new(1);
        scene.put_image(REPOSITORY, &image).unwrap();
        let key = revision_link_key(REPOSITORY, &image.manifest.digest);
        scene
            .put(&key, format!("{}\n", image.manifest.digest).as_bytes())
            .unwrap();
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(number(&report, "/problems/total"), 0, "{report:#}");
    }
}

/// A layer link whose content another digest is: of another length, so that its size shows it everywhere.
#[test]
fn a_layer_link_that_names_another_blob_keeps_both() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let (named, served) = (blob(1), blob(2));
        for blob in [&named, &served] {
            scene.put_blob(blob).unwrap();
        }
        let key = layer_link_key(REPOSITORY, &named.digest);
        scene
            .put(&key, format!("{}\n", served.digest).as_bytes())
            .unwrap();
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(problems(&report, "link_mismatch"), 1, "{report:#}");
        assert!(scene.storage().get(&key).unwrap().is_some());
    }
}

/// A blob pushed by its sha512 lies under its sha256, which only the content of its layer link says.
#[test]
fn a_layer_that_a_manifest_names_by_another_algorithm() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let mut image = Image::new(1);
        let stored = image.layer.clone();
        image.layer.digest = format!("sha512:{}", hex::encode(Sha512::digest(&stored.bytes)));
        image.manifest = manifests::image(Family::Oci, &image.config, &[&image.layer], None);
        for blob in [&stored, &image.config, &image.manifest] {
            scene.put_blob(blob).unwrap();
        }
        scene.put_layer_link(REPOSITORY, &image.config.digest).unwrap();
        scene
            .put_revision_link(REPOSITORY, &image.manifest.digest)
            .unwrap();
        let key = layer_link_key(REPOSITORY, &image.layer.digest);
        scene.put(&key, stored.digest.as_bytes()).unwrap();
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(problems(&report, "link_mismatch"), 1, "{report:#}");
        assert!(scene.storage().get(&key).unwrap().is_some());
    }
}

/// What a live manifest needs stays, and so does its link, whatever that says. A folder does not even look at it.
#[test]
fn a_garbled_link_to_a_layer_that_is_needed() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let image = Image::new(1);
        scene.put_image(REPOSITORY, &image).unwrap();
        let key = layer_link_key(REPOSITORY, &image.layer.digest);
        scene.put(&key, b"garbage").unwrap();
        scene.prunes_exactly(&[]).unwrap();
        assert!(scene.storage().get(&key).unwrap().is_some());
    }
}

/// On S3 the ETag shows it, too, where the length does not.
#[test]
fn a_layer_link_of_the_right_size_that_names_another_blob() {
    let scene = Scene::new(crate::scene::On::S3).unwrap();
    let (named, served) = (blob(1), blob(2));
    for blob in [&named, &served] {
        scene.put_blob(blob).unwrap();
    }
    let key = layer_link_key(REPOSITORY, &named.digest);
    scene.put(&key, served.digest.as_bytes()).unwrap();
    let report = scene.prunes_exactly(&[]).unwrap();
    assert_eq!(problems(&report, "link_mismatch"), 1, "{report:#}");
}

#[test]
fn links_with_garbage_in_them() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let (revision, layer, named) = (Image::new(1), blob(2), blob(3));
        scene.put_image(REPOSITORY, &revision).unwrap();
        scene.put_blob(&layer).unwrap();
        scene.put_blob(&named).unwrap();
        let garbage = [
            (
                revision_link_key(REPOSITORY, &revision.manifest.digest),
                Vec::new(),
            ),
            (
                layer_link_key(REPOSITORY, &layer.digest),
                [b"\xff\x00see ", named.digest.as_bytes(), b" or so"].concat(),
            ),
        ];
        for (key, bytes) in &garbage {
            scene.put(key, bytes).unwrap();
        }
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(problems(&report, "link_unreadable"), 2, "{report:#}");
        for (key, _) in &garbage {
            assert!(scene.storage().get(key).unwrap().is_some(), "{key} went");
        }
    }
}

#[test]
fn a_link_of_many_megabytes_is_not_read_whole() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let image = Image::new(1);
        scene.put_image(REPOSITORY, &image).unwrap();
        let key = revision_link_key(REPOSITORY, &image.manifest.digest);
        scene.put(&key, &vec![b'x'; 8 << 20]).unwrap();
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(problems(&report, "link_unreadable"), 1, "{report:#}");
    }
}

/// Nobody knows what such a tag means, so nothing of its repository is untagged.
#[test]
fn a_tag_that_cannot_be_read_freezes_where_untagged_manifests_go() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let (tagged, untagged) = (Image::new(1), Image::new(2));
        scene.put_image(REPOSITORY, &tagged).unwrap();
        scene.put_image(REPOSITORY, &untagged).unwrap();
        let key = tag_link_key(REPOSITORY, "latest");
        scene.put(&key, b"sha256:oops").unwrap();
        let before = scene.snapshot().unwrap();
        let report = scene.report(0, "delete", &["--delete-untagged"]).unwrap();
        assert_eq!(number(&report, "/frozen_repositories"), 1, "{report:#}");
        assert_eq!(problems(&report, "link_unreadable"), 1, "{report:#}");
        let gone = before.gone_unchecked(&scene).unwrap();
        let here: Vec<_> = gone
            .removed
            .keys()
            .filter(|key| key.contains(REPOSITORY))
            .collect();
        assert!(here.is_empty(), "{here:?}");
        let blobs = gone.removed_blobs();
        for image in [&tagged, &untagged] {
            for blob in [&image.config, &image.layer, &image.manifest] {
                assert!(!blobs.contains_key(&blob.digest), "{} went", blob.digest);
            }
        }
    }
}

#[test]
fn a_tag_that_names_no_revision_is_a_problem_and_keeps_what_it_names() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let image = Image::new(1);
        scene.put_image(REPOSITORY, &image).unwrap();
        let elsewhere: Content = blob(2);
        scene.put_blob(&elsewhere).unwrap();
        scene.put_tag(REPOSITORY, "lost", &elsewhere.digest).unwrap();
        scene
            .put_tag(REPOSITORY, "never", &digest_of(b"never pushed"))
            .unwrap();
        let before = scene.snapshot().unwrap();
        let report = scene.report(0, "delete", &["--delete-untagged"]).unwrap();
        assert_eq!(problems(&report, "tag_without_revision"), 2, "{report:#}");
        let gone = before.gone_unchecked(&scene).unwrap().removed_blobs();
        assert!(!gone.contains_key(&elsewhere.digest), "{report:#}");
    }
}
