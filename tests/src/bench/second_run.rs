//! A second run on the S3 server, with the latency of a cloud store: what the mark cache spares (decision 0017).

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::filesystem::read_candidates;
use super::measure::{Measured, Series, measure};
use super::verdict::{Bound, Comparison, Findings};
use super::{Effort, FILTER_SEED, figure};
use crate::content::Seeded;
use crate::generate::{Truth, generate};
use crate::manifests::{self, Family};
use crate::program::Hardprune;
use crate::s3_server::{S3Options, S3Server};
use crate::storage_writer::{
    Storage, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};

const LATENCY: Duration = Duration::from_millis(20);
/// The first run's time to mark over the second's.
const WANTED: f64 = 5.0;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_second_run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings {
        id: "second-run",
        sides: ("first run", "second run"),
        ..Findings::default()
    };
    let (mut whole, mut mark) = <(Pair, Pair)>::default();
    for round in 1..=effort.rounds {
        eprintln!("second run: round {round} of {}", effort.rounds);
        let server = S3Server::start(S3Options {
            latency: LATENCY.into(),
            ..S3Options::default()
        })?;
        let truth = generate(&effort.s3, &server)?;
        let hardprune = Hardprune::new()?.on_s3(&server);
        let (first, of_first) = check(&hardprune, &server, &truth)?;
        let known = figure(&of_first, "/manifests/read")?;
        let new = truth.manifests.div_ceil(100);
        for number in 0..new {
            push(&server, number)?;
        }
        server.reset_counters();
        let (second, of_second) = check(&hardprune, &server, &truth)?;
        whole.add(
            &first,
            first.elapsed.as_secs_f64(),
            &second,
            second.elapsed.as_secs_f64(),
        );
        mark.add(
            &first,
            mark_seconds(&of_first)?,
            &second,
            mark_seconds(&of_second)?,
        );
        ensure!(
            figure(&of_second, "/manifests/cached")? == known,
            "not every manifest was known: {of_second}"
        );
        if round == effort.rounds {
            bound(&server, new as u64, &mut findings);
            let cache = bytes_below(&hardprune.home().join(".local/state/hardprune/mark-cache"))?;
            findings.registry = format!(
                "A second run: an S3 server with {} ms latency, {} manifests, then {new} more",
                LATENCY.as_millis(),
                truth.manifests
            );
            findings.notes.push(format!(
                "What both runs keep for a third takes {} bytes for each manifest.",
                cache / (2 * known + new as u64)
            ));
        }
    }
    for (what, pair, wanted_ratio) in [
        ("mark", mark, Some(WANTED)),
        ("check, from its start to its end", whole, None),
    ] {
        findings.comparisons.push(Comparison {
            what: what.to_owned(),
            stock: pair.first,
            product: pair.second,
            wanted_ratio,
        });
    }
    findings.bound_memory();
    Ok(findings)
}

#[derive(Debug, Default)]
struct Pair {
    first: Series,
    second: Series,
}

impl Pair {
    fn add(&mut self, first: &Measured, first_seconds: f64, second: &Measured, second_seconds: f64) {
        self.first.add_part(first_seconds, first.peak_bytes);
        self.second.add_part(second_seconds, second.peak_bytes);
    }
}

/// Checks, and proves that exactly the orphans were found.
fn check(hardprune: &Hardprune, server: &S3Server, truth: &Truth) -> Result<(Measured, Value)> {
    let candidates = hardprune.home().join("candidates");
    let bucket = format!("s3://{}", server.bucket());
    let candidates_name = candidates.to_string_lossy();
    let mut arguments = vec![
        "check",
        &bucket,
        "--output",
        "json",
        "--candidates",
        &candidates_name,
    ];
    arguments.extend(FILTER_SEED);
    let run = measure(hardprune.command(&arguments))?;
    let found = read_candidates(&candidates)?;
    ensure!(
        found.iter().eq(truth.orphans.keys()),
        "{} orphans were found where there are {}, or others",
        found.len(),
        truth.orphans.len()
    );
    let report = serde_json::from_str(&run.stdout)?;
    Ok((run, report))
}

fn mark_seconds(report: &Value) -> Result<f64> {
    report["seconds"]["mark"]
        .as_f64()
        .context("a report says how long marking took")
}

fn bound(server: &S3Server, new: u64, findings: &mut Findings) {
    let counters = server.counters();
    findings.bounds.push(Bound {
        what: "second run: GET requests".to_owned(),
        found: counters.get,
        most: new + new / 20,
        because: format!("{new} new manifests, and 5 % more"),
    });
    findings.bounds.push(Bound {
        what: "second run: HEAD requests".to_owned(),
        found: counters.head,
        most: 0,
        because: "none".to_owned(),
    });
}

/// Pushes an image of two layers to one of the repositories, old enough for nothing of it to count as young.
fn push(server: &S3Server, number: usize) -> Result<()> {
    let old = SystemTime::now() - Duration::from_secs(30 * 86_400);
    let mut seeded = Seeded::new(1_000_000 + number as u64);
    let layers = [
        manifests::layer(Family::Oci, &mut seeded, 300),
        manifests::layer(Family::Oci, &mut seeded, 300),
    ];
    let layers: Vec<_> = layers.iter().collect();
    let config = manifests::config(Family::Oci, &format!("new-{number}"), &layers);
    let image = manifests::image(Family::Oci, &config, &layers, None);
    let (repository, tag) = (format!("team-{:03}", number * 3), "new");
    for blob in layers.into_iter().chain([&config]) {
        Storage::put(server, &blob_key(&blob.digest), &blob.bytes, old)?;
        Storage::put(
            server,
            &layer_link_key(&repository, &blob.digest),
            blob.digest.as_bytes(),
            old,
        )?;
    }
    Storage::put(server, &blob_key(&image.digest), &image.bytes, old)?;
    for key in [
        revision_link_key(&repository, &image.digest),
        tag_link_key(&repository, tag),
        tag_index_key(&repository, tag, &image.digest),
    ] {
        Storage::put(server, &key, image.digest.as_bytes(), old)?;
    }
    Ok(())
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_below(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}
