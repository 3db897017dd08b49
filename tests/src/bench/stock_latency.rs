//! The stock collectors and hardprune on an S3 server whose every request takes 20 ms, as it does on real ones: a check of
//! 1,000 images.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::filesystem::read_candidates;
use super::measure::{Series, measure};
use super::s3::config;
use super::verdict::{Comparison, Findings};
use super::{Effort, FILTER_SEED};
use crate::docker_registry::eligible;
use crate::generate::generate;
use crate::program::Hardprune;
use crate::s3_server::{S3Options, S3Server};

const LATENCY: Duration = Duration::from_millis(20);
const WANTED: f64 = 100.0;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_stock_latency(effort: &Effort) -> Result<Findings> {
    let server = S3Server::start(S3Options {
        latency: LATENCY.into(),
        ..S3Options::default()
    })?;
    let truth = generate(&effort.s3, &server)?;
    let folder = tempfile::tempdir()?;
    let prove = |found: &BTreeSet<String>| -> Result<()> {
        ensure!(
            found.iter().eq(truth.orphans.keys()),
            "{} orphans were found where there are {}, or others",
            found.len(),
            truth.orphans.len()
        );
        Ok(())
    };
    let (mut stock, mut product) = (effort.series_of_stock(), Series::default());
    for round in 1..=effort.few_rounds {
        eprintln!("S3 with latency, check: round {round} of {}", effort.few_rounds);
        let candidates = folder.path().join("candidates");
        let run = measure(Hardprune::new()?.on_s3(&server).command(&[
            "check",
            &format!("s3://{}", server.bucket()),
            "--candidates",
            &candidates.to_string_lossy(),
            FILTER_SEED[0],
            FILTER_SEED[1],
        ]))?;
        prove(&read_candidates(&candidates)?)?;
        product.add(&run);
    }
    let mut notes = Vec::new();
    for (collector, series) in &mut stock {
        let version = collector.version()?;
        eprintln!("S3 with latency, check, stock collector {version}: once");
        server.reset_counters();
        let run = measure(collector.command(&config(&server), folder.path(), true, false)?)?;
        let requests = server.counters().requests();
        prove(&eligible(&run.stdout))?;
        series.add(&run);
        notes.push(format!(
            "The stock collector {version} made {requests} requests, one after another."
        ));
    }
    Ok(Findings {
        id: "stock-latency",
        registry: format!(
            "An S3 server with {} ms for each request: {} manifests, {} live and {} orphan blobs, {} objects",
            LATENCY.as_millis(),
            truth.manifests,
            truth.live.len(),
            truth.orphans.len(),
            truth.objects
        ),
        comparisons: Comparison::with_each(
            "check, one process, 64 requests in flight",
            stock,
            &product,
            WANTED,
        )?,
        notes,
        ..Findings::default()
    })
}
