//! Removals: the lines of a plan. Each names one key that would go, and why.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::layout::{self, RepositoryEntry};
use crate::quarantine::parse_copy_key;

/// What a removal removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalKind {
    /// A tag index entry.
    TagIndexEntry,
    /// A tag's current link.
    TagCurrent,
    /// A revision link.
    RevisionLink,
    /// The link of an old signature beside a revision.
    SignatureLink,
    /// A layer link.
    LayerLink,
    /// A file of an upload in progress.
    UploadFile,
    /// A blob.
    Blob,
    /// A copy of a link, in quarantine.
    QuarantinedLink,
    /// A copy of a blob, in quarantine.
    QuarantinedBlob,
}

/// Why a removal removes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalReason {
    /// No reference names the blob, and it is older than the cutoff.
    Orphan,
    /// No reference names the layer link's digest.
    Dangling,
    /// The manifest has no tag, belongs to none that has, and is older than the cutoff.
    Untagged,
    /// The manifest's blob is missing, and `--prune-broken` was given.
    ManifestMissing,
    /// Nothing is left in the repository, and `--delete-empty-repositories` was given.
    RepositoryEmpty,
    /// The tag means something else now, and the entry is older than `--purge-tag-history-older-than`.
    TagHistory,
    /// The cluster has an image stream of the repository's name, and none of its tags has the manifest.
    NotInStream,
    /// The cluster has no image stream of the repository's name.
    NoImageStream,
    /// The upload is older than `--purge-uploads-older-than`.
    UploadAbandoned,
    /// It was quarantined, and is not needed again.
    Purged,
}

/// The stages of a delete, in their order (R6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalStage {
    /// Links of dead manifests, everywhere.
    Unlink,
    /// Dangling layer links, everywhere.
    Links,
    /// Blobs, shard by shard.
    Sweep,
}

/// One key that would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// What it is.
    pub kind: RemovalKind,
    /// Its key: the canonical one of what it is (R3).
    pub key: String,
    /// Bytes, as the listing said. 0 for dangling layer links.
    pub size: u64,
    /// As the listing said. `None` only in plans of versions that did not know it of dangling layer links.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_modified: Option<Timestamp>,
    /// Why.
    pub reason: RemovalReason,
}

impl Removal {
    /// The digest of the blob that it removes, from the registry or from quarantine. `None` for everything else.
    #[must_use]
    pub fn blob(&self) -> Option<Digest> {
        matches!(self.kind, RemovalKind::Blob | RemovalKind::QuarantinedBlob)
            .then(|| layout::parse_blob_key(self.original()))
            .flatten()
    }

    /// The key that it has in the registry, or of a copy in quarantine, that its original had.
    #[must_use]
    pub fn original(&self) -> &str {
        parse_copy_key(&self.key).map_or(&self.key, |copy| copy.original)
    }

    /// What it is in the registry, or what its original was.
    #[must_use]
    pub fn original_kind(&self) -> RemovalKind {
        if !matches!(
            self.kind,
            RemovalKind::QuarantinedLink | RemovalKind::QuarantinedBlob
        ) {
            return self.kind;
        }
        let entry = layout::parse_repository_key(self.original()).and_then(|key| key.entry);
        match entry {
            None => RemovalKind::Blob,
            Some(RepositoryEntry::LayerLink(_)) => RemovalKind::LayerLink,
            Some(RepositoryEntry::RevisionLink(_)) => RemovalKind::RevisionLink,
            Some(RepositoryEntry::SignatureLink { .. }) => RemovalKind::SignatureLink,
            Some(RepositoryEntry::TagIndexEntry { .. }) => RemovalKind::TagIndexEntry,
            Some(RepositoryEntry::TagCurrent { .. }) => RemovalKind::TagCurrent,
            Some(RepositoryEntry::Upload { .. }) => RemovalKind::UploadFile,
        }
    }

    /// The repository whose key it removes. `None` for a blob.
    #[must_use]
    pub fn repository(&self) -> Option<&str> {
        Some(layout::parse_repository_key(self.original())?.repository)
    }

    /// The digest that the removed key names. `None` for a tag's current link and an upload's files.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        layout::digest_of(self.original())
    }

    /// The digest of the layer link that it removes. `None` for everything else.
    #[must_use]
    pub fn layer_link(&self) -> Option<Digest> {
        match layout::parse_repository_key(self.original())?.entry? {
            RepositoryEntry::LayerLink(digest) => Some(digest),
            _ => None,
        }
    }

    /// Whether its key is the canonical key of something of its kind (R3).
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        match self.kind {
            RemovalKind::Blob => return layout::parse_blob_key(&self.key).is_some(),
            RemovalKind::QuarantinedBlob => return self.blob().is_some(),
            RemovalKind::QuarantinedLink => {
                return parse_copy_key(&self.key)
                    .is_some_and(|copy| layout::parse_blob_key(copy.original).is_none());
            }
            _ => {}
        }
        let entry = layout::parse_repository_key(&self.key).and_then(|key| key.entry);
        matches!(
            (self.kind, entry),
            (
                RemovalKind::TagIndexEntry,
                Some(RepositoryEntry::TagIndexEntry { .. })
            ) | (RemovalKind::TagCurrent, Some(RepositoryEntry::TagCurrent { .. }))
                | (RemovalKind::RevisionLink, Some(RepositoryEntry::RevisionLink(_)))
                | (
                    RemovalKind::SignatureLink,
                    Some(RepositoryEntry::SignatureLink { .. })
                )
                | (RemovalKind::LayerLink, Some(RepositoryEntry::LayerLink(_)))
                | (RemovalKind::UploadFile, Some(RepositoryEntry::Upload { .. }))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn a_removal_whose_key_is_of_another_kind_is_not_canonical() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let link = layout::repository_key("a", &RepositoryEntry::LayerLink(digest));
        let removal = |kind, key: &str| Removal {
            kind,
            key: key.to_owned(),
            size: 0,
            last_modified: None,
            reason: RemovalReason::Orphan,
        };
        assert!(removal(RemovalKind::LayerLink, &link).is_canonical());
        assert!(!removal(RemovalKind::RevisionLink, &link).is_canonical());
        assert!(!removal(RemovalKind::Blob, &link).is_canonical());
        assert!(removal(RemovalKind::Blob, &layout::blob_key(&digest)).is_canonical());
        assert_eq!(
            removal(RemovalKind::Blob, &layout::blob_key(&digest)).blob(),
            Some(digest)
        );
        assert!(!removal(RemovalKind::Blob, "docker/registry/v2/blobs/").is_canonical());
    }
}
