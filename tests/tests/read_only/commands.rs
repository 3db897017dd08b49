//! Commands switch the registry and switch it back: in their order, after an error, on a signal, after a crash.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{KILLED, Scene, number, report_of};
use serde_json::json;

use crate::scripted::{Switchable, delete, refused};

const RECORD: &str = "hardprune/read-only.json";

/// A registry whose commands write down that they were run.
struct Commanded {
    scene: Scene,
    log: PathBuf,
    read_only: String,
    read_write: String,
}

impl Commanded {
    fn of(scene: Scene) -> Self {
        let log = scene.folder().join("commands");
        let says = |word: &str| format!("echo {word} >> {}", log.display());
        Self {
            read_only: says("read-only"),
            read_write: says("read-write"),
            log,
            scene,
        }
    }

    fn in_folder() -> Self {
        Self::of(Scene::on_folder(&Shape::small(25)).unwrap())
    }

    fn delete<'a>(&'a self, others: &[&'a str]) -> Vec<&'a str> {
        let commands = [
            "--read-only-command",
            self.read_only.as_str(),
            "--read-write-command",
            self.read_write.as_str(),
        ];
        delete(&self.scene, &[&commands, others].concat())
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn record(&self) -> Option<serde_json::Value> {
        let bytes = self.scene.storage().get(RECORD).unwrap()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    fn read_write(&self, others: &[&str]) -> hardprune_tests::program::Finished {
        let name = self.scene.store_names().remove(0);
        let arguments = [&["read-write", name.as_str()], others].concat();
        self.scene.program.run(&arguments).unwrap()
    }

    fn ended_with(&self, words: &[&str]) {
        assert_eq!(self.log(), words);
        assert_eq!(self.record(), None);
    }
}

#[test]
fn they_are_run_before_and_after() {
    let registry = Commanded::in_folder();
    let report = registry.scene.report(0, &registry.delete(&[])).unwrap();
    registry.ended_with(&["read-only", "read-write"]);
    assert_eq!(
        (&report["read_only"], &report["read_only_by"]),
        (&json!("commanded"), &json!(["command"]))
    );
    registry
        .scene
        .check_finished(&report, &registry.scene.orphans())
        .unwrap();
}

#[test]
fn what_they_say_is_proved_where_it_can_be() {
    let mut registry = Commanded::in_folder();
    let server = Switchable::start().unwrap();
    server.make_writable();
    let url = server.server.url();
    // A switch that takes a moment to show.
    let switched = registry.scene.folder().join("commands");
    registry.read_only = format!("echo read-only >> {}", switched.display());
    let arguments = registry.delete(&["--registry-url", &url]);
    let hold = registry.scene.folder().join("hold");
    let child = registry.scene.start_with("", &arguments).unwrap();
    let mut running = hardprune_tests::scene::Running::of(child, hold).unwrap();
    running
        .wait_until("it asks again", |_| Ok(server.server.asked().len() > 4))
        .unwrap();
    server.make_read_only();
    let report = report_of(&running.finish().unwrap(), 0).unwrap();
    assert_eq!(
        (&report["read_only"], &report["read_only_by"]),
        (&json!("proved"), &json!([url, "command"]))
    );
    registry.ended_with(&["read-only", "read-write"]);
}

#[test]
fn one_that_fails_refuses_and_is_undone() {
    let mut registry = Commanded::in_folder();
    registry.read_only += "; echo what went wrong >&2; exit 7";
    let finished = registry.scene.program.run(&registry.delete(&[])).unwrap();
    refused(
        &registry.scene,
        &finished,
        &["--read-only-command", "status 7", "what went wrong"],
    )
    .unwrap();
    registry.ended_with(&["read-only", "read-write"]);
}

#[test]
fn one_that_does_not_hold_refuses_and_is_undone() {
    let registry = Commanded::in_folder();
    let server = Switchable::start().unwrap();
    server.make_writable();
    let url = server.server.url();
    let arguments = registry.delete(&["--registry-url", &url, "--read-only-timeout", "500ms"]);
    let finished = registry.scene.program.run(&arguments).unwrap();
    refused(&registry.scene, &finished, &["not read-only", &url]).unwrap();
    registry.ended_with(&["read-only", "read-write"]);
}

#[test]
fn a_registry_that_stays_read_only_is_said() {
    let mut registry = Commanded::in_folder();
    let works = std::mem::replace(&mut registry.read_write, "false".to_owned());
    let finished = registry.scene.program.run(&registry.delete(&[])).unwrap();
    let report = report_of(&finished, 5).unwrap();
    registry.scene.check_accounts(&report).unwrap();
    assert!(finished.stderr.contains("still read-only"), "{finished:?}");
    assert!(finished.stderr.contains("hardprune read-write"), "{finished:?}");
    let record = registry.record().unwrap();
    assert_eq!(record["by"], "command");
    assert!(
        !record.to_string().contains("echo"),
        "a command is kept: {record}"
    );
    let back = registry.read_write(&["--read-write-command", &works]);
    assert_eq!(back.status, 0, "{back:?}");
    registry.ended_with(&["read-only", "read-write"]);
    assert_eq!(registry.read_write(&[]).status, 0, "there is nothing to do");
}

#[test]
fn a_signal_ends_the_run_and_switches_back() {
    let registry = Commanded::in_folder();
    let arguments = registry.delete(&["--concurrency", "1"]);
    for (failpoint, times, status) in [("after-mark", 0, 1), ("journal-after-start", 9, 4)] {
        let mut running = registry.scene.hold_at(failpoint, times, &arguments).unwrap();
        running.signal("TERM").unwrap();
        running.wait_for_line("stopping").unwrap();
        running.release().unwrap();
        report_of(&running.finish().unwrap(), status).unwrap();
        assert_eq!(registry.log().last().unwrap(), "read-write");
        assert_eq!(registry.record(), None);
        registry.scene.check_intact().unwrap();
    }
}

/// Killed at each step between note, switch and the end; then switched back, or resumed.
#[test]
fn a_crash_is_undone_by_read_write() {
    for (failpoint, log) in [
        ("read-only-noted", &[][..]),
        ("read-only-switched", &["read-only"]),
        ("after-mark", &["read-only"]),
        ("after-unlink", &["read-only"]),
        ("before-read-write", &["read-only"]),
        ("read-write-switched", &["read-only", "read-write"]),
    ] {
        let registry = Commanded::in_folder();
        let killed = registry
            .scene
            .run_with(&format!("{failpoint}=return"), &registry.delete(&[]))
            .unwrap();
        assert_eq!(killed.status, KILLED, "{failpoint}: {killed:?}");
        assert_eq!(registry.log(), log, "{failpoint}");
        assert!(registry.record().is_some(), "{failpoint}");
        let unsaid = registry.read_write(&[]);
        assert_eq!(unsaid.status, 2, "{unsaid:?}");
        assert!(unsaid.stderr.contains("--read-write-command"), "{unsaid:?}");
        let back = registry.read_write(&["--read-write-command", &registry.read_write]);
        assert_eq!(back.status, 0, "{failpoint}: {back:?}");
        registry.ended_with(&[log, &["read-write"]].concat());
        assert!(!registry.scene.state().join("hardprune/lock.json").exists());
    }
}

#[test]
fn a_crash_is_undone_by_the_run_that_is_resumed() {
    let registry = Commanded::in_folder();
    let killed = registry
        .scene
        .run_with("after-unlink=return", &registry.delete(&[]))
        .unwrap();
    assert_eq!(killed.status, KILLED);
    let report = registry
        .scene
        .report(0, &registry.delete(&["--resume", "auto"]))
        .unwrap();
    registry
        .scene
        .check_finished(&report, &registry.scene.orphans())
        .unwrap();
    registry.ended_with(&["read-only", "read-only", "read-write"]);
}

#[test]
fn a_run_that_is_told_another_way_does_not_switch_over_it() {
    let registry = Commanded::in_folder();
    let killed = registry
        .scene
        .run_with("after-mark=return", &registry.delete(&[]))
        .unwrap();
    assert_eq!(killed.status, KILLED);
    let others = ["--read-only-via", "kubernetes://a/deployment/b"];
    let finished = registry
        .scene
        .program
        .run(&delete(&registry.scene, &others))
        .unwrap();
    refused(&registry.scene, &finished, &["command", "hardprune read-write"]).unwrap();
    assert!(registry.record().is_some());
    // Whoever only asserts is told.
    let asserted = delete(&registry.scene, &["--assume-read-only"]);
    let asserted: Vec<&str> = asserted.into_iter().chain(["--assume-read-only"]).collect();
    let finished = registry.scene.program.run(&asserted).unwrap();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.stderr.contains("hardprune read-write"), "{finished:?}");
}

/// R11: as long as somebody may delete, the registry is not made writable.
#[test]
fn while_a_run_goes_on_nothing_is_switched_back() {
    let registry = Commanded::in_folder();
    let running = registry
        .scene
        .hold_at(
            "journal-after-start",
            9,
            &registry.delete(&["--concurrency", "1"]),
        )
        .unwrap();
    let refused = registry.read_write(&["--read-write-command", &registry.read_write]);
    assert_eq!(refused.status, 7, "{refused:?}");
    assert_eq!(registry.log(), ["read-only"]);
    running.release().unwrap();
    report_of(&running.finish().unwrap(), 0).unwrap();
    registry.ended_with(&["read-only", "read-write"]);
}

/// On S3 nobody can tell whether the owner of a lock lives: until its lease and its last request have passed it may.
#[test]
fn after_a_crash_on_s3_the_last_requests_are_waited_for() {
    let registry = Commanded::of(Scene::on_s3(&Shape::small(26), S3Options::default()).unwrap());
    let killed = registry
        .scene
        .run_with("delete-before-request=return", &registry.delete(&[]))
        .unwrap();
    assert_eq!(killed.status, KILLED);
    let back = ["--read-write-command", registry.read_write.as_str()];
    let early = registry.read_write(&back);
    assert_eq!(early.status, 7, "{early:?}");
    assert_eq!(registry.log(), ["read-only"]);
    registry
        .scene
        .server()
        .unwrap()
        .advance_clock(Duration::from_secs(81));
    let finished = registry.read_write(&back);
    assert_eq!(finished.status, 0, "{finished:?}");
    registry.ended_with(&["read-only", "read-write"]);
}

/// R5: what a run freed before it died is counted before the registry takes writes again, and stays counted when it is pushed anew.
#[test]
fn the_books_are_closed_before_the_registry_takes_writes() {
    let registry = Commanded::of(Scene::on_s3(&Shape::small(26), S3Options::default()).unwrap());
    let killed = registry
        .scene
        .run_with(
            "delete-after-request=9*off->return",
            &registry.delete(&["--concurrency", "1"]),
        )
        .unwrap();
    assert_eq!(killed.status, KILLED);
    let gone = registry.scene.difference().unwrap();
    let (freed, went) = (gone.freed_blob_bytes(), gone.removed_blobs());
    assert!(!went.is_empty());
    registry
        .scene
        .server()
        .unwrap()
        .advance_clock(Duration::from_secs(81));
    let state = registry.scene.state().to_str().unwrap();
    let back = registry.read_write(&["--state", state, "--read-write-command", &registry.read_write]);
    assert_eq!(back.status, 0, "{back:?}");
    for digest in went.keys() {
        let key = hardprune_tests::storage_writer::blob_key(digest);
        let now = std::time::SystemTime::now();
        registry.scene.storage().put(&key, b"pushed anew", now).unwrap();
    }
    let shown = registry.scene.show().unwrap();
    assert_eq!(number(&shown, "/bytes/freed").unwrap(), freed);
    assert_eq!(number(&shown, "/blobs/deleted").unwrap(), went.len() as u64);
}

/// Another run has taken the registry over: it is not for the first one to let it take writes again.
#[test]
fn who_has_lost_the_lock_does_not_switch_back() {
    let registry = Commanded::of(Scene::on_s3(&Shape::small(26), S3Options::default()).unwrap());
    let running = registry
        .scene
        .hold_at(
            "journal-after-start",
            9,
            &registry.delete(&["--concurrency", "1"]),
        )
        .unwrap();
    registry
        .scene
        .server()
        .unwrap()
        .advance_clock(Duration::from_secs(120));
    running.release().unwrap();
    let finished = running.finish().unwrap();
    // The last look at the lock is good for all that is left.
    report_of(&finished, 5).unwrap();
    assert!(finished.stderr.contains("still read-only"), "{finished:?}");
    assert_eq!(registry.log(), ["read-only"]);
    assert!(registry.record().is_some());
}

#[test]
fn secrets_of_ours_are_no_business_of_commands() -> Result<()> {
    let mut registry = Commanded::in_folder();
    registry.scene = registry.scene.with("HARDPRUNE_REGISTRY_PASSWORD", "the-secret");
    let seen = registry.scene.folder().join("environment");
    registry.read_only = format!("env > {}", seen.display());
    registry.scene.report(0, &registry.delete(&[]))?;
    let environment = std::fs::read_to_string(Path::new(&seen))?;
    ensure!(
        environment.contains("PATH=") && !environment.contains("the-secret"),
        "{environment}"
    );
    Ok(())
}

#[test]
fn commands_that_cannot_be_meant() {
    let registry = Commanded::in_folder();
    for others in [
        &["--read-only-command", "true"][..],
        &["--read-write-command", "true"],
        &[
            "--read-only-via",
            "openshift-operator",
            "--read-write-command",
            "true",
        ],
        &["--read-only-via", "kubernetes://a/pod/b"],
    ] {
        let finished = registry
            .scene
            .program
            .run(&delete(&registry.scene, others))
            .unwrap();
        assert_eq!(finished.status, 2, "{others:?}: {finished:?}");
    }
}
