//! A registry on the S3 server of the tests, over real HTTP on this machine, without added latency: `check` and `delete`,
//! and how many requests they make.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::filesystem::{prove_deleted, read_candidates};
use super::measure::{Series, measure};
use super::verdict::{Bound, Comparison, Findings};
use super::{Effort, FILTER_SEED, figure};
use crate::checker::{Roots, check_storage};
use crate::docker_registry::{RegistryConfig, S3Settings, StockCollector, eligible};
use crate::generate::{Truth, generate};
use crate::inventory::Inventory;
use crate::program::Hardprune;
use crate::s3_server::{Counters, S3Options, S3Server};

/// The stock collector's time over hardprune's.
const WANTED: f64 = 20.0;
const KEYS_A_PAGE: u64 = 1000;
/// What a run asks for once: whether this is a registry, what time it is, where its repositories and blobs begin.
const ONCE: u64 = 20;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_s3(effort: &Effort) -> Result<Findings> {
    let (server, truth) = registry(effort)?;
    let mut findings = Findings {
        id: "s3",
        registry: format!(
            "An S3 server on this machine, no latency added: {} manifests, {} live and {} orphan blobs, {} objects",
            truth.manifests,
            truth.live.len(),
            truth.orphans.len(),
            truth.objects
        ),
        ..Findings::default()
    };
    checks(effort, &server, &truth, &mut findings)?;
    drop(server);
    deletes(effort, &mut findings)?;
    delete_requests(effort, &mut findings)?;
    findings.bound_memory();
    Ok(findings)
}

/// Starts a server that holds the registry: equal shapes give equal registries.
fn registry(effort: &Effort) -> Result<(S3Server, Truth)> {
    let server = S3Server::start(S3Options::default())?;
    let truth = generate(&effort.s3, &server)?;
    Ok((server, truth))
}

fn checks(effort: &Effort, server: &S3Server, truth: &Truth, findings: &mut Findings) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut stock, mut product) = (effort.series_of_stock(), Series::default());
    for round in 1..=effort.slow_rounds {
        eprintln!(
            "S3 check, stock collector: round {round} of {}",
            effort.slow_rounds
        );
        for (collector, series) in &mut stock {
            let run = measure(collector.command(&config(server), folder.path(), true, false)?)?;
            prove_orphans(truth, &eligible(&run.stdout))?;
            series.add(&run);
        }
    }
    for round in 1..=effort.rounds {
        eprintln!("S3 check: round {round} of {}", effort.rounds);
        let hardprune = Hardprune::new()?.on_s3(server);
        let candidates = folder.path().join("candidates");
        server.reset_counters();
        let run = measure(hardprune.command(&[
            "check",
            &format!("s3://{}", server.bucket()),
            "--output",
            "json",
            "--candidates",
            &candidates.to_string_lossy(),
            FILTER_SEED[0],
            FILTER_SEED[1],
        ]))?;
        let counters = server.counters();
        prove_orphans(truth, &read_candidates(&candidates)?)?;
        product.add(&run);
        if round == effort.rounds {
            let report = serde_json::from_str(&run.stdout)?;
            let state = hardprune.home().join(".local/state");
            bound_check(&report, &state, server, counters, findings)?;
        }
    }
    findings
        .comparisons
        .extend(Comparison::with_each("check", stock, &product, WANTED)?);
    Ok(())
}

/// Holds the requests of a check against what they may be.
fn bound_check(
    report: &Value,
    state: &Path,
    server: &S3Server,
    counters: Counters,
    findings: &mut Findings,
) -> Result<()> {
    let run = report["run"].as_str().context("the report names its run")?;
    let mark = fs::read(state.join(format!("hardprune/runs/{run}/1/mark.json")))?;
    let ranges = marked_ranges(&serde_json::from_slice(&mark)?)?;
    let shards = figure(report, "/shards")?;
    let keys = server.inventory();
    let tasks = ranges.len() as u64;
    let mut bound = |what: &str, found, most, because: String| {
        findings.bounds.push(Bound {
            what: format!("check: {what} requests"),
            found,
            most,
            because,
        });
    };
    bound(
        "LIST",
        counters.list,
        keys.len() as u64 / KEYS_A_PAGE + 2 * (tasks + shards) + ONCE,
        format!(
            "{} keys / 1,000, two for each of {tasks} tasks and {shards} shards, {ONCE} once",
            keys.len()
        ),
    );
    let manifests: usize = ranges
        .iter()
        .map(|range| range.manifests(keys.keys()).len())
        .sum();
    bound(
        "GET",
        counters.get,
        manifests as u64,
        "one for each distinct manifest of a task".to_owned(),
    );
    bound("HEAD", counters.head, 0, "none".to_owned());
    let writes =
        counters.put + counters.copy + counters.delete_single + counters.delete_objects + counters.multipart;
    bound("writing", writes, 0, "a check writes nothing".to_owned());
    Ok(())
}

/// One mark task's part of the key space.
struct MarkedRange {
    after: Option<String>,
    to: Option<String>,
}

