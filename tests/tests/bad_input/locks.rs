//! One registry, two runs: only one of them deletes, and the other says who does. What a dead owner left is taken over.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hardprune_tests::program::Finished;
use serde_json::{Value, json};

use crate::scene::{EVERYWHERE, On, Scene, Snapshot, allowing_lock, number, says, wait_until};

/// A delete under way, ended for good when dropped.
struct Running(Option<Child>);

impl Running {
    /// Starts a delete with failpoints and waits until its lock allows a plan to be carried out.
    fn start(scene: &Scene, failpoints: &str) -> Result<(Self, Value)> {
        let name = scene.name();
        let child = scene
            .program
            .command(&scene.arguments(&name, "delete", &[]))
            .env("FAILPOINTS", failpoints)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let running = Self(Some(child));
        let mut lock = None;
        wait_until("the lock of the first run", || {
            lock = allowing_lock(scene.storage())?;
            Ok(lock.is_some())
        })?;
        Ok((running, lock.context("there is no lock")?))
    }

    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill")
            .args([signal, &self.id().to_string()])
            .status()?;
        ensure!(sent.success(), "kill {signal} failed");
        Ok(())
    }

    /// Ends it as a power failure would.
    fn kill(mut self) -> Result<()> {
        let mut child = self.0.take().context("it runs no more")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn finish(mut self) -> Result<Finished> {
        let child = self.0.take().context("it runs no more")?;
        Finished::of(&child.wait_with_output()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const LONG: &str = "after-lock-allows=sleep(600000)";

fn text<'v>(lock: &'v Value, path: &str) -> &'v str {
    lock.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn the_second_of_two_runs_says_who_holds_the_lock_since_when() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let before = scene.snapshot().unwrap();
        let (first, lock) = Running::start(&scene, "after-lock-allows=sleep(1500)").unwrap();
        first.signal("-STOP").unwrap();
        let process = format!("process {} on ", first.id());
        let run = text(&lock, "/epoch/run");
        let since = text(&lock, "/since");
        let taken_over = match on {
            On::Folder => "if its process dies, the lock can be taken over at once",
            On::S3 => "if it died, the lock can be taken over after ",
        };
        let parts = [
            taken_over,
            "is locked by",
            &process,
            &format!("run {run}"),
            &format!("since {since}"),
        ];
        scene.fails(7, "delete", &[], &parts).unwrap();
        // Neither a state store of its own nor a resumption makes it the registry's owner.
        let state = tempfile::tempdir().unwrap();
        let elsewhere = ["--state", state.path().to_str().unwrap()];
        scene.fails(7, "delete", &elsewhere, &parts).unwrap();
        scene.fails(7, "delete", &["--resume", "auto"], &parts).unwrap();
        // A check takes no lock.
        let check = scene.report(0, "check", &[]).unwrap();
        assert_eq!(
            number(&check, "/blobs/orphaned"),
            scene.truth.orphans.len() as u64
        );
        first.signal("-CONT").unwrap();
        says(&first.finish().unwrap(), 0, &[]).unwrap();
        assert_eq!(before.gone(&scene).unwrap().removed_blobs(), scene.truth.orphans);
        assert_eq!(
            scene.storage().get("hardprune/lock.json").unwrap(),
            None,
            "the lock was kept"
        );
    }
}

/// Resumes the run of a dead owner; its accounts must be exact.
fn resumes_exactly(scene: &Scene, before: &Snapshot) -> Result<()> {
    let report = scene.report(0, "delete", &["--resume", "auto"])?;
    let gone = before.gone(scene)?;
    let (orphans, links) = (
        scene.truth.orphans.len() as u64,
        scene.truth.dangling_links.len() as u64,
    );
    ensure!(gone.removed_blobs() == scene.truth.orphans, "{gone:?}");
    ensure!(number(&report, "/epochs") == 2, "{report:#}");
    ensure!(number(&report, "/blobs/deleted") == orphans, "{report:#}");
    ensure!(
        number(&report, "/bytes/freed") == scene.truth.orphan_bytes(),
        "{report:#}"
    );
    ensure!(number(&report, "/links/layer") == links, "{report:#}");
    Ok(())
}

