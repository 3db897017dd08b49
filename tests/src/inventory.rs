//! What a storage holds at one moment, and what went or came between two moments: the yardstick for freed bytes.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::storage_writer::{REGISTRY_ROOT, Storage};

/// Every key of a storage with its size in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory(pub BTreeMap<String, u64>);

/// What is different in a later inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Keys that are gone, with the size that they had.
    pub removed: BTreeMap<String, u64>,
    /// Keys that are new, with their size.
    pub added: BTreeMap<String, u64>,
    /// Keys whose size changed: before, after.
    pub resized: BTreeMap<String, (u64, u64)>,
}

impl Inventory {
    /// Lists a storage.
    pub fn take(storage: &dyn Storage) -> Result<Self> {
        Ok(Self(storage.keys()?))
    }

    /// Bytes of all blobs.
    pub fn blob_bytes(&self) -> u64 {
        blobs(&self.0).map(|(_, size)| size).sum()
    }

    /// Compares with a later inventory of the same storage.
    pub fn until(&self, later: &Self) -> Difference {
        let not_in = |here: &BTreeMap<String, u64>, there: &BTreeMap<String, u64>| {
            here.iter()
                .filter(|(key, _)| !there.contains_key(*key))
                .map(|(key, size)| (key.clone(), *size))
                .collect()
        };
        let resized = self.0.iter().filter_map(|(key, before)| {
            let after = later.0.get(key)?;
            (before != after).then(|| (key.clone(), (*before, *after)))
        });
        Difference {
            removed: not_in(&self.0, &later.0),
            added: not_in(&later.0, &self.0),
            resized: resized.collect(),
        }
    }
}

impl Difference {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.resized.is_empty()
    }

    /// Digests and sizes of the blobs that are gone.
    pub fn removed_blobs(&self) -> BTreeMap<String, u64> {
        blobs(&self.removed).collect()
    }

    /// Bytes of the blobs that are gone: what a prune must report as freed.
    pub fn freed_blob_bytes(&self) -> u64 {
        blobs(&self.removed).map(|(_, size)| size).sum()
    }
}

/// The blobs among keys: those of the form `…/blobs/<algorithm>/<two digits>/<hex>/data`.
fn blobs(keys: &BTreeMap<String, u64>) -> impl Iterator<Item = (String, u64)> + '_ {
    keys.iter().filter_map(|(key, size)| {
        let (_, path) = key.split_once(&format!("{REGISTRY_ROOT}blobs/"))?;
        let parts: Vec<&str> = path.split('/').collect();
        let [algorithm, _, hex, "data"] = parts[..] else {
            return None;
        };
        Some((format!("{algorithm}:{hex}"), *size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_removed_blobs_count_as_freed() {
        let blob = format!("{REGISTRY_ROOT}blobs/sha256/ab/abcd/data");
        let link = format!("{REGISTRY_ROOT}repositories/a/_layers/sha256/abcd/link");
        let before = Inventory(BTreeMap::from([(blob, 100), (link, 71), ("kept".to_string(), 1)]));
        let after = Inventory(BTreeMap::from([("kept".to_string(), 2), ("new".to_string(), 3)]));
        let difference = before.until(&after);
        assert_eq!(difference.freed_blob_bytes(), 100);
        assert_eq!(
            difference.removed_blobs(),
            BTreeMap::from([("sha256:abcd".to_string(), 100)])
        );
        assert_eq!(difference.removed.len(), 2);
        assert_eq!(difference.added.len(), 1);
        assert_eq!(difference.resized.len(), 1);
        assert!(before.until(&before).is_empty());
    }
}
