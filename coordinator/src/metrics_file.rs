//! The figures of a finished run in Prometheus' text format, for a node exporter's textfile collector.

use std::fs;
use std::path::Path;

use hardprune_common::metrics::{gauge, gauge_value, register};
use prometheus::{Error, Gauge, IntGauge, Registry, TextEncoder};

use crate::error::RunError;
use crate::metrics::RunFigures;
use crate::report::{Outcome, Report};

/// Writes the figures; readers see the old file or the new one.
///
/// # Errors
///
/// A file that cannot be written.
pub fn write(path: &Path, report: &Report) -> Result<(), RunError> {
    let output = |source| RunError::Output {
        path: path.to_owned(),
        source,
    };
    let text = render(report).map_err(|error| output(std::io::Error::other(error)))?;
    let beside = path.with_extension("tmp");
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .map_err(output)
}

fn render(report: &Report) -> Result<String, Error> {
    let registry = Registry::new();
    FinishedRunMetrics::register(&registry)?.show(report);
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// A whole number of the report.
struct Figure {
    name: &'static str,
    help: &'static str,
    of: fn(&Report) -> u64,
}

const FIGURES: [Figure; 13] = [
    Figure {
        name: "hardprune_coordinator_scanned_blobs",
        help: "Blobs listed by the latest run.",
        of: |report| report.blobs.scanned,
    },
    Figure {
        name: "hardprune_coordinator_referenced_blobs",
        help: "Blobs that may be referenced.",
        of: |report| report.blobs.referenced,
    },
    Figure {
        name: "hardprune_coordinator_young_blobs",
        help: "Unreferenced blobs newer than the cutoff.",
        of: |report| report.blobs.young,
    },
    Figure {
        name: "hardprune_coordinator_orphaned_blobs",
        help: "Unreferenced blobs older than the cutoff.",
        of: |report| report.blobs.orphaned,
    },
    Figure {
        name: "hardprune_coordinator_failed_blobs",
        help: "Blobs that the store refused to delete.",
        of: |report| report.blobs.failed,
    },
    Figure {
        name: "hardprune_coordinator_scanned_bytes",
        help: "Bytes of all blobs listed.",
        of: |report| report.bytes.scanned,
    },
    Figure {
        name: "hardprune_coordinator_orphaned_bytes",
        help: "Bytes of the orphans.",
        of: |report| report.bytes.orphaned,
    },
    Figure {
        name: "hardprune_coordinator_repositories",
        help: "Repositories.",
        of: |report| report.repositories,
    },
    Figure {
        name: "hardprune_coordinator_frozen_repositories",
        help: "Repositories whose manifests could not all be read.",
        of: |report| report.frozen_repositories,
    },
    Figure {
        name: "hardprune_coordinator_read_manifests",
        help: "Manifests that the latest run read.",
        of: |report| report.manifests.read,
    },
    Figure {
        name: "hardprune_coordinator_cached_manifests",
        help: "Manifests that it did not read, because an earlier run had.",
        of: |report| report.manifests.cached,
    },
    Figure {
        name: "hardprune_coordinator_problems",
        help: "Problems found by the latest run.",
        of: |report| report.problems.total,
    },
    Figure {
        name: "hardprune_coordinator_completed",
        help: "Whether the latest run completed.",
        of: |report| u64::from(report.outcome == Outcome::Completed),
    },
];

/// The metrics of `--metrics-file`.
#[derive(Debug)]
pub struct FinishedRunMetrics {
    figures: Vec<IntGauge>,
    run: RunFigures,
    seconds: Gauge,
}

impl FinishedRunMetrics {
    /// Registers all of them.
    ///
    /// # Errors
    ///
    /// A name that is taken: they can be registered once in a registry.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let figures = FIGURES
            .iter()
            .map(|figure| gauge(registry, figure.name, figure.help))
            .collect::<Result<_, _>>()?;
        let seconds = Gauge::new(
            "hardprune_coordinator_run_seconds",
            "How long the latest run took.",
        )?;
        Ok(Self {
            figures,
            run: RunFigures::register(registry)?,
            seconds: register(registry, seconds)?,
        })
    }

    fn show(&self, report: &Report) {
        for (gauge, figure) in self.figures.iter().zip(&FIGURES) {
            gauge.set(gauge_value((figure.of)(report)));
        }
        self.run.deleted_blobs.set(gauge_value(report.blobs.deleted));
        self.run.freed_bytes.set(gauge_value(report.bytes.freed));
        self.run.ended(report.finished);
        self.seconds.set(report.seconds.total);
    }
}
