//! What an earlier version of hardprune kept of a run can be read: `tests/fixtures/state/1` is the state of a run over NATS,
//! made once. (The messages of that time are read by a test of `common/src/nats/messages.rs`.)

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hardprune_tests::program::Hardprune;
use hardprune_tests::scene::fast_folder;
use serde_json::Value;
use tempfile::TempDir;

const RUN: &str = "01M872AA0MTXK9GYKE5PMXWTXK";

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, to) = (entry?.path(), to.to_owned());
        let to = to.join(entry.file_name().context("a name")?);
        if entry.is_dir() {
            copy(&entry, &to)?;
        } else {
            std::fs::copy(&entry, &to)?;
        }
    }
    Ok(())
}

/// A copy of the state, and the file of the run's report in it.
fn state() -> (TempDir, PathBuf) {
    let folder = fast_folder().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/state/1");
    copy(&fixture, folder.path()).unwrap();
    let report = folder.path().join(format!("hardprune/runs/{RUN}/report.json"));
    (folder, report)
}

fn show(folder: &TempDir, others: &[&str]) -> String {
    let state = folder.path().to_str().unwrap();
    let arguments = [&["runs", "show", RUN, "--state", state], others].concat();
    let finished = Hardprune::new().unwrap().run(&arguments).unwrap();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    finished.stdout
}

/// Every field that was there is there, and says the same. There may be more: fields are added, never changed.
fn assert_has(shown: &Value, wanted: &Value, place: &str) {
    let Some(fields) = wanted.as_object() else {
        return assert_eq!(shown, wanted, "{place}");
    };
    for (field, value) in fields {
        assert_has(&shown[field], value, &format!("{place}/{field}"));
    }
}

#[test]
fn a_report_of_an_earlier_version_is_shown_as_it_was() {
    let (folder, report) = state();
    let wanted: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let shown: Value = serde_json::from_str(&show(&folder, &["--output", "json"])).unwrap();
    let wanted = wanted.as_object().unwrap();
    assert!(wanted.len() > 20, "{wanted:?}");
    for (field, value) in wanted {
        assert_has(&shown[field], value, field);
    }
    let text = show(&folder, &[]);
    let last: Vec<&str> = text.lines().rev().take(2).collect();
    assert_eq!(
        last,
        ["Freed up 3.206 KiB of disk space", "Deleted 11 blobs"],
        "{text}"
    );
}

#[test]
fn what_an_earlier_version_sealed_and_journaled_adds_up_to_its_report() {
    let (folder, report) = state();
    let wanted: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    std::fs::remove_file(report).unwrap();
    let shown: Value = serde_json::from_str(&show(&folder, &["--output", "json"])).unwrap();
    for part in [
        "run",
        "epochs",
        "registry",
        "mode",
        "options",
        "cutoff",
        "repositories",
        "manifests",
        "references",
        "blobs",
        "bytes",
        "links",
        "filter",
        "shards",
        "workers",
        "requests",
        "problems",
    ] {
        assert_has(&shown[part], &wanted[part], part);
    }
}

#[test]
fn runs_of_an_earlier_version_are_listed() {
    let (folder, _) = state();
    let state = folder.path().to_str().unwrap();
    let finished = Hardprune::new()
        .unwrap()
        .run(&["runs", "list", "--state", state])
        .unwrap();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let line = finished
        .stdout
        .lines()
        .find(|line| line.starts_with(RUN))
        .unwrap();
    assert!(
        line.contains("delete") && line.ends_with("11 deleted, 3.206 KiB"),
        "{line}"
    );
}
