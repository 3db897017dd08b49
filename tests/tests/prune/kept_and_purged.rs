//! What age protects, and what only an option of its own removes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::checker::Roots;
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::pull::{Puller, pull_everything};
use hardprune_tests::storage_writer::{
    Storage, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};
use hardprune_tests::truth::Tag;

use crate::scene::{
    HOUR, Place, Scene, THREE_DAYS, blob_keys, candidates, ensure_adds_up, layer_links_to, number,
    only_removed, report,
};

#[tokio::test]
async fn in_a_folder_young_blobs_stay_and_so_does_what_a_young_layer_link_names() {
    young_things_stay(&Scene::in_folder().await.unwrap()).unwrap();
}

#[tokio::test]
async fn on_s3_young_blobs_stay_and_so_does_what_a_young_layer_link_names() {
    young_things_stay(&Scene::on_s3().await.unwrap()).unwrap();
}

fn young_things_stay(scene: &Scene) -> Result<()> {
    let Scene {
        place,
        pushed,
        hardprune,
        ..
    } = scene;
    let (found, _) = candidates(hardprune, place, &[])?;
    ensure!(found == pushed.orphans);

    let young_blob = place.add_orphan(b"pushed an hour ago", None)?;
    place.age(&blob_key(&young_blob), HOUR)?;
    // Its blob is as old as ever: a push that finds the data there only writes the link.
    let (repository, linked) = pushed.dangling_links.first().context("no link dangles")?;
    place.age(&layer_link_key(repository, linked), HOUR)?;

    let mut old = pushed.orphans.clone();
    old.remove(linked);
    let (found, checked) = candidates(hardprune, place, &[])?;
    ensure!(found == old, "{found:?} instead of {old:?}");
    ensure_adds_up(&checked)?;
    ensure!(number(&checked, "blobs.young")? == 1);
    ensure!(number(&checked, "bytes.young")? == "pushed an hour ago".len() as u64);

    let mut all = pushed.orphans.clone();
    all.insert(young_blob.clone(), "pushed an hour ago".len() as u64);
    let (found, checked) = candidates(hardprune, place, &["--keep-younger-than", "30m"])?;
    ensure!(found == all, "{found:?} instead of {all:?}");
    ensure!(number(&checked, "blobs.young")? == 0);
    let (found, _) = candidates(hardprune, place, &["--keep-younger-than", "100h"])?;
    ensure!(found.is_empty(), "{found:?} are younger than 100 hours");

    report(hardprune, place, 0, "delete", &[])?;
    let left = place.inventory()?;
    for key in [
        blob_key(&young_blob),
        blob_key(linked),
        layer_link_key(repository, linked),
    ] {
        ensure!(left.0.contains_key(&key), "{key} is gone");
    }
    Ok(())
}

#[tokio::test]
async fn in_a_folder_abandoned_uploads_go_whole_and_only_when_asked_for() {
    let scene = Scene::in_folder().await.unwrap();
    let folders = abandoned_uploads_go(&scene).unwrap();
    for folder in folders {
        assert!(!scene.place.path(&folder).unwrap().exists(), "{folder} is left");
    }
}

#[tokio::test]
async fn on_s3_abandoned_uploads_go_whole_and_only_when_asked_for() {
    abandoned_uploads_go(&Scene::on_s3().await.unwrap()).unwrap();
}

