//! Killed at every step of the journal, and at any moment.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{KILLED, Scene, number};

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
    ensure!(shown["outcome"] == "stopped", "{shown:#}");

    let report = scene.report(0, &scene.resume())?;
    scene.check_finished(&report, &scene.orphans_and_untagged())?;
    ensure!(number(&report, "/epochs")? == 2, "{report:#}");
    let shown = scene.show()?;
    ensure!(
        shown == report,
        "what is shown later is another report: {shown:#}\n{report:#}"
    );
    Ok(())
}

fn killed_at(failpoint: &str, times: impl FnOnce(usize) -> BTreeSet<usize>) {
    let all = batches().unwrap();
    assert!(
        all > 20,
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
    BTreeSet::from([0, 1, all / 3, all / 2, all - 1])
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
    killed_at("after-sweep", once);
}
