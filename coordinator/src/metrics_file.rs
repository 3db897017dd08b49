//! The run's figures in Prometheus' text format, for a node exporter's textfile collector.

use std::fs;
use std::path::Path;

use prometheus::{Encoder, Gauge, IntGauge, Registry, TextEncoder};

use crate::error::RunError;
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

fn render(report: &Report) -> Result<Vec<u8>, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, value: u64| {
        let gauge = IntGauge::new(format!("hardprune_coordinator_{name}"), help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))
    };
    let (blobs, bytes) = (&report.blobs, &report.bytes);
    gauge("scanned_blobs", "Blobs listed by the latest run.", blobs.scanned)?;
    gauge(
        "referenced_blobs",
        "Blobs that may be referenced.",
        blobs.referenced,
    )?;
    gauge(
        "young_blobs",
        "Unreferenced blobs newer than the cutoff.",
        blobs.young,
    )?;
    gauge(
        "orphaned_blobs",
        "Unreferenced blobs older than the cutoff.",
        blobs.orphaned,
    )?;
    gauge(
        "deleted_blobs",
        "Blobs that the latest run deleted.",
        blobs.deleted,
    )?;
    gauge(
        "failed_blobs",
        "Blobs that the store refused to delete.",
        blobs.failed,
    )?;
    gauge("scanned_bytes", "Bytes of all blobs listed.", bytes.scanned)?;
    gauge("orphaned_bytes", "Bytes of the orphans.", bytes.orphaned)?;
    gauge(
        "freed_bytes",
        "Bytes of the blobs that the latest run deleted.",
        bytes.freed,
    )?;
    gauge("repositories", "Repositories.", report.repositories)?;
    gauge(
        "frozen_repositories",
        "Repositories whose manifests could not all be read.",
        report.frozen_repositories,
    )?;
    gauge(
        "problems",
        "Problems found by the latest run.",
        report.problems.total,
    )?;
    gauge(
        "completed",
        "Whether the latest run completed.",
        u64::from(report.outcome == Outcome::Completed),
    )?;
    let finished = u64::try_from(report.finished.as_second()).unwrap_or(0);
    gauge(
        "finished_timestamp_seconds",
        "When the latest run ended.",
        finished,
    )?;
    let seconds = Gauge::new(
        "hardprune_coordinator_run_seconds",
        "How long the latest run took.",
    )?;
    seconds.set(report.seconds.total);
    registry.register(Box::new(seconds))?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}
