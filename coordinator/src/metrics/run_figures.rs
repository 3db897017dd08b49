//! Figures of a run that `/metrics` shows while it goes on and `--metrics-file` when it has ended, under one name.

use hardprune_common::metrics::{gauge, register};
use jiff::Timestamp;
use prometheus::{Error, Gauge, IntGauge, Registry};

/// Figures of a run that are shown in both places.
#[derive(Debug, Clone)]
pub(crate) struct RunFigures {
    pub(crate) deleted_blobs: IntGauge,
    pub(crate) freed_bytes: IntGauge,
    finished: Gauge,
}

impl RunFigures {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name that is taken.
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let finished = Gauge::new(
            "hardprune_coordinator_run_finished_timestamp_seconds",
            "When the run ended. NaN until then.",
        )?;
        finished.set(f64::NAN);
        Ok(Self {
            deleted_blobs: gauge(
                registry,
                "hardprune_coordinator_deleted_blobs",
                "Blobs that the run deleted. While it goes on: as its tasks have told so far.",
            )?,
            freed_bytes: gauge(
                registry,
                "hardprune_coordinator_freed_bytes",
                "Bytes of the blobs that the run deleted. While it goes on: as its tasks have told so far.",
            )?,
            finished: register(registry, finished)?,
        })
    }

    /// The run has ended.
    pub(crate) fn ended(&self, at: Timestamp) {
        self.finished.set(at.as_duration().as_secs_f64());
    }
}
