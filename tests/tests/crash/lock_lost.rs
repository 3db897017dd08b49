//! The lock is lost while the sweep goes on: from the next look at it nothing more is deleted (R10, R11).

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Scene, report_of};
use serde_json::Value;

/// Longer than a look at the lock is good for.
const NEXT_LOOK: Duration = Duration::from_millis(10_500);
const LOCK: &str = "hardprune/lock.json";

fn shape() -> Shape {
    Shape::small(14)
}

/// Holds a sweep before a batch, takes the lock from it, and lets it go on.
fn lost(scene: &Scene, take: impl Fn(&Scene) -> Result<()>) -> Result<()> {
    let arguments = scene.delete(&["--concurrency", "1"]);
    let running = scene.hold_at("journal-after-start", 9, &arguments)?;
    take(scene)?;
    thread::sleep(NEXT_LOOK);
    let before = scene.inventory()?;
    running.release()?;
    let finished = running.finish()?;
    let report = report_of(&finished, 4)?;
    ensure!(report["outcome"] == "stopped", "{report:#}");
    let after = before.until(&scene.inventory()?);
    let gone: Vec<_> = after.removed.keys().filter(|key| *key != LOCK).collect();
    ensure!(gone.is_empty(), "deleted without the lock: {gone:?}");
    scene.check_intact()?;
    scene.check_accounts(&report)?;
    ensure!(scene.show()? == report, "it is shown otherwise than it was told");
    Ok(())
}

fn goes_on(scene: &Scene) -> Result<()> {
    let report = scene.report(0, &scene.resume())?;
    scene.check_finished(&report, &scene.orphans())
}

fn written_over() -> Result<()> {
    let scene = Scene::on_s3(&shape(), S3Options::default())?;
    let others = Mutex::new(Vec::new());
    lost(&scene, |scene| {
        let lock = scene.storage().get(LOCK)?.context("there is a lock")?;
        let mut lock: Value = serde_json::from_slice(&lock)?;
        lock["epoch"]["run"] = "01ARZ3NDEKTSV4RRFFQ69G5FAV".into();
        lock["owner"] = "another".into();
        let lock = serde_json::to_vec(&lock)?;
        scene.storage().put(LOCK, &lock, SystemTime::now())?;
        others.lock().map_err(|_| anyhow!("poisoned"))?.clone_from(&lock);
        Ok(())
    })?;
    let others = others.into_inner().map_err(|_| anyhow!("poisoned"))?;
    ensure!(
        scene.storage().get(LOCK)? == Some(others),
        "the other's lock was touched"
    );
    let locked = scene.program.run(&scene.resume())?;
    ensure!(
        locked.status == 7 && locked.stderr.contains("another"),
        "{locked:?}"
    );
    scene.server()?.advance_clock(Duration::from_secs(81));
    goes_on(&scene)
}

fn removed(scene: &Scene) -> Result<()> {
    lost(scene, |scene| scene.storage().remove(LOCK))?;
    goes_on(scene)
}

/// As after a suspend: the store's clock says that the lease has passed, whoever may have been there meanwhile.
fn lapsed() -> Result<()> {
    let scene = Scene::on_s3(&shape(), S3Options::default())?;
    lost(&scene, |scene| {
        scene.server()?.advance_clock(Duration::from_secs(120));
        Ok(())
    })?;
    goes_on(&scene)
}

/// All of them wait for the next look at the lock, so they wait together.
#[test]
fn nothing_is_deleted_without_the_lock() {
    thread::scope(|scope| {
        let cases = [
            ("written over", scope.spawn(written_over)),
            (
                "removed on S3",
                scope.spawn(|| removed(&Scene::on_s3(&shape(), S3Options::default())?)),
            ),
            (
                "removed in a folder",
                scope.spawn(|| removed(&Scene::on_folder(&shape())?)),
            ),
            ("lapsed", scope.spawn(lapsed)),
        ];
        let failed: Vec<_> = cases
            .into_iter()
            .filter_map(|(name, case)| match case.join() {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{name}: {error:#}")),
                Err(_) => Some(format!("{name}: panicked")),
            })
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    });
}
