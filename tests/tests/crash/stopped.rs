//! Stopped by a signal: in good order by the first, at once by the second.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::scene::{Running, Scene, number, report_of};

fn shape() -> Shape {
    Shape::small(12)
}

fn stopped_in_the_sweep_by(signal: &str) -> Result<()> {
    let scene = Scene::on_folder(&shape())?;
    // One at a time: while it is held, no other batch goes on to the end.
    let one_at_a_time = scene.delete(&["--concurrency", "1"]);
    let mut running = scene.hold_at("delete-before-request", 10, &one_at_a_time)?;
    running.signal(signal)?;
    running.wait_for_line("stopping")?;
    running.release()?;
    let report = report_of(&running.finish()?, 4)?;
    ensure!(report["outcome"] == "stopped", "{report}");
    scene.check_intact()?;
    scene.check_accounts(&report)?;
    let (deleted, left) = (
        number(&report, "/blobs/deleted")?,
        number(&report, "/blobs/not_attempted")?,
    );
    ensure!(
        left > 0 && deleted + left == scene.orphans().len() as u64,
        "{report}"
    );
    scene.check_shown(&report)?;
    let lock = scene.storage().get("hardprune/lock.json")?;
    ensure!(lock.is_none(), "the lock was not given back: {lock:?}");

    let report = scene.report(0, &scene.resume())?;
    scene.check_finished(&report, &scene.orphans())?;
    ensure!(number(&report, "/epochs")? == 2, "{report}");
    Ok(())
}

#[test]
fn sigterm_in_the_sweep_ends_the_batches_in_flight_and_reports() {
    stopped_in_the_sweep_by("TERM").unwrap();
}

#[test]
fn sigint_in_the_sweep_ends_the_batches_in_flight_and_reports() {
    stopped_in_the_sweep_by("INT").unwrap();
}

/// A stop that comes when all is done already changes nothing.
#[test]
fn a_signal_after_the_sweep_is_too_late_to_stop_anything() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let mut running = scene.hold_at("after-sweep", 0, &scene.delete(&[])).unwrap();
    running.signal("TERM").unwrap();
    running.wait_for_line("stopping").unwrap();
    running.release().unwrap();
    let report = report_of(&running.finish().unwrap(), 0).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
}

#[test]
fn a_signal_between_unlink_and_sweep_leaves_all_blobs() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let untagged = ["--delete-untagged", "--accept-untagged-repositories"];
    let mut running = scene
        .hold_at("after-unlink", 0, &scene.delete(&untagged))
        .unwrap();
    running.signal("TERM").unwrap();
    running.wait_for_line("stopping").unwrap();
    running.release().unwrap();
    let report = report_of(&running.finish().unwrap(), 4).unwrap();
    scene.check_intact().unwrap();
    scene.check_accounts(&report).unwrap();
    assert_eq!(number(&report, "/blobs/deleted").unwrap(), 0);
    assert_eq!(number(&report, "/links/revision").unwrap(), 5);
    let report = scene.report(0, &scene.resume()).unwrap();
    scene
        .check_finished(&report, &scene.orphans_and_untagged())
        .unwrap();
    assert_eq!(number(&report, "/links/revision").unwrap(), 5);
}

/// Nothing was deleted, so there is nothing to go on with: exit status 1.
#[test]
fn a_signal_in_the_mark_ends_the_run_with_nothing_deleted() {
    let scene = Scene::on_s3(&shape(), S3Options::default()).unwrap();
    let server = scene.server().unwrap();
    server
        .faults()
        .add(Fault::on(Operation::Get, Effect::Hang).of_keys_with("blobs/"));
    let child = scene.start_with("", &scene.delete(&[])).unwrap();
    let mut running = Running::of(child, scene.folder().join("never")).unwrap();
    running
        .wait_until("a manifest is read", |_| Ok(server.faults().met() > 0))
        .unwrap();
    running.signal("TERM").unwrap();
    let finished = running.finish().unwrap();
    let report = report_of(&finished, 1).unwrap();
    assert_eq!(report["outcome"], "stopped", "{finished:?}");
    assert!(scene.difference().unwrap().is_empty(), "{:?}", scene.difference());

    server.faults().clear();
    let report = scene.report(0, &scene.delete(&[])).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
}

#[test]
fn a_second_signal_ends_at_once() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let mut running = scene
        .hold_at("delete-after-request", 10, &scene.delete(&[]))
        .unwrap();
    running.signal("TERM").unwrap();
    running.wait_for_line("stopping").unwrap();
    // Still held: the first one waits.
    thread::sleep(Duration::from_millis(100));
    running.signal("INT").unwrap();
    let finished = running.finish().unwrap();
    assert_eq!(
        (finished.status, finished.stdout.as_str()),
        (130, ""),
        "{finished:?}"
    );
    scene.check_intact().unwrap();
    scene.check_accounts(&scene.show().unwrap()).unwrap();
    let report = scene.report(0, &scene.resume()).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
}
