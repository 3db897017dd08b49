//! `--delete-untagged`: what no tag leads to goes too; children of indexes, signatures and other referrers stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::Seeded;
use hardprune_tests::docker_registry::DockerRegistry;
use hardprune_tests::inventory::Inventory;
use hardprune_tests::manifests::{self, Content, Family};
use hardprune_tests::pull::{Puller, pull_everything};
use hardprune_tests::push::{Pusher, add_artifact_manifest};
use hardprune_tests::storage_writer::{REGISTRY_ROOT, blob_key, revision_link_key, tag_index_key};

use crate::scene::{
    Place, Scene, THREE_DAYS, blob_keys, candidates, ensure_adds_up, layer_links_to, number, only_removed,
    report, union,
};

const UNTAGGED: &str = "--delete-untagged";

#[tokio::test]
async fn in_a_folder_only_what_no_tag_leads_to_goes() {
    let scene = Scene::in_folder().await.unwrap();
    only_what_no_tag_leads_to_goes(scene).await.unwrap();
}

#[tokio::test]
async fn on_s3_only_what_no_tag_leads_to_goes() {
    let scene = Scene::on_s3().await.unwrap();
    only_what_no_tag_leads_to_goes(scene).await.unwrap();
}

/// 2.8.2 neither serves nor collects the kind, so here the checker alone is the judge.
#[tokio::test]
async fn an_artifact_manifest_about_a_live_image_stays_and_so_does_its_blob() {
    let mut scene = Scene::in_folder().await.unwrap();
    let artifact = add_artifact_manifest(&scene.place, &mut scene.pushed).unwrap();
    scene.place.age_all(THREE_DAYS).unwrap();
    let revision = revision_link_key("team/app", &artifact.digest);
    let scene = only_what_no_tag_leads_to_goes(scene).await.unwrap();
    let left = scene.place.inventory().unwrap();
    assert!(left.0.contains_key(&revision) && left.0.contains_key(&blob_key(&artifact.digest)));
}

async fn only_what_no_tag_leads_to_goes(scene: Scene) -> Result<Scene> {
    let Scene {
        place,
        pushed,
        hardprune,
        ..
    } = &scene;
    let going = union(&pushed.orphans, &pushed.untagged);
    let (found, checked) = candidates(hardprune, place, &[UNTAGGED])?;
    ensure!(found == going, "{found:?} instead of {going:?}");

    let before = place.inventory()?;
    let live_before = place.live()?;
    let stale = stale_history(&before, &live_before.live_manifests);
    let moved = |key: &String| key.contains("/team/moving/_manifests/tags/latest/index/");
    ensure!(stale.iter().any(moved), "no tag has moved on: {stale:?}");
    let deleted = report(hardprune, place, 0, "delete", &[UNTAGGED])?;
    let difference = before.until(&place.inventory()?);

    let mut expected = blob_keys(going.keys());
    expected.extend(layer_links_to(&before, &going));
    let revisions = pushed.untagged_manifests.iter();
    expected.extend(revisions.map(|(repository, digest)| revision_link_key(repository, digest)));
    expected.extend(stale.iter().cloned());
    let removed = only_removed(&difference)?;
    ensure!(removed == expected, "{removed:?} instead of {expected:?}");

    ensure_adds_up(&deleted)?;
    ensure!(number(&deleted, "bytes.freed")? == difference.freed_blob_bytes());
    ensure!(number(&deleted, "blobs.deleted")? == going.len() as u64);
    ensure!(number(&deleted, "links.revision")? == pushed.untagged_manifests.len() as u64);
    ensure!(number(&deleted, "links.tag")? == stale.len() as u64);
    ensure!(number(&deleted, "garbage.tag_history")? == stale.len() as u64);
    ensure!(
        deleted["links"] == checked["links"],
        "{} after {}",
        deleted["links"],
        checked["links"]
    );
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
    for (repository, digest) in &pushed.untagged_manifests {
        gone.manifest_is_gone(repository, digest).await?;
    }
    let (left, again) = candidates(hardprune, place, &[UNTAGGED])?;
    ensure!(
        left.is_empty() && again["links"] == serde_json::json!({"layer": 0, "revision": 0, "tag": 0}),
        "{again}"
    );
    Ok(scene)
}

/// Tag index entries that name what nothing live leads to.
fn stale_history(inventory: &Inventory, live: &BTreeSet<(String, String)>) -> BTreeSet<String> {
    let is_stale = |key: &&String| {
        let path = key
            .strip_prefix(REGISTRY_ROOT)
            .and_then(|key| key.strip_prefix("repositories/"));
        let Some((repository, path)) = path.and_then(|path| path.split_once("/_manifests/tags/")) else {
            return false;
        };
        path.split_once("/index/").is_some_and(|(_, path)| {
            let digest = path.trim_end_matches("/link").replacen('/', ":", 1);
            !live.contains(&(repository.to_owned(), digest))
        })
    };
    inventory.0.keys().filter(is_stale).cloned().collect()
}

