//! The audit of a run: `runs verify`, `runs export` and `runs explain`, of runs that ended, were killed, or are of an earlier version; and who freed what.

#[path = "audit/tenants.rs"]
mod tenants;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::digest_of;
use hardprune_tests::generate::Shape;
use hardprune_tests::program::{Finished, Hardprune};
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{KILLED, Scene, fast_folder, number};
use hardprune_tests::storage_writer::{Folder, Storage, blob_key, layer_link_key};
use serde_json::Value;

const DEAD_TOO: [&str; 2] = ["--delete-untagged", "--accept-untagged-repositories"];

/// Runs `runs COMMAND RUN …` of the one run that there is.
fn ask(scene: &Scene, command: &str, others: &[&str]) -> Result<Finished> {
    let (run, state) = (scene.run_id()?, scene.state().display().to_string());
    let mut arguments = vec!["runs", command, &run, "--state", &state];
    arguments.extend(others);
    scene.program.run(&arguments)
}

fn answer(scene: &Scene, command: &str, others: &[&str], wanted: i32) -> Result<String> {
    let finished = ask(scene, command, others)?;
    ensure!(finished.status == wanted, "{command} {others:?}: {finished:?}");
    Ok(finished.stdout)
}

fn deleted(shape: &Shape) -> Result<(Scene, Value)> {
    let scene = Scene::on_folder(shape)?;
    let report = scene.report(0, &scene.delete(&DEAD_TOO))?;
    Ok((scene, report))
}

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
fn what_a_run_exports_is_what_went_with_who_and_when_and_adds_up_to_the_freed_bytes() {
    let (scene, report) = deleted(&Shape::small(53)).unwrap();
    let went = scene.difference().unwrap();
    let jsonl = answer(&scene, "export", &["--jsonl"], 0).unwrap();
    let lines: Vec<Value> = jsonl
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let keys: BTreeSet<String> = lines
        .iter()
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect();
    let registry: BTreeSet<String> = went
        .removed
        .keys()
        .filter(|key| key.starts_with("docker/"))
        .cloned()
        .collect();
    assert_eq!(keys, registry);
    assert_eq!(keys.len(), lines.len());
    let mut freed = 0;
    for line in &lines {
        if line["kind"] == "blob" {
            freed += line["size"].as_u64().unwrap();
            assert!(line["digest"].as_str().unwrap().starts_with("sha256:"), "{line}");
        } else {
            assert!(line["repository"].is_string(), "{line}");
        }
        assert!(line["worker"].as_str().unwrap().starts_with("process "), "{line}");
        for time in ["removed", "last_modified"] {
            let is_time = line[time]
                .as_str()
                .is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok());
            assert!(
                is_time || time == "last_modified" && line["reason"] == "dangling",
                "{line}"
            );
        }
        assert_eq!(line["status"], "removed");
    }
    assert_eq!(freed, number(&report, "/bytes/freed").unwrap());

    let to = scene.folder().join("went.csv");
    let told = answer(&scene, "export", &["--csv", "--to", to.to_str().unwrap()], 0).unwrap();
    assert_eq!(told, "");
    let mut csv = csv::Reader::from_path(&to).unwrap();
    let rows: Vec<BTreeMap<String, String>> = csv.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.iter().zip(&lines) {
        for (name, value) in line.as_object().unwrap() {
            let value = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(row[name], value, "{name}");
        }
    }
    let bad = ask(&scene, "export", &["--csv", "--to", "/dev/null/none"]).unwrap();
    assert_eq!(bad.status, 2, "{bad:?}");
    let neither = ask(&scene, "export", &[]).unwrap();
    assert_eq!(neither.status, 2, "{neither:?}");
}

#[test]
fn a_repository_whose_name_a_csv_must_quote_comes_back_as_it_is() {
    let scene = Scene::on_folder(&Shape::small(54)).unwrap();
    let name = "a \"team\", with\nall";
    let orphan = scene.truth.orphans.keys().next().unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(5 * 86_400);
    scene
        .storage()
        .put(&layer_link_key(name, orphan), orphan.as_bytes(), old)
        .unwrap();
    scene.report(0, &scene.delete(&[])).unwrap();
    let text = answer(&scene, "export", &["--csv"], 0).unwrap();
    let rows: Vec<BTreeMap<String, String>> = csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .map(Result::unwrap)
        .collect();
    assert!(
        rows.iter()
            .any(|row| row["repository"] == name && row["digest"] == *orphan),
        "{text}"
    );
}