#[test]
fn on_a_folder_the_lock_of_a_dead_owner_is_taken_over_at_once() {
    let scene = Scene::new(On::Folder).unwrap();
    let before = scene.snapshot().unwrap();
    let (first, _) = Running::start(&scene, LONG).unwrap();
    first.kill().unwrap();
    before.is_unchanged(&scene).unwrap();
    let report = scene.report(0, "delete", &[]).unwrap();
    assert_eq!(number(&report, "/bytes/freed"), scene.truth.orphan_bytes());
    assert_eq!(before.gone(&scene).unwrap().removed_blobs(), scene.truth.orphans);
}

#[test]
fn on_a_folder_the_run_of_a_dead_owner_is_resumed_at_once() {
    let scene = Scene::new(On::Folder).unwrap();
    let before = scene.snapshot().unwrap();
    let (first, _) = Running::start(&scene, "delete-after-request=3*off->sleep(600000)").unwrap();
    wait_until("something that went", || Ok(before.is_unchanged(&scene).is_err())).unwrap();
    first.kill().unwrap();
    resumes_exactly(&scene, &before).unwrap();
}

#[test]
fn on_s3_the_lock_of_a_dead_owner_is_taken_over_once_its_lease_has_passed() {
    let scene = Scene::new(On::S3).unwrap();
    let before = scene.snapshot().unwrap();
    let (first, lock) = Running::start(&scene, "delete-after-request=3*off->sleep(600000)").unwrap();
    wait_until("something that went", || Ok(before.is_unchanged(&scene).is_err())).unwrap();
    first.kill().unwrap();
    let owner = text(&lock, "/owner").to_owned();
    let parts = ["is locked by", &owner, "if it died", "can be taken over after"];
    scene.fails(7, "delete", &[], &parts).unwrap();
    scene.fails(7, "delete", &["--resume", "auto"], &parts).unwrap();
    // The lease has nearly passed, and its last requests may still be under way.
    scene.server().advance_clock(Duration::from_secs(40));
    scene.fails(7, "delete", &["--resume", "auto"], &parts).unwrap();
    scene.server().advance_clock(Duration::from_secs(45));
    resumes_exactly(&scene, &before).unwrap();
}

#[test]
fn a_lock_that_is_none_is_left_to_the_operator() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        for garbage in [&b""[..], b"{}", b"\xff\xfe", b"<html></html>"] {
            scene.put("hardprune/lock.json", garbage).unwrap();
            let parts = [
                "hardprune/lock.json",
                "cannot be read as a lock",
                "remove it by hand",
            ];
            scene.fails(1, "delete", &[], &parts).unwrap();
            assert_eq!(
                scene.storage().get("hardprune/lock.json").unwrap().as_deref(),
                Some(garbage)
            );
        }
    }
}

/// R11: who is no longer the registry's owner deletes nothing more, and leaves the lock to who is.
#[test]
fn a_run_whose_lock_was_taken_from_it_deletes_nothing() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let before = scene.snapshot().unwrap();
        let (first, mut lock) = Running::start(&scene, "after-lock-allows=sleep(1500)").unwrap();
        lock["owner"] = json!("process 1 elsewhere");
        lock["epoch"]["run"] = json!("01J00000000000000000000000");
        let theirs = lock.to_string().into_bytes();
        scene.put("hardprune/lock.json", &theirs).unwrap();
        let finished = first.finish().unwrap();
        says(&finished, 4, &["lock"]).unwrap();
        before.is_unchanged(&scene).unwrap();
        assert_eq!(scene.storage().get("hardprune/lock.json").unwrap(), Some(theirs));
    }
}
