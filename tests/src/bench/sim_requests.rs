//! How many requests a delete makes on ten million blobs, held against what must be asked for.

use anyhow::Result;

use super::simulated::{Simulation, count, shape_of};
use super::verdict::{Bound, Figure, Findings};
use super::{Effort, figure};
use crate::s3_server::S3Options;

const BLOBS: u64 = 10_000_000;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_sim_requests(effort: &Effort) -> Result<Findings> {
    let blobs = BLOBS / effort.scale;
    eprintln!("requests: {} blobs", count(blobs));
    let simulation = Simulation::start(&effort.work_folder, shape_of(blobs), S3Options::default())?;
    let expected = simulation.simulated()?.expected();
    let outcome = simulation.delete(&[])?;
    let counters = outcome.counters;
    let removed = expected.orphans + expected.dangling_links;
    let bound = |what: &str, found, most, because: String| Bound {
        what: what.to_owned(),
        found,
        most,
        because,
    };
    let percent_more = |number: u64, percent: u64| number + number * percent / 100;
    Ok(Findings {
        id: "sim-requests",
        registry: format!(
            "Requests: a simulated registry of {} blobs and {} manifests, {} orphans, {} keys",
            count(blobs),
            count(simulation.simulated()?.shape().manifests),
            count(expected.orphans),
            count(expected.keys),
        ),
        bounds: vec![
            bound(
                "LIST requests",
                counters.list,
                percent_more(expected.keys.div_ceil(1000), 5),
                format!("{} keys / 1,000, and 5 %", expected.keys),
            ),
            bound(
                "GET requests",
                counters.get,
                percent_more(expected.revisions, 1),
                format!("{} manifests, and 1 %", expected.revisions),
            ),
            bound(
                "DELETE requests",
                counters.delete_objects + counters.delete_single,
                percent_more(removed.div_ceil(1000), 5),
                format!(
                    "{} orphans and {} dangling links / 1,000, and 5 %",
                    expected.orphans, expected.dangling_links
                ),
            ),
            bound("HEAD requests", counters.head, 0, "none".to_owned()),
        ],
        figures: vec![
            Figure::told(
                "time of the delete",
                format!("{:.1} s", outcome.run.elapsed.as_secs_f64()),
            ),
            Figure::told(
                "peak memory of hardprune",
                format!("{} MiB", outcome.run.peak_bytes >> 20),
            ),
            Figure::told("shards", figure(&outcome.report, "/shards")?.to_string()),
        ],
        ..Findings::default()
    })
}
