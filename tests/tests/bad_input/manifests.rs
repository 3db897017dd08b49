//! R8: a manifest that cannot be read or understood freezes its repository; the rest of the registry is pruned.

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::digest_of;
use hardprune_tests::manifests::{Content, OCI_INDEX, OCI_MANIFEST};
use hardprune_tests::s3_server::{Effect, Fault, Operation};
use hardprune_tests::storage_writer::{blob_key, layer_link_key, revision_link_key};
use serde_json::json;

use crate::scene::{EVERYWHERE, Image, On, Scene, blob, number, problems};

const REPOSITORY: &str = "broken/app";
const FOUR_MIB: usize = 4 << 20;

/// A manifest that is not as it should be.
struct Damaged {
    /// What the revision link says.
    digest: String,
    /// What lies under that digest.
    bytes: Option<Vec<u8>>,
}

impl Damaged {
    /// Bytes that are what the digest says, and no manifest.
    fn honest(bytes: Vec<u8>) -> Self {
        Self {
            digest: digest_of(&bytes),
            bytes: Some(bytes),
        }
    }

    /// Other bytes than the digest says.
    fn false_to(digest: &str, bytes: Vec<u8>) -> Self {
        Self {
            digest: digest.to_owned(),
            bytes: Some(bytes),
        }
    }
}

/// What only the frozen repository keeps.
struct Kept {
    /// Linked as a layer; nothing names it.
    linked: Content,
    /// Named in the manifest's bytes; nothing links it.
    named: Vec<Content>,
    /// The other image of the repository.
    neighbour: Image,
}

impl Kept {
    fn new() -> Self {
        Self {
            linked: blob(1),
            named: vec![blob(2), blob(3)],
            neighbour: Image::new(4),
        }
    }

    fn plant(&self, scene: &Scene) -> Result<()> {
        scene.put_image(REPOSITORY, &self.neighbour)?;
        scene.put_blob(&self.linked)?;
        scene.put_layer_link(REPOSITORY, &self.linked.digest)?;
        self.named.iter().try_for_each(|blob| scene.put_blob(blob))
    }

    /// A whole manifest that names `named`: one as config, the others as layers.
    fn manifest(&self) -> Vec<u8> {
        let layers: Vec<_> = self.named[1..].iter().map(Content::descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.named[0].descriptor(),
            "layers": layers,
        });
        manifest.to_string().into_bytes()
    }
}

/// Plants a damaged manifest, checks and deletes: its repository must be frozen, its blobs stay (those named in its
/// bytes only where it has `named_stay` of them), and the orphans elsewhere go.
fn freezes(kind: &str, counter: &str, named_stay: usize, damage: impl Fn(&Kept) -> Damaged) -> Result<()> {
    for on in EVERYWHERE {
        let scene = Scene::new(on)?;
        let kept = Kept::new();
        kept.plant(&scene)?;
        let damaged = damage(&kept);
        if let Some(bytes) = &damaged.bytes {
            scene.put(&blob_key(&damaged.digest), bytes)?;
        }
        scene.put_revision_link(REPOSITORY, &damaged.digest)?;

        let going: Vec<&Content> = kept.named[named_stay..].iter().collect();
        let report = scene
            .prunes_exactly(&going)
            .with_context(|| format!("{kind} on {on:?}"))?;
        ensure!(number(&report, "/frozen_repositories") == 1, "{report:#}");
        ensure!(
            problems(&report, kind) == 1 && number(&report, "/problems/total") == 1,
            "{report:#}"
        );
        ensure!(
            number(&report, &format!("/manifests/{counter}")) == 1,
            "{report:#}"
        );
        let problem = &report["problems"]["first"][0];
        ensure!(
            problem["repository"] == REPOSITORY && problem["digest"] == damaged.digest.as_str(),
            "{report:#}"
        );
        let links =
            [&kept.linked, &kept.neighbour.layer].map(|blob| layer_link_key(REPOSITORY, &blob.digest));
        for key in links
            .iter()
            .chain([&revision_link_key(REPOSITORY, &damaged.digest)])
        {
            ensure!(
                scene.storage().get(key)?.is_some(),
                "the frozen repository lost {key}"
            );
        }
    }
    Ok(())
}

#[test]
fn missing() {
    freezes("manifest_missing", "missing", 0, |kept| Damaged {
        digest: digest_of(&kept.manifest()),
        bytes: None,
    })
    .unwrap();
}

#[test]
fn empty() {
    freezes("manifest_corrupt", "corrupt", 0, |kept| {
        Damaged::false_to(&digest_of(&kept.manifest()), Vec::new())
    })
    .unwrap();
}

#[test]
fn empty_and_that_is_what_its_digest_says() {
    freezes("manifest_unknown_type", "unknown_type", 0, |_| {
        Damaged::honest(Vec::new())
    })
    .unwrap();
}

