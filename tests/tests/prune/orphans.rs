//! What nothing references goes, all of it and nothing else; what is live stays complete.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use hardprune_tests::checker::Roots;
use hardprune_tests::docker_registry::garbage_collect;
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::pull::{Puller, pull_everything};
use hardprune_tests::storage_writer::{blob_key, layer_link_key};

use crate::scene::{
    Place, Scene, blob_keys, candidates, digests, ensure_adds_up, number, only_removed, report, union,
};

#[tokio::test]
async fn check_in_a_folder_finds_what_the_stock_collector_finds_and_writes_nothing() {
    let scene = Scene::in_folder().await.unwrap();
    check_finds_what_the_stock_collector_finds(&scene).await.unwrap();
}

#[tokio::test]
async fn check_on_s3_finds_what_the_stock_collector_finds_and_writes_nothing() {
    let scene = Scene::on_s3().await.unwrap();
    check_finds_what_the_stock_collector_finds(&scene).await.unwrap();
    let requests = scene.place.server().unwrap();
    requests.reset_counters();
    report(&scene.hardprune, &scene.place, 0, "check", &["--delete-untagged"]).unwrap();
    let counters = requests.counters();
    let writes = [
        counters.put,
        counters.copy,
        counters.delete_single,
        counters.delete_objects,
        counters.multipart,
    ];
    assert_eq!(writes, [0; 5], "{counters:?}");
    assert!(counters.list > 0 && counters.get > 0, "{counters:?}");
}

async fn check_finds_what_the_stock_collector_finds(scene: &Scene) -> Result<()> {
    let before = scene.place.snapshot()?;
    let (found, report) = candidates(&scene.hardprune, &scene.place, &[])?;
    ensure!(scene.place.snapshot()? == before, "check changed the storage");
    ensure!(
        found == scene.pushed.orphans,
        "{found:?} instead of {:?}",
        scene.pushed.orphans
    );
    let stock = garbage_collect(scene.registry.config(), true, false).await?;
    ensure!(stock.status.success(), "{}", stock.stderr);
    ensure!(
        digests(&found) == stock.eligible,
        "{found:?} instead of {:?}",
        stock.eligible
    );

    ensure_adds_up(&report)?;
    let inventory = scene.place.inventory()?;
    let orphans = &scene.pushed.orphans;
    ensure!(number(&report, "blobs.orphaned")? == orphans.len() as u64);
    ensure!(number(&report, "bytes.orphaned")? == orphans.values().sum::<u64>());
    ensure!(number(&report, "bytes.scanned")? == inventory.blob_bytes());
    ensure!(number(&report, "links.layer")? == scene.pushed.dangling_links.len() as u64);
    ensure!(number(&report, "blobs.deleted")? == 0 && number(&report, "bytes.freed")? == 0);
    ensure!(number(&report, "problems.total")? == 0, "{}", report["problems"]);
    Ok(())
}

#[tokio::test]
async fn delete_in_a_folder_frees_exactly_the_orphans_and_leaves_every_live_tag_complete() {
    let scene = Scene::in_folder().await.unwrap();
    let scene = delete_frees_exactly_the_orphans(scene).await.unwrap();
    for digest in scene.pushed.orphans.keys() {
        let blob = scene.place.path(&blob_key(digest)).unwrap();
        assert!(!blob.parent().unwrap().exists(), "the folder of {digest} is left");
    }
}

#[tokio::test]
async fn delete_on_s3_frees_exactly_the_orphans_and_leaves_every_live_tag_complete() {
    let scene = Scene::on_s3().await.unwrap();
    delete_frees_exactly_the_orphans(scene).await.unwrap();
}

#[tokio::test]
async fn delete_in_a_folder_of_a_bucket_stays_inside_it() {
    let place = Place::s3("registries/one/").unwrap();
    let outside = place.server().unwrap();
    // A second registry, all of it orphans to whoever looks at the wrong place.
    let beside = [
        "docker/registry/v2/blobs/sha256/aa/bb/data",
        "registries/one-more/docker/registry/v2/blobs/sha256/aa/bb/data",
        "registries/docker/registry/v2/blobs/sha256/aa/bb/data",
    ];
    let old = jiff::Timestamp::from_second(1_000_000_000).unwrap();
    for key in beside {
        outside.put(key, "not yours", Some(old));
    }
    let scene = Scene::at(place).await.unwrap();
    let scene = delete_frees_exactly_the_orphans(scene).await.unwrap();
    let server = scene.place.server().unwrap();
    for key in beside {
        assert!(server.get(key).is_some(), "{key} is gone");
    }
    let strays: Vec<_> = server
        .inventory()
        .into_keys()
        .filter(|key| !key.starts_with("registries/one/") && !beside.contains(&key.as_str()))
        .collect();
    assert_eq!(strays, Vec::<String>::new());
}

