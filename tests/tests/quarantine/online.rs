//! Online mode: what is pushed while blobs move, and needs one of them, has it back; nothing is purged for a day.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::digest_of;
use hardprune_tests::docker_registry::DockerRegistry;
use hardprune_tests::generate::Shape;
use hardprune_tests::pull::Puller;
use hardprune_tests::push::Pusher;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{KILLED, Scene, number, report_of};
use hardprune_tests::steady_clients::{clients, more_than};
use hardprune_tests::storage_writer::{blob_key, layer_link_key, revision_link_key, tag_link_key};

use crate::scene::{copies, has_blob, long_ago, of, quarantined};

fn online(scene: &Scene, names: &[String]) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "delete",
        &names[0],
        "--output",
        "json",
        "--quarantine",
        "--online",
    ]
    .iter()
    .map(|word| (*word).to_owned())
    .collect();
    arguments.extend(["--registry-request-timeout".to_owned(), "1s".to_owned()]);
    if scene.server().is_ok() {
        arguments.extend(["--state".to_owned(), names[1].clone()]);
    }
    arguments
}

/// Pushes an image whose layer is an orphan, as a client does that saw the layer before it moved: only manifest, links and tag.
fn push_image_of(scene: &Scene, orphan: &str) -> Result<String> {
    let config = b"{}".to_vec();
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(&config), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": orphan, "size": scene.truth.orphans[orphan],
        }],
    }))?;
    let repository = "pushed/meanwhile";
    let digest = digest_of(&manifest);
    let now = std::time::SystemTime::now();
    let storage = scene.storage();
    storage.put(&blob_key(&digest_of(&config)), &config, now)?;
    storage.put(&blob_key(&digest), &manifest, now)?;
    for linked in [orphan, &digest_of(&config)] {
        storage.put(&layer_link_key(repository, linked), linked.as_bytes(), now)?;
    }
    storage.put(&revision_link_key(repository, &digest), digest.as_bytes(), now)?;
    storage.put(&tag_link_key(repository, "v1"), digest.as_bytes(), now)?;
    Ok(digest)
}

fn scenes() -> Vec<Scene> {
    let shape = Shape::small(5);
    vec![
        Scene::on_folder(&shape).unwrap(),
        Scene::on_s3(&shape, S3Options::default()).unwrap(),
    ]
}

#[test]
fn what_is_pushed_meanwhile_has_its_blob_back() {
    for scene in scenes() {
        let names = scene.store_names();
        let arguments = online(&scene, &names);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let running = scene.hold_at("before-review", 0, &arguments).unwrap();
        let orphan = scene.truth.orphans.keys().next().unwrap().clone();
        assert!(!has_blob(&scene, &orphan).unwrap(), "it was not moved");
        push_image_of(&scene, &orphan).unwrap();
        running.release().unwrap();
        let report = report_of(&running.finish().unwrap(), 0).unwrap();

        assert!(has_blob(&scene, &orphan).unwrap(), "{report}");
        scene.check_intact().unwrap();
        assert_eq!(report["read_only"], "online");
        assert_eq!(report["quarantine"]["online"]["complete"], true, "{report}");
        assert!(
            number(&report, "/quarantine/online/looks").unwrap() >= 2,
            "{report}"
        );
        assert_eq!(
            number(&report, "/quarantine/put_back/blobs").unwrap(),
            1,
            "{report}"
        );
        let restored = report["quarantine"]["online"]["restored"].as_array().unwrap();
        let blob = restored
            .iter()
            .find(|restored| restored["key"] == blob_key(&orphan).as_str())
            .unwrap();
        assert!(blob["away_seconds"].is_u64(), "{report}");
        // All other orphans stay away.
        let kept = scene.truth.orphans.len() as u64 - 1;
        let blobs: BTreeMap<String, u64> = copies(&scene)
            .unwrap()
            .into_iter()
            .filter(|(key, _)| key.contains("/blobs/"))
            .collect();
        assert_eq!(blobs.len() as u64, kept, "{blobs:?}");
    }
}

#[test]
fn nothing_of_it_is_purged_for_a_day() {
    let scene = Scene::on_folder(&Shape::small(5)).unwrap();
    let names = scene.store_names();
    let arguments = online(&scene, &names);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = scene.report(0, &arguments).unwrap();
    let run = report["run"].as_str().unwrap();
    let refused = scene
        .run_with("", &of(&names, &["purge", run, "--assume-read-only"]))
        .unwrap();
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("it may be purged from"), "{refused:?}");
    let none = of(&names, &["purge", "--assume-read-only", "--older-than", "0s"]);
    let none = scene.run_with("", &none).unwrap();
    assert_eq!(none.status, 0, "{none:?}");
    assert!(!quarantined(&scene).unwrap().is_empty());
}

