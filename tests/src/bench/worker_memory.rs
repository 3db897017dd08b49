//! The most memory that a worker needs beside its coordinator, over NATS, for a whole delete: on one million blobs, and on ten.

use anyhow::{Context, Result};

use super::Effort;
use super::measure::peak_bytes;
use super::simulated::{Simulation, count, shape_of};
use super::verdict::{Figure, Findings};
use crate::fleet::{Worker, set_up};
use crate::nats_server::{NatsOptions, NatsServer};
use crate::s3_server::S3Options;

const BLOBS: [u64; 2] = [1_000_000, 10_000_000];
const MOST_BYTES: u64 = 128 << 20;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_worker_memory(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings {
        id: "worker-memory",
        registry:
            "A worker's memory: deletes on simulated registries over NATS, one worker with its usual settings"
                .to_owned(),
        ..Findings::default()
    };
    for blobs in BLOBS {
        let blobs = blobs / effort.scale;
        eprintln!("worker memory: {} blobs", count(blobs));
        let simulation = Simulation::start(&effort.work_folder, shape_of(blobs), S3Options::default())?;
        let nats = NatsServer::start(&NatsOptions::default())?;
        set_up(&nats)?;
        let (url, bucket, state) = (nats.url(), simulation.bucket(), simulation.state());
        let worker = Worker::start(
            &simulation.program,
            simulation.folder().join("worker.log"),
            "",
            &["--nats", &url, "-v", "--store", &bucket, "--store", &state],
        )?;
        worker.wait_for_line("takes tasks")?;
        let outcome = simulation.delete(&["--nats", &url])?;
        let peak = peak_bytes(worker.id()).context("the worker is gone")?;
        findings.figures.push(Figure::held(
            &format!("{} blobs", count(blobs)),
            format!(
                "{} MiB; coordinator {} MiB; {:.0} s",
                peak >> 20,
                outcome.run.peak_bytes >> 20,
                outcome.run.elapsed.as_secs_f64()
            ),
            format!("worker at most {} MiB", MOST_BYTES >> 20),
            peak <= MOST_BYTES,
        ));
    }
    Ok(findings)
}
