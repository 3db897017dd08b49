//! What the tests of this binary share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::manifests::{self, Content, Family};
use hardprune_tests::s3_server::{Operation, S3Options};
use hardprune_tests::scene::{Scene, number};
use hardprune_tests::storage_writer::{
    Folder, Storage, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};
use serde_json::Value;

pub const SEED: [&str; 2] = ["--filter-seed", "5"];

pub fn shape() -> Shape {
    Shape {
        images: 120,
        repositories: 12,
        ..Shape::small(17)
    }
}

pub fn on_s3() -> Scene {
    let options = S3Options {
        keeps_log: true,
        ..S3Options::default()
    };
    Scene::on_s3(&shape(), options).unwrap()
}

/// In a folder on a disk, where the cache must be asked for.
pub fn on_folder() -> Scene {
    kept_on_a_disk(Scene::on_folder(&shape()).unwrap())
}

pub fn kept_on_a_disk(scene: Scene) -> Scene {
    scene.with("HARDPRUNE_MARK_CACHE", "true")
}

pub fn long_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(30 * 86_400)
}

/// Pushes an image of one layer, as long ago as everything. Returns the manifest.
pub fn push(storage: &dyn Storage, repository: &str, tag: &str) -> Result<Content> {
    let name = format!("{repository}:{tag}");
    let mut seeded = hardprune_tests::content::Seeded::new(name.bytes().map(u64::from).sum());
    let layer = manifests::layer(Family::Oci, &mut seeded, 40);
    let config = manifests::config(Family::Oci, &name, &[&layer]);
    let image = manifests::image(Family::Oci, &config, &[&layer], None);
    for blob in [&layer, &config, &image] {
        storage.put(&blob_key(&blob.digest), &blob.bytes, long_ago())?;
    }
    for blob in [&layer, &config] {
        let key = layer_link_key(repository, &blob.digest);
        storage.put(&key, blob.digest.as_bytes(), long_ago())?;
    }
    for key in [
        revision_link_key(repository, &image.digest),
        tag_link_key(repository, tag),
        tag_index_key(repository, tag, &image.digest),
    ] {
        storage.put(&key, image.digest.as_bytes(), long_ago())?;
    }
    Ok(image)
}

/// Every revision: repository and digest.
pub fn revisions(storage: &dyn Storage) -> Result<Vec<(String, String)>> {
    let keys = storage.keys()?;
    let revision = |key: &String| {
        let rest = key.strip_prefix("docker/registry/v2/repositories/")?;
        let (repository, hex) = rest.split_once("/_manifests/revisions/sha256/")?;
        Some((
            repository.to_owned(),
            format!("sha256:{}", hex.strip_suffix("/link")?),
        ))
    };
    Ok(keys.keys().filter_map(revision).collect())
}

/// Manifests read, and manifests that were known.
pub fn manifests_of(report: &Value) -> Result<(u64, u64)> {
    Ok((
        number(report, "/manifests/read")?,
        number(report, "/manifests/cached")?,
    ))
}

/// What of a report does not depend on when it was made, nor on what was known before.
pub fn comparable(mut report: Value) -> Result<Value> {
    let object = report.as_object_mut().context("a report is an object")?;
    for field in ["run", "started", "finished", "cutoff", "seconds", "requests"] {
        object.remove(field).context("a report has this")?;
    }
    let manifests = &mut report["manifests"];
    let all = number(manifests, "/read")? + number(manifests, "/cached")?;
    manifests["read"] = all.into();
    manifests["cached"] = 0.into();
    // Of one range in the order in which reads ended; and where there are more, others of them.
    let total = number(&report, "/problems/total")?;
    if let Some(first) = report["problems"]["first"]
        .as_array_mut()
        .filter(|first| (first.len() as u64) < total)
    {
        first.clear();
    }
    if let Some(first) = report["problems"]["first"].as_array_mut() {
        first.sort_by_key(ToString::to_string);
    }
    Ok(report)
}

/// What a check finds: the report, its orphans, and everything that would go.
pub fn check(scene: &Scene, options: &[&str]) -> Result<(Value, BTreeSet<String>)> {
    let candidates = scene.folder().join("candidates").display().to_string();
    let removals = scene.folder().join("removals").display().to_string();
    let files = ["--candidates", &candidates, "--removals", &removals];
    let report = scene.check(&[&SEED[..], &files[..], options].concat())?;
    let mut lines = BTreeSet::new();
    for file in [candidates, removals] {
        lines.extend(std::fs::read_to_string(file)?.lines().map(str::to_owned));
    }
    Ok((report, lines))
}

/// A check finds the same with the cache and without it. Returns the report with it.
pub fn check_both_ways(scene: &Scene, options: &[&str]) -> Result<Value> {
    check_both(scene, options, true)
}

/// As [`check_both_ways`]; where manifests are counted once a task, and ranges are not the same, without these counts.
pub fn check_both(scene: &Scene, options: &[&str], counts_too: bool) -> Result<Value> {
    let (report, going) = check(scene, options)?;
    let without = [options, &["--no-mark-cache"]].concat();
    let (report_without, going_without) = check(scene, &without)?;
    ensure!(manifests_of(&report_without)?.1 == 0, "{report_without}");
    let (mut a, mut b) = (comparable(report.clone())?, comparable(report_without)?);
    if !counts_too {
        a["manifests"].take();
        b["manifests"].take();
    }
    ensure!(a == b, "with the cache:\n{a:#}\nwithout:\n{b:#}");
    ensure!(
        going == going_without,
        "with the cache: {going:#?}\nwithout: {going_without:#?}"
    );
    Ok(report)
}

/// The blobs that were read since the counters were reset, and how often.
pub fn blobs_read(scene: &Scene) -> Result<BTreeMap<String, u64>> {
    let mut read = BTreeMap::new();
    for entry in scene.server()?.log() {
        if entry.operation == Operation::Get && entry.key.contains("/blobs/") {
            *read.entry(entry.key).or_default() += 1;
        }
    }
    Ok(read)
}

/// The files of the mark caches of checks.
pub fn cache_files(scene: &Scene) -> Result<Vec<PathBuf>> {
    let state = Folder::new(scene.program.home().join(".local/state/hardprune"));
    let keys = state.keys()?.into_keys();
    let files = keys.filter(|key| key.starts_with("mark-cache/"));
    Ok(files.map(|key| state.path_of(&key)).collect())
}

/// Links a manifest, and what it needs, into another repository, as a promotion does.
pub fn copy(storage: &dyn Storage, from: &str, to: &str, digest: &str) -> Result<()> {
    let keys = storage.keys()?;
    let layers = format!("docker/registry/v2/repositories/{from}/_layers/");
    for key in keys.keys().filter(|key| key.starts_with(&layers)) {
        let bytes = storage.get(key)?.context("it was listed")?;
        let copied = key.replacen(&format!("/{from}/_layers/"), &format!("/{to}/_layers/"), 1);
        storage.put(&copied, &bytes, long_ago())?;
    }
    for key in [
        revision_link_key(to, digest),
        tag_link_key(to, "copy"),
        tag_index_key(to, "copy", digest),
    ] {
        storage.put(&key, digest.as_bytes(), long_ago())?;
    }
    Ok(())
}