/// Killed before it looked again: what is needed is away until somebody resumes it, and then it goes back first.
#[test]
fn a_resumed_run_puts_back_before_it_moves_anything_more() {
    let scene = Scene::on_folder(&Shape::small(5)).unwrap();
    let names = scene.store_names();
    let arguments = online(&scene, &names);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let killed = scene.run_with("before-review=return", &arguments).unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    let orphan = scene.truth.orphans.keys().next().unwrap().clone();
    push_image_of(&scene, &orphan).unwrap();
    // Another orphan, so that it has something to move.
    let other = b"orphaned later";
    scene
        .storage()
        .put(&blob_key(&digest_of(other)), other, long_ago())
        .unwrap();
    let mut resumed = arguments.clone();
    resumed.extend(["--resume", "auto"]);
    let running = scene.hold_at("after-seal", 1, &resumed).unwrap();
    assert!(has_blob(&scene, &orphan).unwrap(), "it is not back yet");
    assert!(has_blob(&scene, &digest_of(other)).unwrap(), "it moves too early");
    running.release().unwrap();
    let report = report_of(&running.finish().unwrap(), 0).unwrap();
    assert_eq!(report["quarantine"]["online"]["complete"], true, "{report}");
    assert!(has_blob(&scene, &orphan).unwrap());
    assert!(!has_blob(&scene, &digest_of(other)).unwrap());
    scene.check_intact().unwrap();
}

#[test]
fn it_needs_quarantine_and_no_word_of_read_only_mode() {
    let scene = Scene::on_folder(&Shape::small(5)).unwrap();
    let names = scene.store_names();
    let alone = scene.run_with("", &["delete", &names[0], "--online"]).unwrap();
    assert_eq!(alone.status, 2, "{alone:?}");
    let both = [
        "delete",
        &names[0],
        "--quarantine",
        "--online",
        "--assume-read-only",
    ];
    let both = scene.run_with("", &both).unwrap();
    assert_eq!(both.status, 2, "{both:?}");
    assert!(both.stderr.contains("Say one or the other"), "{both:?}");
    assert!(quarantined(&scene).unwrap().is_empty());
}

/// A real registry goes on taking pushes of old, unreferenced blobs while these move. When the run has ended, everything that was confirmed
/// can be pulled.
async fn pushes_throughout(scene: Scene) -> Result<()> {
    let orphans = scene.orphan_blobs(40)?;
    let registry = DockerRegistry::start(scene.registry_config()).await?;
    let (confirmed, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients = clients(&Pusher::new(&registry), &orphans, &confirmed, &stop);
    more_than(&confirmed, 6).await?;

    let names = scene.store_names();
    let mut arguments = online(&scene, &names);
    if let Some(timeout) = arguments.iter_mut().find(|argument| *argument == "1s") {
        "5s".clone_into(timeout);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = tokio::task::block_in_place(|| scene.report(0, &arguments))?;
    let at_the_end = confirmed.load(Ordering::SeqCst);
    more_than(&confirmed, at_the_end + 6).await?;
    stop.store(true, Ordering::SeqCst);
    let mut tags = Vec::new();
    for client in clients {
        tags.extend(client.await?);
    }
    ensure!(number(&report, "/blobs/quarantined")? > 100, "{report}");
    ensure!(report["quarantine"]["online"]["complete"] == true, "{report}");
    let mut puller = Puller::new(&registry);
    for tag in &tags {
        puller
            .tag(tag)
            .await
            .with_context(|| format!("{tag:?} was pushed and is broken\n{report}"))?;
    }
    scene.check_intact()
}

fn many_orphans() -> Shape {
    Shape {
        orphans: 300,
        ..Shape::small(27)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_push_is_broken_when_it_has_ended_in_a_folder() {
    let scene = Scene::on_folder(&many_orphans()).unwrap();
    pushes_throughout(scene).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_push_is_broken_when_it_has_ended_on_s3() {
    let scene = Scene::on_s3(&many_orphans(), S3Options::default()).unwrap();
    pushes_throughout(scene).await.unwrap();
}

/// A bucket that keeps versions has copies made all the same: looking again finds those, not versions.
#[test]
fn in_a_bucket_that_keeps_versions_it_puts_back_too() {
    let options = S3Options {
        versioned: true,
        ..S3Options::default()
    };
    let scene = Scene::on_s3(&Shape::small(5), options).unwrap();
    let names = scene.store_names();
    let mut arguments = online(&scene, &names);
    arguments.push("--accept-versioned".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let running = scene.hold_at("before-review", 0, &arguments).unwrap();
    let orphan = scene.truth.orphans.keys().next().unwrap().clone();
    assert!(!has_blob(&scene, &orphan).unwrap(), "it was not moved");
    push_image_of(&scene, &orphan).unwrap();
    running.release().unwrap();
    let report = report_of(&running.finish().unwrap(), 0).unwrap();
    assert!(has_blob(&scene, &orphan).unwrap(), "{report}");
    scene.check_intact().unwrap();
}
