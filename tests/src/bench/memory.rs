//! The most memory that a check needs, at 20 and at 100 million references. One process does all: coordinator and workers.

use anyhow::Result;

use super::Effort;
use super::simulated::{Simulation, count, shape_of};
use super::verdict::{Figure, Findings};
use crate::s3_server::S3Options;
use crate::simulator::SimulatedShape;

const REFERENCES: [u64; 2] = [20_000_000, 100_000_000];
const MOST_BYTES: u64 = 256 << 20;
/// How much more memory five times as many references may need.
const FLAT: f64 = 1.1;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
#[expect(clippy::cast_precision_loss, reason = "bytes of memory are exact")]
pub fn measure_memory(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings {
        id: "memory",
        registry: "Memory: a check on simulated registries, coordinator and workers in one process"
            .to_owned(),
        ..Findings::default()
    };
    let mut peaks = Vec::new();
    for references in REFERENCES {
        let references = references / effort.scale;
        // A twentieth of all blobs are orphans. Few manifests: it is references that memory could grow with.
        let blobs = references * 20 / 19;
        eprintln!("memory: {} references", count(references));
        let shape = SimulatedShape {
            orphans: 0.05,
            young: 0.0,
            ..shape_of(blobs).with_manifests(blobs / 50)
        };
        let simulation = Simulation::start(&effort.work_folder, shape, S3Options::default())?;
        let outcome = simulation.check(&[])?;
        let peak = outcome.run.peak_bytes;
        findings.figures.push(Figure::held(
            &format!("{} references", count(simulation.simulated()?.expected().live)),
            format!(
                "{} MiB, in {:.0} s",
                peak >> 20,
                outcome.run.elapsed.as_secs_f64()
            ),
            format!("at most {} MiB", MOST_BYTES >> 20),
            peak <= MOST_BYTES,
        ));
        peaks.push(peak);
    }
    let grown = peaks[1] as f64 / peaks[0] as f64;
    findings.figures.push(Figure::held(
        "times as much for five times the references",
        format!("{grown:.2}"),
        format!("at most {FLAT}"),
        grown <= FLAT,
    ));
    Ok(findings)
}