#[test]
fn truncated() {
    freezes("manifest_corrupt", "corrupt", 2, |kept| {
        let mut bytes = kept.manifest();
        let digest = digest_of(&bytes);
        bytes.truncate(bytes.len() - 10);
        Damaged::false_to(&digest, bytes)
    })
    .unwrap();
}

#[test]
fn truncated_before_it_was_pushed() {
    freezes("manifest_unknown_type", "unknown_type", 2, |kept| {
        let mut bytes = kept.manifest();
        bytes.truncate(bytes.len() - 10);
        Damaged::honest(bytes)
    })
    .unwrap();
}

#[test]
fn bytes_that_do_not_match() {
    freezes("manifest_corrupt", "corrupt", 2, |kept| {
        let mut bytes = kept.manifest();
        let digest = digest_of(&bytes);
        bytes.push(b'\n');
        Damaged::false_to(&digest, bytes)
    })
    .unwrap();
}

#[test]
fn not_json() {
    freezes("manifest_unknown_type", "unknown_type", 2, |kept| {
        let names: String = kept
            .named
            .iter()
            .map(|blob| format!("<li>{}</li>", blob.digest))
            .collect();
        Damaged::honest(format!("<html>\u{0}{names}</html>").into_bytes())
    })
    .unwrap();
}

#[test]
fn of_an_unknown_media_type() {
    freezes("manifest_unknown_type", "unknown_type", 2, |kept| {
        let bytes = String::from_utf8_lossy(&kept.manifest())
            .replace(OCI_MANIFEST, "application/vnd.example.v9+json");
        Damaged::honest(bytes.into_bytes())
    })
    .unwrap();
}

#[test]
fn of_an_unknown_shape() {
    freezes("manifest_unknown_type", "unknown_type", 2, |kept| {
        let names: Vec<_> = kept.named.iter().map(|blob| &blob.digest).collect();
        Damaged::honest(
            json!({"schemaVersion": 7, "chunks": names})
                .to_string()
                .into_bytes(),
        )
    })
    .unwrap();
}

#[test]
fn with_a_digest_that_does_not_parse() {
    for bad in [
        "sha256:beef",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "",
        "latest",
    ] {
        freezes("manifest_unknown_type", "unknown_type", 1, |kept| {
            let bytes = String::from_utf8_lossy(&kept.manifest()).replace(&kept.named[1].digest, bad);
            Damaged::honest(bytes.into_bytes())
        })
        .unwrap();
    }
}

/// A digest counts wherever it stands, also across the pieces in which a large blob is read.
#[test]
fn larger_than_any_manifest_may_be() {
    freezes("manifest_too_large", "corrupt", 2, |kept| {
        let mut bytes = vec![b' '; FOUR_MIB - 40];
        bytes.extend_from_slice(kept.named[0].digest.as_bytes());
        bytes.resize(2 * FOUR_MIB + 4_000, b' ');
        bytes.extend_from_slice(kept.named[1].digest.as_bytes());
        Damaged::honest(bytes)
    })
    .unwrap();
}

#[test]
fn larger_than_any_manifest_may_be_and_otherwise_right() {
    freezes("manifest_too_large", "corrupt", 2, |kept| {
        let mut bytes = kept.manifest();
        bytes.resize(FOUR_MIB + 1, b' ');
        Damaged::honest(bytes)
    })
    .unwrap();
}

#[test]
fn one_that_may_not_be_read() {
    let scene = Scene::new(On::S3).unwrap();
    let kept = Kept::new();
    kept.plant(&scene).unwrap();
    let unreadable = Content::new(OCI_MANIFEST, kept.manifest());
    scene.put_blob(&unreadable).unwrap();
    scene.put_revision_link(REPOSITORY, &unreadable.digest).unwrap();
    let denied = Fault::on(Operation::Get, Effect::Status(403, "AccessDenied"));
    let denied = denied.of_keys_with(blob_key(&unreadable.digest));
    scene.server().faults().add(denied);
    // Nobody knows that it names them; their layer links, without which no registry takes a manifest, keep them.
    for blob in &kept.named {
        scene.put_layer_link(REPOSITORY, &blob.digest).unwrap();
    }
    let report = scene.prunes_exactly(&[]).unwrap();
    assert_eq!(number(&report, "/frozen_repositories"), 1);
    assert_eq!(problems(&report, "manifest_unreadable"), 1);
}

/// What cannot be had for want of an answer is no broken manifest: nothing is known then.
#[test]
fn one_that_the_store_does_not_give_is_not_taken_for_missing() {
    for effect in [
        Effect::Status(500, "InternalError"),
        Effect::Status(404, "NoSuchBucket"),
        Effect::DropConnection,
    ] {
        let scene = Scene::new(On::S3).unwrap();
        let digest = scene.truth.tags[0].digest.clone();
        let fault = Fault::on(Operation::Get, effect).of_keys_with(blob_key(&digest));
        scene.server().faults().add(fault);
        scene
            .both_fail(1, &["--prune-broken"], &["s3://registry"])
            .unwrap();
    }
}

