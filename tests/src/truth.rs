//! What a fixture knows about the registry that it made, to hold against what others find.

use std::collections::BTreeMap;

use crate::manifests::Content;

/// A tag and what it names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The repository's name.
    pub repository: String,
    /// The tag's name.
    pub tag: String,
    /// The digest of the manifest that it names.
    pub digest: String,
}

/// The strongest thing that needs a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// No manifest names it.
    Nothing,
    /// Only manifests need it that no tag leads to.
    Untagged,
    /// A tag needs it: through indexes, or as the subject of what a referrer is about.
    Tagged,
}

/// Blobs and the strongest need of each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(BTreeMap<String, (Need, u64)>);

impl Ledger {
    /// Notes that something needs a blob; says whether it was not known before.
    pub fn note(&mut self, blob: &Content, need: Need) -> bool {
        let known = self.0.get(&blob.digest).map(|(known, _)| *known);
        self.0.insert(
            blob.digest.clone(),
            (known.map_or(need, |known| known.max(need)), blob.size()),
        );
        known.is_none()
    }

    /// The blobs of one need, with their sizes.
    pub fn of(&self, need: Need) -> BTreeMap<String, u64> {
        let of_need = self.0.iter().filter(|(_, (known, _))| *known == need);
        of_need
            .map(|(digest, (_, size))| (digest.clone(), *size))
            .collect()
    }
}
