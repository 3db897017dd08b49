//! Why a registry does not count as read-only. Nothing is deleted then, or nothing more.

use std::time::Duration;

use hardprune_common::store::StoreError;

use super::switch::SwitchError;

/// Why a registry does not count as read-only.
#[derive(Debug, thiserror::Error)]
pub enum ReadOnlyError {
    /// An upload could be started.
    #[error(
        "{registry} is not read-only: it let an upload to {repository} begin{}. Put every replica in read-only mode \
         (REGISTRY_STORAGE_MAINTENANCE_READONLY={{\"enabled\":true}}), or have it done with --read-only-via or \
         --read-only-command", if *.cancelled { " (it was cancelled)" } else { ", which could not be cancelled" }
    )]
    Writable {
        /// Which replica.
        registry: String,
        /// Where the upload began.
        repository: String,
        /// Whether the upload is gone.
        cancelled: bool,
    },
    /// Something else was answered, or nothing.
    #[error("{registry} is not proved to be read-only: {seen}")]
    NotProved {
        /// Which replica.
        registry: String,
        /// What was seen.
        seen: String,
    },
    /// It was, and is not any more (R11).
    #[error("read-only mode was lost; what was sealed deletes nothing more. {0}")]
    Lost(Box<ReadOnlyError>),
    /// Uploads went on after read-only mode began.
    #[error(
        "{count} uploads were still written to, or appeared, after the registry became read-only, and have not come to rest in \
         {} s, for example {example}. Something writes past the replicas that were asked: find it, or, if they were given up, try \
         again, or wait longer with --drain-uploads", .waited.as_secs()
    )]
    UploadsInFlight {
        /// How many.
        count: usize,
        /// Some of them.
        example: String,
        /// How long was waited.
        waited: Duration,
    },
    /// It could not be switched, or switched back.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// Another run switched it in another way, and did not switch it back.
    #[error(
        "{registry} was switched to read-only by {by} at {since}, and not switched back. Do that first: hardprune read-write \
         {storage}"
    )]
    SwitchedBefore {
        /// The registry.
        registry: String,
        /// In which way.
        by: String,
        /// When.
        since: jiff::Timestamp,
        /// The registry on a command line.
        storage: String,
    },
    /// What stands beside the lock about that cannot be read.
    #[error(
        "{registry}: {key:?} cannot be read ({problem}). It says how the registry was switched to read-only: look at it, switch \
         the registry back by hand, and remove it"
    )]
    RecordUnreadable {
        /// The registry.
        registry: String,
        /// The file.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The registry's storage.
    #[error("read-only mode could not be noted in the registry's storage, or uploads not be listed: {0}")]
    Store(#[from] StoreError),
    /// The run is to stop.
    #[error("the run was stopped")]
    Stopped,
}
