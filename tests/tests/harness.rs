//! The harness against the real registry: what it pushes is complete, what it expects is what the stock collector
//! finds, and the checker is able to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use anyhow::{Context, Result};
use hardprune_tests::checker::{Roots, check_bytes, check_storage};
use hardprune_tests::docker_registry::{DockerRegistry, RegistryConfig, garbage_collect};
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::inventory::Inventory;
use hardprune_tests::pull::{Puller, pull_everything};
use hardprune_tests::push::{Pushed, add_artifact_manifest, build_everything};
use hardprune_tests::storage_writer::{Folder, Storage, blob_key};
use hardprune_tests::truth::Tag;

struct Fixture {
    registry: DockerRegistry,
    storage: Folder,
    pushed: Pushed,
    _folder: tempfile::TempDir,
}

async fn everything() -> Result<Fixture> {
    let folder = tempfile::tempdir()?;
    let storage = Folder::new(folder.path());
    let registry = DockerRegistry::start(RegistryConfig::filesystem(folder.path())).await?;
    let pushed = build_everything(&registry, &storage).await?;
    Ok(Fixture {
        registry,
        storage,
        pushed,
        _folder: folder,
    })
}

fn digests(blobs: &BTreeMap<String, u64>) -> BTreeSet<String> {
    blobs.keys().cloned().collect()
}

#[tokio::test]
async fn what_is_pushed_is_complete_and_what_is_expected_is_what_the_stock_collector_finds() {
    let Fixture {
        registry,
        storage,
        mut pushed,
        _folder,
    } = everything().await.unwrap();

    let mut tagged = check_storage(&storage, Roots::Tags).unwrap();
    check_bytes(&storage, &mut tagged).unwrap();
    assert_eq!(tagged.violations, BTreeSet::new());
    assert_eq!(tagged.live_blobs, pushed.live);
    let all = check_storage(&storage, Roots::Revisions).unwrap();
    assert_eq!(all.violations, BTreeSet::new());
    let untagged: BTreeSet<_> = all
        .live_manifests
        .difference(&tagged.live_manifests)
        .cloned()
        .collect();
    assert_eq!(untagged, pushed.untagged_manifests);

    let config = registry.config().clone();
    let registry = registry.restart().await.unwrap();
    let mut puller = pull_everything(&registry, &pushed.tags).await.unwrap();
    for (repository, digest) in &pushed.referrers {
        puller.digest(repository, digest).await.unwrap();
    }
    let pulled = puller
        .manifests
        .iter()
        .chain(puller.blobs.keys())
        .map(|(_, digest)| digest.clone());
    assert_eq!(pulled.collect::<BTreeSet<_>>(), digests(&pushed.live));

    let before = Inventory::take(&storage).unwrap();
    let dry_run = garbage_collect(&config, true, false).await.unwrap();
    assert!(dry_run.status.success(), "{}", dry_run.stderr);
    assert_eq!(dry_run.eligible, digests(&pushed.orphans));
    assert!(before.until(&Inventory::take(&storage).unwrap()).is_empty());

    let collected = garbage_collect(&config, false, false).await.unwrap();
    assert!(collected.status.success(), "{}", collected.stderr);
    let difference = before.until(&Inventory::take(&storage).unwrap());
    assert_eq!(difference.removed_blobs(), pushed.orphans);

    let registry = registry.restart().await.unwrap();
    let gone = Puller::new(&registry);
    for (repository, digest) in &pushed.dangling_links {
        gone.blob_is_gone(repository, digest).await.unwrap();
    }
    for (repository, digest) in &pushed.deleted_manifests {
        gone.manifest_is_gone(repository, digest).await.unwrap();
    }
    pull_everything(&registry, &pushed.tags).await.unwrap();

    let artifact = add_artifact_manifest(&storage, &mut pushed).unwrap();
    let tagged = check_storage(&storage, Roots::Tags).unwrap();
    assert_eq!(tagged.violations, BTreeSet::new());
    assert_eq!(tagged.live_blobs, pushed.live);
    let stopped = garbage_collect(&config, true, false).await.unwrap();
    assert!(
        !stopped.status.success(),
        "the stock collector is expected to stop at {}",
        artifact.digest
    );
}

