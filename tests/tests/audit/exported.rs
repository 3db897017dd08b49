//! What went, or would go, line by line.

use std::collections::{BTreeMap, BTreeSet};

use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{Scene, number};
use hardprune_tests::storage_writer::layer_link_key;
use serde_json::Value;

use crate::{answer, ask, deleted};

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
            assert!(is_time, "{time}: {line}");
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
