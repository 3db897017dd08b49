//! What can go wrong with a store.

use std::error::Error as StdError;

/// A failure of a store, or of one key in it. Messages name keys and places, never credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No object has this key.
    #[error("{store}: no object {key:?}")]
    NotFound {
        /// The store's identity.
        store: String,
        /// The key asked for.
        key: String,
    },
    /// The bucket, container or folder itself is not there.
    #[error("{store}: there is no such {what}; check the name, the region and the endpoint")]
    NoSuchPlace {
        /// The store's identity.
        store: String,
        /// "bucket", "container", "folder".
        what: &'static str,
    },
    /// The credentials are missing or not known to the store.
    #[error(
        "{store}: the credentials were not accepted ({detail}); set them as the provider's own tools take them"
    )]
    Unauthenticated {
        /// The store's identity.
        store: String,
        /// What the store answered.
        detail: String,
    },
    /// The credentials are known, but may not do this.
    #[error("{store}: not permitted to {action} {key:?} ({detail})")]
    Denied {
        /// The store's identity.
        store: String,
        /// "read", "list", "write", "delete".
        action: &'static str,
        /// The key or prefix.
        key: String,
        /// What the store answered.
        detail: String,
    },
    /// A conditional write found another state.
    #[error("{store}: {key:?} was written by another meanwhile")]
    ConditionNotMet {
        /// The store's identity.
        store: String,
        /// The key written to.
        key: String,
    },
    /// A page of a listing did not prove itself (R12).
    #[error("{store}: page {page} of the listing of {prefix:?} cannot be believed: {problem}")]
    BadPage {
        /// The store's identity.
        store: String,
        /// The prefix listed.
        prefix: String,
        /// Counted from 1.
        page: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The store did not answer as it should, or not at all, after bounded retries.
    #[error("{store}: could not {action} {key:?}: {detail}")]
    Unavailable {
        /// The store's identity.
        store: String,
        /// "read", "list", "write", "delete".
        action: &'static str,
        /// The key or prefix.
        key: String,
        /// The last answer or failure.
        detail: String,
        /// The failure below, where there is one.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// What the store is configured with cannot be used.
    #[error("{store}: {problem}")]
    Configuration {
        /// The store as the user named it.
        store: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl StoreError {
    /// A part of a folder that blobs should be in is a symbolic link, or no folder.
    #[must_use]
    pub fn behind_a_link(store: &str, folder: &str, part: &str) -> Self {
        let problem = format!(
            "{part:?} in {folder:?} is a symbolic link or no folder; nothing behind a symbolic link is ever deleted: mount \
             it there instead"
        );
        let store = store.to_owned();
        Self::Configuration { store, problem }
    }

    /// Whether the object is certainly not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