/// Returns the folders of the uploads that went.
fn abandoned_uploads_go(scene: &Scene) -> Result<Vec<String>> {
    let Scene {
        place,
        pushed,
        hardprune,
        ..
    } = scene;
    let uploads = files_of_uploads(scene)?;
    let folder_of = |(repository, id): &(String, String)| {
        format!("docker/registry/v2/repositories/{repository}/_uploads/{id}")
    };
    // One of them goes on: one of its files is young.
    let going_on = folder_of(&pushed.uploads[0]);
    let touched = uploads
        .keys()
        .find(|key| key.starts_with(&going_on))
        .context("no upload was left")?;
    place.age(touched, HOUR)?;
    let purged: BTreeMap<&String, u64> = uploads
        .iter()
        .filter(|(key, _)| !key.starts_with(&going_on))
        .map(|(key, size)| (key, *size))
        .collect();
    ensure!(purged.len() >= 3 && purged.len() < uploads.len(), "{uploads:?}");

    let (_, checked) = candidates(hardprune, place, &[])?;
    ensure!(number(&checked, "bytes.uploads")? == 0);
    report(hardprune, place, 0, "delete", &[])?;
    ensure!(files_of_uploads(scene)? == uploads, "uploads went unasked");

    let purge = ["--purge-uploads-older-than", "48h"];
    let (_, checked) = candidates(hardprune, place, &purge)?;
    ensure!(
        number(&checked, "bytes.uploads")? == purged.values().sum::<u64>(),
        "{checked}"
    );
    let figures = [
        "garbage.uploads.found",
        "garbage.uploads.files",
        "garbage.uploads.bytes",
    ];
    let expected = [
        pushed.uploads.len() as u64 - 1,
        purged.len() as u64,
        purged.values().sum::<u64>(),
    ];
    for (figure, expected) in figures.iter().zip(expected) {
        ensure!(number(&checked, figure)? == expected, "{figure}: {checked:#}");
    }
    let before = place.inventory()?;
    let deleted = report(hardprune, place, 0, "delete", &purge)?;
    for (figure, expected) in figures.iter().zip(expected) {
        ensure!(number(&deleted, figure)? == expected, "{figure}: {deleted:#}");
    }
    let removed = only_removed(&before.until(&place.inventory()?))?;
    ensure!(
        removed.iter().eq(purged.keys().copied()),
        "{removed:?} instead of {purged:?}"
    );
    ensure!(
        number(&deleted, "bytes.uploads")? == purged.values().sum::<u64>(),
        "{deleted}"
    );
    ensure!(
        number(&deleted, "bytes.freed")? == 0,
        "uploads are no blobs: {deleted}"
    );
    Ok(pushed.uploads[1..].iter().map(folder_of).collect())
}

fn files_of_uploads(scene: &Scene) -> Result<BTreeMap<String, u64>> {
    let mut files = scene.place.inventory()?.0;
    files.retain(|key, _| key.contains("/_uploads/"));
    Ok(files)
}

#[tokio::test]
async fn in_a_folder_repositories_of_which_nothing_is_left_go_with_their_folders() {
    let scene = Scene::in_folder().await.unwrap();
    let scene = empty_repositories_go(scene).await.unwrap();
    for folder in ["broken/push", "broken"] {
        let path = format!("docker/registry/v2/repositories/{folder}");
        assert!(!scene.place.path(&path).unwrap().exists(), "{path} is left");
    }
}

#[tokio::test]
async fn on_s3_repositories_of_which_nothing_is_left_go() {
    let scene = Scene::on_s3().await.unwrap();
    empty_repositories_go(scene).await.unwrap();
}

async fn empty_repositories_go(scene: Scene) -> Result<Scene> {
    let Scene {
        place,
        pushed,
        hardprune,
        ..
    } = &scene;
    let repository = "/repositories/broken/push/";
    let of_broken = |key: &&String| key.contains(repository);
    // While an upload is there it is not empty.
    let (_, checked) = candidates(hardprune, place, &["--delete-empty-repositories"])?;
    let before = place.inventory()?;
    let uploads = before
        .0
        .keys()
        .filter(of_broken)
        .filter(|key| key.contains("/_uploads/"))
        .count();
    ensure!(uploads > 0 && number(&checked, "links.layer")? == pushed.dangling_links.len() as u64);

    let options = ["--delete-empty-repositories", "--purge-uploads-older-than", "48h"];
    let live = place.live()?;
    let deleted = report(hardprune, place, 0, "delete", &options)?;
    let difference = before.until(&place.inventory()?);
    let removed = only_removed(&difference)?;
    let mut expected = blob_keys(pushed.orphans.keys());
    expected.extend(layer_links_to(&before, &pushed.orphans));
    expected.extend(before.0.keys().filter(|key| key.contains("/_uploads/")).cloned());
    ensure!(removed == expected, "{removed:?} instead of {expected:?}");
    ensure!(!place.inventory()?.0.keys().any(|key| key.contains(repository)));
    ensure!(number(&deleted, "links.layer")? == pushed.dangling_links.len() as u64);
    ensure!(
        number(&checked, "garbage.empty_repositories")? == 0,
        "{checked:#}"
    );
    ensure!(
        number(&deleted, "garbage.empty_repositories")? == 1,
        "{deleted:#}"
    );
    ensure!(number(&deleted, "bytes.freed")? == difference.freed_blob_bytes());
    ensure!(place.live()?.live_blobs == live.live_blobs);
    let scene = scene.restarted().await?;
    pull_everything(&scene.registry, &scene.pushed.tags).await?;
    Ok(scene)
}

