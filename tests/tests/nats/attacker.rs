//! Somebody who can reach nothing but NATS: may waste time, and deletes nothing. What is live stays, what is deleted is what
//! the sealed plan names, while its time is, and the accounts are exact.

use std::path::PathBuf;

use anyhow::{Context, Result};
use hardprune_tests::content::digest_of;
use hardprune_tests::fleet::{Fleet, Worker, wait_for_file, wait_until};
use hardprune_tests::generate::Shape;
use hardprune_tests::nats_client::{NatsClient, REPORTS, RUNS, TASKS};
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Running, Scene, report_of};
use hardprune_tests::storage_writer::blob_key;
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

#[test]
fn tasks_that_were_made_up_delete_nothing() {
    let (fleet, attacker) = fleet();
    let worker = fleet.worker().unwrap();
    let (coordinator, run) = held_at(&fleet, "after-lock-allows", &["--delete-untagged"]);
    let plan = document(&fleet, "/plan.json");
    let before: Vec<_> = std::fs::read_dir(fleet.scene.folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let (unlinks, dangling) = (
        plan["unlink"].as_array().unwrap(),
        plan["dangling"].as_array().unwrap(),
    );
    assert!(!unlinks.is_empty() && !dangling.is_empty(), "{plan}");
    // R6: what is not due yet.
    let shards = plan["shards"].as_array().unwrap();
    let sweeps = shards
        .iter()
        .map(|shard| format!("sweep-{}", name(&shard["scope"]["shard"])));
    let links = (unlinks.len()..unlinks.len() + dangling.len()).map(|place| format!("unlink-{place:06}"));
    let due_later: Vec<String> = sweeps.chain(links).collect();
    for id in &due_later {
        for kind in ["sweep", "unlink"] {
            attacker
                .send_task(&run, &task(&fleet, &run, id, json!({"kind": kind})))
                .unwrap();
        }
    }
    // What no plan has, and what is no name.
    for id in [
        "sweep-zz",
        "unlink-999999",
        "sweep-",
        "mark-000001",
        "../../escaped",
        "a/b",
        "",
        "sweep-00/../../x",
    ] {
        attacker
            .send_task(&run, &task(&fleet, &run, id, json!({"kind": "sweep"})))
            .unwrap();
    }
    // Other epochs, and stores that the worker was not started with.
    let sweep = task(&fleet, &run, &due_later[0], json!({"kind": "sweep"}));
    for epoch in [0, 2, 4_000_000_000_u32] {
        attacker
            .send_task(&run, &with(sweep.clone(), "/epoch/number", json!(epoch)))
            .unwrap();
    }
    attacker
        .send_task(&run, &with(sweep.clone(), "/epoch/run", json!(NOBODY)))
        .unwrap();
    let elsewhere = with(sweep.clone(), "/registry", json!("s3://of-others"));
    attacker.send_task(&run, &elsewhere).unwrap();
    attacker
        .send_task(&run, &with(sweep, "/state", json!("/tmp")))
        .unwrap();
    // What is no task.
    let subject = format!("hardprune.tasks.{run}.sweep.odd");
    for garbage in [
        &b"garbage"[..],
        b"",
        b"{}",
        b"[1,2,3]",
        b"\xff\xfe",
        b"{\"version\":1}",
    ] {
        attacker.send(&subject, garbage.to_vec()).unwrap();
    }
    attacker.send(&subject, vec![b'['; 900_000]).unwrap();
    attacker
        .send_task(
            &run,
            &task(&fleet, &run, &"a".repeat(900_000), json!({"kind": "sweep"})),
        )
        .unwrap();
    // The two on other stores come back again and again.
    wait_until_taken(&attacker, &run, 2);
    worker.wait_for_line("is not due").unwrap();
    worker.wait_for_line("has no task").unwrap();
    check_nothing_went(&fleet);
    let after: Vec<_> = std::fs::read_dir(fleet.scene.folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(after.len(), before.len(), "{after:?}");
    coordinator.release().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    assert_eq!(
        report["blobs"]["deleted"],
        fleet.scene.orphans_and_untagged().len()
    );
    assert!(fleet.scene.state_files("escaped").unwrap().is_empty());
}

#[test]
fn marks_with_other_ranges_and_rules_are_not_believed() {
    let (fleet, attacker) = fleet();
    let mut coordinator = fleet.start_delete("", &[]).unwrap();
    wait_until("mark tasks", || {
        attacker
            .subjects(TASKS, "hardprune.tasks.*.mark.>")
            .is_ok_and(|tasks| tasks.len() > 2)
    })
    .unwrap();
    let run = attacker.run().unwrap();
    let subjects = attacker.subjects(TASKS, "hardprune.tasks.*.mark.>").unwrap();
    let real: Vec<Value> = subjects
        .iter()
        .map(|subject| attacker.last(TASKS, subject).unwrap().unwrap())
        .collect();
    // Instead of the real ones, which are gone: ranges without repositories, and rules by which nothing is young.
    attacker.purge(TASKS, "hardprune.tasks.>").unwrap();
    for task in real {
        let nowhere = json!({"after": null, "to": "docker/registry/v2/repositories/!"});
        attacker
            .send_task(&run, &with(task.clone(), "/work/range", nowhere))
            .unwrap();
        let rules = with(task, "/work/rules/cutoff", far_future());
        attacker
            .send_task(&run, &with(rules, "/work/rules/delete_untagged", json!(true)))
            .unwrap();
    }
    let _worker = fleet.worker().unwrap();
    coordinator.wait_for_line("a report is not believed").unwrap();
    coordinator.wait_for_line("it is sent again").unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn plans_with_other_filters_and_cutoffs_are_not_believed() {
    let (fleet, attacker) = fleet();
    let _worker = fleet.worker().unwrap();
    let (coordinator, run) = held_at(&fleet, "after-seal", &[]);
    let mark = document(&fleet, "/mark.json");
    let filters = mark["filters"].as_array().unwrap();
    for (place, filter) in filters.iter().enumerate() {
        let other = &filters[(place + 1) % filters.len()];
        let shard = name(&filter["shard"]);
        let plan = task(
            &fleet,
            &run,
            &format!("plan-{shard}"),
            json!({
                "kind": "plan", "scope": {"shard": filter["shard"]}, "filter": filter["filter"], "cutoff": far_future(), "reviewed": null,
            }),
        );
        // By these all that is young would go, or all that another filter does not know.
        attacker.send_task(&run, &plan).unwrap();
        attacker
            .send_task(&run, &with(plan.clone(), "/work/filter", other["filter"].clone()))
            .unwrap();
        attacker
            .send_task(&run, &with(plan, "/work/filter", Value::Null))
            .unwrap();
    }
    coordinator.release().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn reports_that_were_made_up_are_not_believed() {
    let (fleet, attacker) = fleet();
    let worker = fleet.worker().unwrap();
    let (mut coordinator, run) = held_at(&fleet, "after-seal", &[]);
    worker.kill().unwrap();
    let of_mark = file(
        &fleet.scene.state_files("/reports/mark-000001").unwrap()[0],
        &fleet,
    );
    let record = file(&fleet.scene.state_files("/run.json").unwrap()[0], &fleet);
    coordinator.release().unwrap();
    wait_until("plan tasks", || {
        attacker
            .subjects(TASKS, "hardprune.tasks.*.plan.>")
            .is_ok_and(|tasks| tasks.len() > 2)
    })
    .unwrap();
    for subject in attacker.subjects(TASKS, "hardprune.tasks.*.plan.>").unwrap() {
        let id = subject.split('.').next_back().unwrap();
        let found = |file: &Value| json!({"found": file});
        for (attempt, result) in [
            ("1", found(&of_mark)),
            ("2", found(&record)),
            (
                "3",
                found(&with(of_mark.clone(), "/sha256", json!(digest_of(b"other")))),
            ),
            (
                "4",
                found(&with(
                    of_mark.clone(),
                    "/key",
                    json!(format!("hardprune/runs/{run}/1/reports/none.json")),
                )),
            ),
            (
                "5",
                found(&with(of_mark.clone(), "/key", json!("../../../../etc/passwd"))),
            ),
            (
                "6",
                found(&with(
                    of_mark.clone(),
                    "/key",
                    json!(format!("hardprune/runs/{run}/1/reports/../mark.json")),
                )),
            ),
            ("7", json!({"failed": "it was not me\n\u{1b}[31m"})),
            ("7", json!({"failed": "it was not me"})),
        ] {
            attacker.send_report(&run, id, attempt, &result).unwrap();
        }
        attacker
            .send(&format!("hardprune.reports.{run}.{id}"), "garbage")
            .unwrap();
    }
    for line in [
        "is not in",
        "it is of another task with this id",
        "has changed",
        "a task failed",
        "cannot be read",
    ] {
        coordinator.wait_for_line(line).unwrap();
    }
    let _worker = fleet.worker().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn failures_that_were_made_up_end_a_run_that_deletes_nothing() {
    let (fleet, attacker) = fleet();
    let coordinator = fleet.start_delete("", &[]).unwrap();
    wait_until("mark tasks", || {
        attacker
            .subjects(TASKS, "hardprune.tasks.*.mark.>")
            .is_ok_and(|tasks| !tasks.is_empty())
    })
    .unwrap();
    let run = attacker.run().unwrap();
    for attempt in 0..5 {
        let failed = json!({"failed": "made up"});
        attacker
            .send_report(&run, "mark-000001", &attempt.to_string(), &failed)
            .unwrap();
    }
    let finished = coordinator.finish().unwrap();
    assert_eq!(finished.status, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("made up"), "{}", finished.stderr);
    check_nothing_went(&fleet);
    let _worker = fleet.worker().unwrap();
    let report = fleet.delete(0, &[]).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn requests_that_were_made_up_do_not_end_the_coordinator() {
    let (fleet, attacker) = fleet();
    let mut coordinator = fleet.start_delete("", &[]).unwrap();
    wait_until("mark tasks", || {
        attacker
            .subjects(TASKS, "hardprune.tasks.*.mark.>")
            .is_ok_and(|tasks| !tasks.is_empty())
    })
    .unwrap();
    let run = attacker.run().unwrap();
    for attempt in ["1", "2"] {
        let most = u64::MAX;
        let report = json!({
            "version": 1, "epoch": {"run": run, "number": 1}, "task": "mark-000001", "attempt": attempt, "worker": "nobody",
            "requests": {"list": most, "get": most, "head": most, "put": most, "copy": most, "delete": most},
            "result": {"failed": "made up"},
        });
        attacker
            .send_json(&format!("hardprune.reports.{run}.mark-000001"), &report)
            .unwrap();
    }
    attacker
        .send(&format!("hardprune.reports.{run}.mark-000001"), "garbage")
        .unwrap();
    coordinator.wait_for_line("cannot be read").unwrap();
    let _worker = fleet.worker().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

/// The coordinator has ended: whatever NATS says, whoever is about to send a request sends none. Goes on and ends right.
fn check_nothing_more_goes(
    fleet: &Fleet,
    mut worker: Worker,
    hold: &std::path::Path,
    report: &Value,
) -> Result<()> {
    fleet.scene.check_accounts(report)?;
    let ended = fleet.scene.inventory()?;
    std::fs::remove_file(hold)?;
    // It wakes up right before its request, and ends that before it leaves.
    worker.signal("TERM")?;
    assert_eq!(worker.wait()?, 0, "{}", worker.log());
    let more = ended.until(&fleet.scene.inventory()?);
    assert!(
        more.removed_blobs().is_empty(),
        "deleted after the coordinator's end: {more:?}"
    );
    fleet.scene.check_accounts(report)?;
    let _worker = fleet.worker()?;
    let report = fleet.resume()?;
    fleet.check_finished(&report)
}

#[test]
fn nothing_goes_after_a_stop_though_the_claims_are_removed() {
    let (fleet, attacker) = fleet();
    let (worker, hold) = worker_held_before_its_request(&fleet);
    let coordinator = fleet.start_delete("", &[]).unwrap();
    wait_for_file(&hold).unwrap();
    let run = attacker.run().unwrap();
    // Whoever asks NATS who is at work hears that nobody is.
    attacker
        .purge(RUNS, &format!("$KV.hardprune_runs.{run}.claims.>"))
        .unwrap();
    coordinator.signal("TERM").unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 4).unwrap();
    check_nothing_more_goes(&fleet, worker, &hold, &report).unwrap();
}

#[test]
fn nothing_goes_after_tasks_were_given_up_by_failures_that_were_made_up() {
    let (fleet, attacker) = fleet();
    let (mut worker, hold) = worker_held_before_its_request(&fleet);
    let coordinator = fleet.start_delete("", &[]).unwrap();
    wait_for_file(&hold).unwrap();
    let run = attacker.run().unwrap();
    for subject in attacker.subjects(TASKS, "hardprune.tasks.*.sweep.>").unwrap() {
        let id = subject.split('.').next_back().unwrap();
        for attempt in 0..5 {
            let failed = json!({"failed": "made up"});
            attacker
                .send_report(&run, id, &attempt.to_string(), &failed)
                .unwrap();
        }
    }
    let report = report_of(&coordinator.finish().unwrap(), 5).unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    let ended = fleet.scene.inventory().unwrap();
    std::fs::remove_file(&hold).unwrap();
    worker.signal("TERM").unwrap();
    assert_eq!(worker.wait().unwrap(), 0, "{}", worker.log());
    let more = ended.until(&fleet.scene.inventory().unwrap());
    assert!(
        more.removed_blobs().is_empty(),
        "deleted after the coordinator's end: {more:?}"
    );
    // The next run takes what this one left.
    let _worker = fleet.worker().unwrap();
    fleet.delete(0, &[]).unwrap();
    fleet.scene.check_intact().unwrap();
    assert_eq!(fleet.scene.check(&[]).unwrap()["blobs"]["orphaned"], 0);
}

#[test]
fn claims_that_were_taken_from_a_worker_are_had_once_its_request_has_ended() {
    for change in ["released", "removed"] {
        let (fleet, attacker) = fleet();
        let (mut held, hold) = worker_held_before_its_request(&fleet);
        let url = fleet.nats.url();
        // Requests that may take longer than all the rest.
        let arguments = fleet
            .scene
            .delete(&["--nats", &url, "--lease", "30s", "--ack-wait", "2s"]);
        let no_hold = fleet.scene.folder().join("no-hold");
        let coordinator = Running::of(fleet.scene.start_with("", &arguments).unwrap(), no_hold).unwrap();
        wait_for_file(&hold).unwrap();
        let run = attacker.run().unwrap();
        let claim_key = claims(&attacker, &run)
            .into_iter()
            .find(|key| key.contains("sweep"))
            .unwrap();
        let id = claim_key.split('.').next_back().unwrap();
        let subject = format!("hardprune.tasks.{run}.sweep.{id}");
        match change {
            "removed" => attacker.purge(RUNS, &claim_key).unwrap(),
            state => attacker.send_json(&claim_key, &claim(state)).unwrap(),
        }
        attacker.send_again(TASKS, &subject).unwrap();
        let other = fleet.worker().unwrap();
        let report = ended(coordinator, &other, 0);
        fleet.check_finished(&report).unwrap();
        // The run is over, and what it deleted is pushed again.
        let server = fleet.scene.server().unwrap();
        for orphan in fleet.scene.orphans() {
            server.put(&blob_key(&orphan), "pushed again", None);
        }
        let pushed = fleet.scene.inventory().unwrap();
        std::fs::remove_file(&hold).unwrap();
        held.signal("TERM").unwrap();
        assert_eq!(held.wait().unwrap(), 0, "{}", held.log());
        let gone = pushed.until(&fleet.scene.inventory().unwrap());
        assert!(gone.removed_blobs().is_empty(), "{change}: {gone:?}");
    }
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

#[test]
fn claims_that_were_made_up_or_removed_cost_time_only() {
    for state in ["working", "released", "done", "garbage"] {
        let (fleet, attacker) = fleet();
        let (coordinator, worker) = disturbed(&fleet, &attacker, |run| {
            let all = [claims(&attacker, run), claims_to_come(&attacker, run)].concat();
            assert!(all.len() > 5, "{all:?}");
            // A few: each that seems to be somebody's is waited for.
            for key in all.into_iter().take(4) {
                match state {
                    "garbage" => attacker.send(&key, state).unwrap(),
                    state => attacker.send_json(&key, &claim(state)).unwrap(),
                }
            }
        });
        let report = ended(coordinator, &worker, 0);
        fleet.check_finished(&report).unwrap();
    }
    let (fleet, attacker) = fleet();
    let (coordinator, worker) = disturbed(&fleet, &attacker, |run| {
        attacker
            .purge(RUNS, &format!("$KV.hardprune_runs.{run}.claims.>"))
            .unwrap();
    });
    let report = ended(coordinator, &worker, 0);
    fleet.check_finished(&report).unwrap();
}

#[test]
fn streams_that_are_purged_cost_time_only() {
    for (stream, filter) in [
        (TASKS, "hardprune.tasks.>"),
        (REPORTS, "hardprune.reports.>"),
        (RUNS, "$KV.hardprune_runs.>"),
    ] {
        let (fleet, attacker) = fleet();
        let (coordinator, worker) = disturbed(&fleet, &attacker, |_| attacker.purge(stream, filter).unwrap());
        let report = ended(coordinator, &worker, 0);
        fleet.check_finished(&report).unwrap();
    }
}

#[test]
fn reports_that_are_removed_before_they_are_read_cost_time_only() {
    let (fleet, attacker) = fleet();
    let (worker, hold) = worker_held_before_its_request(&fleet);
    let coordinator = fleet.start_delete("", &[]).unwrap();
    wait_for_file(&hold).unwrap();
    let run = attacker.run().unwrap();
    coordinator.signal("STOP").unwrap();
    std::fs::remove_file(&hold).unwrap();
    wait_until("a task that is done", || {
        let done = claims(&attacker, &run).into_iter().filter(|key| {
            let claim = attacker.last(RUNS, key).unwrap();
            key.contains("sweep") && claim.is_some_and(|claim| claim["state"] == "done")
        });
        done.count() > 0
    })
    .unwrap();
    attacker.purge(REPORTS, "hardprune.reports.>").unwrap();
    coordinator.signal("CONT").unwrap();
    let report = ended(coordinator, &worker, 0);
    fleet.check_finished(&report).unwrap();
}

#[test]
fn a_consumer_that_is_deleted_costs_time_only() {
    let (fleet, attacker) = fleet();
    let (coordinator, worker) = disturbed(&fleet, &attacker, |run| attacker.delete_consumer(run).unwrap());
    let report = ended(coordinator, &worker, 0);
    fleet.check_finished(&report).unwrap();
}

#[test]
fn a_run_that_is_told_to_halt_or_that_it_is_another_stops_and_goes_on_later() {
    for (epoch, wanted) in [(1, "halt"), (1, "abort"), (7, "go")] {
        let (fleet, attacker) = fleet();
        let (coordinator, worker) = disturbed(&fleet, &attacker, |run| {
            attacker.want(run, epoch, wanted).unwrap()
        });
        let report = ended(coordinator, &worker, 4);
        fleet.scene.check_intact().unwrap();
        fleet.scene.check_accounts(&report).unwrap();
        let report = fleet.resume().unwrap();
        fleet.check_finished(&report).unwrap();
    }
}

#[test]
fn a_run_that_is_paused_by_somebody_goes_on_when_it_is_unpaused() {
    let (fleet, attacker) = fleet();
    let (mut coordinator, worker) =
        disturbed(&fleet, &attacker, |run| attacker.want(run, 1, "pause").unwrap());
    coordinator.wait_for_line("paused").unwrap();
    let run = attacker.run().unwrap();
    attacker.want(&run, 1, "go").unwrap();
    let report = ended(coordinator, &worker, 0);
    fleet.check_finished(&report).unwrap();
}

#[test]
fn garbage_in_place_of_what_a_run_is_stops_nothing() {
    let (fleet, attacker) = fleet();
    let (coordinator, worker) = disturbed(&fleet, &attacker, |run| {
        attacker
            .send(&format!("$KV.hardprune_runs.{run}.run"), "garbage")
            .unwrap();
        attacker.send("$KV.hardprune_runs.garbage", "garbage").unwrap();
        attacker.send("$KV.hardprune_workers.garbage", "garbage").unwrap();
    });
    let report = ended(coordinator, &worker, 0);
    fleet.check_finished(&report).unwrap();
}
