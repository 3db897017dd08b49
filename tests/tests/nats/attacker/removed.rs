//! What is removed or made up in NATS costs time only.

use hardprune_tests::fleet::{wait_for_file, wait_until};
use hardprune_tests::nats_client::{REPORTS, RUNS, TASKS};

use super::{claim, claims, claims_to_come, disturbed, ended, fleet, worker_held_before_its_request};

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