/// A repository whose last manifest went has links to blobs that others still need: only the links go.
#[test]
fn the_links_of_an_empty_repository_go_and_blobs_that_others_need_stay() {
    let place = Place::folder().unwrap();
    let truth = generate(&Shape::small(11), &place).unwrap();
    let live = truth.live.keys().next().unwrap();
    let link = layer_link_key("gone/app", live);
    let old = SystemTime::now() - THREE_DAYS;
    place.put(&link, live.as_bytes(), old).unwrap();
    let hardprune = place.hardprune().unwrap();
    let before = place.inventory().unwrap();
    report(&hardprune, &place, 0, "delete", &[]).unwrap();
    assert!(
        place.get(&link).unwrap().is_some(),
        "a link to a live blob dangles not"
    );
    report(&hardprune, &place, 0, "delete", &["--delete-empty-repositories"]).unwrap();
    let difference = before.until(&place.inventory().unwrap());
    assert_eq!(difference.removed_blobs(), truth.orphans);
    assert!(difference.removed.contains_key(&link));
    assert!(
        !place
            .path("docker/registry/v2/repositories/gone")
            .unwrap()
            .exists()
    );
    assert!(place.checked(Roots::Revisions).unwrap().violations.is_empty());
}

/// A tag that was moved twice: what it meant once goes by an age of its own, what it means now never does.
#[test]
fn in_a_folder_stale_entries_of_tags_histories_go_by_their_age() {
    stale_history_goes(&Place::folder().unwrap()).unwrap();
}

#[test]
fn on_s3_stale_entries_of_tags_histories_go_by_their_age() {
    stale_history_goes(&Place::s3("").unwrap()).unwrap();
}

