//! What the tests of this binary share: a registry, what a quarantine took from it, and what came back.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Scene, number};
use hardprune_tests::storage_writer::{REGISTRY_ROOT, blob_key};
use serde_json::Value;

/// Dead manifests too, so that every kind of link moves.
pub const UNTAGGED: [&str; 3] = [
    "--quarantine",
    "--delete-untagged",
    "--accept-untagged-repositories",
];

/// The registry's objects by key, with their bytes.
pub type Registry = BTreeMap<String, Vec<u8>>;

/// The same registry in a folder and on S3.
pub fn everywhere() -> Result<Vec<Scene>> {
    let shape = Shape::small(5);
    Ok(vec![
        Scene::on_folder(&shape)?,
        Scene::on_s3(&shape, S3Options::default())?,
    ])
}

/// What the registry itself has.
pub fn registry_of(scene: &Scene) -> Result<Registry> {
    let mut registry = Registry::new();
    for key in scene.storage().keys()?.into_keys() {
        if key.starts_with(REGISTRY_ROOT) {
            let bytes = scene.storage().get(&key)?.with_context(|| key.clone())?;
            registry.insert(key, bytes);
        }
    }
    Ok(registry)
}

/// The keys below the quarantine.
pub fn quarantined(scene: &Scene) -> Result<BTreeMap<String, u64>> {
    let mut keys = scene.storage().keys()?;
    keys.retain(|key, _| key.starts_with("hardprune/quarantine/"));
    Ok(keys)
}

/// The keys of copies.
pub fn copies(scene: &Scene) -> Result<BTreeMap<String, u64>> {
    let mut keys = quarantined(scene)?;
    keys.retain(|key, _| key.contains("/docker/"));
    Ok(keys)
}

/// Says what the registry is, and where runs are kept.
pub fn of<'a>(names: &'a [String], first: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = first.to_vec();
    arguments.extend(["--registry", &names[0]]);
    if let [_, state] = names {
        arguments.extend(["--state", state.as_str()]);
    }
    arguments
}

/// Runs `restore`.
pub fn restore(scene: &Scene, run: &str, others: &[&str]) -> Result<Value> {
    let names = scene.store_names();
    let mut arguments = of(&names, &["restore", run, "--output", "json"]);
    arguments.extend(others);
    scene.report(0, &arguments)
}

/// Runs `purge`.
pub fn purge(scene: &Scene, wanted: i32, others: &[&str]) -> Result<Value> {
    let names = scene.store_names();
    let mut arguments = of(&names, &["purge", "--assume-read-only", "--output", "json"]);
    arguments.extend(others);
    scene.report(wanted, &arguments)
}

/// Quarantines what nothing needs, and checks that it is whole there and gone from the registry. Returns the run and its report.
pub fn quarantine(scene: &Scene, others: &[&str]) -> Result<(String, Value)> {
    let mut options = UNTAGGED.to_vec();
    options.extend(others);
    let report = scene.report(0, &scene.delete(&options))?;
    scene.check_intact()?;
    check_quarantined(scene, &report)?;
    let run = report["run"].as_str().context("no run")?.to_owned();
    Ok((run, report))
}

/// What a report says was quarantined is what went, and the copies of it are there.
pub fn check_quarantined(scene: &Scene, report: &Value) -> Result<()> {
    let difference = scene.difference()?;
    let went = difference.removed_blobs();
    let said = (
        number(report, "/bytes/quarantined")?,
        number(report, "/blobs/quarantined")?,
        number(report, "/blobs/deleted")?,
    );
    let blobs = went.len() as u64;
    let really = (difference.freed_blob_bytes(), blobs, blobs);
    ensure!(said == really, "R5: said {said:?}, really {really:?}\n{report}");
    ensure!(
        number(report, "/bytes/freed")? == 0,
        "nothing is freed yet\n{report}"
    );
    let run = report["run"].as_str().context("no run")?;
    let prefix = format!("hardprune/quarantine/{run}/");
    let there: BTreeMap<String, u64> = copies(scene)?
        .into_iter()
        .filter_map(|(key, size)| Some((key.strip_prefix(&prefix)?.to_owned(), size)))
        .collect();
    ensure!(
        there == difference.removed,
        "the copies are not what went: {there:?}\n{:?}",
        difference.removed
    );
    Ok(())
}

/// Everything is as it was at the beginning, and nothing is in quarantine.
pub fn check_restored(scene: &Scene, before: &Registry) -> Result<()> {
    ensure!(registry_of(scene)? == *before, "it is not what it was");
    let left: Vec<_> = quarantined(scene)?.into_keys().collect();
    ensure!(left.is_empty(), "left in quarantine: {left:?}");
    Ok(())
}

/// Long enough ago to be no push of now.
pub fn long_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3 * 24 * 3_600)
}

/// Whether a blob is in the registry.
pub fn has_blob(scene: &Scene, digest: &str) -> Result<bool> {
    Ok(scene.storage().get(&blob_key(digest))?.is_some())
}
