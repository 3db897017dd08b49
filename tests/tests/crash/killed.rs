//! Killed at every step of the journal, and at any moment.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::Seeded;
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{KILLED, Scene, number, report_of};

/// Dead manifests too, so that there is something to unlink.
const UNTAGGED: [&str; 2] = ["--delete-untagged", "--accept-untagged-repositories"];

fn shape() -> Shape {
    Shape::small(11)
}

/// Counts how often a run that nothing disturbs writes a step of its journal.
fn batches() -> Result<usize> {
    let scene = Scene::on_folder(&shape())?;
    let report = scene.report(0, &scene.delete(&UNTAGGED))?;
    scene.check_finished(&report, &scene.orphans_and_untagged())?;
    Ok(scene.state_files(".started")?.len())
}

/// Kills a run where it comes to a failpoint, looks at what it left, and goes on with it.
fn kill_and_resume(scene: &Scene, failpoint: &str, times_before: usize) -> Result<()> {
    let failpoints = format!("{failpoint}={times_before}*off->return");
    let killed = scene.run_with(&failpoints, &scene.delete(&UNTAGGED))?;
    ensure!(
        killed.status == KILLED,
        "it was not killed at {failpoints}: {killed:?}"
    );
    scene.check_intact()?;
    let shown = scene.show()?;
    scene.check_accounts(&shown)?;
    ensure!(shown["outcome"] == "stopped", "{shown}");

    let report = scene.report(0, &scene.resume())?;
    scene.check_finished(&report, &scene.orphans_and_untagged())?;
    ensure!(number(&report, "/epochs")? == 2, "{report}");
    scene.check_shown(&report)
}

fn killed_at(failpoint: &str, times: impl FnOnce(usize) -> BTreeSet<usize>) {
    let all = batches().unwrap();
    assert!(
        all > 10,
        "{all} batches are too few to be killed in the middle of"
    );
    for times_before in times(all) {
        let scene = Scene::on_folder(&shape()).unwrap();
        kill_and_resume(&scene, failpoint, times_before)
            .with_context(|| format!("killed at {failpoint} after {times_before} times of {all}"))
            .unwrap();
    }
}

fn first_middle_and_last(all: usize) -> BTreeSet<usize> {
    BTreeSet::from([0, all / 2, all - 1])
}

fn once(_: usize) -> BTreeSet<usize> {
    BTreeSet::from([0])
}

#[test]
fn before_the_start_of_a_batch_is_journaled() {
    killed_at("journal-before-start", first_middle_and_last);
}

#[test]
fn after_the_start_of_a_batch_is_journaled() {
    killed_at("journal-after-start", first_middle_and_last);
}

#[test]
fn before_a_request_is_sent() {
    killed_at("delete-before-request", first_middle_and_last);
}

#[test]
fn after_a_request_was_answered() {
    killed_at("delete-after-request", first_middle_and_last);
}

#[test]
fn before_the_end_of_a_batch_is_journaled() {
    killed_at("journal-before-end", first_middle_and_last);
}

#[test]
fn after_the_end_of_a_batch_is_journaled() {
    killed_at("journal-after-end", first_middle_and_last);
}

#[test]
fn between_the_stages() {
    killed_at("after-lock-allows", once);
    killed_at("after-unlink", once);
    killed_at("after-dangling", once);
    killed_at("after-sweep", once);
}

/// All is done and reported, and only the record does not say so yet.
#[test]
fn between_the_report_and_the_end_of_the_run() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let killed = scene
        .run_with("after-report=return", &scene.delete(&UNTAGGED))
        .unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    scene
        .check_finished(&scene.show().unwrap(), &scene.orphans_and_untagged())
        .unwrap();
    let report = scene.report(0, &scene.resume()).unwrap();
    scene
        .check_finished(&report, &scene.orphans_and_untagged())
        .unwrap();
    assert_eq!(number(&report, "/epochs").unwrap(), 2);
}