fn stale_history_goes(place: &Place) -> Result<()> {
    let truth = generate(&Shape::small(12), place)?;
    let hardprune = place.hardprune()?;
    let before = place.inventory()?;
    let mut images = before.0.keys().filter_map(|key| {
        let (repository, rest) = key
            .strip_prefix("docker/registry/v2/repositories/")?
            .split_once("/_manifests/revisions/sha256/")?;
        Some((repository, format!("sha256:{}", rest.strip_suffix("/link")?)))
    });
    let (repository, now) = images.next().context("there is no image")?;
    let others: Vec<_> = images.filter(|(name, _)| *name == repository).take(2).collect();
    let [(_, older), (_, oldest)] = others.as_slice() else {
        anyhow::bail!("{repository} has too few images");
    };
    let day = HOUR * 24;
    let entry = |tag: &str, digest: &str| tag_index_key(repository, tag, digest);
    for (key, digest, age) in [
        (tag_link_key(repository, "moved"), &now, day * 9),
        (entry("moved", &now), &now, day * 9),
        (entry("moved", older), older, day * 5),
        (entry("moved", oldest), oldest, day * 20),
        // Nobody can say what it means: all of its history stays.
        (
            tag_link_key(repository, "unclear"),
            &"sha256:0".to_owned(),
            day * 9,
        ),
        (entry("unclear", older), older, day * 20),
        (entry("unclear", oldest), oldest, day * 20),
    ] {
        place.put(&key, digest.as_bytes(), SystemTime::now() - age)?;
    }
    let (_, checked) = candidates(&hardprune, place, &[])?;
    ensure!(
        number(&checked, "garbage.stale_tag_history.links")? == 0,
        "{checked}"
    );
    let before = place.inventory()?;
    let live = place.live()?;

    for (age, gone) in [
        ("168h", vec![entry("moved", oldest)]),
        ("96h", vec![entry("moved", older)]),
    ] {
        let options = ["--purge-tag-history-older-than", age];
        let checked = candidates(&hardprune, place, &options)?.1;
        let deleted = report(&hardprune, place, 0, "delete", &options)?;
        for report in [checked, deleted] {
            ensure!(
                number(&report, "garbage.stale_tag_history.links")? == 1,
                "{report:#}"
            );
            ensure!(
                number(&report, "garbage.stale_tag_history.bytes")? == 71,
                "{report:#}"
            );
            ensure!(number(&report, "garbage.tag_history")? == 1, "{report:#}");
        }
        let left = place.inventory()?;
        for key in gone {
            ensure!(!left.0.contains_key(&key), "{key} is left");
        }
    }
    let difference = before.until(&place.inventory()?);
    ensure!(difference.removed_blobs() == truth.orphans);
    let links = difference.removed.keys().filter(|key| key.contains("/tags/"));
    ensure!(links.count() == 2, "{:?}", difference.removed);
    ensure!(place.live()?.live_blobs == live.live_blobs);
    Ok(())
}

/// The age of an empty repository is that of its youngest link.
#[test]
fn empty_repositories_have_an_age_of_their_own() {
    let place = Place::folder().unwrap();
    let truth = generate(&Shape::small(13), &place).unwrap();
    let live = truth.live.keys().next().unwrap();
    let link = |days: u32| {
        (
            layer_link_key(&format!("gone/for-{days}"), live),
            HOUR * 24 * days,
        )
    };
    for (key, age) in [link(3), link(30)] {
        place.put(&key, live.as_bytes(), SystemTime::now() - age).unwrap();
    }
    // A tag's history is a part of it.
    let (entry, age) = (tag_index_key("gone/for-30", "once", live), HOUR * 24 * 30);
    place
        .put(&entry, live.as_bytes(), SystemTime::now() - age)
        .unwrap();
    let hardprune = place.hardprune().unwrap();
    let options = [
        "--delete-empty-repositories",
        "--empty-repositories-older-than",
        "168h",
    ];
    let checked = candidates(&hardprune, &place, &options).unwrap().1;
    let before = place.inventory().unwrap();
    let deleted = report(&hardprune, &place, 0, "delete", &options).unwrap();
    for report in [checked, deleted] {
        let figure = |name: &str| number(&report, &format!("garbage.{name}")).unwrap();
        assert_eq!(figure("empty_repositories"), 1, "{report:#}");
        assert_eq!(figure("empty_repositories_links.links"), 2, "{report:#}");
        assert_eq!(figure("empty_repositories_links.bytes"), 142, "{report:#}");
        assert_eq!(figure("stale_tag_history.links"), 0, "{report:#}");
    }
    let difference = before.until(&place.inventory().unwrap());
    let gone: Vec<_> = difference
        .removed
        .keys()
        .filter(|key| key.contains("/gone/"))
        .collect();
    assert_eq!(gone, [&link(30).0, &entry]);
    assert!(
        !place
            .path("docker/registry/v2/repositories/gone/for-30")
            .unwrap()
            .exists()
    );
}

