//! What became of an attempt to take back a delete.

/// What a store answers that has no versions.
pub(super) const NOT_HERE: &str =
    "a delete cannot be taken back here: only buckets of S3 that keep versions have delete markers to remove";

/// What [`Store::undelete`](super::Store::undelete) did for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undeletion {
    /// The object is there again.
    Undeleted,
    /// The newest version is an object: it was never deleted, or was written again since. Nothing was done.
    StillThere,
    /// No version of an object is there, so nothing was done.
    Nothing,
}
