//! Why a registry cannot be owned, and when it could be.

use std::fmt;

use hardprune_common::lock::LOCK_KEY;
use hardprune_common::store::StoreError;
use jiff::Timestamp;

/// Why the registry cannot be owned.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run owns it.
    #[error(
        "{registry} is locked by {owner} (run {run}) since {since}; its lease was last renewed at {renewed}. {take_over}"
    )]
    Held {
        /// The registry.
        registry: String,
        /// Who.
        owner: String,
        /// For which run.
        run: String,
        /// Since when.
        since: Timestamp,
        /// When the owner last said that it lives.
        renewed: Timestamp,
        /// When it can be taken over.
        take_over: TakeOver,
    },
    /// Another run is taking or giving back the lock at this moment.
    #[error("{registry} is being locked or unlocked by another run at this moment; try again")]
    Busy {
        /// The registry.
        registry: String,
    },
    /// The store does not keep two writers apart.
    #[error(
        "{registry} does not honour conditional writes (If-None-Match): two runs could own it at once. \
         hardprune deletes nothing there"
    )]
    NotHonoured {
        /// The registry.
        registry: String,
    },
    /// The lock is no lock.
    #[error(
        "{registry}: {LOCK_KEY:?} cannot be read as a lock ({problem}); look at it, and remove it by hand"
    )]
    Unreadable {
        /// The registry.
        registry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It was ours, and was not renewed in time.
    #[error("{registry}: the lock of this run lapsed at {lapsed}; what it had sealed deletes nothing more")]
    Lapsed {
        /// The registry.
        registry: String,
        /// When.
        lapsed: Timestamp,
    },
    /// The epoch is over, whoever still holds the lock for it.
    #[error("the right to delete was withdrawn for this epoch; what it had sealed deletes nothing more")]
    Revoked,
    /// The store failed.
    #[error("the registry cannot be locked: {0}")]
    Store(#[from] StoreError),
}

/// When a lock that another run holds can be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver {
    /// Nobody can tell whether its owner lives: its lease and its requests have to pass.
    IfDiedAfter(Timestamp),
    /// An advisory lock says that its owner lives, and tells when it does no more.
    OnceDead,
    /// The same; then the requests of its workers have to pass.
    OnceDeadAndWorkersEnded,
    /// Its owner has died; its workers may delete until then.
    WorkersEndAt(Timestamp),
}

impl fmt::Display for TakeOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IfDiedAfter(end) => write!(
                f,
                "Wait until it has ended; if it died, the lock can be taken over after {end}"
            ),
            Self::OnceDead => f.write_str(
                "Wait until it has ended; if its process dies, the lock can be taken over at once",
            ),
            Self::OnceDeadAndWorkersEnded => f.write_str(
                "Wait until it has ended; if its process dies, the lock can be taken over when its lease has passed, and the \
                 last requests of its workers",
            ),
            Self::WorkersEndAt(end) => write!(
                f,
                "Its process has died, but its workers may still be at work; the lock can be taken over after {end}"
            ),
        }
    }
}
