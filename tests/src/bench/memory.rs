//! The most memory that a check needs, at 20 and at 100 million references. One process does all: coordinator and workers.

use anyhow::Result;

use super::Effort;
use super::chart::{Chart, Line};
use super::simulated::{Outcome, Simulation, count, mebibytes, shape_of};
use super::verdict::{Figure, Findings};
use crate::s3_server::S3Options;
use crate::simulator::SimulatedShape;

const REFERENCES: [u64; 2] = [20_000_000, 100_000_000];
const UNTAGGED_REFERENCES: u64 = 2_000_000;
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
    let (mut peaks, mut points) = (Vec::new(), Vec::new());
    // Each repository is judged as a whole then, and each tag's link is read.
    let untagged = simulation(effort, UNTAGGED_REFERENCES)?;
    let what = format!("{} with --delete-untagged", references(&untagged)?.0);
    eprintln!("memory: {what}");
    hold(&what, &untagged.check_untagged()?, &mut findings);
    for number in REFERENCES {
        let simulation = simulation(effort, number)?;
        let (what, live) = references(&simulation)?;
        eprintln!("memory: {what}");
        let peak = hold(&what, &simulation.check(&[])?, &mut findings);
        points.push((live as f64 / 1e6, mebibytes(peak)));
        peaks.push(peak);
    }
    let grown = peaks[1] as f64 / peaks[0] as f64;
    findings.figures.push(Figure::held(
        "times as much for five times the references",
        format!("{grown:.2}"),
        format!("at most {FLAT}"),
        grown <= FLAT,
    ));
    let most = points
        .iter()
        .map(|(references, _)| (*references, mebibytes(MOST_BYTES)));
    let chart = Chart {
        title: "Peak memory of a check",
        across: "million references",
        up: "MiB",
        lines: vec![
            Line {
                name: "at most".to_owned(),
                points: most.collect(),
            },
            Line {
                name: "measured".to_owned(),
                points,
            },
        ],
    };
    findings.charts.push(chart.draw("memory.svg"));
    Ok(findings)
}

fn simulation(effort: &Effort, references: u64) -> Result<Simulation> {
    let references = references / effort.scale;
    // A twentieth of all blobs are orphans. Few manifests: it is references that memory could grow with.
    let blobs = references * 20 / 19;
    let shape = SimulatedShape {
        orphans: 0.05,
        young: 0.0,
        ..shape_of(blobs).with_manifests(blobs / 50)
    };
    Simulation::start(&effort.work_folder, shape, S3Options::default())
}

/// How many references a registry has, for people and as a number.
fn references(simulation: &Simulation) -> Result<(String, u64)> {
    let live = simulation.simulated()?.expected().live;
    Ok((format!("{} references", count(live)), live))
}

/// Notes the peak memory of a run, in bytes.
fn hold(what: &str, outcome: &Outcome, findings: &mut Findings) -> u64 {
    let peak = outcome.run.peak_bytes;
    findings.figures.push(Figure::held(
        what,
        format!(
            "{} MiB, in {:.0} s",
            peak >> 20,
            outcome.run.elapsed.as_secs_f64()
        ),
        format!("at most {} MiB", MOST_BYTES >> 20),
        peak <= MOST_BYTES,
    ));
    peak
}
