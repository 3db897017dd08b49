//! The program on simulated registries, held against the truth that is known by construction.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use hardprune_common::layout::parse_blob_key;
use hardprune_tests::bench::figure;
use hardprune_tests::checker::{Roots, check_storage};
use hardprune_tests::program::Hardprune;
use hardprune_tests::s3_server::{Latency, Limits, S3Options, S3Server};
use hardprune_tests::simulator::{Expected, Simulated};
use hardprune_tests::storage_writer::{Folder, Storage};
use serde_json::Value;

use crate::{server, shape};

fn simulated(server: &S3Server) -> Result<&Simulated> {
    server.simulated().context("the registry is simulated")
}

/// Runs with the state in a folder, which may end with one of these statuses.
fn run(server: &S3Server, hardprune: &Hardprune, wanted: &[i32], arguments: &[&str]) -> Result<Value> {
    let (name, state) = (
        format!("s3://{}", server.bucket()),
        hardprune.home().join("state"),
    );
    let state = state.display().to_string();
    let mut all = vec![
        arguments[0],
        &name,
        "--state",
        &state,
        "--output",
        "json",
        "--filter-seed",
        "1",
    ];
    all.extend(&arguments[1..]);
    let finished = hardprune.run(&all)?;
    ensure!(
        wanted.contains(&finished.status),
        "{} is none of {wanted:?}: {}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    Ok(serde_json::from_str(&finished.stdout)?)
}

/// The digests that a check says would go.
fn candidates(file: &Path) -> Result<BTreeSet<String>> {
    let lines = fs::read_to_string(file)?;
    let digest = |line: &str| -> Result<String> {
        let line: Value = serde_json::from_str(line)?;
        Ok(line["digest"]
            .as_str()
            .context("a candidate has a digest")?
            .to_owned())
    };
    lines.lines().map(digest).collect()
}

/// Writes a registry out, layers as so many zeros: nobody reads them.
fn write_out(server: &S3Server, folder: &Folder) -> Result<()> {
    for (key, (size, modified)) in server.inventory() {
        let bytes = match server.get(&key) {
            Some(bytes) => bytes.to_vec(),
            None => vec![0; usize::try_from(size)?],
        };
        ensure!(
            bytes.len() as u64 == size,
            "{key} has {} bytes, not {size}",
            bytes.len()
        );
        folder.put(&key, &bytes, SystemTime::from(modified))?;
    }
    Ok(())
}

#[test]
fn written_out_to_a_folder_it_is_the_same_registry() {
    let server = server(shape(4_000), S3Options::default());
    let expected = simulated(&server).unwrap().expected();
    let folder = tempfile::tempdir().unwrap();
    let storage = Folder::new(folder.path());
    write_out(&server, &storage).unwrap();
    // Nothing live is incomplete, says who knows nothing of how it was made.
    let checked = check_storage(&storage, Roots::Revisions).unwrap();
    assert_eq!(checked.violations, BTreeSet::new());
    assert_eq!(checked.live_blobs.len() as u64, expected.live);
    assert_eq!(checked.live_manifests.len() as u64, expected.revisions);
    // Tags lead to all of them: to children through indexes, to artifacts through their subjects.
    let tagged = check_storage(&storage, Roots::Tags).unwrap();
    assert_eq!(tagged.live_blobs, checked.live_blobs);

    let hardprune = Hardprune::new().unwrap().on_s3(&server);
    let lists = [0, 1].map(|number| hardprune.home().join(format!("candidates-{number}")));
    let names = lists.each_ref().map(|list| list.display().to_string());
    let of_bucket = run(&server, &hardprune, &[0], &["check", "--candidates", &names[0]]).unwrap();
    let root = folder.path().display().to_string();
    let arguments = ["check", &root, "--candidates", &names[1], "--filter-seed", "1"];
    let of_folder = hardprune.report(0, &arguments).unwrap();
    assert_eq!(candidates(&lists[0]).unwrap(), candidates(&lists[1]).unwrap());
    for part in [
        "blobs",
        "bytes",
        "links",
        "references",
        "manifests",
        "repositories",
    ] {
        assert_eq!(of_bucket[part], of_folder[part], "{part}");
    }
    said_as_expected(&of_bucket, &expected).unwrap();
    assert_eq!(simulated(&server).unwrap().verdict().orphans_gone, 0);
    for digest in candidates(&lists[0]).unwrap() {
        let hash = hex::decode(digest.strip_prefix("sha256:").unwrap()).unwrap();
        let is_orphan = simulated(&server).unwrap().is_orphan(&hash.try_into().unwrap());
        assert_eq!(is_orphan, Some(true), "{digest}");
    }
}

/// A report's figures are those that are known by construction.
fn said_as_expected(report: &Value, expected: &Expected) -> Result<()> {
    for (pointer, wanted) in [
        ("/blobs/orphaned", expected.orphans),
        ("/bytes/orphaned", expected.orphan_bytes),
        ("/links/layer", expected.dangling_links),
        ("/manifests/read", expected.revisions),
    ] {
        let found = figure(report, pointer)?;
        ensure!(found == wanted, "{pointer} is {found}, not {wanted}");
    }
    Ok(())
}

#[test]
fn a_delete_leaves_the_truth_exact() {
    let server = server(shape(6_000), S3Options::default());
    let simulated = simulated(&server).unwrap();
    let expected = simulated.expected();
    assert!(
        expected.orphans > 1_000 && expected.dangling_links > 500,
        "{expected:?}"
    );
    let hardprune = Hardprune::new().unwrap().on_s3(&server);
    let report = run(&server, &hardprune, &[0], &["delete", "--assume-read-only"]).unwrap();
    said_as_expected(&report, &expected).unwrap();
    let verdict = simulated.verdict();
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(figure(&report, "/blobs/deleted").unwrap(), verdict.orphans_gone);
    assert_eq!(
        figure(&report, "/bytes/freed").unwrap(),
        verdict.orphan_bytes_gone
    );
    assert_eq!(verdict.orphan_bytes_gone, expected.orphan_bytes);
    assert_eq!(
        server.counters().deleted_keys,
        // The lock, and the probe of the store's conditions.
        expected.orphans + expected.dangling_links + 2
    );
    // Hardprune's own files are stored beside what is computed.
    assert!(server.inventory().keys().any(|key| key.starts_with("hardprune/")));
    // Nothing is left to do.
    let again = run(&server, &hardprune, &[0], &["check"]).unwrap();
    assert_eq!(figure(&again, "/blobs/orphaned").unwrap(), 0);
    assert_eq!(figure(&again, "/links/layer").unwrap(), 0);
}

#[test]
fn faults_and_limits_lose_nothing_and_count_nothing_twice() {
    let options = S3Options {
        fault_rate: 0.05,
        limits: Some(Limits {
            reads: 3.0,
            writes: 300.0,
        }),
        latency: "lognormal:1ms,1".parse::<Latency>().unwrap(),
        ..S3Options::default()
    };
    let server = server(shape(6_000), options);
    let simulated = simulated(&server).unwrap();
    let hardprune = Hardprune::new().unwrap().on_s3(&server);
    let mut freed = 0;
    for _ in 0..10 {
        let arguments = ["delete", "--assume-read-only", "--retry-pause", "100ms"];
        // The limits are lower than any pace that is kept to, so only the pauses help. A read that fails too often ends a run; what it freed stays counted in its own report.
        let Ok(report) = run(&server, &hardprune, &[0, 1, 4, 5], &arguments) else {
            continue;
        };
        freed += figure(&report, "/bytes/freed").unwrap();
        let verdict = simulated.verdict();
        assert!(verdict.nothing_is_lost(), "{verdict:?}");
        assert_eq!(freed, verdict.orphan_bytes_gone, "{report:#}");
        if verdict.is_clean() {
            break;
        }
    }
    let (verdict, counters) = (simulated.verdict(), server.counters());
    assert!(verdict.is_clean(), "{verdict:?}");
    assert!(counters.faulty > 0 && counters.throttled > 0, "{counters:?}");
}

#[test]
fn what_a_delete_of_something_live_does_is_seen() {
    let server = server(shape(1_000), S3Options::default());
    let simulated = simulated(&server).unwrap();
    let is_live = |key: &&String| {
        parse_blob_key(key)
            .and_then(|digest| simulated.is_orphan(digest.hash().try_into().ok()?))
            .is_some_and(|is_orphan| !is_orphan)
    };
    let inventory = server.inventory();
    let live = inventory.keys().find(is_live).unwrap();
    assert!(server.remove(live));
    let revision = inventory.keys().find(|key| key.contains("/revisions/")).unwrap();
    assert!(server.remove(revision));
    let verdict = simulated.verdict();
    assert_eq!((verdict.blobs_lost, verdict.links_lost), (1, 1), "{verdict:?}");
    assert!(!verdict.nothing_is_lost());
}
