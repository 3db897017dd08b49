//! Which copies a restore is asked for: all, those of one repository, or digests with all that they name.

use std::collections::HashSet;

use futures::TryStreamExt;
use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, blob_key, digest_of, parse_blob_key, parse_repository_key};
use hardprune_common::link::{LONGEST_LINK, parse_link};
use hardprune_common::manifest::{LARGEST_MANIFEST, Manifest};
use hardprune_common::quarantine::{copy_key, parse_copy_key};
use hardprune_common::run::RunId;
use hardprune_common::store::{ListedObject, Store, StoreError};

use super::copies::{Class, copies};

/// What is asked for.
#[derive(Debug, Default)]
pub struct Selection {
    /// Only links of this repository.
    pub repository: Option<String>,
    /// Only these digests. `None`: all.
    digests: Option<HashSet<Digest>>,
    /// Whether links are chosen by their digests, not by their repository alone.
    by_digest: bool,
}

impl Selection {
    /// Finds out what belongs to what was asked for: a manifest brings along all that it names.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn of(
        registry: &dyn Store,
        run: RunId,
        repository: Option<&str>,
        digests: &[Digest],
    ) -> Result<Self, StoreError> {
        let mut selection = Self {
            repository: repository.map(str::to_owned),
            digests: None,
            by_digest: !digests.is_empty(),
        };
        // Only what may be a manifest is read: layers are large.
        let mut wanted: Vec<(Digest, bool)> = digests.iter().map(|digest| (*digest, true)).collect();
        if let (Some(repository), []) = (repository, digests) {
            for class in [Class::LayerLink, Class::RevisionLink] {
                let mut pages = copies(registry, run, class, Some(repository));
                while let Some(page) = pages.try_next().await? {
                    let digests = page.iter().filter_map(|copy| digest_of_link(&copy.key));
                    wanted.extend(digests.map(|digest| (digest, class == Class::RevisionLink)));
                }
            }
        } else if digests.is_empty() {
            return Ok(selection);
        }
        let mut all = HashSet::new();
        let mut read = HashSet::new();
        while let Some((digest, may_be_manifest)) = wanted.pop() {
            all.insert(digest);
            if may_be_manifest
                && read.insert(digest)
                && let Some(manifest) = read_manifest(registry, run, &digest).await?
            {
                all.extend(manifest.references());
                wanted.extend(manifest.children.iter().map(|child| (*child, true)));
            }
        }
        selection.digests = Some(all);
        Ok(selection)
    }

    /// Those of a page of copies that are wanted.
    ///
    /// # Errors
    ///
    /// The store's: what a tag means is read.
    pub async fn choose(
        &self,
        registry: &dyn Store,
        page: Vec<ListedObject>,
    ) -> Result<Vec<ListedObject>, StoreError> {
        let mut chosen = Vec::new();
        for copy in page {
            if self.wants(registry, &copy.key).await? {
                chosen.push(copy);
            }
        }
        Ok(chosen)
    }

    async fn wants(&self, registry: &dyn Store, copy: &str) -> Result<bool, StoreError> {
        let Some(digests) = &self.digests else {
            return Ok(true);
        };
        let Some(original) = parse_copy_key(copy).map(|key| key.original) else {
            return Ok(false);
        };
        if let Some(digest) = parse_blob_key(original) {
            return Ok(digests.contains(&digest));
        }
        if !self.by_digest {
            // Links are listed of the one repository only.
            return Ok(true);
        }
        let digest = match digest_of_link(copy) {
            Some(digest) => Some(digest),
            None => parse_link(&registry.get(copy, 0, LONGEST_LINK).await?.bytes).ok(),
        };
        Ok(digest.is_some_and(|digest| digests.contains(&digest)))
    }
}

/// What a copied link names, where its key says so. A signature belongs to its revision.
fn digest_of_link(copy: &str) -> Option<Digest> {
    let original = parse_copy_key(copy)?.original;
    match parse_repository_key(original)?.entry? {
        RepositoryEntry::SignatureLink { revision, .. } => Some(revision),
        _ => digest_of(original),
    }
}

/// Reads a manifest, from quarantine or from where it still is. `None`: it is none, or nowhere.
async fn read_manifest(
    registry: &dyn Store,
    run: RunId,
    digest: &Digest,
) -> Result<Option<Manifest>, StoreError> {
    let original = blob_key(digest);
    for key in [copy_key(run, &original), original] {
        match registry.get(&key, 0, LARGEST_MANIFEST).await {
            Ok(object) if object.size <= LARGEST_MANIFEST => return Ok(Manifest::parse(&object.bytes).ok()),
            Ok(_) => return Ok(None),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
