//! Runs of hardprune on simulated registries, each held against the truth that is known by construction.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hardprune_common::clock::machine_now;
use serde_json::Value;
use tempfile::TempDir;

use super::measure::{Measured, measure};
use super::{FILTER_SEED, figure};
use crate::program::Hardprune;
use crate::s3_server::{Counters, S3Options, S3Server};
use crate::simulator::{Expected, Simulated, SimulatedShape, Verdict};

/// A simulated registry, and the program.
pub(super) struct Simulation {
    pub server: S3Server,
    pub program: Hardprune,
    /// Where runs and spools are: on a disk.
    folder: TempDir,
}

/// What one run did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub run: Measured,
    pub report: Value,
    /// What it asked of the registry; its state is elsewhere.
    pub counters: Counters,
    pub verdict: Verdict,
}

/// The shape of a registry of so many blobs.
pub(super) fn shape_of(blobs: u64) -> SimulatedShape {
    SimulatedShape::of(blobs, machine_now())
}

impl Simulation {
    pub fn start(work_folder: &Path, shape: SimulatedShape, options: S3Options) -> Result<Self> {
        let server = S3Server::start(S3Options {
            simulated: Some(shape),
            ..options
        })?;
        let simulation = Self {
            program: Hardprune::new()?.on_s3(&server),
            server,
            folder: tempfile::tempdir_in(work_folder)?,
        };
        // A worker that begins before its coordinator looks for it.
        fs::create_dir(simulation.state())?;
        Ok(simulation)
    }

    /// What it is pruned as.
    pub fn bucket(&self) -> String {
        format!("s3://{}", self.server.bucket())
    }

    /// Where runs are kept.
    pub fn state(&self) -> String {
        self.folder().join("state").display().to_string()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn simulated(&self) -> Result<&Simulated> {
        self.server.simulated().context("the registry is simulated")
    }

    /// Runs a check, which must find what is to be found.
    pub fn check(&self, options: &[&str]) -> Result<Outcome> {
        let outcome = self.run("check", options)?;
        let expected = self.simulated()?.expected();
        let orphaned = figure(&outcome.report, "/blobs/orphaned")?;
        ensure!(
            orphaned <= expected.orphans,
            "{orphaned} orphans were found where there are {}",
            expected.orphans
        );
        prove_kept_by_chance(&outcome.report, &expected, expected.orphans - orphaned)?;
        ensure!(figure(&outcome.report, "/links/layer")? == expected.dangling_links);
        ensure!(outcome.verdict.nothing_is_lost() && outcome.verdict.orphans_gone == 0);
        Ok(outcome)
    }

    /// Runs a check with `--delete-untagged`, which must find what is to be found in any case, and may find more.
    pub fn check_untagged(&self) -> Result<Outcome> {
        let outcome = self.run("check", &["--delete-untagged"])?;
        let expected = self.simulated()?.expected();
        let orphaned = figure(&outcome.report, "/blobs/orphaned")?;
        let kept = expected.orphans.saturating_sub(orphaned);
        prove_kept_by_chance(&outcome.report, &expected, kept)?;
        ensure!(outcome.verdict.nothing_is_lost() && outcome.verdict.orphans_gone == 0);
        Ok(outcome)
    }

    /// Runs a delete, after which everything that should be gone is, and nothing else, and the bytes are exact.
    pub fn delete(&self, options: &[&str]) -> Result<Outcome> {
        let options: Vec<&str> = ["--assume-read-only"].iter().chain(options).copied().collect();
        let outcome = self.run("delete", &options)?;
        let (report, verdict) = (&outcome.report, &outcome.verdict);
        ensure!(verdict.nothing_is_lost(), "something is lost: {verdict:?}");
        ensure!(
            figure(report, "/bytes/freed")? == verdict.orphan_bytes_gone
                && figure(report, "/blobs/deleted")? == verdict.orphans_gone,
            "the report is not exact: {verdict:?}, {report}"
        );
        ensure!(verdict.dangling_left == 0, "links are left: {verdict:?}");
        prove_kept_by_chance(report, &self.simulated()?.expected(), verdict.orphans_left)?;
        Ok(outcome)
    }

    fn run(&self, command: &str, options: &[&str]) -> Result<Outcome> {
        let (bucket, state) = (self.bucket(), self.state());
        let spool = self.folder().to_string_lossy();
        let mut arguments = vec![command, &bucket, "--output", "json", "--state", &state];
        arguments.extend(["--spool-dir", &spool]);
        arguments.extend(FILTER_SEED);
        arguments.extend(options);
        self.server.reset_counters();
        let run = measure(self.program.command(&arguments))?;
        Ok(Outcome {
            report: serde_json::from_str(&run.stdout)?,
            counters: self.server.counters(),
            verdict: self.simulated()?.verdict(),
            run,
        })
    }
}

/// A filter keeps some orphans by chance, about as many as it was asked to.
fn prove_kept_by_chance(report: &Value, expected: &Expected, kept: u64) -> Result<()> {
    let rate = fraction(report, "/filter/false_positive_rate")?;
    #[expect(clippy::cast_precision_loss, reason = "a limit that is far off")]
    let (found, most) = (kept as f64, expected.orphans as f64 * rate * 2.0 + 10.0);
    ensure!(
        found <= most,
        "{kept} orphans were kept, where {most:.0} may be by chance"
    );
    Ok(())
}

/// Reads a figure of a report that is a fraction.
pub(super) fn fraction(report: &Value, pointer: &str) -> Result<f64> {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.with_context(|| format!("the report has no {pointer}: {report}"))
}

/// `12.3 million`, or `12,300`.
pub(super) fn count(number: u64) -> String {
    match number {
        0..1_000_000 => number.to_string(),
        _ => format!("{}.{} million", number / 1_000_000, number % 1_000_000 / 100_000),
    }
}

/// Bytes, for a chart.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A ratio of two counts.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
