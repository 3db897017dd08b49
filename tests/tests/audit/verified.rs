//! Every file of a run is the one that was written, or is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Hardprune;
use hardprune_tests::scene::{KILLED, Scene, fast_folder, number};
use hardprune_tests::storage_writer::{Folder, Storage};
use serde_json::Value;

use crate::{DEAD_TOO, answer, deleted};

#[test]
fn a_run_that_ended_is_as_it_was_written_and_every_kind_of_file_is_named() {
    let (scene, _) = deleted(&Shape::small(51)).unwrap();
    let told = answer(&scene, "verify", &[], 0).unwrap();
    for kind in [
        "report",
        "sealed plans",
        "sealed marks",
        "files of removals",
        "index of the books",
        "journals",
    ] {
        assert!(told.contains(kind), "{kind} in {told}");
    }
    assert!(
        told.contains("removed on purpose") && !told.contains("not covered"),
        "{told}"
    );
}

#[test]
fn a_file_that_was_changed_removed_or_added_is_named() {
    let (scene, _) = deleted(&Shape::small(52)).unwrap();
    let first = |text: &str| -> Result<PathBuf> {
        scene
            .state_files(text)?
            .into_iter()
            .next()
            .with_context(|| format!("no file {text}"))
    };
    let files = [
        "report.json",
        "plan.json",
        "mark.json",
        "/plans/",
        "/unlink/dangling",
        ".started",
        ".deleted",
        "/books/",
    ]
    .map(|text| first(text).unwrap());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(&file).unwrap();
        // One byte of white space more: it reads as before.
        fs::write(&file, [bytes.as_slice(), b"\n"].concat()).unwrap();
        let told = answer(&scene, "verify", &[], 1).unwrap();
        let line = told
            .lines()
            .find(|line| line.starts_with("DIFFERS") && line.contains(name));
        assert!(line.is_some_and(|line| line.contains("sha256")), "{name}: {told}");
        fs::remove_file(&file).unwrap();
        let told = answer(&scene, "verify", &[], 1).unwrap();
        let line = told
            .lines()
            .find(|line| line.starts_with("DIFFERS") && line.contains(name));
        assert!(
            line.is_some_and(|line| line.contains("missing")),
            "{name}: {told}"
        );
        fs::write(&file, bytes).unwrap();
    }
    answer(&scene, "verify", &[], 0).unwrap();
    let journal = first(".deleted").unwrap();
    let added = journal.with_file_name("7-0-1-9.deleted");
    fs::copy(journal, added).unwrap();
    let told = answer(&scene, "verify", &[], 1).unwrap();
    assert!(
        told.contains("7-0-1-9.deleted: it was added after the report"),
        "{told}"
    );
}

#[test]
fn a_killed_run_is_not_covered_yet_and_a_resumed_one_is() {
    let scene = Scene::on_folder(&Shape::small(58)).unwrap();
    let killed = scene
        .run_with("delete-after-request=6*off->return", &scene.delete(&DEAD_TOO))
        .unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    let told = answer(&scene, "verify", &[], 0).unwrap();
    assert!(
        told.contains("not covered") && told.contains("segments"),
        "{told}"
    );
    // Segments are there, and must be: the run did not come to tidy them up.
    let tag = &scene.truth.tags[0].digest;
    let told = answer(&scene, "explain", &[tag], 0).unwrap();
    assert!(told.contains("kept: referenced, by the segment"), "{told}");
    fs::remove_file(&scene.state_files(".references").unwrap()[0]).unwrap();
    let told = answer(&scene, "verify", &[], 1).unwrap();
    assert!(told.contains(".references: it is missing"), "{told}");

    let report = scene.report(0, &scene.resume()).unwrap();
    scene
        .check_finished(&report, &scene.orphans_and_untagged())
        .unwrap();
    let export = answer(&scene, "export", &["--jsonl"], 0).unwrap();
    let lines: Vec<Value> = export
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let blobs: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "blob").collect();
    let freed: u64 = blobs.iter().map(|line| line["size"].as_u64().unwrap()).sum();
    assert_eq!(freed, number(&report, "/bytes/freed").unwrap());
    assert_eq!(blobs.len() as u64, number(&report, "/blobs/deleted").unwrap());
    let epochs: BTreeSet<u64> = lines.iter().map(|line| line["epoch"].as_u64().unwrap()).collect();
    assert_eq!(epochs, BTreeSet::from([1, 2]));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

#[test]
fn a_run_of_an_earlier_version_is_verified_as_far_as_it_goes_and_exported_without_names() {
    let folder = fast_folder().unwrap();
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/state/1"),
        folder.path(),
    );
    let state = folder.path().to_str().unwrap();
    let run = "01M872AA0MTXK9GYKE5PMXWTXK";
    let program = Hardprune::new().unwrap();
    let told = program.run(&["runs", "verify", run, "--state", state]).unwrap();
    assert_eq!(told.status, 0, "{told:?}");
    assert_eq!(told.stdout.matches("not covered").count(), 2, "{told:?}");
    let told = program
        .run(&["runs", "export", run, "--jsonl", "--state", state])
        .unwrap();
    assert_eq!(told.status, 0, "{told:?}");
    let blobs: Vec<Value> = told
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let blobs: Vec<&Value> = blobs.iter().filter(|line| line["kind"] == "blob").collect();
    assert!(
        blobs.len() == 11 && blobs.iter().all(|line| line["worker"].is_null()),
        "{told:?}"
    );
    let digest = blobs[0]["digest"].as_str().unwrap();
    let told = program
        .run(&["runs", "explain", run, digest, "--state", state])
        .unwrap();
    assert!(told.stdout.contains("\ndeleted: in epoch 1 ("), "{told:?}");
    assert!(
        Folder::new(folder.path())
            .keys()
            .unwrap()
            .keys()
            .all(|key| !key.contains("/books/"))
    );
}
