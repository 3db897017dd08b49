//! How long the lease of the registry's lock still lasts, reckoned when somebody looks: a figure that is only written when
//! the lock is renewed would stand still exactly when nobody renews it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hardprune_common::clock;
use prometheus::core::{Collector, Desc};
use prometheus::{Error, Gauge, proto};

/// A gauge of the seconds that are left.
#[derive(Debug, Clone)]
pub(super) struct LockLease {
    gauge: Gauge,
    lapses: Arc<Mutex<Option<Instant>>>,
}

impl LockLease {
    /// Makes the gauge; no lock is held.
    ///
    /// # Errors
    ///
    /// None: its name is one.
    pub(super) fn new() -> Result<Self, Error> {
        let help =
            "How long the registry's lock still lasts unless it is renewed. NaN where the run holds none.";
        Ok(Self {
            gauge: Gauge::new("hardprune_coordinator_lock_lease_remaining_seconds", help)?,
            lapses: Arc::default(),
        })
    }

    /// The lock lapses then, by this machine's clock. `None`: it is not held.
    pub(super) fn lapses(&self, at: Option<Instant>) {
        *self.lapses.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl Collector for LockLease {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let lapses = *self.lapses.lock().unwrap_or_else(PoisonError::into_inner);
        let left = lapses.map(|lapses| lapses.saturating_duration_since(clock::monotonic_now()));
        self.gauge.set(left.map_or(f64::NAN, |left| left.as_secs_f64()));
        self.gauge.collect()
    }
}
