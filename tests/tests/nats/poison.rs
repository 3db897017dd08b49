//! Tasks that fail whoever does them, tasks that are not for everybody, and workers that come, go and are shared.

use std::time::Duration;

use anyhow::{Context, Result};
use hardprune_tests::fleet::{Fleet, wait_for_file, wait_until};
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::nats_client::{NatsClient, TASKS};
use hardprune_tests::nats_server::NatsOptions;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::scene::{Running, Scene, number, report_of};
use serde_json::{Value, json};

fn shape() -> Shape {
    Shape {
        images: 80,
        orphans: 400,
        ..Shape::small(61)
    }
}

fn fleet() -> Fleet {
    Fleet::of(Scene::on_s3(&shape(), S3Options::default()).unwrap()).unwrap()
}

/// A shard that has something to delete, and the file of its plan.
fn planned_shard(fleet: &Fleet) -> Result<(String, String)> {
    let path = fleet.scene.state_files("/plan.json")?.remove(0);
    let plan: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let shards = plan["shards"].as_array().context("no shards")?;
    let shard = shards
        .iter()
        .find(|shard| {
            shard["findings"]["parts"]
                .as_array()
                .is_some_and(|parts| !parts.is_empty())
        })
        .context("nothing to delete")?;
    let key = shard["findings"]["parts"][0]["key"].as_str().context("no key")?;
    Ok((shard["scope"]["shard"].to_string(), key.to_owned()))
}

#[test]
fn a_sweep_that_always_fails_is_set_aside_and_the_rest_is_done() {
    let fleet = fleet();
    let _workers = fleet.workers(2).unwrap();
    let hold = fleet.scene.folder().join("hold");
    let failpoints = format!("after-lock-allows=1*return({})", hold.display());
    let coordinator = fleet.start_delete(&failpoints, &[]).unwrap();
    wait_for_file(&hold).unwrap();
    // What a plan says must be what was sealed: whoever reads this part fails.
    let (_, part) = planned_shard(&fleet).unwrap();
    let path = fleet.scene.state().join(&part);
    let sealed = std::fs::read(&path).unwrap();
    std::fs::write(&path, [sealed.as_slice(), b"\n"].concat()).unwrap();
    coordinator.release().unwrap();
    let finished = coordinator.finish().unwrap();
    let report = report_of(&finished, 5).unwrap();
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    assert_eq!(report["outcome"], "completed");
    assert_eq!(
        finished.stderr.matches("a task failed").count(),
        5,
        "{}",
        finished.stderr
    );
    assert_eq!(report["problems"]["by_kind"]["task_failed"], 1);
    let problems = report["problems"]["first"].as_array().unwrap();
    let problem = problems
        .iter()
        .find(|problem| problem["kind"] == "task_failed")
        .unwrap();
    let message = problem["message"].as_str().unwrap();
    assert!(
        message.contains("task sweep-") && message.contains("has changed"),
        "{message}"
    );
    let left = number(&report, "/blobs/not_attempted").unwrap();
    assert!(
        left > 0 && number(&report, "/blobs/deleted").unwrap() + left == 400,
        "{report}"
    );
    // The next run deletes what this one left.
    fleet.delete(0, &[]).unwrap();
    assert_eq!(fleet.scene.check(&[]).unwrap()["blobs"]["orphaned"], 0);
}

