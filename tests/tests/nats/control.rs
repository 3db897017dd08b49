//! Runs that somebody looks at and steps into over NATS, and runs that have to end in time.

use std::time::Duration;

use anyhow::{Context, Result};
use hardprune_tests::fleet::{Fleet, Worker, wait_for_file, wait_until};
use hardprune_tests::generate::Shape;
use hardprune_tests::nats_client::{NatsClient, RUNS};
use hardprune_tests::program::Finished;
use hardprune_tests::scene::{Running, Scene, number, report_of};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

fn shape() -> Shape {
    Shape {
        images: 80,
        orphans: 400,
        ..Shape::small(71)
    }
}

/// A registry whose sweep takes many slow requests of one worker, one after another.
fn slow_fleet(delay: Duration) -> (Fleet, NatsClient) {
    let fleet = Fleet::with_slow_deletes(&shape(), delay).unwrap();
    let client = NatsClient::connect(&fleet.nats.url()).unwrap();
    (fleet, client)
}

fn single_worker(fleet: &Fleet) -> Worker {
    fleet
        .worker_with(&fleet.nats.url(), "", &["--concurrency", "1"])
        .unwrap()
}

/// `hardprune runs …` over NATS.
fn runs(fleet: &Fleet, arguments: &[&str]) -> Finished {
    let url = fleet.nats.url();
    let arguments = [&["runs"], arguments, &["--nats", &url]].concat();
    fleet.scene.program.run(&arguments).unwrap()
}

/// The same, which must end well. Returns what it printed.
fn runs_well(fleet: &Fleet, arguments: &[&str]) -> String {
    let finished = runs(fleet, arguments);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    finished.stdout
}

/// How often the claims of sweeps that are under way have been renewed.
fn renewals(client: &NatsClient, run: &str) -> Result<Option<u64>> {
    for key in client.subjects(RUNS, &format!("$KV.hardprune_runs.{run}.claims.>"))? {
        let claim = client.last(RUNS, &key)?.context("it is gone")?;
        if key.contains("sweep") && claim["state"] == "working" {
            return Ok(claim["renewed"].as_u64());
        }
    }
    Ok(None)
}

