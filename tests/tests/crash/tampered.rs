//! The state of a run is changed by somebody while the run waits: what was changed is refused, and nothing of it is
//! deleted (R2).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::scene::{Scene, number};
use hardprune_tests::storage_writer::blob_key;
use serde_json::Value;

fn shape() -> Shape {
    Shape::small(15)
}

fn flip_a_byte(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    let byte = bytes
        .get_mut(middle)
        .context("an empty file has nothing to flip")?;
    *byte ^= 1;
    Ok(fs::write(path, bytes)?)
}

/// Runs to a failpoint, changes something there, and goes on to the end.
fn run(scene: &Scene, failpoint: &str, change: impl FnOnce(&Scene) -> Result<()>) -> Result<Finished> {
    let running = scene.hold_at(failpoint, 0, &scene.delete(&[]))?;
    change(scene)?;
    running.release()?;
    running.finish()
}

/// Nothing at all is deleted.
fn refused_whole(failpoint: &str, wanted: i32, change: impl FnOnce(&Scene) -> Result<()>) {
    let scene = Scene::on_folder(&shape()).unwrap();
    let finished = run(&scene, failpoint, change).unwrap();
    assert_eq!(finished.status, wanted, "{finished:?}");
    let removed = scene.difference().unwrap().removed;
    assert!(removed.is_empty(), "{removed:?}\n{finished:?}");
    scene.check_intact().unwrap();
    let report = scene.report(0, &scene.delete(&[])).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
}

fn flip(text: &'static str) -> impl FnOnce(&Scene) -> Result<()> {
    move |scene| {
        let files = scene.state_files(text)?;
        let file = files
            .iter()
            .find(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0));
        flip_a_byte(file.with_context(|| format!("there is no {text}"))?)
    }
}

#[test]
fn a_segment_that_was_changed_ends_the_run_before_anything_is_deleted() {
    refused_whole("after-mark", 1, flip(".references"));
    refused_whole("after-mark", 1, flip(".links"));
}

#[test]
fn a_filter_that_was_changed_ends_the_run_before_anything_is_deleted() {
    refused_whole("after-seal", 1, flip("/filters/"));
}

/// All of it, every filter, zeroed: every blob would be an orphan.
#[test]
fn filters_that_say_nothing_is_referenced_are_refused() {
    refused_whole("after-seal", 1, |scene| {
        for file in scene.state_files("/filters/")? {
            let bytes = vec![0; fs::read(&file)?.len()];
            fs::write(&file, bytes)?;
        }
        Ok(())
    });
}

/// A link that stays holds no blob back: it leads nowhere then, and the next run sees it again.
#[test]
fn dangling_links_that_were_changed_stay_and_the_rest_goes() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let finished = run(&scene, "after-seal", flip("/unlink/dangling")).unwrap();
    assert_eq!(finished.status, 5, "{finished:?}");
    scene.check_intact().unwrap();
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(number(&report, "/links/layer").unwrap(), 0, "{report}");
    assert_eq!(
        number(&report, "/blobs/deleted").unwrap(),
        scene.orphans().len() as u64,
        "{report}"
    );
    let report = scene.report(0, &scene.delete(&[])).unwrap();
    assert_eq!(
        number(&report, "/links/layer").unwrap(),
        scene.truth.dangling_links.len() as u64
    );
}

#[test]
fn a_sealed_plan_that_was_changed_deletes_nothing() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let finished = run(&scene, "after-lock-allows", flip("/plan.json")).unwrap();
    assert!([1, 4, 5].contains(&finished.status), "{finished:?}");
    let removed = scene.difference().unwrap().removed;
    assert!(removed.is_empty(), "{removed:?}\n{finished:?}");
    let report = scene.report(0, &scene.delete(&[])).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
}

/// The parts of a plan with blobs in them.
fn blob_parts(scene: &Scene) -> Result<Vec<std::path::PathBuf>> {
    let mut parts = Vec::new();
    for file in scene.state_files(".jsonl")? {
        if fs::read_to_string(&file)?.contains("\"kind\":\"blob\"") {
            parts.push(file);
        }
    }
    ensure!(parts.len() > 3, "{parts:?}");
    Ok(parts)
}

fn planned_blobs(part: &Path) -> Result<Vec<String>> {
    let lines = fs::read_to_string(part)?;
    let key = |line: &str| -> Result<String> {
        let removal: Value = serde_json::from_str(line)?;
        Ok(removal["key"].as_str().context("no key")?.to_owned())
    };
    lines.lines().map(key).collect()
}

#[test]
fn a_part_of_the_plan_that_was_changed_stays_and_the_rest_goes() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let mut planned = Vec::new();
    let finished = run(&scene, "after-lock-allows", |scene| {
        let part = &blob_parts(scene)?[1];
        planned = planned_blobs(part)?;
        flip_a_byte(part)
    })
    .unwrap();
    assert_eq!(finished.status, 5, "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let inventory = scene.inventory().unwrap();
    assert!(
        planned.iter().all(|key| inventory.0.contains_key(key)),
        "{planned:?}"
    );
    scene.check_intact().unwrap();
    scene.check_accounts(&report).unwrap();
    let left = planned.len() as u64;
    assert_eq!(number(&report, "/blobs/not_attempted").unwrap(), left, "{report}");
    let report = scene.report(0, &scene.delete(&[])).unwrap();
    assert_eq!(number(&report, "/blobs/deleted").unwrap(), left);
}

/// Who can write to the state, and not to the registry, can make a whole chain of plan and parts that fits itself. It
/// does not fit the lock.
#[test]
fn a_forged_plan_that_names_a_live_blob_deletes_nothing() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let live = blob_key(scene.truth.live.keys().next().unwrap());
    let finished = run(&scene, "after-lock-allows", |scene| {
        let part = &blob_parts(scene)?[0];
        let planned = planned_blobs(part)?.remove(0);
        let old = fs::read(part)?;
        let new = String::from_utf8(old.clone())?.replace(&planned, &live);
        fs::write(part, &new)?;
        let plan = scene.state_files("/plan.json")?.remove(0);
        let digest = |bytes: &[u8]| hardprune_tests::content::digest_of(bytes);
        let text = fs::read_to_string(&plan)?;
        let forged = text.replace(&digest(&old), &digest(new.as_bytes()));
        ensure!(forged != text, "the plan does not name the part by its sha256");
        Ok(fs::write(&plan, forged)?)
    })
    .unwrap();
    assert!([1, 4, 5].contains(&finished.status), "{finished:?}");
    let removed = scene.difference().unwrap().removed;
    assert!(removed.is_empty(), "{removed:?}\n{finished:?}");
}

/// The lock allows another plan than the one that was sealed.
#[test]
fn a_lock_that_names_another_plan_deletes_nothing() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let finished = run(&scene, "after-lock-allows", |scene| {
        let path = scene.state().join("hardprune/lock.json");
        let mut lock: Value = serde_json::from_slice(&fs::read(&path)?)?;
        lock["sealed_plan"] = format!("sha256:{}", "0".repeat(64)).into();
        Ok(fs::write(&path, serde_json::to_vec(&lock)?)?)
    })
    .unwrap();
    assert!([4, 5].contains(&finished.status), "{finished:?}");
    let removed = scene.difference().unwrap().removed;
    assert!(
        removed.keys().all(|key| !key.starts_with("docker/")),
        "{removed:?}\n{finished:?}"
    );
    scene.check_intact().unwrap();
}
