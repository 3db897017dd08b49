//! The keys of one delete request, and what became of each.
//!
//! A batch can be made in three ways only: from a permit that stands for a sealed plan (R2), of copies in quarantine whose
//! originals were seen in their place, or of hardprune's own files. There is no way to name any other key.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::authority::{DeletePermit, PlannedKey};
use crate::clock;
use crate::quarantine::{PutBack, is_among_copies};

/// Where hardprune keeps its own files, beside `docker/`.
pub const OWN_FOLDER: &str = "hardprune/";

/// The keys of one delete request.
#[derive(Debug)]
pub struct DeleteBatch {
    keys: Vec<String>,
    deadline: Instant,
}

/// A key that was to be removed as one of hardprune's own files, but is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "{key:?} is not a file of hardprune's own (they begin with {OWN_FOLDER:?}, and copies in quarantine are none); not removed"
)]
pub struct NotOwnFile {
    key: String,
}

impl DeleteBatch {
    /// Makes a batch of keys that the permit's sealed plan names (R2). The request ends while the permit's
    /// lease is still good (R10).
    #[must_use]
    pub fn planned(permit: &DeletePermit, keys: Vec<PlannedKey>) -> Self {
        Self {
            keys: keys.into_iter().map(PlannedKey::into_key).collect(),
            deadline: permit.deadline(),
        }
    }

    /// Makes a batch of copies in quarantine that nobody needs: what they are copies of is in its place.
    #[must_use]
    pub fn put_back(copies: Vec<PutBack>, timeout: Duration) -> Self {
        Self {
            keys: copies.into_iter().map(PutBack::into_key).collect(),
            deadline: clock::monotonic_now() + timeout,
        }
    }

    /// Makes a batch of hardprune's own files: state, locks, probes.
    ///
    /// # Errors
    ///
    /// A key outside hardprune's own folder, and a copy in quarantine: that may be all that is left of a blob.
    pub fn own_files(keys: Vec<String>, timeout: Duration) -> Result<Self, NotOwnFile> {
        if let Some(key) = keys
            .iter()
            .find(|key| !key.starts_with(OWN_FOLDER) || key.contains("/../") || is_among_copies(key))
        {
            return Err(NotOwnFile { key: key.clone() });
        }
        Ok(Self {
            keys,
            deadline: clock::monotonic_now() + timeout,
        })
    }

    /// The keys, in the order in which outcomes are given.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// When the request must have ended. From then on nothing of it may be sent.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// What became of one key of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "message")]
pub enum KeyOutcome {
    /// The object is gone.
    Deleted,
    /// The store refused this key and says why; the object is still there.
    Failed(String),
    /// The request was sent and its end is not known: the object may or may not be there.
    Unknown(String),
    /// Nothing was done, and asking again later may help: the store has too many requests (429, 503), or the request
    /// could not be sent at all.
    Throttled,
}
