//! Somebody who can reach nothing but NATS: may waste time, and deletes nothing. What is live stays, what is deleted is what
//! the sealed plan names, while its time is, and the accounts are exact.

#[path = "attacker/claims.rs"]
mod claims;
#[path = "attacker/made_up.rs"]
mod made_up;
#[path = "attacker/removed.rs"]
mod removed;

use std::path::PathBuf;

use anyhow::Context;
use hardprune_tests::content::digest_of;
use hardprune_tests::fleet::{Fleet, Worker, wait_for_file, wait_until};
use hardprune_tests::generate::Shape;
use hardprune_tests::nats_client::{NatsClient, RUNS, TASKS};
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Running, Scene, report_of};
use serde_json::{Value, json};

const NOBODY: &str = "01JDK3V0000000000000000000";

fn shape() -> Shape {
    Shape {
        images: 80,
        orphans: 400,
        ..Shape::small(51)
    }
}

fn fleet() -> (Fleet, NatsClient) {
    let fleet = Fleet::of(Scene::on_s3(&shape(), S3Options::default()).unwrap()).unwrap();
    let attacker = NatsClient::connect(&fleet.nats.url()).unwrap();
    (fleet, attacker)
}

/// Starts a delete that is held at a failpoint.
fn held_at(fleet: &Fleet, failpoint: &str, others: &[&str]) -> (Running, String) {
    let hold = fleet.scene.folder().join("hold");
    let failpoints = format!("{failpoint}=1*return({})", hold.display());
    let coordinator = fleet.start_delete(&failpoints, others).unwrap();
    wait_for_file(&hold).unwrap();
    (coordinator, fleet.scene.run_id().unwrap())
}

/// A worker that does one task at a time, and is held right before the request of its first blobs.
fn worker_held_before_its_request(fleet: &Fleet) -> (Worker, PathBuf) {
    let hold = fleet.scene.folder().join("hold-worker");
    // The first request is that of the dangling links.
    let failpoints = format!("delete-before-request=1*off->1*return({})", hold.display());
    let worker = fleet
        .worker_with(&fleet.nats.url(), &failpoints, &["--concurrency", "1"])
        .unwrap();
    (worker, hold)
}

fn document(fleet: &Fleet, name: &str) -> Value {
    let path = fleet.scene.state_files(name).unwrap().remove(0);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A task of the run's first epoch on the stores that a worker has.
fn task(fleet: &Fleet, run: &str, id: &str, work: Value) -> Value {
    let record = document(fleet, "/run.json");
    json!({
        "version": 1, "id": id, "epoch": {"run": run, "number": 1}, "registry": record["registry"],
        "state": fleet.scene.state(), "work": work,
    })
}

fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

/// A shard's part of the ids of its tasks.
fn name(shard: &Value) -> String {
    let part = |name: &str| shard[name].as_str().unwrap().to_owned();
    format!("{}-{}", part("algorithm"), part("hex"))
}

fn far_future() -> Value {
    json!("2100-01-01T00:00:00Z")
}

/// Where the registry's own keys are: the lock is written again all the time.
fn check_nothing_went(fleet: &Fleet) {
    let difference = fleet.scene.difference().unwrap();
    assert!(difference.removed.is_empty(), "{:?}", difference.removed);
}

fn wait_until_taken(attacker: &NatsClient, run: &str, left_for_later: usize) {
    wait_until("the tasks to be taken", || {
        attacker
            .pending(run)
            .is_ok_and(|(waiting, in_hand)| waiting == 0 && in_hand <= left_for_later)
    })
    .unwrap();
}

fn file(path: &std::path::Path, fleet: &Fleet) -> Value {
    let bytes = std::fs::read(path).unwrap();
    let key = path.strip_prefix(fleet.scene.state()).unwrap();
    json!({"key": key, "sha256": digest_of(&bytes), "size": bytes.len(), "items": 1})
}

/// Holds a worker in the sweep, does something to the run, lets the worker go on. Returns the coordinator.
fn disturbed(fleet: &Fleet, attacker: &NatsClient, disturb: impl FnOnce(&str)) -> (Running, Worker) {
    let (worker, hold) = worker_held_before_its_request(fleet);
    let coordinator = fleet.start_delete("", &[]).unwrap();
    wait_for_file(&hold).with_context(|| worker.log()).unwrap();
    disturb(&attacker.run().unwrap());
    std::fs::remove_file(&hold).unwrap();
    (coordinator, worker)
}

/// Waits for the end of a run, which must be this one.
fn ended(coordinator: Running, worker: &Worker, wanted: i32) -> Value {
    let finished = coordinator.finish().with_context(|| worker.log()).unwrap();
    report_of(&finished, wanted).unwrap()
}

fn claims(attacker: &NatsClient, run: &str) -> Vec<String> {
    attacker
        .subjects(RUNS, &format!("$KV.hardprune_runs.{run}.claims.>"))
        .unwrap()
}

/// The claims that there will be of the tasks that nobody has begun yet.
fn claims_to_come(attacker: &NatsClient, run: &str) -> Vec<String> {
    let subjects = attacker.subjects(TASKS, "hardprune.tasks.*.sweep.>").unwrap();
    let ids = subjects
        .iter()
        .map(|subject| subject.split('.').next_back().unwrap());
    ids.map(|id| format!("$KV.hardprune_runs.{run}.claims.1.{id}"))
        .collect()
}

fn claim(state: &str) -> Value {
    json!({"version": 1, "attempt": "made-up", "worker": "nobody", "renewed": 0, "state": state})
}
