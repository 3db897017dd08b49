//! One registry with every kind of content that is met in the wild, pushed as clients push it.

use std::time::SystemTime;

use anyhow::{Context, Result};

use super::builder::Builder;
use super::{Pushed, Pusher};
use crate::content::Seeded;
use crate::docker_registry::DockerRegistry;
use crate::manifests::{self, Content, Family};
use crate::storage_writer::{Storage, blob_key, layer_link_key, revision_link_key};
use crate::truth::Need;

const SEED: u64 = 2_024;

/// Pushes everything that `docker-registry` 2.8.2 knows, and writes schema 1 into its storage directly, because a
/// push of it must be signed and the registry keeps no signature anyway.
///
/// `storage` must be the storage of that registry. The content is the same every time.
pub async fn build_everything(registry: &DockerRegistry, storage: &dyn Storage) -> Result<Pushed> {
    let mut builder = Builder::new(Pusher::new(registry), storage, SEED);
    builder.images_that_share_layers().await?;
    builder.multi_arch().await?;
    builder.cosign_tags().await?;
    builder.referrers().await?;
    builder.old_kinds().await?;
    builder.build_cache().await?;
    builder.nested_repositories().await?;
    builder.retagged().await?;
    builder.deleted().await?;
    builder.broken_pushes().await?;
    Ok(builder.finish())
}

/// Adds an OCI artifact manifest that is live by its `subject`, `team/app:v1`, in the storage directly.
///
/// 2.8.2 neither takes nor serves the kind, and its collector stops at one, so it stands apart from
/// [`build_everything`]: compare with the stock collector first. Returns the manifest, which is not among
/// `pushed.referrers` because it cannot be pulled.
pub fn add_artifact_manifest(storage: &dyn Storage, pushed: &mut Pushed) -> Result<Content> {
    let name = "team/app";
    let about = pushed
        .tags
        .iter()
        .find(|tag| tag.repository == name && tag.tag == "v1");
    let subject = storage.get(&blob_key(&about.context("nothing was built")?.digest))?;
    let subject = Content::new(
        manifests::DOCKER_MANIFEST,
        subject.context("what was built is gone")?,
    );
    let blob = manifests::layer(Family::Oci, &mut Seeded::new(SEED + 1), 2_000);
    let artifact = manifests::artifact(&[&blob], &subject);
    let now = SystemTime::now();
    for (content, link) in [
        (&blob, layer_link_key(name, &blob.digest)),
        (&artifact, revision_link_key(name, &artifact.digest)),
    ] {
        storage.put(&blob_key(&content.digest), &content.bytes, now)?;
        storage.put(&link, content.digest.as_bytes(), now)?;
        pushed.live.insert(content.digest.clone(), content.size());
    }
    Ok(artifact)
}

