//! A whole run on a hundred million blobs: its time, its memory, its requests and what S3 would ask for them; and the same
//! on paper for a billion.

use std::fmt::Write as _;

use anyhow::Result;

use super::Effort;
use super::bars::{Bar, Bars, Group};
use super::simulated::{Simulation, count, fraction, shape_of};
use super::verdict::{Figure, Findings};
use crate::s3_server::{Counters, S3Options};

const BLOBS: u64 = 100_000_000;
const WORKERS: [u32; 3] = [1, 16, 64];
const TIMES_AS_MANY: f64 = 10.0;

/// US dollars for a thousand requests, S3 Standard in us-east-1 (<https://aws.amazon.com/s3/pricing/>, 2026): LIST and PUT, GET.
/// DELETE costs nothing.
const DOLLARS_LIST: f64 = 0.005;
const DOLLARS_GET: f64 = 0.0004;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_hundred_million(effort: &Effort) -> Result<Findings> {
    let blobs = BLOBS / effort.scale;
    eprintln!("{} blobs", count(blobs));
    let simulation = Simulation::start(&effort.work_folder, shape_of(blobs), S3Options::default())?;
    let expected = simulation.simulated()?.expected();
    let outcome = simulation.delete(&[])?;
    let seconds = outcome.run.elapsed.as_secs_f64();
    let bill = dollars(&outcome.counters);
    let (mut stages, mut bars) = (Vec::new(), Vec::new());
    for stage in ["mark", "seal", "plan", "unlink", "sweep"] {
        let seconds = fraction(&outcome.report, &format!("/seconds/{stage}"))?;
        stages.push(format!("{stage} {seconds:.0} s"));
        bars.push(Bar {
            name: stage.to_owned(),
            value: seconds,
            label: format!("{seconds:.0} s"),
        });
    }
    let group = Group {
        name: format!("{seconds:.0} s in all"),
        bars,
    };
    let chart = Bars {
        title: "Seconds of each stage",
        groups: vec![group],
    };
    let counters = outcome.counters;
    Ok(Findings {
        id: "hundred-million",
        registry: format!(
            "{} blobs: a delete on a simulated registry of {} manifests, {} keys, {} orphans, {} dangling links",
            count(blobs),
            count(simulation.simulated()?.shape().manifests),
            count(expected.keys),
            count(expected.orphans),
            count(expected.dangling_links)
        ),
        figures: vec![
            Figure::told("time", format!("{seconds:.0} s ({})", stages.join(", "))),
            Figure::told(
                "peak memory of hardprune",
                format!("{} MiB", outcome.run.peak_bytes >> 20),
            ),
            Figure::told(
                "requests",
                format!(
                    "{} LIST, {} GET, {} DELETE, {} HEAD, {} PUT",
                    counters.list,
                    counters.get,
                    counters.delete_objects + counters.delete_single,
                    counters.head,
                    counters.put
                ),
            ),
            Figure::told("S3 asks for them", format!("{bill:.2} dollars")),
            Figure::told(
                "orphans left",
                format!(
                    "{} by chance, nothing live deleted, bytes exact",
                    outcome.verdict.orphans_left
                ),
            ),
        ],
        charts: vec![chart.draw("hundred-million.svg")],
        notes: vec![on_paper(seconds, bill)],
        ..Findings::default()
    })
}

fn on_paper(seconds: f64, bill: f64) -> String {
    let mut text = format!(
        "On paper, {TIMES_AS_MANY} times as many blobs, where each worker is as fast as this one process on its two \
         processors, which it shared with the simulator:\n\n| workers | hours | dollars for requests |\n| --- | --- | --- |\n"
    );
    for workers in WORKERS {
        let hours = seconds * TIMES_AS_MANY / f64::from(workers) / 3600.0;
        let _ = writeln!(text, "| {workers} | {hours:.1} | {:.2} |", bill * TIMES_AS_MANY);
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn dollars(counters: &Counters) -> f64 {
    let listed = (counters.list + counters.put) as f64 / 1000.0 * DOLLARS_LIST;
    listed + counters.get as f64 / 1000.0 * DOLLARS_GET
}