impl MarkedRange {
    /// The digests of the revisions in it.
    fn manifests<'k>(&self, keys: impl Iterator<Item = &'k String>) -> BTreeSet<&'k str> {
        keys.filter(|key| {
            self.after.as_ref().is_none_or(|after| *key > after)
                && self.to.as_ref().is_none_or(|to| *key < to)
        })
        .filter_map(|key| key.split_once("/_manifests/revisions/"))
        .map(|(_, revision)| revision)
        .collect()
    }
}

fn marked_ranges(mark: &Value) -> Result<Vec<MarkedRange>> {
    let ranges = mark["ranges"].as_array().context("a sealed mark has ranges")?;
    let bound = |range: &Value, end: &str| range["range"][end].as_str().map(str::to_owned);
    Ok(ranges
        .iter()
        .map(|range| MarkedRange {
            after: bound(range, "after"),
            to: bound(range, "to"),
        })
        .collect())
}

fn deletes(effort: &Effort, findings: &mut Findings) -> Result<()> {
    let (mut stock, mut product) = (Series::default(), Series::default());
    for round in 1..=effort.slow_rounds {
        eprintln!(
            "S3 delete, stock collector: round {round} of {}",
            effort.slow_rounds
        );
        let (server, truth) = registry(effort)?;
        let before = Inventory::take(&server)?;
        let folder = tempfile::tempdir()?;
        stock.add(&measure(StockCollector::debian().command(
            &config(&server),
            folder.path(),
            false,
            false,
        )?)?);
        prove_clean(&server, &truth, &before, false)?;
    }
    for round in 1..=effort.few_rounds {
        eprintln!("S3 delete: round {round} of {}", effort.few_rounds);
        let (server, truth) = registry(effort)?;
        let before = Inventory::take(&server)?;
        let hardprune = Hardprune::new()?.on_s3(&server);
        let bucket = format!("s3://{}", server.bucket());
        let mut arguments = vec!["delete", &bucket, "--assume-read-only", "--output", "json"];
        arguments.extend(FILTER_SEED);
        let run = measure(hardprune.command(&arguments))?;
        prove_freed(&run.stdout, &truth)?;
        prove_clean(&server, &truth, &before, true)?;
        product.add(&run);
    }
    findings.comparisons.push(Comparison {
        what: "delete, journal in the bucket".to_owned(),
        stock,
        product,
        wanted_ratio: Some(WANTED),
    });
    Ok(())
}

/// Counts the requests of a delete whose state is kept elsewhere: what is left is for the registry.
fn delete_requests(effort: &Effort, findings: &mut Findings) -> Result<()> {
    let (server, truth) = registry(effort)?;
    let before = Inventory::take(&server)?;
    let hardprune = Hardprune::new()?.on_s3(&server);
    let state = tempfile::tempdir()?;
    server.reset_counters();
    let run = measure(hardprune.command(&[
        "delete",
        &format!("s3://{}", server.bucket()),
        "--assume-read-only",
        "--output",
        "json",
        "--state",
        &state.path().to_string_lossy(),
        FILTER_SEED[0],
        FILTER_SEED[1],
    ]))?;
    let counters = server.counters();
    let report = prove_freed(&run.stdout, &truth)?;
    prove_clean(&server, &truth, &before, true)?;
    let removed = (truth.orphans.len() + truth.dangling_links.len()) as u64;
    let shards = figure(&report, "/shards")?;
    // The lock and the probe of the store's conditions are hardprune's own, and go one by one.
    let of_the_lock = 2;
    findings.bounds.push(Bound {
        what: "delete: DELETE requests".to_owned(),
        found: counters.delete_objects + counters.delete_single,
        most: removed / KEYS_A_PAGE + shards + of_the_lock,
        because: format!(
            "{removed} keys removed / 1,000, one for each of {shards} shards, {of_the_lock} for the lock"
        ),
    });
    findings.bounds.push(Bound {
        what: "delete: HEAD requests".to_owned(),
        found: counters.head,
        most: 0,
        because: "none".to_owned(),
    });
    Ok(())
}

fn prove_orphans(truth: &Truth, found: &BTreeSet<String>) -> Result<()> {
    ensure!(
        found.iter().eq(truth.orphans.keys()),
        "{} orphans were found where there are {}, or others",
        found.len(),
        truth.orphans.len()
    );
    Ok(())
}

fn prove_freed(stdout: &str, truth: &Truth) -> Result<Value> {
    let report: Value = serde_json::from_str(stdout)?;
    ensure!(
        figure(&report, "/bytes/freed")? == truth.orphan_bytes(),
        "the freed bytes are not exact: {report}"
    );
    Ok(report)
}

/// Looks past the server's front at what is left; hardprune's own folder counts as nothing.
fn prove_clean(server: &S3Server, truth: &Truth, before: &Inventory, links_too: bool) -> Result<()> {
    prove_deleted(truth, before, &Inventory::take(server)?, links_too)?;
    let report = check_storage(server, Roots::Revisions)?;
    ensure!(
        report.violations.is_empty(),
        "something live is not complete: {:?}",
        report.violations
    );
    Ok(())
}

pub(super) fn config(server: &S3Server) -> RegistryConfig {
    RegistryConfig::s3(S3Settings {
        endpoint: server.endpoint(),
        bucket: server.bucket().to_owned(),
        root_directory: String::new(),
        access_key: server.access_key().to_owned(),
        secret_key: server.secret_key().to_owned(),
    })
}