/// Pushes an image by its digest alone; returns its blobs with their sizes, the manifest first.
async fn push_without_a_tag(
    registry: &DockerRegistry,
    repository: &str,
) -> Result<(Content, BTreeMap<String, u64>)> {
    let api = Pusher::new(registry);
    let layer = manifests::layer(Family::Oci, &mut Seeded::new(99), 1_500);
    let config = manifests::config(Family::Oci, "untagged", &[&layer]);
    let image = manifests::image(Family::Oci, &config, &[&layer], None);
    for blob in [&layer, &config] {
        api.blob(repository, blob).await?;
    }
    api.manifest(repository, &image.digest, &image).await?;
    let blobs = [&layer, &config, &image].map(|blob| (blob.digest.clone(), blob.size()));
    Ok((image, blobs.into()))
}

#[tokio::test]
async fn a_bucket_with_a_repository_of_revisions_without_tags_is_refused_until_that_is_accepted() {
    let place = Place::s3("").unwrap();
    refused_until_accepted(&place).await.unwrap();
}

#[tokio::test]
async fn a_folder_with_a_repository_that_has_no_tags_folder_is_refused_until_that_is_accepted() {
    let place = Place::folder().unwrap();
    refused_until_accepted(&place).await.unwrap();
}

async fn refused_until_accepted(place: &Place) -> Result<()> {
    let hardprune = place.hardprune()?;
    let registry = DockerRegistry::start(place.registry_config()).await?;
    let (_, blobs) = push_without_a_tag(&registry, "project/app").await?;
    let orphan = place.add_orphan(b"an orphan beside it", None)?;
    place.age_all(THREE_DAYS)?;
    let before = place.inventory()?;
    let argument = place.argument();
    for command in [
        &["check", &argument, UNTAGGED][..],
        &["delete", &argument, UNTAGGED, "--assume-read-only"],
    ] {
        let refused = hardprune.run(command)?;
        ensure!(refused.status == 3, "{refused:?}");
        ensure!(
            refused.stderr.contains("--accept-untagged-repositories"),
            "{refused:?}"
        );
        ensure!(
            before.until(&place.inventory()?).is_empty(),
            "{command:?} removed something"
        );
    }
    // Without --delete-untagged there is nothing to refuse.
    let (found, _) = candidates(&hardprune, place, &[])?;
    ensure!(found.keys().eq([&orphan]), "{found:?}");

    let accepted = [UNTAGGED, "--accept-untagged-repositories"];
    let deleted = report(&hardprune, place, 0, "delete", &accepted)?;
    ensure!(number(&deleted, "blobs.deleted")? == blobs.len() as u64 + 1);
    ensure!(place.inventory()?.0.is_empty(), "left: {:?}", place.inventory()?);
    Ok(())
}

/// In a folder a registry that keeps tags has a `tags` folder even when the last tag is gone: Harbor's has none.
#[tokio::test]
async fn a_repository_with_an_empty_tags_folder_is_not_refused() {
    let place = Place::folder().unwrap();
    let registry = DockerRegistry::start(place.registry_config()).await.unwrap();
    let (image, blobs) = push_without_a_tag(&registry, "project/app").await.unwrap();
    let tags = "docker/registry/v2/repositories/project/app/_manifests/tags";
    fs::create_dir(place.path(tags).unwrap()).unwrap();
    place.age_all(THREE_DAYS).unwrap();
    let hardprune = place.hardprune().unwrap();
    let (found, _) = candidates(&hardprune, &place, &[UNTAGGED]).unwrap();
    assert_eq!(found, blobs);
    report(&hardprune, &place, 0, "delete", &[UNTAGGED]).unwrap();
    let gone = Puller::new(&registry);
    gone.manifest_is_gone("project/app", &image.digest).await.unwrap();
}

/// A push pushes children before their index: young revisions stay, whatever names them.
#[tokio::test]
async fn a_young_revision_stays_with_all_that_it_needs_and_so_does_what_a_tag_named_lately() {
    let scene = Scene::on_s3().await.unwrap();
    let Scene {
        registry,
        place,
        pushed,
        hardprune,
    } = &scene;
    let (image, blobs) = push_without_a_tag(registry, "team/app").await.unwrap();
    place.age_all(THREE_DAYS).unwrap();
    let going = union(&union(&pushed.orphans, &pushed.untagged), &blobs);
    let (found, _) = candidates(hardprune, place, &[UNTAGGED]).unwrap();
    assert_eq!(found, going);

    // Only the link is young: its blobs were there before, as after a push that reuses them.
    let young = std::time::Duration::from_secs(60);
    place
        .age(&revision_link_key("team/app", &image.digest), young)
        .unwrap();
    let (found, _) = candidates(hardprune, place, &[UNTAGGED]).unwrap();
    assert_eq!(found, union(&pushed.orphans, &pushed.untagged));

    // The tag `team/moving:latest` moved on only just now.
    let moved = history_of_moved_tag(&scene).unwrap();
    place
        .age(&tag_index_key("team/moving", "latest", &moved), young)
        .unwrap();
    let (found, _) = candidates(hardprune, place, &[UNTAGGED]).unwrap();
    assert!(!found.contains_key(&moved), "{moved} was tagged a minute ago");
}

fn history_of_moved_tag(scene: &Scene) -> Result<String> {
    let manifests = scene.pushed.untagged_manifests.iter();
    let mut moved = manifests.filter(|(repository, _)| repository == "team/moving");
    let (_, digest) = moved.next().context("no tag moved on")?;
    Ok(digest.clone())
}
