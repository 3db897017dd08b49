//! What a run costs on S3: requests are money and time.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::{Shape, Truth, generate};
use hardprune_tests::program::Hardprune;
use hardprune_tests::s3_server::{Counters, LogEntry, Operation};
use serde_json::Value;

use crate::scene::{Place, number, report};

/// An eighth of the S3 benchmark, with everything in it.
fn shape() -> Shape {
    Shape {
        repositories: 30,
        images: 120,
        untagged_images: 10,
        orphans: 400,
        young_orphans: 20,
        ..Shape::s3_benchmark()
    }
}

/// A run and what it asked of the server.
struct Measured {
    report: Value,
    counters: Counters,
    log: Vec<LogEntry>,
    keys: u64,
    /// Tasks that marked.
    mark_tasks: u64,
}

impl Measured {
    /// Runs on a place, with the state in a folder, so that all requests are about the registry.
    fn run(hardprune: &Hardprune, place: &Place, command: &str, options: &[&str]) -> Result<Self> {
        let server = place.server()?;
        let state = hardprune.home().join("state");
        let state = state.display().to_string();
        let mut all = vec!["--state", &state];
        all.extend(options);
        let keys = place.inventory()?.0.len() as u64;
        server.reset_counters();
        let report = report(hardprune, place, 0, command, &all)?;
        let (counters, log) = (server.counters(), server.log());
        let run = report["run"].as_str().context("a report names its run")?;
        let mark: Value =
            serde_json::from_slice(&fs::read(format!("{state}/hardprune/runs/{run}/1/mark.json"))?)?;
        let ranges = mark["ranges"]
            .as_array()
            .context("a sealed mark has ranges")?
            .len();
        Ok(Self {
            report,
            counters,
            log,
            keys,
            mark_tasks: ranges as u64,
        })
    }

    fn gets_of(&self, part: &str) -> BTreeMap<&str, u64> {
        let mut gets = BTreeMap::new();
        let of_part = |entry: &&LogEntry| entry.operation == Operation::Get && entry.key.contains(part);
        for entry in self.log.iter().filter(of_part) {
            *gets.entry(entry.key.as_str()).or_default() += 1;
        }
        gets
    }

    /// What every run keeps to.
    fn ensure_economical(&self, truth: &Truth) -> Result<()> {
        let Self { report, counters, .. } = self;
        ensure!(counters.head == 0 && counters.other == 0, "{counters:?}");
        let shards = number(report, "shards")?;
        let most = self.keys / 1_000 + 2 * (self.mark_tasks + shards);
        ensure!(
            counters.list <= most,
            "{} listings of {} keys by {} tasks and {shards} shards",
            counters.list,
            self.keys,
            self.mark_tasks
        );
        // No manifest of this registry is in two repositories, so no task reads one that another read.
        let manifests = self.gets_of("/blobs/");
        let twice: Vec<_> = manifests.iter().filter(|(_, times)| **times > 1).collect();
        ensure!(twice.is_empty(), "read more than once: {twice:?}");
        ensure!(
            manifests.len() == truth.manifests,
            "{} reads of {}",
            manifests.len(),
            truth.manifests
        );
        // The report tells what was really asked for.
        for (kind, count) in [
            ("list", counters.list),
            ("get", counters.get),
            ("head", counters.head),
            ("put", counters.put),
            ("copy", counters.copy),
            ("delete", counters.delete_single + counters.delete_objects),
        ] {
            let said = report["requests"][kind].as_u64();
            ensure!(
                said == Some(count),
                "{kind}: the report says {said:?}, the server {count}"
            );
        }
        Ok(())
    }
}

#[test]
fn a_check_lists_each_key_once_and_reads_each_manifest_once() {
    let place = Place::s3("").unwrap();
    let truth = generate(&shape(), &place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let check = Measured::run(&hardprune, &place, "check", &[]).unwrap();
    check.ensure_economical(&truth).unwrap();
    let counters = check.counters;
    assert_eq!(counters.get, truth.manifests as u64, "{counters:?}");
    assert_eq!(
        [counters.put, counters.delete_single, counters.delete_objects],
        [0; 3]
    );

    // Tags are read only where it matters what they name, each once.
    let options = ["--delete-untagged", "--no-mark-cache"];
    let check = Measured::run(&hardprune, &place, "check", &options).unwrap();
    check.ensure_economical(&truth).unwrap();
    assert_eq!(
        check.gets_of("/current/link").values().sum::<u64>(),
        truth.tags.len() as u64
    );
    assert_eq!(check.counters.get, (truth.manifests + truth.tags.len()) as u64);
}

/// A place, and a delete there of everything that may go; with the number of keys that went.
fn deleted_from(place: &Place) -> Result<(Measured, u64)> {
    let truth = generate(&shape(), place)?;
    let hardprune = place.hardprune()?;
    let before = place.inventory()?;
    let delete = Measured::run(&hardprune, place, "delete", &["--delete-untagged"])?;
    let removed = before.until(&place.inventory()?).removed.len() as u64;
    let going = truth.orphans.len() + truth.untagged.len();
    ensure!(number(&delete.report, "blobs.deleted")? == going as u64);
    ensure!(removed > going as u64, "no link went");
    Ok((delete, removed))
}

#[test]
fn a_delete_names_each_key_once_and_none_by_itself() {
    let place = Place::s3("").unwrap();
    let (delete, removed) = deleted_from(&place).unwrap();
    assert_eq!(delete.counters.head, 0);
    let of_registry = |operation| {
        let entries = delete
            .log
            .iter()
            .filter(move |entry| entry.operation == operation);
        entries.filter(|entry| entry.key.starts_with("docker/")).count() as u64
    };
    assert_eq!(of_registry(Operation::DeleteObjects), removed);
    assert_eq!(of_registry(Operation::Delete), 0);
    assert_eq!(of_registry(Operation::Put), 0);
    // The lock, who may delete, the probe of conditional writes, and nothing else: the state is elsewhere.
    let is_foreign = |entry: &&LogEntry| {
        let writes = [Operation::Put, Operation::Delete, Operation::DeleteObjects];
        writes.contains(&entry.operation)
            && !entry.key.starts_with("docker/")
            && entry.key != "hardprune/lock.json"
            && entry.key != "hardprune/last-delete.json"
            && !entry.key.starts_with("hardprune/probe-")
    };
    let foreign: Vec<_> = delete.log.iter().filter(is_foreign).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// The number to reach: removed keys/1,000, and one for each shard and each stage before the shards.
#[test]
fn a_delete_needs_one_request_a_shard_and_a_thousand_keys() {
    let place = Place::s3("").unwrap();
    let (delete, removed) = deleted_from(&place).unwrap();
    let own = delete
        .log
        .iter()
        .filter(|entry| entry.key.starts_with("hardprune/"));
    let own = own
        .filter(|entry| entry.operation == Operation::DeleteObjects)
        .count() as u64;
    let requests = delete.counters.delete_objects - own;
    let shards = number(&delete.report, "shards").unwrap();
    // Links of dead manifests, dangling links.
    let stages_before = 2;
    let most = removed / 1_000 + shards + stages_before;
    assert!(
        requests <= most,
        "{requests} requests for {removed} keys of {shards} shards, at most {most}"
    );
}
