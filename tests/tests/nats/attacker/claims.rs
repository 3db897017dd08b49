//! Claims and wishes that were taken away while requests are under way.

use anyhow::Result;
use hardprune_tests::fleet::{Fleet, Worker, wait_for_file};
use hardprune_tests::nats_client::{RUNS, TASKS};
use hardprune_tests::scene::{Running, report_of};
use hardprune_tests::storage_writer::blob_key;
use serde_json::{Value, json};

use super::{claim, claims, ended, fleet, worker_held_before_its_request};

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
