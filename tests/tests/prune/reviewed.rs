//! `delete --plan RUN`: exactly what both a reviewed check and a fresh look name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use hardprune_coordinator::human;
use hardprune_tests::content::Seeded;
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::manifests::{self, Family};
use hardprune_tests::program::Finished;
use hardprune_tests::pull::{Puller, pull_everything};
use hardprune_tests::push::Pusher;
use hardprune_tests::scene::KILLED;
use hardprune_tests::storage_writer::{Storage, blob_key, layer_link_key, revision_link_key};
use hardprune_tests::truth::Tag;
use serde_json::Value;

use crate::scene::{Place, Scene, THREE_DAYS, ensure_adds_up, number, only_removed, report};

fn run_of(report: &Value) -> Result<&str> {
    report["run"].as_str().context("a report names its run")
}

#[tokio::test]
async fn in_a_folder_only_what_the_reviewed_check_and_a_fresh_one_name_goes() {
    only_the_intersection_goes(Scene::in_folder().await.unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn on_s3_only_what_the_reviewed_check_and_a_fresh_one_name_goes() {
    only_the_intersection_goes(Scene::on_s3().await.unwrap())
        .await
        .unwrap();
}

async fn only_the_intersection_goes(scene: Scene) -> Result<()> {
    let Scene {
        registry,
        place,
        pushed,
        hardprune,
    } = &scene;
    let checked = report(hardprune, place, 0, "check", &["--delete-untagged"])?;
    let before = place.inventory()?;
    let api = Pusher::new(registry);

    // A reviewed orphan is needed again, by an image that is tagged now.
    let (name, reused) = pushed.dangling_links.first().context("no link dangles")?;
    let bytes = place.get(&blob_key(reused))?.context("an orphan is gone")?;
    let mut layer = manifests::layer(Family::Oci, &mut Seeded::new(1), 1);
    (layer.bytes, layer.digest) = (bytes, reused.clone());
    let config = manifests::config(Family::Oci, "again", &[&layer]);
    let image = manifests::image(Family::Oci, &config, &[&layer], None);
    api.blob(name, &layer).await?;
    api.blob(name, &config).await?;
    api.manifest(name, "again", &image).await?;
    // A reviewed untagged manifest has a tag again.
    let kept = pushed
        .untagged_manifests
        .iter()
        .find(|(repository, _)| repository == "team/moving");
    let kept = &kept.context("no tag moved on")?.1;
    let bytes = place.get(&blob_key(kept))?.context("a manifest is gone")?;
    let content = manifests::Content::new(manifests::DOCKER_MANIFEST, bytes);
    api.manifest("team/moving", "back", &content).await?;
    // Nobody has reviewed these: an orphan with its link, and an untagged image.
    let unseen = place.add_orphan(b"came after the review", Some("team/app"))?;
    let late = manifests::image(Family::Oci, &config, &[&layer], Some(&image));
    let late = manifests::image(Family::Oci, &config, &[&layer, &layer], Some(&late));
    api.manifest(name, &late.digest, &late).await?;
    // It is not their age that protects any of them.
    place.age_all(THREE_DAYS)?;

    let current = place.inventory()?;
    let live = place.live()?;
    let options = ["--delete-untagged", "--plan", run_of(&checked)?];
    let deleted = report(hardprune, place, 0, "delete", &options)?;
    let difference = current.until(&place.inventory()?);
    let removed = only_removed(&difference)?;
    ensure!(
        removed.iter().all(|key| before.0.contains_key(key)),
        "not reviewed: {removed:?}"
    );
    let mut expected: BTreeMap<String, u64> = pushed.orphans.clone();
    expected.extend(pushed.untagged.clone());
    expected.retain(|digest, _| !live.live_blobs.contains_key(digest));
    ensure!(
        difference.removed_blobs() == expected,
        "{removed:?} instead of {expected:?}"
    );
    let revisions: BTreeSet<_> = removed
        .iter()
        .filter(|key| key.contains("/revisions/"))
        .cloned()
        .collect();
    let dead = pushed
        .untagged_manifests
        .iter()
        .filter(|(_, digest)| digest != kept);
    let dead: BTreeSet<_> = dead
        .map(|(repository, digest)| revision_link_key(repository, digest))
        .collect();
    ensure!(revisions == dead, "{revisions:?} instead of {dead:?}");

    ensure_adds_up(&deleted)?;
    ensure!(number(&deleted, "blobs.deleted")? == expected.len() as u64);
    ensure!(number(&deleted, "bytes.freed")? == expected.values().sum::<u64>());
    ensure!(
        number(&deleted, "blobs.not_attempted")? == 1,
        "the orphan that nobody reviewed: {deleted}"
    );
    ensure!(deleted["options"]["plan"] == checked["run"]);
    for key in [
        blob_key(&unseen),
        layer_link_key("team/app", &unseen),
        blob_key(&late.digest),
        revision_link_key(name, &late.digest),
    ] {
        ensure!(place.get(&key)?.is_some(), "{key} was not reviewed and is gone");
    }
    let after = place.live()?;
    ensure!(after.violations.is_empty(), "{:?}", after.violations);
    ensure!(after.live_blobs == live.live_blobs && after.live_manifests == live.live_manifests);

    let (name, reused, digest) = (name.clone(), reused.clone(), image.digest.clone());
    let scene = scene.restarted().await?;
    pull_everything(&scene.registry, &scene.pushed.tags).await?;
    let mut puller = Puller::new(&scene.registry);
    puller
        .tag(&Tag {
            repository: name.clone(),
            tag: "again".into(),
            digest,
        })
        .await?;
    ensure!(puller.blobs.contains_key(&(name, reused)));
    Ok(())
}

#[test]
fn an_unchanged_registry_loses_exactly_what_was_reviewed() {
    let place = Place::s3("").unwrap();
    let truth = generate(&Shape::small(21), &place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let file = hardprune.home().join("reviewed.jsonl");
    let name = file.display().to_string();
    let checked = report(
        &hardprune,
        &place,
        0,
        "check",
        &["--delete-untagged", "--removals", &name],
    )
    .unwrap();
    let reviewed: BTreeSet<String> = crate::scene::json_lines(&file)
        .unwrap()
        .iter()
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect();
    let before = place.inventory().unwrap();
    let options = ["--delete-untagged", "--plan", run_of(&checked).unwrap()];
    let deleted = report(&hardprune, &place, 0, "delete", &options).unwrap();
    let difference = before.until(&place.inventory().unwrap());
    assert_eq!(only_removed(&difference).unwrap(), reviewed);
    assert_eq!(deleted["links"], checked["links"]);
    assert_eq!(deleted["bytes"]["freed"], checked["bytes"]["orphaned"]);
    assert_eq!(
        number(&deleted, "bytes.freed").unwrap(),
        truth.orphan_bytes() + truth.untagged.values().sum::<u64>()
    );
    assert_eq!(number(&deleted, "blobs.not_attempted").unwrap(), 0);

    // Carried out again, it finds nothing of it left.
    let again = report(&hardprune, &place, 0, "delete", &options).unwrap();
    assert_eq!(number(&again, "blobs.deleted").unwrap(), 0);
}

/// The plan says what may go at most; without `--delete-untagged` the untagged manifests in it do not.
#[test]
fn a_plan_does_not_bring_its_options_along() {
    let place = Place::folder().unwrap();
    let truth = generate(&Shape::small(22), &place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let checked = report(&hardprune, &place, 0, "check", &["--delete-untagged"]).unwrap();
    let before = place.inventory().unwrap();
    report(
        &hardprune,
        &place,
        0,
        "delete",
        &["--plan", run_of(&checked).unwrap()],
    )
    .unwrap();
    let difference = before.until(&place.inventory().unwrap());
    assert_eq!(difference.removed_blobs(), truth.orphans);
    assert!(!difference.removed.keys().any(|key| key.contains("/_manifests/")));
}

#[test]
fn plans_of_other_registries_and_of_no_run_are_refused() {
    let (one, other) = (Place::folder().unwrap(), Place::folder().unwrap());
    for place in [&one, &other] {
        place.add_orphan(b"the same in both", Some("app")).unwrap();
    }
    let hardprune = one.hardprune().unwrap();
    let checked = report(&hardprune, &one, 0, "check", &[]).unwrap();
    let before = other.inventory().unwrap();
    for run in [run_of(&checked).unwrap(), "01ARZ3NDEKTSV4RRFFQ69G5FAV", "no-run"] {
        let argument = other.argument();
        let refused = hardprune
            .run(&["delete", &argument, "--assume-read-only", "--plan", run])
            .unwrap();
        assert_eq!(refused.status, 2, "{refused:?}");
        assert!(refused.stderr.contains(run), "{refused:?}");
        assert!(before.until(&other.inventory().unwrap()).is_empty());
    }
    report(
        &hardprune,
        &one,
        0,
        "delete",
        &["--plan", run_of(&checked).unwrap()],
    )
    .unwrap();
    assert!(one.inventory().unwrap().0.is_empty());
}

/// All that the check kept is gone by then: the run has its own copies, and believes none that has changed.
#[test]
fn a_run_that_goes_on_needs_nothing_of_the_check_any_more() {
    let place = Place::folder().unwrap();
    let truth = generate(&Shape::small(23), &place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let checked = report(&hardprune, &place, 0, "check", &[]).unwrap();
    // Nobody has reviewed it.
    let unseen = place.add_orphan(b"came after the review", None).unwrap();

    let argument = place.argument();
    let plan = ["--assume-read-only", "--plan", run_of(&checked).unwrap()];
    let mut command = hardprune.command(&[&["delete", &argument], &plan[..]].concat());
    let killed = command
        .env("FAILPOINTS", "after-dangling=return")
        .output()
        .unwrap();
    assert_eq!(Finished::of(&killed).unwrap().status, KILLED);
    let kept = hardprune.home().join(".local/state/hardprune");
    assert!(kept.is_dir(), "{kept:?}");
    std::fs::remove_dir_all(kept).unwrap();

    let runs = place.path("hardprune/runs").unwrap();
    let run = std::fs::read_dir(runs).unwrap().next().unwrap().unwrap();
    let copy = run.path().join("reviewed/plan.json");
    let bytes = std::fs::read(&copy).unwrap();
    std::fs::write(&copy, [&bytes[..], b"\n"].concat()).unwrap();
    let resume = ["delete", &argument, "--assume-read-only", "--resume", "auto"];
    let refused = hardprune.run(&resume).unwrap();
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.contains("has changed"), "{refused:?}");

    std::fs::write(&copy, bytes).unwrap();
    let resumed = report(&hardprune, &place, 0, "delete", &["--resume", "auto"]).unwrap();
    assert_eq!(number(&resumed, "bytes.freed").unwrap(), truth.orphan_bytes());
    assert_eq!(number(&resumed, "blobs.not_attempted").unwrap(), 1);
    assert!(place.get(&blob_key(&unseen)).unwrap().is_some());
}

/// R7: by kind, and without what nobody has reviewed.
#[test]
fn before_it_deletes_it_says_all_that_goes() {
    let place = Place::folder().unwrap();
    generate(&Shape::small(24), &place).unwrap();
    let old = SystemTime::now() - THREE_DAYS;
    let upload = "docker/registry/v2/repositories/app/_uploads/0b1a5a5e-8b39-4a5b-9a36-0f6f1d1f7a55";
    place.put(&format!("{upload}/data"), &[7; 1500], old).unwrap();
    place
        .put(&format!("{upload}/startedat"), b"2026-01-01T00:00:00Z", old)
        .unwrap();
    let hardprune = place.hardprune().unwrap();
    let options = ["--delete-untagged", "--purge-uploads-older-than", "1h"];
    let checked = report(&hardprune, &place, 0, "check", &options).unwrap();
    place.add_orphan(&[1; 5000], None).unwrap();

    let argument = place.argument();
    let plan = ["--assume-read-only", "--plan", run_of(&checked).unwrap()];
    let arguments = [&["delete", &argument, "--output", "json"], &options[..], &plan].concat();
    let deleted = hardprune.run(&arguments).unwrap();
    assert_eq!(deleted.status, 0, "{deleted:?}");
    let report: Value = serde_json::from_str(&deleted.stdout).unwrap();
    let said = |path: &str| number(&report, path).unwrap();
    assert!(
        said("links.revision") > 0 && said("bytes.uploads") == 1520,
        "{report:#}"
    );
    assert_eq!(said("blobs.not_attempted"), 1);
    let line = format!(
        "will delete {} of {} blobs ({}), {} layer links, {} links of dead manifests, {} tag history entries and 2 files of \
         abandoned uploads (1.484 KiB)",
        said("blobs.deleted"),
        said("blobs.scanned"),
        human::bytes(said("bytes.freed")),
        said("links.layer"),
        said("links.revision"),
        said("links.tag"),
    );
    assert!(
        deleted.stderr.lines().any(|said| said == line),
        "{line}\n{}",
        deleted.stderr
    );
}