async fn delete_frees_exactly_the_orphans(scene: Scene) -> Result<Scene> {
    let Scene {
        place,
        pushed,
        hardprune,
        ..
    } = &scene;
    let before = place.inventory()?;
    let live_before = place.live()?;
    let deleted = report(hardprune, place, 0, "delete", &[])?;
    let difference = before.until(&place.inventory()?);

    ensure_adds_up(&deleted)?;
    ensure!(difference.removed_blobs() == pushed.orphans);
    ensure!(number(&deleted, "bytes.freed")? == difference.freed_blob_bytes());
    ensure!(number(&deleted, "blobs.deleted")? == pushed.orphans.len() as u64);
    ensure!(number(&deleted, "blobs.orphaned")? == pushed.orphans.len() as u64);
    ensure!(number(&deleted, "links.layer")? == pushed.dangling_links.len() as u64);
    let links = pushed.dangling_links.iter();
    let mut expected: BTreeSet<String> = links.map(|(name, digest)| layer_link_key(name, digest)).collect();
    expected.extend(blob_keys(pushed.orphans.keys()));
    let removed = only_removed(&difference)?;
    ensure!(removed == expected, "{removed:?} instead of {expected:?}");
    let live_after = place.live()?;
    ensure!(live_after.violations.is_empty(), "{:?}", live_after.violations);
    ensure!(live_after.live_manifests == live_before.live_manifests);
    ensure!(live_after.live_blobs == live_before.live_blobs);

    let scene = scene.restarted().await?;
    let Scene {
        registry,
        place,
        pushed,
        hardprune,
    } = &scene;
    let mut puller = pull_everything(registry, &pushed.tags).await?;
    for (repository, digest) in &pushed.referrers {
        puller.digest(repository, digest).await?;
    }
    let gone = Puller::new(registry);
    for (repository, digest) in &pushed.dangling_links {
        gone.blob_is_gone(repository, digest).await?;
    }
    for (repository, digest) in &pushed.deleted_manifests {
        gone.manifest_is_gone(repository, digest).await?;
    }

    let (left, again) = candidates(hardprune, place, &[])?;
    ensure!(left.is_empty(), "left: {left:?}");
    ensure!(
        number(&again, "blobs.orphaned")? == 0 && number(&again, "links.layer")? == 0,
        "{again}"
    );
    let before = place.inventory()?;
    let again = report(hardprune, place, 0, "delete", &[])?;
    ensure!(
        number(&again, "blobs.deleted")? == 0 && number(&again, "bytes.freed")? == 0,
        "{again}"
    );
    ensure!(before.until(&place.inventory()?).is_empty());
    Ok(scene)
}

#[test]
fn in_generated_registries_in_folders_the_candidates_are_the_orphans() {
    for seed in 1..=4 {
        candidates_are_the_orphans(&Place::folder().unwrap(), seed).unwrap();
    }
}

#[test]
fn in_a_generated_registry_on_s3_the_candidates_are_the_orphans() {
    candidates_are_the_orphans(&Place::s3("").unwrap(), 5).unwrap();
}

#[test]
fn in_a_generated_registry_in_a_folder_of_a_bucket_the_candidates_are_the_orphans() {
    candidates_are_the_orphans(&Place::s3("a/b/").unwrap(), 6).unwrap();
}

fn candidates_are_the_orphans(place: &Place, seed: u64) -> Result<()> {
    let truth = generate(&Shape::small(seed), place)?;
    let hardprune = place.hardprune()?;
    let (found, checked) = candidates(&hardprune, place, &[])?;
    ensure!(
        found == truth.orphans,
        "seed {seed}: {found:?} instead of {:?}",
        truth.orphans
    );
    ensure_adds_up(&checked)?;
    ensure!(number(&checked, "blobs.young")? == truth.young_orphans.len() as u64);
    ensure!(number(&checked, "bytes.young")? == truth.young_orphans.values().sum::<u64>());
    ensure!(number(&checked, "blobs.referenced")? == (truth.live.len() + truth.untagged.len()) as u64);
    ensure!(number(&checked, "references")? == (truth.live.len() + truth.untagged.len()) as u64);
    ensure!(number(&checked, "manifests.read")? == truth.manifests as u64);

    let (found, _) = candidates(&hardprune, place, &["--delete-untagged"])?;
    let expected = union(&truth.orphans, &truth.untagged);
    ensure!(
        found == expected,
        "seed {seed}: {found:?} instead of {expected:?}"
    );

    let live = place.live()?;
    let before = place.inventory()?;
    let deleted = report(&hardprune, place, 0, "delete", &["--delete-untagged"])?;
    let difference = before.until(&place.inventory()?);
    ensure!(difference.removed_blobs() == expected);
    ensure!(number(&deleted, "bytes.freed")? == expected.values().sum::<u64>());
    let after = place.checked(Roots::Revisions)?;
    ensure!(after.violations.is_empty(), "{:?}", after.violations);
    ensure!(after.live_blobs == live.live_blobs && after.live_manifests == live.live_manifests);
    Ok(())
}