/// Killed, and killed again while it looks what became of the batches that it left open.
#[test]
fn while_open_batches_are_settled() {
    for failpoint in [
        "journal-after-start",
        "delete-after-request",
        "journal-before-end",
    ] {
        let scene = Scene::on_folder(&shape()).unwrap();
        let mut arguments = scene.delete(&UNTAGGED);
        let first = format!("{failpoint}=12*off->return");
        for failpoints in [&first, "settle-after-look=return", "settle-after-end=return"] {
            let killed = scene.run_with(failpoints, &arguments).unwrap();
            assert_eq!(killed.status, KILLED, "{failpoints}: {killed:?}");
            scene.check_intact().unwrap();
            arguments = scene.resume();
        }
        let report = scene.report(0, &arguments).unwrap();
        scene
            .check_finished(&report, &scene.orphans_and_untagged())
            .with_context(|| failpoint)
            .unwrap();
        assert_eq!(number(&report, "/epochs").unwrap(), 4, "{failpoint}");
        scene.check_shown(&report).unwrap();
    }
}

/// On S3 nobody knows whether the owner of the lock still lives: its lease has to pass, and its requests.
#[test]
fn on_s3_a_run_is_resumed_once_the_lease_of_the_dead_one_has_passed() {
    for (failpoint, times_before) in [
        ("journal-after-start", 10),
        ("delete-after-request", 10),
        ("journal-before-end", 10),
        ("after-dangling", 0),
    ] {
        let scene = Scene::on_s3(&shape(), S3Options::default()).unwrap();
        killed_on_s3(&scene, failpoint, times_before)
            .with_context(|| failpoint)
            .unwrap();
    }
}

fn killed_on_s3(scene: &Scene, failpoint: &str, times_before: usize) -> Result<()> {
    let failpoints = format!("{failpoint}={times_before}*off->return");
    let killed = scene.run_with(&failpoints, &scene.delete(&UNTAGGED))?;
    ensure!(killed.status == KILLED, "it was not killed: {killed:?}");
    scene.check_intact()?;

    // While its requests may be under way nothing is settled, and nobody may take over.
    let shown = scene.show()?;
    let said = number(&shown, "/bytes/freed")?;
    ensure!(said <= scene.difference()?.freed_blob_bytes(), "{shown}");
    let locked = scene.program.run(&scene.resume())?;
    ensure!(locked.status == 7, "{locked:?}");
    scene.server()?.advance_clock(Duration::from_secs(60));
    let locked = scene.program.run(&scene.resume())?;
    ensure!(
        locked.status == 7,
        "the lease has passed, but not its last request: {locked:?}"
    );

    scene.server()?.advance_clock(Duration::from_secs(21));
    scene.check_accounts(&scene.show()?)?;
    let report = scene.report(0, &scene.resume())?;
    scene.check_finished(&report, &scene.orphans_and_untagged())
}

/// A run that is killed again and again gets there in the end, and counts right.
#[test]
fn killed_in_every_epoch() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let points = [
        "delete-after-request",
        "journal-after-start",
        "journal-before-end",
        "after-unlink",
    ];
    let mut arguments = scene.delete(&UNTAGGED);
    for failpoint in points {
        let times_before = if failpoint == "after-unlink" { 0 } else { 3 };
        let failpoints = format!("{failpoint}={times_before}*off->return");
        let killed = scene.run_with(&failpoints, &arguments).unwrap();
        assert_eq!(killed.status, KILLED, "{killed:?}");
        scene.check_intact().unwrap();
        arguments = scene.resume();
    }
    // Not looked at in between: the last epoch settles what all the others left.
    let report = scene.report(0, &arguments).unwrap();
    scene
        .check_finished(&report, &scene.orphans_and_untagged())
        .unwrap();
    assert_eq!(number(&report, "/epochs").unwrap(), 5);
}

/// Another run deletes what a dead one left open: each byte was freed by one of the two.
#[test]
fn what_another_run_deletes_is_not_taken_for_the_dead_ones() {
    for failpoint in ["journal-after-start", "delete-after-request"] {
        let scene = Scene::on_folder(&shape()).unwrap();
        let failpoints = format!("{failpoint}=12*off->return");
        let killed = scene.run_with(&failpoints, &scene.delete(&[])).unwrap();
        assert_eq!(killed.status, KILLED);
        let dead = scene.run_id().unwrap();
        let freed_by_the_dead = scene.difference().unwrap().freed_blob_bytes();
        let report = scene.report(0, &scene.delete(&[])).unwrap();
        let shown = scene.show_run(&dead).unwrap();
        assert_eq!(
            number(&shown, "/bytes/freed").unwrap(),
            freed_by_the_dead,
            "{failpoint}"
        );
        let freed = scene.difference().unwrap().freed_blob_bytes() - freed_by_the_dead;
        assert_eq!(number(&report, "/bytes/freed").unwrap(), freed, "{failpoint}");
    }
}

