//! Between two epochs the registry takes pushes: what they need stays (R11).

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::checker::{Roots, check_storage};
use hardprune_tests::content::Seeded;
use hardprune_tests::generate::Shape;
use hardprune_tests::manifests::{self, Content, Family};
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{KILLED, Scene, number};
use hardprune_tests::storage_writer::{
    blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};

const REPOSITORY: &str = "pushed/meanwhile";

fn shape() -> Shape {
    Shape::small(16)
}

fn kill(scene: &Scene, failpoint: &str) -> Result<()> {
    let failpoints = format!("{failpoint}=8*off->return");
    // One request at a time: those of a dead run that are still under way would delete after this has looked.
    let killed = scene.run_with(&failpoints, &scene.delete(&["--concurrency", "1"]))?;
    ensure!(killed.status == KILLED, "{killed:?}");
    Ok(())
}

/// The bytes of an orphan, which a push of the same layer would bring again.
fn orphan(scene: &Scene, is_there: bool) -> Result<Content> {
    let inventory = scene.inventory()?;
    let digest = scene
        .truth
        .orphans
        .keys()
        .find(|digest| inventory.0.contains_key(&blob_key(digest)) == is_there)
        .context("no orphan is as wanted")?;
    let bytes = scene.storage().get(&blob_key(digest))?.unwrap_or_default();
    let media_type = manifests::layer(Family::Docker, &mut Seeded::new(0), 1).media_type;
    Ok(Content {
        media_type,
        digest: digest.clone(),
        bytes,
    })
}

/// Pushes an image past the registry: a blob that is there already is not written again, so it stays old.
fn push(scene: &Scene, layers: &[&Content]) -> Result<()> {
    let now = SystemTime::now();
    let storage = scene.storage();
    let config = manifests::config(Family::Docker, "pushed", layers);
    let image = manifests::image(Family::Docker, &config, layers, None);
    for blob in layers.iter().copied().chain([&config, &image]) {
        if storage.get(&blob_key(&blob.digest))?.is_none() {
            storage.put(&blob_key(&blob.digest), &blob.bytes, now)?;
        }
    }
    let mut links = vec![
        (revision_link_key(REPOSITORY, &image.digest), &image),
        (tag_index_key(REPOSITORY, "new", &image.digest), &image),
        (tag_link_key(REPOSITORY, "new"), &image),
    ];
    for blob in layers.iter().copied().chain([&config]) {
        links.push((layer_link_key(REPOSITORY, &blob.digest), blob));
    }
    for (key, content) in links {
        storage.put(&key, content.digest.as_bytes(), now)?;
    }
    Ok(())
}

fn pushed_between(scene: &Scene, failpoint: &str) -> Result<()> {
    kill(scene, failpoint)?;
    let used = orphan(scene, true)?;
    push(scene, &[&used])?;
    if let Ok(server) = scene.server() {
        server.advance_clock(Duration::from_secs(81));
    }
    let report = scene.report(0, &scene.resume())?;
    scene.check_intact()?;
    scene.check_accounts(&report)?;
    let wanted = scene.orphans().len() as u64 - 1;
    ensure!(number(&report, "/blobs/deleted")? == wanted, "{report}");
    let live = check_storage(scene.storage(), Roots::Tags)?.live_blobs;
    ensure!(live.contains_key(&used.digest), "{} went", used.digest);
    Ok(())
}

#[test]
fn an_orphan_that_a_push_needs_between_two_epochs_stays() {
    for failpoint in ["journal-after-start", "delete-after-request", "journal-after-end"] {
        pushed_between(&Scene::on_folder(&shape()).unwrap(), failpoint).unwrap();
    }
    let on_s3 = Scene::on_s3(&shape(), S3Options::default()).unwrap();
    pushed_between(&on_s3, "journal-after-start").unwrap();
}

/// Only the layer link of the push is there yet: it is young, and holds the old blob.
#[test]
fn an_orphan_that_a_push_has_linked_between_two_epochs_stays() {
    let scene = Scene::on_folder(&shape()).unwrap();
    kill(&scene, "journal-before-start").unwrap();
    let used = orphan(&scene, true).unwrap();
    let key = layer_link_key(REPOSITORY, &used.digest);
    scene
        .storage()
        .put(&key, used.digest.as_bytes(), SystemTime::now())
        .unwrap();
    let report = scene.report(0, &scene.resume()).unwrap();
    scene.check_accounts(&report).unwrap();
    let inventory = scene.inventory().unwrap().0;
    assert!(inventory.contains_key(&key) && inventory.contains_key(&blob_key(&used.digest)));
    assert_eq!(
        number(&report, "/blobs/deleted").unwrap(),
        scene.orphans().len() as u64 - 1
    );
}

/// What the first epoch deleted is pushed again before the second.
#[test]
fn a_blob_that_was_deleted_and_is_pushed_again_stays() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let bytes: Vec<_> = scene
        .truth
        .orphans
        .keys()
        .map(|digest| scene.storage().get(&blob_key(digest)).unwrap().unwrap())
        .collect();
    kill(&scene, "delete-after-request").unwrap();
    let mut again = orphan(&scene, false).unwrap();
    let place = scene
        .truth
        .orphans
        .keys()
        .position(|digest| *digest == again.digest)
        .unwrap();
    again.bytes.clone_from(&bytes[place]);
    push(&scene, &[&again]).unwrap();
    let report = scene.report(0, &scene.resume()).unwrap();
    scene.check_intact().unwrap();
    let live = check_storage(scene.storage(), Roots::Tags).unwrap().live_blobs;
    assert!(live.contains_key(&again.digest), "{report}");
    assert_eq!(number(&scene.check(&[]).unwrap(), "/blobs/orphaned").unwrap(), 0);
}