#[test]
fn prune_broken_takes_only_missing_ones_for_dead() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let kept = Kept::new();
        kept.plant(&scene).unwrap();
        let digest = digest_of(&kept.manifest());
        scene.put_revision_link(REPOSITORY, &digest).unwrap();
        scene.put_layer_link(REPOSITORY, &kept.named[0].digest).unwrap();
        let going = [&kept.linked, &kept.named[0], &kept.named[1]];
        let report = scene.prunes_exactly_with(&going, &["--prune-broken"]).unwrap();
        assert_eq!(number(&report, "/frozen_repositories"), 0, "{report:#}");
        assert_eq!(number(&report, "/manifests/missing"), 1, "{report:#}");
        assert_eq!(number(&report, "/links/revision"), 1, "{report:#}");
        let get = |key: &str| scene.storage().get(key).unwrap();
        assert_eq!(get(&revision_link_key(REPOSITORY, &digest)), None);
        assert_eq!(get(&layer_link_key(REPOSITORY, &kept.named[0].digest)), None);
        assert!(get(&revision_link_key(REPOSITORY, &kept.neighbour.manifest.digest)).is_some());
    }
}

#[test]
fn prune_broken_leaves_corrupt_ones_alone() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let kept = Kept::new();
        kept.plant(&scene).unwrap();
        let digest = digest_of(b"what it was");
        scene.put(&blob_key(&digest), &kept.manifest()).unwrap();
        scene.put_revision_link(REPOSITORY, &digest).unwrap();
        let report = scene.prunes_exactly_with(&[], &["--prune-broken"]).unwrap();
        assert_eq!(number(&report, "/frozen_repositories"), 1, "{report:#}");
        assert_eq!(problems(&report, "manifest_corrupt"), 1, "{report:#}");
        assert_eq!(number(&report, "/links/revision"), 0, "{report:#}");
    }
}

/// An index is as good as its children: one that is broken freezes the index's repository, too.
#[test]
fn a_broken_child_of_an_index_freezes() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let kept = Kept::new();
        kept.plant(&scene).unwrap();
        let child = Content::new(OCI_MANIFEST, kept.manifest());
        let index = hardprune_tests::manifests::index(hardprune_tests::manifests::Family::Oci, &[&child]);
        scene.put_blob(&index).unwrap();
        for manifest in [&index, &child] {
            scene.put_revision_link(REPOSITORY, &manifest.digest).unwrap();
        }
        scene.put_tag(REPOSITORY, "multi", &index.digest).unwrap();
        scene.put(&blob_key(&child.digest), &child.bytes[..100]).unwrap();
        // With --delete-untagged, too: what a frozen repository has is live.
        let report = scene.report(0, "check", &["--delete-untagged"]).unwrap();
        assert_eq!(number(&report, "/frozen_repositories"), 1, "{report:#}");
        let named: Vec<_> = kept.named.iter().collect();
        let cut_off =
            usize::from(!String::from_utf8_lossy(&child.bytes[..100]).contains(&kept.named[0].digest));
        let report = scene.prunes_exactly(&named[1 - cut_off..]).unwrap();
        assert_eq!(number(&report, "/frozen_repositories"), 1, "{report:#}");
    }
}

/// Whatever an index calls it: what the repository serves as a manifest is one, and an index that is tagged keeps it.
#[test]
fn an_image_that_an_index_calls_a_layer_stays_whole() {
    let scene = Scene::new(On::Folder).unwrap();
    let image = Image::new(1);
    for blob in [&image.config, &image.layer] {
        scene.put_blob(blob).unwrap();
        scene.put_layer_link(REPOSITORY, &blob.digest).unwrap();
    }
    let layer = json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "size": image.manifest.size(),
        "digest": image.manifest.digest,
    });
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [layer]});
    let index = Content::new(OCI_INDEX, index.to_string().into_bytes());
    for manifest in [&image.manifest, &index] {
        scene.put_blob(manifest).unwrap();
        scene.put_revision_link(REPOSITORY, &manifest.digest).unwrap();
    }
    scene.put_tag(REPOSITORY, "latest", &index.digest).unwrap();
    let report = scene.report(0, "delete", &["--delete-untagged"]).unwrap();
    assert_eq!(number(&report, "/frozen_repositories"), 0, "{report:#}");
    for blob in [&image.config, &image.layer, &image.manifest, &index] {
        let left = scene.storage().get(&blob_key(&blob.digest)).unwrap();
        assert!(left.is_some(), "{} went", blob.digest);
    }
}