#[tokio::test]
async fn the_checker_and_the_puller_find_what_is_missing_or_changed() {
    let Fixture {
        registry,
        storage,
        pushed,
        _folder,
    } = everything().await.unwrap();
    let healthy = check_storage(&storage, Roots::Tags).unwrap();
    let (layer, size) = first_layer(&storage, &pushed.tags[0]).unwrap();
    let bytes = storage.get(&blob_key(&layer)).unwrap().unwrap();

    storage.remove(&blob_key(&layer)).unwrap();
    let broken = check_storage(&storage, Roots::Tags).unwrap();
    assert!(!broken.violations.is_empty());
    assert!(
        broken
            .violations
            .iter()
            .all(|violation| violation.digest == layer)
    );
    let registry = registry.restart().await.unwrap();
    assert!(pull_everything(&registry, &pushed.tags).await.is_err());

    let other = vec![0; usize::try_from(size).unwrap()];
    storage.put(&blob_key(&layer), &other, SystemTime::now()).unwrap();
    let mut changed = check_storage(&storage, Roots::Tags).unwrap();
    assert_eq!(changed.violations, healthy.violations);
    check_bytes(&storage, &mut changed).unwrap();
    assert_eq!(changed.violations.len(), 1);

    storage.put(&blob_key(&layer), &bytes, SystemTime::now()).unwrap();
    let manifest = &pushed.tags[0].digest;
    storage.remove(&blob_key(manifest)).unwrap();
    let broken = check_storage(&storage, Roots::Tags).unwrap();
    assert!(
        broken
            .violations
            .iter()
            .any(|violation| &violation.digest == manifest)
    );
    assert!(!broken.live_blobs.contains_key(manifest));
}

fn first_layer(storage: &Folder, tag: &Tag) -> Result<(String, u64)> {
    let bytes = storage
        .get(&blob_key(&tag.digest))?
        .context("the manifest is gone")?;
    let manifest: serde_json::Value = serde_json::from_slice(&bytes)?;
    let layer = &manifest["layers"][0];
    let digest = layer["digest"].as_str().context("the layer has no digest")?;
    Ok((
        digest.to_string(),
        layer["size"].as_u64().context("the layer has no size")?,
    ))
}

/// The stock collector takes the children of tagged indexes for untagged: a real break for the checker to find.
#[tokio::test]
async fn the_checker_finds_what_the_stock_collector_breaks() {
    let Fixture {
        registry,
        storage,
        pushed,
        _folder,
    } = everything().await.unwrap();
    let collected = garbage_collect(registry.config(), false, true).await.unwrap();
    assert!(collected.status.success(), "{}", collected.stderr);
    let broken = check_storage(&storage, Roots::Tags).unwrap();
    let repositories: BTreeSet<_> = broken
        .violations
        .iter()
        .map(|violation| violation.repository.as_str())
        .collect();
    assert_eq!(repositories, BTreeSet::from(["team/multi", "team/referred"]));
    assert!(broken.live_blobs.len() < pushed.live.len());
}

#[tokio::test]
async fn a_generated_registry_is_served_and_its_orphans_are_the_stock_collectors() {
    let folder = tempfile::tempdir().unwrap();
    let truth = generate(&Shape::small(1), &Folder::new(folder.path())).unwrap();
    let registry = DockerRegistry::start(RegistryConfig::filesystem(folder.path()))
        .await
        .unwrap();
    let puller = pull_everything(&registry, &truth.tags).await.unwrap();
    let pulled = puller
        .manifests
        .iter()
        .chain(puller.blobs.keys())
        .map(|(_, digest)| digest.clone());
    assert_eq!(pulled.collect::<BTreeSet<_>>(), digests(&truth.live));

    let dry_run = garbage_collect(registry.config(), true, false).await.unwrap();
    assert!(dry_run.status.success(), "{}", dry_run.stderr);
    let unreferenced = truth.orphans.into_iter().chain(truth.young_orphans).collect();
    assert_eq!(dry_run.eligible, digests(&unreferenced));
}

#[tokio::test]
async fn a_read_only_registry_serves_and_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = RegistryConfig::filesystem(folder.path()).read_only();
    let registry = DockerRegistry::start(config).await.unwrap();
    let upload = format!("{}/v2/a/blobs/uploads/", registry.url());
    let answer = registry.client().post(upload).send().await.unwrap();
    assert_eq!(answer.status(), 405);
}
