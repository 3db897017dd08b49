//! The lock: who owns a registry while it is pruned, and which plan may be carried out. It lies in the registry's own
//! storage, so authority over a registry is had by who can write there, and by nobody else.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::digest::Digest;
use crate::removal::RemovalStage;
use crate::run::Epoch;

/// The lock's key.
pub const LOCK_KEY: &str = "hardprune/lock.json";

/// How long a lock is good for after it was last renewed, unless the run says otherwise.
pub const LEASE: Duration = Duration::from_secs(60);

/// The longest that a delete request may take under a lock with this lease (R10): 20 s of 60.
#[must_use]
pub fn delete_timeout(lease: Duration) -> Duration {
    lease / 3
}

/// How often a lock with this lease is renewed: several times before it lapses.
#[must_use]
pub fn renew_every(lease: Duration) -> Duration {
    lease / 4
}

/// After how long whoever deletes looks at the lock again.
#[must_use]
pub fn look_again_after(lease: Duration) -> Duration {
    lease / 6
}

/// What the lock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockDocument {
    /// The format's version: 1.
    pub version: u32,
    /// The epoch that it is held for.
    pub epoch: Epoch,
    /// Who holds it: host, process.
    pub owner: String,
    /// Since when, by the store's clock.
    pub since: Timestamp,
    /// When it was last renewed, by the store's clock.
    pub renewed: Timestamp,
    /// How long it is good for after that.
    pub lease_seconds: u32,
    /// The sha256 of the sealed plan that may be carried out.
    pub sealed_plan: Option<Digest>,
    /// How far it may be: everything of the stages before this one is done (R6).
    #[serde(default)]
    pub stage: Option<RemovalStage>,
    /// Whether others than the owner's own process delete for it: their requests do not end with that process (R5).
    #[serde(default)]
    pub workers_elsewhere: bool,
}

impl LockDocument {
    /// How long it is good for after each renewal.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.into())
    }

    /// When it lapses unless it is renewed, by the store's clock.
    #[must_use]
    pub fn lapses(&self) -> Timestamp {
        clock::later(self.renewed, self.lease())
    }

    /// When every request of its owner's must have ended, by the store's clock (R5).
    #[must_use]
    pub fn requests_end(&self) -> Timestamp {
        clock::later(self.lapses(), delete_timeout(self.lease()))
    }
}