#[test]
fn a_shard_that_cannot_be_listed_ends_the_run_and_nothing_is_deleted() {
    let fleet = fleet();
    let _workers = fleet.workers(2).unwrap();
    let denied = Effect::Status(403, "AccessDenied");
    let fault = Fault::on(Operation::List, denied).of_keys_with("docker/registry/v2/blobs/sha256/0");
    fleet.scene.server().unwrap().faults().add(fault);
    let url = fleet.nats.url();
    let finished = fleet
        .scene
        .program
        .run(&fleet.scene.delete(&fleet.options(&url, &[])))
        .unwrap();
    assert_eq!(finished.status, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("failed 5 times"), "{}", finished.stderr);
    assert!(finished.stderr.contains("task plan-"), "{}", finished.stderr);
    assert!(fleet.scene.difference().unwrap().removed.is_empty());
    fleet.scene.server().unwrap().faults().clear();
    let report = fleet.delete(0, &[]).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn a_range_that_cannot_be_marked_ends_the_run_and_nothing_is_deleted() {
    let fleet = fleet();
    let fault = Fault::on(Operation::List, Effect::Html200).of_keys_with("docker/registry/v2/repositories/");
    let coordinator = fleet.start_delete("", &[]).unwrap();
    let looker = NatsClient::connect(&fleet.nats.url()).unwrap();
    wait_until("mark tasks", || {
        looker
            .subjects(TASKS, "hardprune.tasks.*.mark.>")
            .is_ok_and(|tasks| !tasks.is_empty())
    })
    .unwrap();
    fleet.scene.server().unwrap().faults().add(fault);
    let _workers = fleet.workers(2).unwrap();
    let finished = coordinator.finish().unwrap();
    assert_eq!(finished.status, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("task mark-"), "{}", finished.stderr);
    assert!(finished.stderr.contains("failed 5 times"), "{}", finished.stderr);
    assert!(fleet.scene.difference().unwrap().removed.is_empty());
    fleet.scene.server().unwrap().faults().clear();
    let report = fleet.delete(0, &[]).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn a_task_of_another_version_is_given_back_and_said_once() {
    let fleet = fleet();
    let worker = fleet.worker().unwrap();
    let hold = fleet.scene.folder().join("hold");
    let failpoints = format!("after-lock-allows=1*return({})", hold.display());
    let coordinator = fleet.start_delete(&failpoints, &[]).unwrap();
    wait_for_file(&hold).unwrap();
    let newer = NatsClient::connect(&fleet.nats.url()).unwrap();
    let run = newer.run().unwrap();
    let task = json!({"version": 99, "id": "of-later", "epoch": {"run": run, "number": 1}, "work": {"kind": "other"}});
    newer.send_task(&run, &task).unwrap();
    worker.wait_for_line("message version 99").unwrap();
    // It comes again after a while, and again.
    let deliveries = || newer.deliveries(&run).unwrap();
    let before = deliveries();
    wait_until("it to come twice again", || deliveries() > before + 1).unwrap();
    assert_eq!(
        worker.log().matches("message version 99").count(),
        1,
        "{}",
        worker.log()
    );
    assert_eq!(
        newer.pending(&run).unwrap(),
        (0, 1),
        "it is still there, for a worker that reads it"
    );
    coordinator.release().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn a_worker_without_the_store_leaves_a_run_to_others_and_says_so_once() {
    let fleet = fleet();
    let elsewhere = fleet.scene.folder().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let url = fleet.nats.url();
    let arguments = ["--nats", &url, "-v", "--store", elsewhere.to_str().unwrap()];
    let without = fleet.bare_worker("", &arguments).unwrap();
    let coordinator = fleet.start_delete("", &[]).unwrap();
    without
        .wait_for_line("a store that this worker was not started with")
        .unwrap();
    let _with = fleet.worker().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
    assert_eq!(number(&report, "/workers").unwrap(), 1);
    assert_eq!(
        without.log().matches("was not started with").count(),
        1,
        "{}",
        without.log()
    );
}

/// Starts a delete of a registry in a folder.
fn start_on_folder(fleet: &Fleet, registry: &std::path::Path) -> Result<Running> {
    let url = fleet.nats.url();
    let registry = registry.to_str().context("a plain name")?;
    let arguments = ["delete", registry, "--assume-read-only", "--output", "json"];
    let arguments = [arguments.as_slice(), &fleet.options(&url, &[])].concat();
    Running::of(
        fleet.scene.start_with("", &arguments)?,
        fleet.scene.folder().join("no-hold"),
    )
}

#[test]
fn runs_on_two_registries_share_one_worker() {
    let fleet = Fleet::with_slow_deletes(&shape(), Duration::from_secs(1)).unwrap();
    let second = fleet.scene.folder().join("second");
    std::fs::create_dir(&second).unwrap();
    let storage = hardprune_tests::storage_writer::Folder::new(&second);
    // Fewer tasks than the first run has sweeps.
    let tiny = Shape {
        repositories: 1,
        images: 1,
        multi_arch_percent: 0,
        untagged_images: 0,
        signatures: 0,
        orphans: 1,
        young_orphans: 0,
        ..Shape::small(62)
    };
    let truth = generate(&tiny, &storage).unwrap();
    let stores = fleet.scene.store_names();
    let url = fleet.nats.url();
    let mut arguments = vec![
        "--nats",
        &url,
        "-v",
        "--concurrency",
        "1",
        "--store",
        second.to_str().unwrap(),
    ];
    for store in &stores {
        arguments.extend(["--store", store]);
    }
    let first = fleet.start_delete("", &[]).unwrap();
    let _worker = fleet.bare_worker("", &arguments).unwrap();
    fleet.wait_for_deletes().unwrap();
    // The worker has one place, and many slow tasks of the first run wait for it.
    let second = start_on_folder(&fleet, &second).unwrap();
    let second = report_of(&second.finish().unwrap(), 0).unwrap();
    assert_eq!(
        number(&second, "/blobs/deleted").unwrap(),
        truth.orphans.len() as u64
    );
    let left = fleet.scene.inventory().unwrap().blob_bytes();
    let first = report_of(&first.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&first).unwrap();
    let done = fleet.scene.inventory().unwrap().blob_bytes();
    assert!(left > done, "the second run waited until the first had ended");
}

#[test]
fn a_worker_that_is_told_to_stop_gives_its_tasks_to_others_at_once() {
    let fleet = Fleet::with_slow_deletes(&shape(), Duration::from_millis(400)).unwrap();
    let mut leaving = fleet.worker().unwrap();
    // A task that is not given back stays the worker's for longer than this test takes.
    let url = fleet.nats.url();
    let arguments = fleet
        .scene
        .delete(&["--nats", &url, "--lease", "60s", "--ack-wait", "300s"]);
    let hold = fleet.scene.folder().join("no-hold");
    let coordinator = Running::of(fleet.scene.start_with("", &arguments).unwrap(), hold).unwrap();
    wait_until("a sweep that has begun", || {
        fleet
            .scene
            .state_files("journal/sweep")
            .is_ok_and(|files| !files.is_empty())
    })
    .unwrap();
    leaving.signal("TERM").unwrap();
    let _other = fleet.worker().unwrap();
    assert_eq!(leaving.wait().unwrap(), 0, "{}", leaving.log());
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
    assert!(!leaving.log().contains("ERROR"), "{}", leaving.log());
}

#[test]
fn a_worker_that_is_told_to_stop_while_it_marks_gives_its_tasks_to_others_at_once() {
    let options = S3Options {
        latency: Duration::from_millis(100).into(),
        ..S3Options::default()
    };
    let fleet = Fleet::with(Scene::on_s3(&shape(), options).unwrap(), &NatsOptions::default()).unwrap();
    let mut leaving = fleet.worker().unwrap();
    let url = fleet.nats.url();
    let arguments = fleet
        .scene
        .delete(&["--nats", &url, "--lease", "60s", "--ack-wait", "300s"]);
    let hold = fleet.scene.folder().join("no-hold");
    let coordinator = Running::of(fleet.scene.start_with("", &arguments).unwrap(), hold).unwrap();
    leaving.wait_for_line("takes tasks of a run").unwrap();
    leaving.signal("TERM").unwrap();
    assert_eq!(leaving.wait().unwrap(), 0, "{}", leaving.log());
    let _other = fleet.worker().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

/// A request for a task that is under way when the worker is told to stop is answered all the same.
#[test]
fn a_task_that_a_stopping_worker_is_handed_goes_back_at_once() {
    let fleet = fleet();
    let hold = fleet.scene.folder().join("handed");
    let failpoints = format!("worker-handed-a-task=1*return({})", hold.display());
    let mut leaving = fleet.worker_with(&fleet.nats.url(), &failpoints, &[]).unwrap();
    let url = fleet.nats.url();
    let arguments = fleet
        .scene
        .delete(&["--nats", &url, "--lease", "60s", "--ack-wait", "300s"]);
    let no_hold = fleet.scene.folder().join("no-hold");
    let coordinator = Running::of(fleet.scene.start_with("", &arguments).unwrap(), no_hold).unwrap();
    wait_for_file(&hold).unwrap();
    leaving.signal("TERM").unwrap();
    leaving.wait_for_line("batches in flight end first").unwrap();
    std::fs::remove_file(&hold).unwrap();
    assert_eq!(leaving.wait().unwrap(), 0, "{}", leaving.log());
    let _other = fleet.worker().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn a_worker_that_comes_before_any_coordinator_waits_for_one() {
    let fleet = fleet();
    let mut worker = fleet.worker().unwrap();
    worker
        .wait_for_line("no coordinator has used this NATS account")
        .unwrap();
    let report = fleet.delete(0, &[]).unwrap();
    fleet.check_finished(&report).unwrap();
    worker.signal("TERM").unwrap();
    assert_eq!(worker.wait().unwrap(), 0);
    // One that still waits ends as well.
    let other = Fleet::of(Scene::on_folder(&Shape::small(63)).unwrap()).unwrap();
    let mut waiting = other.worker().unwrap();
    waiting
        .wait_for_line("no coordinator has used this NATS account")
        .unwrap();
    waiting.signal("TERM").unwrap();
    assert_eq!(waiting.wait().unwrap(), 0);
}
