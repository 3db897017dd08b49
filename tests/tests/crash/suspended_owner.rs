//! The owner of a lock is suspended right before it writes or removes it, until its lease is over (R11). What the protocol's model
//! found, with a real process that is stopped and goes on.

use anyhow::{Context, Result, ensure};
use hardprune_tests::fleet::{wait_for_file, wait_until};
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Running, Scene, report_of};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

const LOCK: &str = "hardprune/lock.json";
/// As short as requests allow.
const LEASE: [&str; 2] = ["--lease", "6s"];

fn scene() -> Result<Scene> {
    Scene::on_s3(&Shape::small(18), S3Options::default())
}

/// The lock as it lies there.
fn lock(scene: &Scene) -> Result<Option<Value>> {
    let bytes = scene.storage().get(LOCK)?;
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
}

/// Suspends a run that is held at a failpoint, until its lease is over.
fn suspend(scene: &Scene, failpoint: &str) -> Result<Running> {
    let running = scene.hold_at(failpoint, 0, &scene.delete(&LEASE))?;
    running.signal("STOP")?;
    let held = lock(scene)?.context("there is a lock")?;
    let renewed: Timestamp = held["renewed"].as_str().context("it was renewed")?.parse()?;
    // And so long that another may take it over: until no request that was sent under it can be under way.
    let over = renewed + SignedDuration::from_secs(6 + 3);
    wait_until("the lease is over", || Timestamp::now() > over)?;
    ensure!(lock(scene)? == Some(held), "it was renewed meanwhile");
    Ok(running)
}

fn wake(running: Running) -> Result<Finished> {
    running.release()?;
    running.signal("CONT")?;
    running.finish()
}

/// Nobody took it meanwhile, and still it is not written: somebody could have, and the registry may take writes by now.
#[test]
fn a_lock_that_has_lapsed_is_not_brought_back() {
    let scene = scene().unwrap();
    let running = suspend(&scene, "lock-before-write").unwrap();
    let before = scene.contents().unwrap();
    let finished = wake(running).unwrap();
    assert_eq!(finished.status, 4, "{finished:?}");
    assert!(finished.stderr.contains("lapsed"), "{finished:?}");
    let after = scene.contents().unwrap();
    assert_eq!(before, after, "something was written, or removed");
    let report = scene.report(0, &scene.delete(&LEASE)).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
}

/// Its run is over; another has the lock by the time that it removes what it takes for its own.
#[test]
fn the_lock_of_another_is_not_removed() {
    let scene = scene().unwrap();
    let first = suspend(&scene, "lock-before-removal").unwrap();
    let hold = scene.folder().join("hold-second");
    let failpoints = format!("after-mark=1*return({})", hold.display());
    let arguments = scene.delete(&LEASE);
    let child = scene.start_with(&failpoints, &arguments).unwrap();
    let second = Running::of(child, hold.clone()).unwrap();
    wait_for_file(&hold).unwrap();
    let anothers = lock(&scene).unwrap().context("the second has none").unwrap();

    let finished = wake(first).unwrap();
    let report = report_of(&finished, 0).unwrap();
    assert_ne!(report["run"], anothers["epoch"]["run"]);
    assert!(
        finished.stderr.contains("could not be given back"),
        "{finished:?}"
    );
    let still = lock(&scene)
        .unwrap()
        .context("the second's lock is gone")
        .unwrap();
    assert_eq!(still["epoch"], anothers["epoch"]);
    scene.check_finished(&report, &scene.orphans()).unwrap();

    second.release().unwrap();
    assert_eq!(second.finish().unwrap().status, 0);
    assert_eq!(lock(&scene).unwrap(), None);
}
