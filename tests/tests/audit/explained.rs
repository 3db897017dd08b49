//! Why a digest was deleted or kept.

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::digest_of;
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::scene::{KILLED, Scene};
use hardprune_tests::storage_writer::{blob_key, layer_link_key};
use serde_json::Value;

use crate::{answer, ask};

#[test]
fn in_a_folder_a_digest_is_explained() {
    is_explained(&Scene::on_folder(&Shape::small(56)).unwrap()).unwrap();
}

#[test]
fn on_s3_a_digest_is_explained() {
    is_explained(&Scene::on_s3(&Shape::small(56), S3Options::default()).unwrap()).unwrap();
}

/// Of each way to be kept or deleted one.
fn is_explained(scene: &Scene) -> Result<()> {
    let orphans: Vec<String> = scene.orphans().into_iter().collect();
    // A repository of which a manifest cannot be read, with a link to an orphan.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(5 * 86_400);
    let frozen = &orphans[0];
    let broken = digest_of(b"no such manifest");
    let put = |key: String, digest: &str| scene.storage().put(&key, digest.as_bytes(), old);
    put(layer_link_key("broken/app", frozen), frozen)?;
    put(
        hardprune_tests::storage_writer::revision_link_key("broken/app", &broken),
        &broken,
    )?;
    let tag = &scene.truth.tags[0];
    let manifest = scene
        .storage()
        .get(&blob_key(&tag.digest))?
        .context("a tag's manifest")?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    scene.report(0, &scene.delete(&[]))?;

    let explained = |digest: &str| answer(scene, "explain", &[digest], 0);
    let told = explained(&orphans[1])?;
    ensure!(
        told.contains("\ndeleted: in epoch 1 by process ") && told.contains("an orphan"),
        "{told}"
    );
    let told = explained(frozen)?;
    ensure!(
        told.contains("\nkept: the repository broken/app was frozen"),
        "{told}"
    );
    let told = explained(&tag.digest)?;
    ensure!(
        told.contains("\nkept: referenced")
            && told.contains(&format!("{}: it is a manifest there", tag.repository)),
        "{told}"
    );
    if let Some(config) = manifest["config"]["digest"].as_str() {
        let told = explained(config)?;
        let namer = format!("{}: the manifest {} names it", tag.repository, tag.digest);
        ensure!(
            told.contains("\nkept: referenced") && told.contains(&namer),
            "{told}"
        );
        ensure!(told.contains("what the registry says now"), "{told}");
    }
    let young = scene.truth.young_orphans.keys().next().context("a young one")?;
    let told = explained(young)?;
    ensure!(told.contains("\nkept: young"), "{told}");
    let told = explained(&digest_of(b"never heard of"))?;
    ensure!(told.contains("\nnot present"), "{told}");
    let bad = ask(scene, "explain", &["sha256:short"])?;
    ensure!(bad.status == 2, "{bad:?}");
    Ok(())
}

#[test]
fn what_is_kept_by_chance_or_not_reviewed_is_said() {
    let scene = Scene::on_folder(&Shape {
        images: 150,
        own_layers: 40..=40,
        orphans: 2_000,
        linked_orphans_percent: 0,
        ..Shape::small(57)
    })
    .unwrap();
    let state = scene.state().display().to_string();
    let options = [
        "--false-positive-rate",
        "0.1",
        "--filter-seed",
        "3",
        "--state",
        &state,
    ];
    let report = scene.check(&options).unwrap();
    let run = report["run"].as_str().unwrap().to_owned();
    let export = scene
        .program
        .run(&["runs", "export", &run, "--jsonl", "--state", &state])
        .unwrap()
        .stdout;
    let blobs: String = export.lines().filter(|line| line.contains("\"blob\"")).collect();
    let kept = scene
        .orphans()
        .into_iter()
        .find(|orphan| !blobs.contains(orphan.as_str()));
    let kept = kept
        .expect("of 2,000 orphans some are kept, though filters have room for a thousand digests at least");
    let told = scene
        .program
        .run(&["runs", "explain", &run, &kept, "--state", &state])
        .unwrap();
    assert!(
        told.stdout.contains("\nkept: by the filter's chance (0.1"),
        "{told:?}"
    );

    // The same filters without chance, but only what was reviewed.
    let report = scene.report(0, &scene.delete(&["--plan", &run])).unwrap();
    let delete = report["run"].as_str().unwrap();
    let told = scene
        .program
        .run(&["runs", "explain", delete, &kept, "--state", &state])
        .unwrap();
    assert!(
        told.stdout.contains("\nkept: it is not in the reviewed plan"),
        "{told:?}"
    );
    let told = scene
        .program
        .run(&["runs", "verify", delete, "--state", &state])
        .unwrap();
    assert!(
        told.status == 0 && told.stdout.contains("reviewed plan"),
        "{told:?}"
    );
}

#[test]
fn what_the_store_refused_or_nobody_came_to_is_said() {
    let scene = Scene::on_s3(&Shape::small(59), S3Options::default()).unwrap();
    let orphan = scene.truth.orphans.keys().next().unwrap();
    let refused = Effect::KeyError {
        code: "AccessDenied",
        message: "under legal hold",
    };
    let fault = Fault::on(Operation::DeleteObjects, refused).of_keys_with(blob_key(orphan));
    scene.server().unwrap().faults().add(fault);
    scene.report(5, &scene.delete(&[])).unwrap();
    let told = answer(&scene, "explain", &[orphan], 0).unwrap();
    assert!(
        told.contains("\nfailed: the store refused in epoch 1: AccessDenied: under legal hold"),
        "{told}"
    );

    let scene = Scene::on_folder(&Shape::small(60)).unwrap();
    let killed = scene
        .run_with("after-lock-allows=return", &scene.delete(&[]))
        .unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    let orphan = scene.truth.orphans.keys().next().unwrap();
    let told = answer(&scene, "explain", &[orphan], 0).unwrap();
    assert!(
        told.contains("\nnot deleted: planned in epoch 1, and not attempted"),
        "{told}"
    );

    // Stopped before there was a plan.
    let scene = Scene::on_folder(&Shape::small(60)).unwrap();
    let killed = scene.run_with("after-mark=return", &scene.delete(&[])).unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    let told = answer(&scene, "explain", &[orphan], 0).unwrap();
    assert!(
        told.contains("\nkept: the run did not come to a sealed plan"),
        "{told}"
    );
}