#[test]
fn a_check_exports_what_would_go_and_explains_it() {
    let scene = Scene::on_folder(&Shape::small(55)).unwrap();
    let report = scene.check(&[]).unwrap();
    let run = report["run"].as_str().unwrap();
    let told = scene.program.run(&["runs", "export", run, "--jsonl"]).unwrap();
    assert_eq!(told.status, 0, "{told:?}");
    let blobs: BTreeSet<String> = told
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|line| assert!(line["status"] == "planned" && line["worker"].is_null(), "{line}"))
        .filter_map(|line| (line["kind"] == "blob").then(|| line["digest"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(blobs, scene.orphans());
    let orphan = blobs.first().unwrap();
    let told = scene.program.run(&["runs", "explain", run, orphan]).unwrap();
    assert!(
        told.status == 0 && told.stdout.contains("would be deleted"),
        "{told:?}"
    );
    let told = scene.program.run(&["runs", "verify", run]).unwrap();
    assert_eq!(told.status, 0, "{told:?}");
}

#[test]
fn in_a_folder_a_digest_is_explained() {
    is_explained(&Scene::on_folder(&Shape::small(56)).unwrap()).unwrap();
}

#[test]
fn on_s3_a_digest_is_explained() {
    is_explained(&Scene::on_s3(&Shape::small(56), S3Options::default()).unwrap()).unwrap();
}

/// Of each way to be kept or deleted one.
fn is_explained(scene: &Scene) -> Result<()> {
    let orphans: Vec<String> = scene.orphans().into_iter().collect();
    // A repository of which a manifest cannot be read, with a link to an orphan.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(5 * 86_400);
    let frozen = &orphans[0];
    let broken = digest_of(b"no such manifest");
    let put = |key: String, digest: &str| scene.storage().put(&key, digest.as_bytes(), old);
    put(layer_link_key("broken/app", frozen), frozen)?;
    put(
        hardprune_tests::storage_writer::revision_link_key("broken/app", &broken),
        &broken,
    )?;
    let tag = &scene.truth.tags[0];
    let manifest = scene
        .storage()
        .get(&blob_key(&tag.digest))?
        .context("a tag's manifest")?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    scene.report(0, &scene.delete(&[]))?;

    let explained = |digest: &str| answer(scene, "explain", &[digest], 0);
    let told = explained(&orphans[1])?;
    ensure!(
        told.contains("\ndeleted: in epoch 1 by process ") && told.contains("an orphan"),
        "{told}"
    );
    let told = explained(frozen)?;
    ensure!(
        told.contains("\nkept: the repository broken/app was frozen"),
        "{told}"
    );
    let told = explained(&tag.digest)?;
    ensure!(
        told.contains("\nkept: referenced")
            && told.contains(&format!("{}: it is a manifest there", tag.repository)),
        "{told}"
    );
    if let Some(config) = manifest["config"]["digest"].as_str() {
        let told = explained(config)?;
        let namer = format!("{}: the manifest {} names it", tag.repository, tag.digest);
        ensure!(
            told.contains("\nkept: referenced") && told.contains(&namer),
            "{told}"
        );
        ensure!(told.contains("what the registry says now"), "{told}");
    }
    let young = scene.truth.young_orphans.keys().next().context("a young one")?;
    let told = explained(young)?;
    ensure!(told.contains("\nkept: young"), "{told}");
    let told = explained(&digest_of(b"never heard of"))?;
    ensure!(told.contains("\nnot present"), "{told}");
    let bad = ask(scene, "explain", &["sha256:short"])?;
    ensure!(bad.status == 2, "{bad:?}");
    Ok(())
}

#[test]
fn what_is_kept_by_chance_or_not_reviewed_is_said() {
    let scene = Scene::on_folder(&Shape {
        images: 150,
        own_layers: 40..=40,
        orphans: 2_000,
        linked_orphans_percent: 0,
        ..Shape::small(57)
    })
    .unwrap();
    let state = scene.state().display().to_string();
    let options = [
        "--false-positive-rate",
        "0.1",
        "--filter-seed",
        "3",
        "--state",
        &state,
    ];
    let report = scene.check(&options).unwrap();
    let run = report["run"].as_str().unwrap().to_owned();
    let export = scene
        .program
        .run(&["runs", "export", &run, "--jsonl", "--state", &state])
        .unwrap()
        .stdout;
    let blobs: String = export.lines().filter(|line| line.contains("\"blob\"")).collect();
    let kept = scene
        .orphans()
        .into_iter()
        .find(|orphan| !blobs.contains(orphan.as_str()));
    let kept = kept
        .expect("of 2,000 orphans some are kept, though filters have room for a thousand digests at least");
    let told = scene
        .program
        .run(&["runs", "explain", &run, &kept, "--state", &state])
        .unwrap();
    assert!(
        told.stdout.contains("\nkept: by the filter's chance (0.1"),
        "{told:?}"
    );

    // The same filters without chance, but only what was reviewed.
    let report = scene.report(0, &scene.delete(&["--plan", &run])).unwrap();
    let delete = report["run"].as_str().unwrap();
    let told = scene
        .program
        .run(&["runs", "explain", delete, &kept, "--state", &state])
        .unwrap();
    assert!(
        told.stdout.contains("\nkept: it is not in the reviewed plan"),
        "{told:?}"
    );
    let told = scene
        .program
        .run(&["runs", "verify", delete, "--state", &state])
        .unwrap();
    assert!(
        told.status == 0 && told.stdout.contains("reviewed plan"),
        "{told:?}"
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
