//! What the filters cost and keep by chance, as a check says and as the truth says.

use anyhow::Result;

use super::simulated::{Simulation, count, ratio, shape_of};
use super::verdict::{Figure, Findings};
use super::{Effort, figure};
use crate::s3_server::S3Options;
use crate::simulator::SimulatedShape;

const BLOBS: u64 = 4_000_000;
const MOST_BITS: f64 = 30.0;
const RATE: f64 = 1e-3;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
#[expect(clippy::cast_precision_loss, reason = "millions of blobs are exact")]
pub fn measure_filter(effort: &Effort) -> Result<Findings> {
    let blobs = BLOBS / effort.scale;
    eprintln!("filter: {} blobs", count(blobs));
    let shape = SimulatedShape {
        orphans: 0.5,
        ..shape_of(blobs).with_manifests(blobs / 20)
    };
    let simulation = Simulation::start(&effort.work_folder, shape, S3Options::default())?;
    let expected = simulation.simulated()?.expected();
    let standard = simulation.check(&[])?.report;
    let bits = 8.0
        * ratio(
            figure(&standard, "/filter/bytes")?,
            figure(&standard, "/filter/items")?,
        );
    let coarse = simulation.check(&["--false-positive-rate", "1e-3"])?.report;
    let kept = expected.orphans - figure(&coarse, "/blobs/orphaned")?;
    let asked = expected.orphans as f64 * RATE;
    let off = (kept as f64 / asked - 1.0).abs();
    Ok(Findings {
        id: "filter",
        registry: format!(
            "Filters: a simulated registry of {} references and {} orphans",
            count(expected.live),
            count(expected.orphans)
        ),
        figures: vec![
            Figure::held(
                "bits for each reference at 1e-6",
                format!("{bits:.1}"),
                format!("at most {MOST_BITS}"),
                bits <= MOST_BITS,
            ),
            Figure::held(
                "orphans kept by chance at 1e-3",
                format!("{kept}, where {asked:.0} were asked for"),
                "within 10 %".to_owned(),
                off <= 0.1,
            ),
        ],
        ..Findings::default()
    })
}
