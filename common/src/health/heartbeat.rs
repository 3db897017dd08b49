//! Whether a process's main loop still turns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// Tells the health server that the main loop still turns. Clones are one heart.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    latest: Arc<Mutex<Instant>>,
    limit: Duration,
}

impl Heartbeat {
    /// Begins with a beat. After `limit` without another, the process counts as dead: choose it several times as
    /// long as one turn of the loop can take.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            latest: Arc::new(Mutex::new(clock::monotonic_now())),
            limit,
        }
    }

    /// Says that the loop has turned.
    pub fn beat(&self) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = clock::monotonic_now();
    }

    /// How long there was no beat, if that is the limit or longer.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        let latest = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = clock::since(latest);
        (silence >= self.limit).then_some(silence)
    }
}