/// One manifest's blob is lost: its repository is frozen, until `--prune-broken` takes the manifest for dead.
#[tokio::test]
async fn in_a_folder_a_missing_manifest_freezes_its_repository_until_it_is_pruned() {
    missing_manifest(Scene::in_folder().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn on_s3_a_missing_manifest_freezes_its_repository_until_it_is_pruned() {
    missing_manifest(Scene::on_s3().await.unwrap()).await.unwrap();
}

async fn missing_manifest(scene: Scene) -> Result<()> {
    let Scene {
        place,
        pushed,
        hardprune,
        ..
    } = &scene;
    let name = "team/app";
    let is_lost = |tag: &Tag| tag.repository == name && tag.tag == "v2-oci";
    let lost = &pushed
        .tags
        .iter()
        .find(|tag| is_lost(tag))
        .context("it was not pushed")?
        .digest;
    let others: Vec<Tag> = pushed.tags.iter().filter(|tag| !is_lost(tag)).cloned().collect();
    let intact = place.live()?;
    place.remove(&blob_key(lost))?;
    let broken = place.live()?;
    // What only the lost manifest named is an orphan in truth.
    let mut freed: BTreeMap<String, u64> = intact.live_blobs.clone();
    freed.retain(|digest, _| !broken.live_blobs.contains_key(digest) && digest != lost);
    ensure!(freed.len() == 2, "its own layer and its config: {freed:?}");

    let before = place.inventory()?;
    let linked_here = |digest: &String| before.0.contains_key(&layer_link_key(name, digest));
    let mut outside = pushed.orphans.clone();
    outside.retain(|digest, _| !linked_here(digest));
    ensure!(outside.len() < pushed.orphans.len());
    let (found, checked) = candidates(hardprune, place, &[])?;
    ensure!(found == outside, "{found:?} instead of {outside:?}");
    ensure!(number(&checked, "frozen_repositories")? == 1 && number(&checked, "manifests.missing")? == 1);
    ensure!(
        checked["problems"]["by_kind"]["manifest_missing"] == 1,
        "{checked}"
    );
    let first = &checked["problems"]["first"][0];
    ensure!(
        first["repository"] == name && first["digest"] == lost.as_str(),
        "{first}"
    );
    // What is not asked for changes nothing: freezing comes before removing untagged manifests.
    let (found, _) = candidates(hardprune, place, &["--delete-untagged"])?;
    ensure!(found.keys().all(|digest| !linked_here(digest)), "{found:?}");

    let deleted = report(hardprune, place, 0, "delete", &["--prune-broken"])?;
    let removed = only_removed(&before.until(&place.inventory()?))?;
    freed.extend(pushed.orphans.clone());
    let mut expected: BTreeSet<String> = blob_keys(freed.keys());
    expected.extend(layer_links_to(&before, &freed));
    expected.extend([revision_link_key(name, lost), tag_index_key(name, "v2-oci", lost)]);
    ensure!(removed == expected, "{removed:?} instead of {expected:?}");
    ensure!(number(&deleted, "frozen_repositories")? == 0, "{deleted}");
    ensure!(number(&deleted, "bytes.freed")? == freed.values().sum::<u64>());

    let lost = lost.clone();
    let scene = scene.restarted().await?;
    pull_everything(&scene.registry, &others).await?;
    Puller::new(&scene.registry).manifest_is_gone(name, &lost).await?;
    Ok(())
}

/// A manifest whose blob is missing may still arrive, as in a replication under way: a young link is no dead one.
#[tokio::test]
async fn a_young_revision_whose_manifest_is_missing_freezes_its_repository_even_when_broken_ones_are_pruned()
{
    let scene = Scene::in_folder().await.unwrap();
    let Scene {
        place,
        pushed,
        hardprune,
        ..
    } = &scene;
    let tag = &pushed.tags[0];
    place.remove(&blob_key(&tag.digest)).unwrap();
    place
        .age(
            &revision_link_key(&tag.repository, &tag.digest),
            Duration::from_secs(60),
        )
        .unwrap();
    let checked = report(hardprune, place, 0, "check", &["--prune-broken"]).unwrap();
    assert_eq!(number(&checked, "frozen_repositories").unwrap(), 1);
    assert_eq!(number(&checked, "links.revision").unwrap(), 0);
}