impl Builder<'_> {
    /// A base image under two tags, and an image in another repository that has its layers by mount.
    async fn images_that_share_layers(&mut self) -> Result<()> {
        let base = "library/base";
        let base_layers = self.layers(Family::Docker, 3);
        for layer in &base_layers[1..] {
            self.api.blob_in_chunks(base, layer, 700).await?;
        }
        let image = self
            .image(base, Family::Docker, &base_layers, Need::Tagged)
            .await?;
        self.tagged(base, "latest", &image).await?;
        self.tagged(base, "v1", &image).await?;

        let app = "team/app";
        for layer in &base_layers {
            self.api.mount(app, &layer.digest, base).await?;
        }
        let mut layers = base_layers;
        layers.extend(self.layers(Family::Docker, 2));
        let image = self.image(app, Family::Docker, &layers, Need::Tagged).await?;
        self.tagged(app, "v1", &image).await?;
        layers.extend(self.layers(Family::Oci, 1));
        let image = self.image(app, Family::Oci, &layers, Need::Tagged).await?;
        self.tagged(app, "v2-oci", &image).await
    }

    /// A manifest list, an index, an index of an index; and an index that is deleted, so that its children stay.
    async fn multi_arch(&mut self) -> Result<()> {
        let name = "team/multi";
        let list = self.index_of(name, Family::Docker, Need::Tagged).await?;
        self.tagged(name, "docker", &list).await?;
        let index = self.index_of(name, Family::Oci, Need::Tagged).await?;
        self.tagged(name, "oci", &index).await?;

        let inner = self.index_of(name, Family::Oci, Need::Tagged).await?;
        self.by_digest(name, &inner, Need::Tagged).await?;
        let layers = self.layers(Family::Oci, 1);
        let beside = self.image(name, Family::Oci, &layers, Need::Tagged).await?;
        self.by_digest(name, &beside, Need::Tagged).await?;
        self.tagged(name, "nested", &manifests::index(Family::Oci, &[&inner, &beside]))
            .await?;

        let gone = self.index_of(name, Family::Oci, Need::Untagged).await?;
        self.api.manifest(name, "gone", &gone).await?;
        self.note_manifest(&gone, Need::Nothing);
        self.delete(name, &gone).await
    }

    /// Pushes two images without tags and returns the index of them, not pushed yet.
    async fn index_of(&mut self, name: &str, family: Family, need: Need) -> Result<Content> {
        let mut children = Vec::new();
        for _ in 0..2 {
            let layers = self.layers(family, 2);
            let child = self.image(name, family, &layers, need).await?;
            self.by_digest(name, &child, need).await?;
            children.push(child);
        }
        Ok(manifests::index(family, &children.iter().collect::<Vec<_>>()))
    }

    /// Signature, attestation and SBOM as tags that spell the digest of what they are about; one outlived it.
    async fn cosign_tags(&mut self) -> Result<()> {
        let name = "team/signed";
        let layers = self.layers(Family::Oci, 2);
        let image = self.image(name, Family::Oci, &layers, Need::Tagged).await?;
        self.tagged(name, "v1", &image).await?;
        for suffix in [".sig", ".att", ".sbom"] {
            let referrer = self.referrer(name, None, Need::Tagged).await?;
            self.tagged(
                name,
                &format!("{}{suffix}", image.digest.replace(':', "-")),
                &referrer,
            )
            .await?;
        }

        let layers = self.layers(Family::Oci, 1);
        let deleted = self.image(name, Family::Oci, &layers, Need::Nothing).await?;
        self.api.manifest(name, "deleted", &deleted).await?;
        self.note_manifest(&deleted, Need::Nothing);
        let signature = self.referrer(name, None, Need::Tagged).await?;
        self.tagged(
            name,
            &format!("{}.sig", deleted.digest.replace(':', "-")),
            &signature,
        )
        .await?;
        self.delete(name, &deleted).await
    }

    /// Referrers by `subject`, and by the tag that stands for the referrers API; a referrer of a referrer; and one
    /// whose subject is not live.
    async fn referrers(&mut self) -> Result<()> {
        let name = "team/referred";
        let layers = self.layers(Family::Oci, 2);
        let image = self.image(name, Family::Oci, &layers, Need::Tagged).await?;
        self.tagged(name, "v1", &image).await?;
        let sbom = self.referrer(name, Some(&image), Need::Tagged).await?;
        let signature = self.referrer(name, Some(&sbom), Need::Tagged).await?;
        for referrer in [&sbom, &signature] {
            self.by_digest(name, referrer, Need::Tagged).await?;
            self.pushed
                .referrers
                .insert((name.to_string(), referrer.digest.clone()));
        }
        let listed = self.referrer(name, Some(&image), Need::Tagged).await?;
        self.by_digest(name, &listed, Need::Tagged).await?;
        let fallback = manifests::index(Family::Oci, &[&listed]);
        self.tagged(name, &image.digest.replace(':', "-"), &fallback)
            .await?;

        let layers = self.layers(Family::Oci, 1);
        let untagged = self.image(name, Family::Oci, &layers, Need::Untagged).await?;
        self.by_digest(name, &untagged, Need::Untagged).await?;
        let referrer = self.referrer(name, Some(&untagged), Need::Untagged).await?;
        self.by_digest(name, &referrer, Need::Untagged).await
    }

    /// Schema 1, and an image with a layer that only its URL holds.
    async fn old_kinds(&mut self) -> Result<()> {
        let name = "legacy/app";
        let layers = self.layers(Family::Docker, 2);
        for layer in &layers {
            self.blob(name, layer, Need::Tagged).await?;
        }
        let old = manifests::schema1(name, "schema1", &layers.iter().collect::<Vec<_>>());
        self.write_tagged(name, "schema1", &old)?;

        let layers = self.layers(Family::Docker, 2);
        self.blob(name, &layers[0], Need::Tagged).await?;
        let config = self
            .config(name, Family::Docker, &[&layers[0], &layers[1]], Need::Tagged)
            .await?;
        let foreign = manifests::foreign_layer(&layers[1], "https://example.com/layer.tar.gz");
        let descriptors = vec![foreign, layers[0].descriptor()];
        let image = manifests::image_of_descriptors(Family::Docker, &config, descriptors, None);
        self.tagged(name, "foreign", &image).await
    }

    /// A build cache as BuildKit exports it: an index that lists layers, and a description of them, in place of manifests.
    async fn build_cache(&mut self) -> Result<()> {
        let name = "team/cache";
        let mut listed = self.layers(Family::Oci, 2);
        listed.push(manifests::cache_config());
        for blob in &listed {
            self.blob(name, blob, Need::Tagged).await?;
        }
        let index = manifests::index(Family::Oci, &listed.iter().collect::<Vec<_>>());
        self.tagged(name, "cache", &index).await
    }

    /// Repositories inside the folders of others.
    async fn nested_repositories(&mut self) -> Result<()> {
        for (name, tag) in [("a", "latest"), ("a/b", "latest"), ("a/b/c-d/e.f", "v1.0_rc")] {
            let layers = self.layers(Family::Docker, 1);
            let image = self.image(name, Family::Docker, &layers, Need::Tagged).await?;
            self.tagged(name, tag, &image).await?;
        }
        Ok(())
    }

    /// A tag that moved on: the first image stays as an untagged revision, and in the tag's history.
    async fn retagged(&mut self) -> Result<()> {
        let name = "team/moving";
        let mut layers = self.layers(Family::Docker, 2);
        let first = self.image(name, Family::Docker, &layers, Need::Untagged).await?;
        self.api.manifest(name, "latest", &first).await?;
        self.by_digest(name, &first, Need::Untagged).await?;
        layers.pop();
        layers.extend(self.layers(Family::Docker, 1));
        let second = self.image(name, Family::Docker, &layers, Need::Tagged).await?;
        self.tagged(name, "latest", &second).await
    }

    /// Images deleted through the API: one alone, one whose layer another image has, one that lives on elsewhere.
    async fn deleted(&mut self) -> Result<()> {
        let name = "team/deleted";
        let layers = self.layers(Family::Docker, 3);
        let alone = self
            .image(name, Family::Docker, &layers[..2], Need::Nothing)
            .await?;
        let sharing = self
            .image(name, Family::Docker, &layers[2..], Need::Nothing)
            .await?;
        for (tag, image) in [("alone", &alone), ("sharing", &sharing)] {
            self.api.manifest(name, tag, image).await?;
            self.note_manifest(image, Need::Nothing);
        }
        let sharer = self.image(name, Family::Oci, &layers[2..], Need::Tagged).await?;
        self.tagged(name, "sharer", &sharer).await?;
        self.delete(name, &alone).await?;
        self.delete(name, &sharing).await?;

        let (layer, elsewhere) = (&self.layers(Family::Docker, 1)[0], "team/copies");
        self.blob(name, layer, Need::Tagged).await?;
        let config = self.config(name, Family::Docker, &[layer], Need::Tagged).await?;
        let copied = manifests::image(Family::Docker, &config, &[layer], None);
        self.api.manifest(name, "copied", &copied).await?;
        for part in [layer, &config] {
            self.api.mount(elsewhere, &part.digest, name).await?;
        }
        self.tagged(elsewhere, "v1", &copied).await?;
        self.delete(name, &copied).await
    }

    /// Blobs whose manifest never came, and uploads that never ended; one repository has nothing else.
    async fn broken_pushes(&mut self) -> Result<()> {
        for (name, blobs) in [("team/app", 2), ("broken/push", 3)] {
            for blob in self.layers(Family::Docker, blobs) {
                self.blob(name, &blob, Need::Nothing).await?;
            }
            for bytes in [&b"the beginning of a layer"[..], b""] {
                let id = self.api.abandon_upload(name, bytes).await?;
                self.pushed.uploads.push((name.to_string(), id));
            }
        }
        Ok(())
    }
}
