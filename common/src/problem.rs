//! Problems: what a run found wrong in a registry, and went on (R8).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A revision's blob is not there.
    ManifestMissing,
    /// A revision's blob may not be read.
    ManifestUnreadable,
    /// A revision's bytes are not what its digest says.
    ManifestCorrupt,
    /// A revision's bytes are not understood.
    ManifestUnknownType,
    /// A revision's blob is larger than any manifest may be.
    ManifestTooLarge,
    /// A link's content names another digest than its key.
    LinkMismatch,
    /// A link's content is no digest, or cannot be read.
    LinkUnreadable,
    /// A tag names a revision that the repository does not have.
    TagWithoutRevision,
    /// A repository with revisions and without any tag, where `--delete-untagged` would remove them all.
    RepositoryWithoutTags,
    /// An object of the cluster names something that is not understood.
    ClusterObject,
    /// A key could not be deleted.
    DeleteFailed,
    /// A task failed too often.
    TaskFailed,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ManifestMissing => "manifest_missing",
            Self::ManifestUnreadable => "manifest_unreadable",
            Self::ManifestCorrupt => "manifest_corrupt",
            Self::ManifestUnknownType => "manifest_unknown_type",
            Self::ManifestTooLarge => "manifest_too_large",
            Self::LinkMismatch => "link_mismatch",
            Self::LinkUnreadable => "link_unreadable",
            Self::TagWithoutRevision => "tag_without_revision",
            Self::RepositoryWithoutTags => "repository_without_tags",
            Self::ClusterObject => "cluster_object",
            Self::DeleteFailed => "delete_failed",
            Self::TaskFailed => "task_failed",
        })
    }
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The repository, where it is of one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repository: Option<String>,
    /// The digest, where it is of one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// What.
    pub kind: ProblemKind,
    /// In words.
    pub message: String,
}