#[test]
fn a_paused_run_deletes_nothing_until_it_is_unpaused() {
    let (fleet, client) = slow_fleet(Duration::from_millis(10));
    let hold = fleet.scene.folder().join("hold-worker");
    let failpoints = format!("delete-before-request=1*off->1*return({})", hold.display());
    let _worker = fleet
        .worker_with(&fleet.nats.url(), &failpoints, &["--concurrency", "1"])
        .unwrap();
    let mut coordinator = fleet.start_delete("", &[]).unwrap();
    wait_for_file(&hold).unwrap();
    let run = client.run().unwrap();
    let said = runs_well(&fleet, &["pause", &run]);
    assert!(
        said.contains("nothing more is deleted until it is unpaused"),
        "{said}"
    );
    coordinator.wait_for_line("paused").unwrap();
    assert!(runs_well(&fleet, &["list"]).contains("paused in sweep"));
    // The request that had leave already ends; the next task has its claim, and waits.
    std::fs::remove_file(&hold).unwrap();
    let done = || {
        fleet.scene.state_files("journal/sweep").is_ok_and(|files| {
            files
                .iter()
                .any(|file| file.extension().is_some_and(|step| step == "deleted"))
        })
    };
    wait_until("the request to end", done).unwrap();
    wait_until("the next task to wait", || {
        renewals(&client, &run).is_ok_and(|renewals| renewals.is_some())
    })
    .unwrap();
    let paused = fleet.scene.inventory().unwrap();
    let before = renewals(&client, &run).unwrap().unwrap();
    wait_until("its worker to be at work for long", || {
        renewals(&client, &run).is_ok_and(|renewals| renewals.is_some_and(|now| now > before + 4))
    })
    .unwrap();
    assert!(paused.until(&fleet.scene.inventory().unwrap()).removed.is_empty());
    assert!(runs_well(&fleet, &["unpause", &run]).contains("goes on"));
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn an_aborted_run_stops_and_can_be_resumed() {
    for pause_first in [false, true] {
        let (fleet, client) = slow_fleet(Duration::from_millis(500));
        let _worker = single_worker(&fleet);
        let coordinator = fleet.start_delete("", &[]).unwrap();
        fleet.wait_for_deletes().unwrap();
        let run = client.run().unwrap();
        if pause_first {
            runs_well(&fleet, &["pause", &run]);
        }
        assert!(runs_well(&fleet, &["abort", &run]).contains("it can be resumed"));
        let finished = coordinator.finish().unwrap();
        let report = report_of(&finished, 4).unwrap();
        assert!(
            finished.stderr.contains("aborted by `hardprune runs abort`"),
            "{}",
            finished.stderr
        );
        assert_eq!(report["outcome"], "stopped");
        assert!(number(&report, "/blobs/not_attempted").unwrap() > 0, "{report}");
        fleet.scene.check_intact().unwrap();
        fleet.scene.check_accounts(&report).unwrap();
        fleet.scene.check_shown(&report).unwrap();
        assert!(runs_well(&fleet, &["list"]).contains("stopped, "));
        for command in ["pause", "unpause", "abort"] {
            let late = runs(&fleet, &[command, &run]);
            assert_eq!(late.status, 2, "{command}");
            assert!(late.stderr.contains("stopping, or over"), "{}", late.stderr);
        }
        fleet.scene.server().unwrap().faults().clear();
        let report = fleet.resume().unwrap();
        fleet.check_finished(&report).unwrap();
        assert_eq!(report["run"], run.as_str());
        // Of all epochs: what the first one deleted is not forgotten.
        let deleted = number(&report, "/blobs/deleted").unwrap();
        let listed = runs_well(&fleet, &["list"]);
        let ended = format!("completed, {deleted} blobs deleted");
        assert!(listed.contains(&ended), "no {ended:?} in {listed}");
    }
}

#[test]
fn an_aborted_mark_deletes_nothing() {
    let (fleet, client) = slow_fleet(Duration::ZERO);
    let coordinator = fleet.start_delete("", &[]).unwrap();
    wait_until("the run", || client.run().is_ok()).unwrap();
    let run = client.run().unwrap();
    runs_well(&fleet, &["abort", &run]);
    let finished = coordinator.finish().unwrap();
    assert_eq!(finished.status, 1, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("the run was stopped"),
        "{}",
        finished.stderr
    );
    assert!(fleet.scene.difference().unwrap().removed.is_empty());
}

#[test]
fn a_watched_run_is_shown_to_its_end() {
    let (fleet, client) = slow_fleet(Duration::from_millis(300));
    let _worker = single_worker(&fleet);
    let coordinator = fleet.start_delete("", &[]).unwrap();
    fleet.wait_for_deletes().unwrap();
    let run = client.run().unwrap();
    // It says how far it is once a second.
    wait_until("the sweep to be told of", || {
        runs_well(&fleet, &["list"]).contains("sweep: ")
    })
    .unwrap();
    let list = runs_well(&fleet, &["list"]);
    let url = fleet.nats.url();
    let watching = fleet
        .scene
        .start_with("", &["runs", "show", &run, "--watch", "--nats", &url])
        .unwrap();
    let watching = Running::of(watching, fleet.scene.folder().join("no-hold")).unwrap();
    assert!(
        list.contains(&run) && list.contains("delete") && list.contains("sweep: "),
        "{list}"
    );
    assert!(
        list.contains("worker ") && list.contains(env!("CARGO_PKG_VERSION")),
        "{list}"
    );
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
    let watched = watching.finish().unwrap();
    assert_eq!(watched.status, 0, "{}", watched.stderr);
    let lines: Vec<&str> = watched.stdout.lines().collect();
    assert!(lines.len() > 1 && lines[0].starts_with("sweep: "), "{lines:?}");
    assert!(
        lines[0].contains(" of ") && lines[0].contains("1 workers"),
        "{lines:?}"
    );
    let last = lines.last().unwrap();
    assert!(last.starts_with("completed, 400 blobs deleted, "), "{lines:?}");
}

#[test]
fn a_run_that_nobody_knows_is_no_run() {
    let (fleet, _) = slow_fleet(Duration::ZERO);
    let nobody = "01JDK3V0000000000000000000";
    let finished = runs(&fleet, &["list"]);
    assert_eq!(finished.status, 2, "nothing is set up yet: {}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("no coordinator has used this NATS account"),
        "{}",
        finished.stderr
    );
    let _worker = fleet.worker().unwrap();
    fleet.delete(0, &[]).unwrap();
    for arguments in [
        ["show", nobody, "--watch"].as_slice(),
        &["pause", nobody],
        &["unpause", nobody],
        &["abort", nobody],
    ] {
        let finished = runs(&fleet, arguments);
        assert_eq!(finished.status, 2, "{}", finished.stderr);
        assert!(
            finished.stderr.contains(&format!("knows of no run {nobody}")),
            "{}",
            finished.stderr
        );
    }
    for arguments in [
        ["runs", "pause", nobody].as_slice(),
        &["runs", "show", nobody, "--watch"],
    ] {
        let finished = fleet.scene.program.run(arguments).unwrap();
        assert_eq!(finished.status, 2, "{}", finished.stderr);
        assert!(finished.stderr.contains("--nats"), "{}", finished.stderr);
    }
}

#[test]
fn a_run_ends_after_its_longest_duration_and_another_completes_it() {
    // Sixteen sweeps of two seconds each.
    let (fleet, _) = slow_fleet(Duration::from_secs(2));
    let _worker = single_worker(&fleet);
    let finished = fleet
        .start_delete("", &["--max-duration", "15s"])
        .unwrap()
        .finish()
        .unwrap();
    let report = report_of(&finished, 4).unwrap();
    assert!(finished.stderr.contains("stops by "), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("the deadline has come"),
        "{}",
        finished.stderr
    );
    assert_eq!(report["outcome"], "stopped");
    let (deleted, left) = (
        number(&report, "/blobs/deleted").unwrap(),
        number(&report, "/blobs/not_attempted").unwrap(),
    );
    assert!(deleted > 0 && left > 0, "{report}");
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    fleet.scene.server().unwrap().faults().clear();
    let resumed = fleet.resume().unwrap();
    fleet.check_finished(&resumed).unwrap();
    assert_eq!((&resumed["run"], &resumed["epochs"]), (&report["run"], &2.into()));
    assert_eq!(number(&resumed, "/blobs/deleted").unwrap(), 400);
}

/// When clocks of a zone show four o'clock the next time.
fn next_four_o_clock(zone: &str) -> String {
    let now = Timestamp::now().to_zoned(TimeZone::get(zone).unwrap());
    let today = now
        .date()
        .at(4, 0, 0, 0)
        .to_zoned(now.time_zone().clone())
        .unwrap();
    let next = if today > now {
        today
    } else {
        today.checked_add(1.day()).unwrap()
    };
    next.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[test]
fn a_deadline_is_the_next_time_of_the_machines_zone() {
    for (zone, offset) in [("Asia/Tokyo", "UTC+09:00"), ("America/Phoenix", "UTC-07:00")] {
        let scene = Scene::on_folder(&Shape::small(72)).unwrap().with("TZ", zone);
        let before = next_four_o_clock(zone);
        let finished = scene
            .program
            .run(&scene.delete(&["--deadline", "04:00"]))
            .unwrap();
        let after = next_four_o_clock(zone);
        report_of(&finished, 0).unwrap();
        let said = |at: &str| {
            finished
                .stderr
                .contains(&format!("stops by {at} ({zone}, {offset}), in "))
        };
        assert!(said(&before) || said(&after), "{before}: {}", finished.stderr);
    }
}

#[test]
fn what_cannot_be_done_as_asked_is_said_before_anything_is_done() {
    let scene = Scene::on_folder(&Shape::small(72)).unwrap();
    let storage = &scene.store_names()[0];
    for (arguments, says) in [
        (
            scene.delete(&["--deadline", "25:00"]),
            "write the time of day as 04:00",
        ),
        (
            scene.delete(&["--deadline", "soon"]),
            "write the time of day as 04:00",
        ),
        (scene.delete(&["--max-duration", "3"]), "--max-duration"),
        (
            scene.delete(&["--deadline", "04:00", "--max-duration", "3h"]),
            "cannot be used with",
        ),
        (vec!["check", storage, "--nats", "nats://127.0.0.1:1"], "--state"),
        (scene.delete(&["--nats", ""]), "nats://host:4222"),
        (
            scene.delete(&["--nats-replicas", "9", "--nats", "nats://127.0.0.1:1"]),
            "--nats-replicas",
        ),
    ] {
        let finished = scene.program.run(&arguments).unwrap();
        assert_eq!(finished.status, 2, "{arguments:?}: {}", finished.stderr);
        assert!(
            finished.stderr.contains(says),
            "{arguments:?}: {}",
            finished.stderr
        );
    }
    assert!(scene.difference().unwrap().is_empty());
}

#[test]
fn programs_whose_server_is_gone_stop_when_they_are_told_to() {
    let (mut fleet, client) = slow_fleet(Duration::ZERO);
    let coordinator = fleet.start_delete("", &[]).unwrap();
    wait_until("the run", || client.run().is_ok()).unwrap();
    fleet.nats.stop().unwrap();
    coordinator.signal("TERM").unwrap();
    let finished = coordinator.finish().unwrap();
    assert_eq!(finished.status, 1, "{}", finished.stderr);
    // In the middle of a sweep, with a worker.
    let (mut fleet, _) = slow_fleet(Duration::from_millis(500));
    let mut worker = single_worker(&fleet);
    let coordinator = fleet.start_delete("", &[]).unwrap();
    fleet.wait_for_deletes().unwrap();
    fleet.nats.stop().unwrap();
    coordinator.signal("TERM").unwrap();
    worker.signal("TERM").unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 4).unwrap();
    assert_eq!(worker.wait().unwrap(), 0, "{}", worker.log());
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    fleet.nats.start_again().unwrap();
    let _worker = fleet.worker().unwrap();
    let report = fleet.resume().unwrap();
    fleet.check_finished(&report).unwrap();
}
