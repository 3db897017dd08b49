//! How a delete's time grows with the registry: it should not, for each million blobs.

use anyhow::Result;

use super::Effort;
use super::chart::{Chart, Line};
use super::simulated::{Outcome, Simulation, count, fraction, mebibytes, shape_of};
use super::verdict::{Figure, Findings};
use crate::s3_server::S3Options;

const MILLIONS: [u64; 4] = [1, 3, 10, 30];
/// How far the times for a million blobs may lie from their mean.
const WANTED: f64 = 0.15;
const STAGES: [&str; 4] = ["mark", "seal", "plan", "sweep"];

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
#[expect(clippy::cast_precision_loss, reason = "millions of blobs are exact")]
pub fn measure_growth(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings {
        id: "growth",
        registry: "Growth: a delete on simulated registries, a tenth of the blobs manifests, 30 % orphans"
            .to_owned(),
        ..Findings::default()
    };
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    for millions in MILLIONS {
        let blobs = millions * 1_000_000 / effort.scale;
        let outcome = run(effort, blobs)?;
        let for_a_million = |seconds: f64| seconds * 1e6 / blobs as f64;
        let whole = for_a_million(outcome.run.elapsed.as_secs_f64());
        let mut parts = Vec::new();
        for stage in STAGES {
            let seconds = fraction(&outcome.report, &format!("/seconds/{stage}"))?;
            parts.push(format!("{stage} {:.2}", for_a_million(seconds)));
        }
        findings.figures.push(Figure::told(
            &format!("{} blobs: for each million", count(blobs)),
            format!(
                "{whole:.2} s ({}), of it {:.2} s of processor time; peak memory {} MiB",
                parts.join(", "),
                for_a_million(outcome.run.processor.as_secs_f64()),
                outcome.run.peak_bytes >> 20
            ),
        ));
        times.push((blobs as f64 / 1e6, whole));
        peaks.push((blobs as f64 / 1e6, mebibytes(outcome.run.peak_bytes)));
    }
    let mean = times.iter().map(|(_, time)| time).sum::<f64>() / times.len() as f64;
    let furthest = times.iter().map(|(_, time)| (time / mean - 1.0).abs());
    let furthest = furthest.fold(0.0, f64::max);
    findings.figures.push(Figure::held(
        "furthest from the mean",
        format!("{:.0} %", furthest * 100.0),
        format!("at most {:.0} %", WANTED * 100.0),
        furthest <= WANTED,
    ));
    for (title, up, points, file) in [
        ("Seconds for each million blobs", "seconds", times, "growth.svg"),
        ("Peak memory", "MiB", peaks, "growth-memory.svg"),
    ] {
        let chart = Chart {
            title,
            across: "million blobs",
            up,
            lines: vec![Line {
                name: "delete".to_owned(),
                points,
            }],
        };
        findings.charts.push(chart.draw(file));
    }
    Ok(findings)
}

fn run(effort: &Effort, blobs: u64) -> Result<Outcome> {
    eprintln!("growth: {} blobs", count(blobs));
    let simulation = Simulation::start(&effort.work_folder, shape_of(blobs), S3Options::default())?;
    simulation.delete(&[])
}
