//! A registry, and what the program says of it with its guards as they are for users.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Hardprune;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Scene, report_of};
use hardprune_tests::storage_writer::{blob_key, revision_link_key, tag_link_key};
use hardprune_tests::truth::Tag;
use serde_json::Value;

/// Where a registry lies.
#[derive(Debug, Clone, Copy)]
pub enum On {
    Folder,
    S3,
}

pub const EVERYWHERE: [On; 2] = [On::Folder, On::S3];

/// Older than any cutoff of these tests.
pub const OLD: Duration = Duration::from_secs(10 * 86_400);

/// A registry of this shape, pruned as users prune.
pub fn scene(on: On, shape: &Shape) -> Result<Scene> {
    match on {
        On::Folder => {
            let mut scene = Scene::on_folder(shape)?;
            scene.program = Hardprune::new()?.guarded();
            Ok(scene)
        }
        On::S3 => on_s3(shape, S3Options::default()),
    }
}

pub fn on_s3(shape: &Shape, options: S3Options) -> Result<Scene> {
    let mut scene = Scene::on_s3(shape, options)?;
    scene.program = Hardprune::new()?.guarded().on_s3(scene.server()?);
    Ok(scene)
}

/// A `check` says that these guards would refuse, and ends well; a `delete` is refused by them, says all of `parts`, and
/// deletes nothing.
pub fn refuses(scene: &Scene, options: &[&str], guards: &[&str], parts: &[&str]) -> Result<()> {
    let before = scene.inventory()?;
    let check = scene.check(options)?;
    ensure!(names(&check) == guards, "check: {:#}", check["guards"]);
    let report = refused(scene, options, guards, parts)?;
    ensure!(report["outcome"] == "refused", "{report:#}");
    let gone = before.until(&scene.inventory()?).removed;
    let registry: Vec<_> = gone.keys().filter(|key| !key.starts_with("hardprune/")).collect();
    ensure!(registry.is_empty(), "these went: {registry:?}");
    Ok(())
}

/// A `delete` is refused by these guards. Returns its report.
pub fn refused(scene: &Scene, options: &[&str], guards: &[&str], parts: &[&str]) -> Result<Value> {
    let finished = scene.program.run(&scene.delete(options))?;
    let report = report_of(&finished, 3)?;
    ensure!(names(&report) == guards, "delete: {:#}", report["guards"]);
    for part in parts {
        ensure!(
            finished.stderr.contains(part),
            "{part:?} is not in {}",
            finished.stderr
        );
    }
    Ok(report)
}

/// A `delete` is not refused, a `check` says so, and exactly the orphans go.
pub fn passes(scene: &Scene, options: &[&str]) -> Result<()> {
    let check = scene.check(options)?;
    ensure!(names(&check).is_empty(), "check: {:#}", check["guards"]);
    let report = scene.report(0, &scene.delete(options))?;
    ensure!(names(&report).is_empty(), "delete: {:#}", report["guards"]);
    scene.check_accounts(&report)?;
    let went = scene.difference()?.removed_blobs().into_keys().collect();
    ensure!(scene.orphans() == went, "{went:?} went");
    Ok(())
}

/// The guards that a report names.
pub fn names(report: &Value) -> Vec<&str> {
    let guards = report["guards"].as_array().map(Vec::as_slice).unwrap_or_default();
    guards
        .iter()
        .filter_map(|refusal| refusal["guard"].as_str())
        .collect()
}

/// Writes an object that is old.
pub fn put(scene: &Scene, key: &str, bytes: &[u8]) -> Result<()> {
    scene.storage().put(key, bytes, SystemTime::now() - OLD)
}

/// Writes a manifest with its revision link and a tag, all of them old.
pub fn put_manifest(scene: &Scene, repository: &str, tag: &str, digest: &str, bytes: &[u8]) -> Result<()> {
    put(scene, &blob_key(digest), bytes)?;
    put(scene, &revision_link_key(repository, digest), digest.as_bytes())?;
    put(scene, &tag_link_key(repository, tag), digest.as_bytes())
}

/// The tags that name images, each with a layer of its image.
pub fn images(scene: &Scene) -> Result<Vec<(Tag, String)>> {
    let mut images = Vec::new();
    for tag in &scene.truth.tags {
        let manifest = scene.storage().get(&blob_key(&tag.digest))?;
        let manifest: Value = serde_json::from_slice(&manifest.context("a live manifest")?)?;
        if let Some(layer) = manifest["layers"][0]["digest"].as_str() {
            images.push((tag.clone(), layer.to_owned()));
        }
    }
    Ok(images)
}
