//! The lock: who owns a registry while it is pruned, and which plan may be carried out. It lies in the registry's own
//! storage, so authority over a registry is had by who can write there, and by nobody else.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::digest::Digest;
use crate::run::Epoch;

/// The lock's key.
pub const LOCK_KEY: &str = "hardprune/lock.json";

/// How long a lock is good for after it was last renewed.
pub const LEASE: Duration = Duration::from_secs(60);

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
}

impl LockDocument {
    /// When it lapses unless it is renewed, by the store's clock.
    #[must_use]
    pub fn lapses(&self) -> Timestamp {
        clock::later(self.renewed, Duration::from_secs(self.lease_seconds.into()))
    }
}
