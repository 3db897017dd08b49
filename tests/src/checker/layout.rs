//! Sorts the keys of a storage into blobs and, by repository, what its links say. A link means its content, which is
//! what the registry serves, not the digest in its path.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::storage_writer::Storage;

/// A registry as its storage has it.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Size of every blob, by digest.
    pub blobs: BTreeMap<String, u64>,
    /// The key of every blob, by digest.
    pub blob_keys: BTreeMap<String, String>,
    /// Repositories by name.
    pub repositories: BTreeMap<String, Repository>,
}

/// The digests that a repository links to.
#[derive(Debug, Default)]
pub(super) struct Repository {
    pub layers: BTreeSet<String>,
    pub revisions: BTreeSet<String>,
    pub tags: BTreeMap<String, String>,
}

impl Layout {
    pub fn read(storage: &dyn Storage) -> Result<Self> {
        let mut layout = Self::default();
        for (key, size) in storage.keys()? {
            let Some(path) = key.strip_prefix("docker/registry/v2/") else {
                continue;
            };
            if let Some(path) = path.strip_prefix("blobs/") {
                layout.blob(&key, path, size);
            } else if let Some(path) = path.strip_prefix("repositories/") {
                layout.link(storage, &key, path)?;
            }
        }
        Ok(layout)
    }

    fn blob(&mut self, key: &str, path: &str, size: u64) {
        let parts: Vec<&str> = path.split('/').collect();
        if let [algorithm, first, hex, "data"] = parts[..]
            && hex.starts_with(first)
        {
            let digest = format!("{algorithm}:{hex}");
            self.blobs.insert(digest.clone(), size);
            self.blob_keys.insert(digest, key.to_string());
        }
    }

    fn link(&mut self, storage: &dyn Storage, key: &str, path: &str) -> Result<()> {
        // No part of a repository's name begins with an underscore, so the first such part ends it.
        let Some((name, rest)) = path.split_once("/_") else {
            return Ok(());
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let place = match parts[..] {
            ["layers", _, _, "link"] => Place::Layer,
            ["manifests", "revisions", _, _, "link"] => Place::Revision,
            ["manifests", "tags", tag, "current", "link"] => Place::Tag(tag),
            _ => return Ok(()),
        };
        let Some(content) = storage.get(key)? else {
            return Ok(());
        };
        let Ok(digest) = String::from_utf8(content) else {
            return Ok(());
        };
        let repository = self.repositories.entry(name.to_string()).or_default();
        match place {
            Place::Layer => {
                repository.layers.insert(digest);
            }
            Place::Revision => {
                repository.revisions.insert(digest);
            }
            Place::Tag(tag) => {
                repository.tags.insert(tag.to_string(), digest);
            }
        }
        Ok(())
    }
}

enum Place<'a> {
    Layer,
    Revision,
    Tag(&'a str),
}
