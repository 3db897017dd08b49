//! The benchmarks: hardprune and the stock collector side by side on the same registries, in one run.
//!
//! Each measures time and peak memory from outside, and checks the truth of every run: what is called an orphan is one,
//! and after a delete everything live is complete and the freed bytes are exact.

pub mod bare_delete;
pub mod bars;
pub mod chart;
pub mod document;
pub mod drawing;
pub mod filesystem;
pub mod filter;
pub mod growth;
pub mod hundred_million;
pub mod images;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod provider_limit;
pub mod s3;
pub mod scale_out;
pub mod second_run;
pub mod sim_requests;
mod simulated;
pub mod stock_latency;
pub mod verdict;
pub mod worker_memory;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use self::measure::Series;
use crate::docker_registry::StockCollector;
use crate::generate::Shape;

/// One filter for all runs: with another seed, about one run in a hundred keeps an orphan by chance, and is right to.
pub(crate) const FILTER_SEED: [&str; 2] = ["--filter-seed", "1"];

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Effort {
    /// Where registries are made: on a disk, so that a cold cache can be measured.
    pub work_folder: PathBuf,
    /// Who checks are compared with, Debian's first.
    pub stock: Vec<StockCollector>,
    /// Runs of each program that are over in seconds.
    pub rounds: usize,
    /// Runs of each program with a cold cache.
    pub cold_rounds: usize,
    /// Runs of each program that deletes.
    pub few_rounds: usize,
    /// Runs of the stock collector on S3, a minute or more each.
    pub slow_rounds: usize,
    /// The registry in a folder.
    pub filesystem: Shape,
    /// The registry on the S3 server.
    pub s3: Shape,
    /// The registry that one worker and eight sweep.
    pub scale_out: Shape,
    /// Simulated registries have so many times fewer blobs.
    pub scale: u64,
}

impl Effort {
    /// For each stock collector, the runs of it that there will be.
    pub(crate) fn series_of_stock(&self) -> Vec<(&StockCollector, Series)> {
        self.stock
            .iter()
            .map(|collector| (collector, Series::default()))
            .collect()
    }

    /// What the published figures are measured with.
    #[must_use]
    pub fn full(work_folder: PathBuf) -> Self {
        Self {
            work_folder,
            stock: vec![StockCollector::debian()],
            rounds: 7,
            cold_rounds: 5,
            few_rounds: 3,
            slow_rounds: 2,
            filesystem: Shape::filesystem_benchmark(),
            s3: Shape::s3_benchmark(),
            scale_out: Shape::scale_out_benchmark(),
            scale: 1,
        }
    }

    /// Small registries and few runs: shows that the benchmark works, and roughly where things stand.
    #[must_use]
    pub fn quick(work_folder: PathBuf) -> Self {
        let filesystem = Shape {
            repositories: 90,
            images: 500,
            orphans: 1_000,
            signatures: 10,
            ..Shape::filesystem_benchmark()
        };
        let s3 = Shape {
            repositories: 20,
            images: 100,
            orphans: 200,
            signatures: 5,
            ..Shape::s3_benchmark()
        };
        Self {
            work_folder,
            stock: vec![StockCollector::debian()],
            rounds: 3,
            cold_rounds: 1,
            few_rounds: 1,
            slow_rounds: 1,
            filesystem,
            s3,
            scale_out: Shape {
                orphans: 4_000,
                young_orphans: 8_000,
                ..Shape::scale_out_benchmark()
            },
            scale: 50,
        }
    }
}

/// Reads a figure of hardprune's report.
///
/// # Errors
///
/// A report without it.
pub fn figure(report: &Value, pointer: &str) -> Result<u64> {
    report
        .pointer(pointer)
        .and_then(Value::as_u64)
        .with_context(|| format!("the report has no {pointer}: {report}"))
}
