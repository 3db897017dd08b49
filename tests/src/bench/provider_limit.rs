//! A delete at the provider's limit: how much of it is used, and how often the answer is 503.

use std::time::Duration;

use anyhow::Result;

use super::Effort;
use super::simulated::{Simulation, count, fraction, ratio, shape_of};
use super::verdict::{Figure, Findings};
use crate::s3_server::{Limits, S3Options};
use crate::simulator::SimulatedShape;

const BLOBS: u64 = 2_000_000;
/// Layers lie in so many of the 256 folders: with all of them, two processors are no match for the limit.
const FOLDERS: u64 = 4;
const LATENCY: Duration = Duration::from_millis(20);
const HELD: f64 = 0.9;
const REFUSED: f64 = 0.01;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
#[expect(clippy::cast_precision_loss, reason = "millions of blobs are exact")]
pub fn measure_provider_limit(effort: &Effort) -> Result<Findings> {
    let blobs = BLOBS / effort.scale;
    eprintln!("provider limit: {} blobs", count(blobs));
    let shape = SimulatedShape {
        folders: FOLDERS,
        dangling: 0.0,
        ..shape_of(blobs).with_manifests(blobs / 50)
    };
    let options = S3Options {
        latency: LATENCY.into(),
        limits: Some(Limits::S3),
        ..S3Options::default()
    };
    let simulation = Simulation::start(&effort.work_folder, shape, options)?;
    let outcome = simulation.delete(&[])?;
    let counters = outcome.counters;
    let sweep = fraction(&outcome.report, "/seconds/sweep")?;
    let rate = outcome.verdict.orphans_gone as f64 / sweep / FOLDERS as f64;
    let held = rate / Limits::S3.writes;
    let refused = ratio(counters.throttled, counters.requests());
    Ok(Findings {
        id: "provider-limit",
        registry: format!(
            "At the provider's limit: a simulated registry of {} blobs in {FOLDERS} folders, {} ms for each request, 3,500 deleted \
             keys and 5,500 reads a second for each folder",
            count(blobs),
            LATENCY.as_millis()
        ),
        figures: vec![
            Figure::held(
                "deleted keys a second for each folder",
                format!("{rate:.0}, {:.0} % of the limit", held * 100.0),
                format!("at least {:.0} %", HELD * 100.0),
                held >= HELD,
            ),
            Figure::held(
                "requests answered 503",
                format!(
                    "{} of {}, {:.1} %",
                    counters.throttled,
                    counters.requests(),
                    refused * 100.0
                ),
                format!("under {:.0} %", REFUSED * 100.0),
                refused < REFUSED,
            ),
            Figure::told("time of the sweep", format!("{sweep:.1} s")),
        ],
        ..Findings::default()
    })
}
