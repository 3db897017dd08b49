//! Pushes piece by piece while keeping the account of what each piece is needed for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use anyhow::Result;

use super::Pusher;
use crate::content::Seeded;
use crate::manifests::{self, Content, Family};
use crate::storage_writer::{Storage, blob_key, revision_link_key, tag_index_key, tag_link_key};
use crate::truth::{Ledger, Need, Tag};

/// What was pushed into a registry and what a prune is to make of it.
#[derive(Debug, Clone, Default)]
pub struct Pushed {
    /// Every tag.
    pub tags: Vec<Tag>,
    /// Manifests without a tag that are live all the same, because their subject is: repository and digest.
    pub referrers: BTreeSet<(String, String)>,
    /// Blobs that a tag needs, manifests included, with their sizes.
    pub live: BTreeMap<String, u64>,
    /// Blobs that only untagged manifests need, those included: orphans if untagged manifests are to go.
    pub untagged: BTreeMap<String, u64>,
    /// Blobs that no manifest needs: orphans in every run.
    pub orphans: BTreeMap<String, u64>,
    /// Manifests that have a revision link and that nothing live leads to, by repository and digest.
    pub untagged_manifests: BTreeSet<(String, String)>,
    /// Manifests deleted through the API, by repository and digest.
    pub deleted_manifests: BTreeSet<(String, String)>,
    /// Layer links to orphans, by repository and digest.
    pub dangling_links: BTreeSet<(String, String)>,
    /// Uploads begun and left, by repository and upload id.
    pub uploads: Vec<(String, String)>,
}

pub(super) struct Builder<'a> {
    pub api: Pusher,
    pub storage: &'a dyn Storage,
    seeded: Seeded,
    ledger: Ledger,
    layer_links: BTreeSet<(String, String)>,
    images: u32,
    pub pushed: Pushed,
}

impl<'a> Builder<'a> {
    pub fn new(api: Pusher, storage: &'a dyn Storage, seed: u64) -> Self {
        Self {
            api,
            storage,
            seeded: Seeded::new(seed),
            ledger: Ledger::default(),
            layer_links: BTreeSet::new(),
            images: 0,
            pushed: Pushed::default(),
        }
    }

    /// Makes layers of a few KB that nothing has yet.
    pub fn layers(&mut self, family: Family, count: usize) -> Vec<Content> {
        let layers = (0..count).map(|_| {
            let length = self.seeded.between(1_000, 6_000);
            manifests::layer(family, &mut self.seeded, length)
        });
        layers.collect()
    }

    /// Pushes a blob whole.
    pub async fn blob(&mut self, repository: &str, blob: &Content, need: Need) -> Result<()> {
        self.api.blob(repository, blob).await?;
        self.ledger.note(blob, need);
        self.layer_links
            .insert((repository.to_string(), blob.digest.clone()));
        Ok(())
    }

    /// Pushes all that an image is made of and returns its manifest, not pushed yet.
    pub async fn image(
        &mut self,
        repository: &str,
        family: Family,
        layers: &[Content],
        need: Need,
    ) -> Result<Content> {
        let layers: Vec<&Content> = layers.iter().collect();
        for layer in &layers {
            self.blob(repository, layer, need).await?;
        }
        let config = self.config(repository, family, &layers, need).await?;
        Ok(manifests::image(family, &config, &layers, None))
    }

    /// Pushes a config for an image; no two are the same.
    pub async fn config(
        &mut self,
        repository: &str,
        family: Family,
        layers: &[&Content],
        need: Need,
    ) -> Result<Content> {
        self.images += 1;
        let config = manifests::config(family, &format!("machine-{}", self.images), layers);
        self.blob(repository, &config, need).await?;
        Ok(config)
    }

    /// Pushes one layer and the manifest of a signature, SBOM or the like, which is returned and not pushed yet.
    pub async fn referrer(
        &mut self,
        repository: &str,
        subject: Option<&Content>,
        need: Need,
    ) -> Result<Content> {
        let layers = self.layers(Family::Oci, 1);
        let config = manifests::empty_config();
        self.blob(repository, &layers[0], need).await?;
        self.blob(repository, &config, need).await?;
        Ok(manifests::image(Family::Oci, &config, &[&layers[0]], subject))
    }

    /// Pushes a manifest under a tag.
    pub async fn tagged(&mut self, repository: &str, tag: &str, manifest: &Content) -> Result<()> {
        self.api.manifest(repository, tag, manifest).await?;
        self.note_tag(repository, tag, manifest);
        Ok(())
    }

    /// Pushes a manifest that some other manifest leads to, or nothing.
    pub async fn by_digest(&mut self, repository: &str, manifest: &Content, need: Need) -> Result<()> {
        self.api.manifest(repository, &manifest.digest, manifest).await?;
        self.ledger.note(manifest, need);
        if need == Need::Untagged {
            self.pushed
                .untagged_manifests
                .insert((repository.to_string(), manifest.digest.clone()));
        }
        Ok(())
    }

    /// Deletes a manifest and with it its tags; what it needed is needed by nothing, unless noted otherwise.
    pub async fn delete(&mut self, repository: &str, manifest: &Content) -> Result<()> {
        self.api.delete_manifest(repository, &manifest.digest).await?;
        let deleted = (repository.to_string(), manifest.digest.clone());
        self.pushed.deleted_manifests.insert(deleted);
        Ok(())
    }

    /// Writes a manifest of a kind that the registry takes no more into its storage, with a tag.
    pub fn write_tagged(&mut self, repository: &str, tag: &str, manifest: &Content) -> Result<()> {
        let link = manifest.digest.as_bytes();
        let now = SystemTime::now();
        self.storage
            .put(&blob_key(&manifest.digest), &manifest.bytes, now)?;
        for key in [
            revision_link_key(repository, &manifest.digest),
            tag_index_key(repository, tag, &manifest.digest),
            tag_link_key(repository, tag),
        ] {
            self.storage.put(&key, link, now)?;
        }
        self.note_tag(repository, tag, manifest);
        Ok(())
    }

    fn note_tag(&mut self, repository: &str, tag: &str, manifest: &Content) {
        self.ledger.note(manifest, Need::Tagged);
        let (repository, tag) = (repository.to_string(), tag.to_string());
        self.pushed.tags.push(Tag {
            repository,
            tag,
            digest: manifest.digest.clone(),
        });
    }

    /// Notes that nothing, or only an untagged manifest, needs a manifest that may have had a tag before.
    pub fn note_manifest(&mut self, manifest: &Content, need: Need) {
        self.ledger.note(manifest, need);
    }

    /// Closes the account.
    pub fn finish(self) -> Pushed {
        let mut pushed = self.pushed;
        pushed.live = self.ledger.of(Need::Tagged);
        pushed.untagged = self.ledger.of(Need::Untagged);
        pushed.orphans = self.ledger.of(Need::Nothing);
        let dangling = self
            .layer_links
            .into_iter()
            .filter(|(_, digest)| pushed.orphans.contains_key(digest));
        pushed.dangling_links = dangling.collect();
        pushed
    }
}
