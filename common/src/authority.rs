//! The right to delete (R2, R10): a permit stands for a sealed plan that was traced, hash by hash, to the lock in the
//! registry's storage, while the lock's lease is good.

use std::time::Duration;

/// A key of a sealed plan that was traced to the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedKey(String);

impl PlannedKey {
    /// The key as text.
    #[must_use]
    pub fn into_key(self) -> String {
        self.0
    }
}

/// The right to send one delete request now.
#[derive(Debug)]
pub struct DeletePermit {
    request_timeout: Duration,
}

impl DeletePermit {
    /// How long the request may take; shorter than the lease that remains (R10).
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout
    }
}
