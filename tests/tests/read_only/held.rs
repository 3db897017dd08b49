//! Read-only mode is lost while a run goes on: the epoch is over, and nothing of it deletes any more (R11).

use anyhow::{Result, ensure};
use hardprune_tests::fleet::Fleet;
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Scene, report_of};
use serde_json::Value;

use crate::scripted::{Switchable, delete, refused};

const LOCK: &str = "hardprune/lock.json";
const LOST: &str = "read-only mode is lost";

fn shape() -> Shape {
    Shape::small(24)
}

/// Holds a sweep in its midst, makes the registry writable, and lets the sweep go on once that was seen.
fn lost_in_the_sweep(scene: &Scene) -> Result<()> {
    let registry = Switchable::start()?;
    let url = registry.server.url();
    let arguments = delete(scene, &["--concurrency", "1", "--registry-url", &url]);
    let mut running = scene.hold_at("journal-after-start", 9, &arguments)?;
    registry.make_writable();
    running.wait_for_line(LOST)?;
    let before = scene.inventory()?;
    running.release()?;
    let report = report_of(&running.finish()?, 4)?;
    ensure!(
        report["outcome"] == "stopped" && report["read_only"] == "lost",
        "{report}"
    );
    let gone = before.until(&scene.inventory()?).removed;
    let gone: Vec<_> = gone.keys().filter(|key| key.starts_with("docker/")).collect();
    ensure!(gone.is_empty(), "deleted without read-only mode: {gone:?}");
    scene.check_intact()?;
    scene.check_accounts(&report)?;

    registry.make_read_only();
    let arguments = delete(scene, &["--resume", "auto", "--registry-url", &url]);
    let report = scene.report(0, &arguments)?;
    ensure!(report["read_only"] == "lost", "of all epochs the least: {report}");
    scene.check_finished(&report, &scene.orphans())
}

#[test]
fn in_the_sweep_in_a_folder() {
    lost_in_the_sweep(&Scene::on_folder(&shape()).unwrap()).unwrap();
}

#[test]
fn in_the_sweep_on_s3() {
    lost_in_the_sweep(&Scene::on_s3(&shape(), S3Options::default()).unwrap()).unwrap();
}

/// Between stages it is asked at once, however long the next look may be away.
fn lost_before_deletes(failpoint: &str, others: &[&str]) {
    let scene = Scene::on_folder(&shape()).unwrap();
    let registry = Switchable::start().unwrap();
    let url = registry.server.url();
    let arguments = delete(&scene, &[&["--registry-url", &url], others].concat());
    let running = scene.hold_at(failpoint, 0, &arguments).unwrap();
    registry.make_writable();
    running.release().unwrap();
    let finished = running.finish().unwrap();
    refused(
        &scene,
        &finished,
        &["read-only mode was lost", "not read-only", &url],
    )
    .unwrap();
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["read_only"], "lost");
}

#[test]
fn after_the_mark() {
    lost_before_deletes("after-mark", &[]);
}

#[test]
fn after_the_seal() {
    lost_before_deletes("after-seal", &[]);
}

/// A registry that does not answer may be anything.
#[test]
fn a_registry_that_is_gone_is_lost_too() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let registry = Switchable::start().unwrap();
    let url = registry.server.url();
    let arguments = delete(&scene, &["--registry-url", &url]);
    let running = scene.hold_at("after-mark", 0, &arguments).unwrap();
    drop(registry);
    running.release().unwrap();
    let finished = running.finish().unwrap();
    refused(
        &scene,
        &finished,
        &["not proved to be read-only", "no answer", &url],
    )
    .unwrap();
}

/// Deletes have ended, all is gone, and read-only mode may have been over before: the run does not say that all is well.
#[test]
fn after_the_last_delete() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let registry = Switchable::start().unwrap();
    let url = registry.server.url();
    let arguments = delete(&scene, &["--registry-url", &url, "--probe-every", "1h"]);
    let arguments: Vec<&str> = {
        let mut once = arguments;
        let place = once.iter().position(|argument| *argument == "100ms").unwrap();
        once.drain(place - 1..=place);
        once
    };
    let running = scene.hold_at("after-sweep", 0, &arguments).unwrap();
    registry.make_writable();
    running.release().unwrap();
    let finished = running.finish().unwrap();
    let report = report_of(&finished, 4).unwrap();
    assert_eq!(report["read_only"], "lost");
    assert!(
        finished.stderr.contains("read-only mode was lost"),
        "{finished:?}"
    );
    scene.check_accounts(&report).unwrap();
}

/// Workers of other processes read it in the lock, whatever NATS says.
#[test]
fn workers_elsewhere_are_permitted_nothing_more() {
    let fleet = Fleet::with_slow_deletes(
        &Shape {
            orphans: 300,
            ..shape()
        },
        std::time::Duration::from_millis(300),
    )
    .unwrap();
    let _worker = fleet
        .worker_with(&fleet.nats.url(), "", &["--concurrency", "1"])
        .unwrap();
    let registry = Switchable::start().unwrap();
    let (nats, url) = (fleet.nats.url(), registry.server.url());
    let options = fleet.options(&nats, &["--registry-url", &url]);
    let arguments = delete(&fleet.scene, &options);
    let child = fleet.scene.start_with("", &arguments).unwrap();
    let hold = fleet.scene.folder().join("hold");
    let mut running = hardprune_tests::scene::Running::of(child, hold).unwrap();
    fleet.wait_for_deletes().unwrap();
    registry.make_writable();
    running.wait_for_line(LOST).unwrap();
    let lock = || fleet.scene.storage().get(LOCK).unwrap();
    running
        .wait_until("the lock names no plan", |_| {
            let lock: Option<Value> = lock().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            Ok(lock.is_some_and(|lock| lock["sealed_plan"].is_null()))
        })
        .unwrap();
    let report = report_of(&running.finish().unwrap(), 4).unwrap();
    assert_eq!(report["read_only"], "lost");
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    // Nothing is under way after the end.
    let end = fleet.scene.inventory().unwrap();
    fleet.scene.server().unwrap().faults().clear();
    assert!(end.until(&fleet.scene.inventory().unwrap()).removed.is_empty());
}
