//! One worker and eight, over NATS, on a store whose every request takes 20 ms: how long they plan and sweep.
//!
//! Latency has to be what bounds them, as it is on real stores, and not the two processors that server, coordinator and workers
//! share here: pages are small, and each worker has few requests in flight.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::chart::{Chart, Line};
use super::filesystem::prove_deleted;
use super::measure::{Series, measure, peak_bytes};
use super::verdict::{Comparison, Findings};
use super::{Effort, FILTER_SEED};
use crate::fleet::Fleet;
use crate::s3_server::S3Options;
use crate::scene::{Contents, Scene};

const LATENCY: Duration = Duration::from_millis(20);
const PAGE_SIZE: usize = 100;
/// Requests in flight to each store, for each worker.
const CONCURRENCY: &str = "2";
const WANTED: f64 = 6.0;
const MANY: usize = 8;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_scale_out(effort: &Effort) -> Result<Findings> {
    let scene = Scene::on_s3(
        &effort.scale_out,
        S3Options {
            latency: LATENCY.into(),
            page_size: PAGE_SIZE,
            ..S3Options::default()
        },
    )?;
    let contents = scene.contents()?;
    let fleet = Fleet::of(scene)?;
    fleet.set_up()?;
    let (mut one, mut many) = (Runs::default(), Runs::default());
    for round in 1..=effort.few_rounds {
        eprintln!("scale-out: round {round} of {}", effort.few_rounds);
        one.add(&run(&fleet, &contents, 1)?)?;
        many.add(&run(&fleet, &contents, MANY)?)?;
    }
    let keys = fleet.scene.start.0.keys();
    let blobs = keys.filter(|key| key.ends_with("/data")).count();
    let comparison = |what: &str, one: Series, many: Series, wanted_ratio| Comparison {
        what: what.to_owned(),
        stock: one,
        product: many,
        wanted_ratio,
    };
    let points = vec![
        (1.0, one.both.median_seconds()),
        (8.0, many.both.median_seconds()),
    ];
    let perfect = points
        .iter()
        .map(|(workers, _)| (*workers, points[0].1 / workers));
    let chart = Chart {
        title: "Seconds to plan and sweep, by workers",
        across: "workers",
        up: "seconds",
        lines: vec![
            Line {
                name: "measured".to_owned(),
                points: points.clone(),
            },
            Line {
                name: "twice the workers, half the time".to_owned(),
                points: perfect.collect(),
            },
        ],
    };
    Ok(Findings {
        id: "scale-out",
        registry: format!(
            "Workers over NATS: an S3 server with {} ms for each request and {PAGE_SIZE} keys a page, {} blobs, {} of them orphans",
            LATENCY.as_millis(),
            blobs,
            fleet.scene.truth.orphans.len(),
        ),
        sides: ("1 worker", "8 workers"),
        comparisons: vec![
            comparison("plan and sweep", one.both, many.both, Some(WANTED)),
            comparison("plan", one.plan, many.plan, None),
            comparison("sweep", one.sweep, many.sweep, None),
        ],
        charts: vec![chart.draw("scale-out.svg")],
        notes: vec![format!(
            "Every worker has the same settings: {CONCURRENCY} requests in flight to each store. Seconds are the coordinator's, from its \
             report; memory is the largest worker's. Server, coordinator and workers share the same two processors."
        )],
        ..Findings::default()
    })
}

/// What one run took.
struct Took {
    report: Value,
    worker_bytes: u64,
}

fn run(fleet: &Fleet, contents: &Contents, workers: usize) -> Result<Took> {
    fleet.scene.put_back(contents)?;
    let url = fleet.nats.url();
    let started = (0..workers)
        .map(|_| fleet.worker_with(&url, "", &["--concurrency", CONCURRENCY]))
        .collect::<Result<Vec<_>>>()?;
    for worker in &started {
        worker.wait_for_line("takes tasks")?;
    }
    let arguments = fleet
        .scene
        .delete(&["--nats", &url, FILTER_SEED[0], FILTER_SEED[1]]);
    let coordinator = measure(fleet.scene.program.command(&arguments))?;
    let report: Value = serde_json::from_str(&coordinator.stdout)?;
    let after = fleet.scene.inventory()?;
    prove_deleted(&fleet.scene.truth, &fleet.scene.start, &after, true)?;
    fleet.scene.check_accounts(&report)?;
    let peaks = started.iter().filter_map(|worker| peak_bytes(worker.id()));
    let worker_bytes = peaks.max().unwrap_or(0);
    // What the run kept is not the next one's.
    fs::remove_dir_all(fleet.scene.state().join("hardprune"))?;
    Ok(Took { report, worker_bytes })
}

/// The runs with one number of workers.
#[derive(Default)]
struct Runs {
    both: Series,
    plan: Series,
    sweep: Series,
}

impl Runs {
    fn add(&mut self, took: &Took) -> Result<()> {
        let seconds = |stage: &str| {
            let value = took.report.pointer(&format!("/seconds/{stage}"));
            value
                .and_then(Value::as_f64)
                .with_context(|| format!("no time of {stage}"))
        };
        let (plan, sweep) = (seconds("plan")?, seconds("sweep")?);
        self.both.add_part(plan + sweep, took.worker_bytes);
        self.plan.add_part(plan, took.worker_bytes);
        self.sweep.add_part(sweep, took.worker_bytes);
        Ok(())
    }
}