/// A file that a kill cut short lies where the run keeps its journal.
#[test]
fn a_file_that_was_cut_short_does_not_keep_a_run_from_going_on() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let killed = scene
        .run_with("journal-before-end=10*off->return", &scene.delete(&UNTAGGED))
        .unwrap();
    assert_eq!(killed.status, KILLED);
    let started = scene.state_files(".started").unwrap().remove(0);
    std::fs::write(started.with_file_name(".01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp"), b"{").unwrap();
    scene.check_accounts(&scene.show().unwrap()).unwrap();
    let report = scene.report(0, &scene.resume()).unwrap();
    scene
        .check_finished(&report, &scene.orphans_and_untagged())
        .unwrap();
}

/// What a panic ends is one attempt at a task. The task is done again, and its journal still tells all.
#[test]
fn a_task_that_panics_is_done_again() {
    for failpoint in ["journal-after-start", "delete-after-request", "journal-after-end"] {
        let scene = Scene::on_folder(&shape()).unwrap();
        let failpoints = format!("{failpoint}=9*off->1*panic");
        let finished = scene.run_with(&failpoints, &scene.delete(&UNTAGGED)).unwrap();
        let report = report_of(&finished, 0).unwrap();
        scene
            .check_finished(&report, &scene.orphans_and_untagged())
            .unwrap();
    }
}

/// SIGKILL at moments that a seed picks, several times in a run, until it is done.
#[test]
fn killed_at_any_moment() {
    let begun = Instant::now();
    let mut seed = 0;
    while seed < 3 || (seed < 40 && begun.elapsed() < Duration::from_secs(25)) {
        seed += 1;
        killed_at_random(seed)
            .with_context(|| format!("seed {seed}"))
            .unwrap();
    }
}

fn killed_at_random(seed: u64) -> Result<()> {
    let shape = Shape {
        orphans: 300,
        images: 12,
        ..Shape::small(seed)
    };
    let scene = Scene::on_folder(&shape)?;
    let mut seeded = Seeded::new(seed);
    for _ in 0..4 {
        let mut arguments = scene.delete(&["--concurrency", "2"]);
        // Killed before it wrote itself down, there is no run to resume.
        if scene.run_id().is_ok() {
            arguments.extend(["--resume", "auto"]);
        }
        let mut child = scene.start_with("", &arguments)?;
        thread::sleep(Duration::from_micros(seeded.between(1_000, 700_000)));
        child.kill()?;
        let ended = Finished::of(&child.wait_with_output()?)?;
        scene.check_intact()?;
        if ended.status == 0 || is_over(&ended) {
            break;
        }
        ensure!(ended.status == 128 + 9, "{ended:?}");
        if scene.run_id().is_ok() {
            scene.check_accounts(&scene.show()?)?;
        }
    }
    let finished = scene.program.run(&scene.resume())?;
    ensure!(is_over(&finished) || finished.status == 0, "{finished:?}");
    scene.check_finished(&scene.show()?, &scene.orphans())
}

/// A run may be killed when its report is written already, and ends before anybody has killed it.
fn is_over(resumed: &Finished) -> bool {
    resumed.status == 2 && resumed.stderr.contains("is left to resume")
}

/// A run died before it had written down what it is. The one before it can still be resumed.
#[test]
fn a_run_that_left_no_record_does_not_keep_another_from_being_resumed() {
    let scene = Scene::on_folder(&shape()).unwrap();
    let killed = scene
        .run_with("after-unlink=return", &scene.delete(&UNTAGGED))
        .unwrap();
    assert_eq!(killed.status, KILLED);
    let later = scene.state().join("hardprune/runs/7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    std::fs::create_dir(&later).unwrap();
    std::fs::write(later.join(".01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp"), b"").unwrap();
    let report = scene.report(0, &scene.resume()).unwrap();
    scene
        .check_finished(&report, &scene.orphans_and_untagged())
        .unwrap();
}
