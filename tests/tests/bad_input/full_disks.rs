//! State stores, spools and files that are full, read-only or not what they should be.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use hardprune_tests::program::Finished;
use hardprune_tests::s3_server::{Effect, Fault, Operation};
use serde_json::Value;
use tempfile::TempDir;

use crate::scene::{EVERYWHERE, On, Scene, Snapshot, allowing_lock, number, says, wait_until};

/// A file system of its own in memory, of a size to choose.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(options: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        mount(&["-t", "tmpfs", "-o", options, "hardprune-tests"], folder.path())?;
        Ok(Self(folder))
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap_or_default()
    }

    fn remount(&self, options: &str) -> Result<()> {
        mount(&["-o", &format!("remount,{options}")], self.0.path())
    }

    /// Writes until nothing more fits but so many pages.
    fn fill_up_to(&self, pages: usize) -> Result<()> {
        let folder = self.0.path().join("filler");
        fs::create_dir_all(&folder)?;
        for number in 0_usize.. {
            if fs::write(folder.join(number.to_string()), [0; 4096]).is_err() {
                for free in number.saturating_sub(pages)..=number {
                    let _ = fs::remove_file(folder.join(free.to_string()));
                }
                break;
            }
        }
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.0.path().join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn mount(arguments: &[&str], on: &Path) -> Result<()> {
    let output = Command::new("mount").args(arguments).arg(on).output()?;
    ensure!(
        output.status.success(),
        "a small disk cannot be mounted ({}): run the tests as root, in a container that may mount (--cap-add SYS_ADMIN)",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[test]
fn a_state_store_that_is_a_file() {
    let scene = Scene::new(On::Folder).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    scene
        .both_fail(2, &["--state", path], &[path, "it is not a folder"])
        .unwrap();
    let below = format!("{path}/state");
    scene
        .both_fail(2, &["--state", &below], &[&below, "is not a folder"])
        .unwrap();
}

#[test]
fn a_home_that_is_a_file() {
    let mut scene = Scene::new(On::Folder).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    scene.program = scene.program.with("HOME", file.path());
    scene.fails(2, "check", &[], &["is not a folder"]).unwrap();
}

#[test]
fn no_home_at_all() {
    let mut scene = Scene::new(On::Folder).unwrap();
    scene.program = scene.program.with("HOME", "");
    scene
        .fails(2, "check", &[], &["no home folder", "--state"])
        .unwrap();
}

#[test]
fn a_state_store_that_is_read_only() {
    let scene = Scene::new(On::Folder).unwrap();
    let disk = SmallDisk::new("size=1m,ro").unwrap();
    let parts = ["could not write", "Read-only file system", disk.path()];
    scene.both_fail(1, &["--state", disk.path()], &parts).unwrap();
}

#[test]
fn a_registry_that_is_read_only_can_be_checked() {
    let scene = Scene::new(On::Folder).unwrap();
    let bound = tempfile::tempdir().unwrap();
    let source = scene.root().to_str().unwrap();
    mount(&["--bind", "-o", "ro", source], bound.path()).unwrap();
    let disk = SmallDisk(bound);
    let before = scene.snapshot().unwrap();
    let check = scene
        .program
        .report(0, &scene.arguments(disk.path(), "check", &[]))
        .unwrap();
    assert_eq!(number(&check, "/bytes/orphaned"), scene.truth.orphan_bytes());
    let delete = scene
        .program
        .run(&scene.arguments(disk.path(), "delete", &[]))
        .unwrap();
    says(&delete, 1, &["Read-only file system", disk.path()]).unwrap();
    before.is_unchanged(&scene).unwrap();
}

#[test]
fn a_state_store_that_is_full() {
    let scene = Scene::new(On::Folder).unwrap();
    let disk = SmallDisk::new("size=64k").unwrap();
    disk.fill_up_to(0).unwrap();
    let parts = [
        "state store",
        "could not write",
        "No space left on device",
        disk.path(),
    ];
    scene.both_fail(1, &["--state", disk.path()], &parts).unwrap();
}

/// Whatever the size, a run either deletes nothing or can be resumed; none ends as if all were well that is not.
#[test]
fn a_state_store_that_becomes_full_at_any_stage() {
    let mut seen = std::collections::BTreeSet::new();
    for kib in [8, 64, 200, 300, 400, 500, 600, 700, 4_000] {
        let scene = Scene::new(On::Folder).unwrap();
        let disk = SmallDisk::new(&format!("size={kib}k")).unwrap();
        let before = scene.snapshot().unwrap();
        let state = ["--state", disk.path()];
        let finished = scene.run("delete", &state).unwrap();
        seen.insert(finished.status);
        match finished.status {
            0 => {}
            1 => {
                says(&finished, 1, &["No space left on device"]).unwrap();
                before.is_unchanged(&scene).unwrap();
                continue;
            }
            4 => {
                says(&finished, 4, &["No space left on device", "--resume"]).unwrap();
                disk.remount("size=64m").unwrap();
                resumes_exactly(&scene, &before, &state).unwrap();
            }
            _ => panic!("{kib} KiB: {finished:?}"),
        }
        assert_eq!(before.gone(&scene).unwrap().removed_blobs(), scene.truth.orphans);
    }
    assert!(seen.contains(&0) && seen.contains(&1), "{seen:?}");
}

fn resumes_exactly(scene: &Scene, before: &Snapshot, state: &[&str]) -> Result<()> {
    let resume: Vec<&str> = state.iter().copied().chain(["--resume", "auto"]).collect();
    let report = scene.report(0, "delete", &resume)?;
    let gone = before.gone(scene)?;
    ensure!(gone.removed_blobs() == scene.truth.orphans, "{gone:?}");
    ensure!(number(&report, "/epochs") == 2, "{report:#}");
    ensure!(
        number(&report, "/blobs/orphaned") == scene.truth.orphans.len() as u64,
        "{report:#}"
    );
    ensure!(
        number(&report, "/blobs/deleted") == scene.truth.orphans.len() as u64,
        "{report:#}"
    );
    ensure!(
        number(&report, "/bytes/freed") == gone.freed_blob_bytes(),
        "{report:#}"
    );
    ensure!(
        number(&report, "/links/layer") == scene.truth.dangling_links.len() as u64,
        "{report:#}"
    );
    Ok(())
}

/// Deletes have begun when the last page is written: some are done, one is done and not journaled, the rest wait.
#[test]
fn a_state_store_that_becomes_full_during_the_sweep() {
    for pages in [0, 1, 5, 8] {
        let scene = Scene::new(On::Folder).unwrap();
        let disk = SmallDisk::new("size=4m").unwrap();
        let before = scene.snapshot().unwrap();
        let state = ["--state", disk.path()];
        let name = scene.name();
        let child = scene
            .program
            .command(&scene.arguments(&name, "delete", &state))
            .env("FAILPOINTS", "after-lock-allows=sleep(3000)")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("the lock", || Ok(allowing_lock(scene.storage())?.is_some())).unwrap();
        disk.fill_up_to(pages).unwrap();
        let finished = Finished::of(&child.wait_with_output().unwrap()).unwrap();
        says(&finished, 4, &["No space left on device", "--resume"]).unwrap();
        let gone = before.gone(&scene).unwrap().removed_blobs();
        assert!(
            gone.len() < scene.truth.orphans.len(),
            "it was not full in time: {gone:?}"
        );
        disk.make_room().unwrap();
        resumes_exactly(&scene, &before, &state).unwrap();
    }
}

/// The same on S3, where it is the store that refuses to write.
#[test]
fn a_state_store_that_refuses_to_write_during_the_sweep() {
    for written in [0, 1, 6] {
        let scene = Scene::new(On::S3).unwrap();
        let before = scene.snapshot().unwrap();
        let full = Fault::on(Operation::Put, Effect::Status(507, "QuotaExceeded"));
        scene
            .server()
            .faults()
            .add(full.clone().of_keys_with("/journal/").after(written));
        let finished = scene.run("delete", &["--output", "json"]).unwrap();
        let gone = before.gone(&scene).unwrap();
        assert!(gone.removed_blobs().len() < scene.truth.orphans.len(), "{gone:?}");
        scene.server().faults().clear();
        match finished.status {
            // What is not in the books yet must be resumable,
            4 => resumes_exactly(&scene, &before, &[]).unwrap(),
            // and where the run is over they must be right.
            5 => {
                let report: Value = serde_json::from_str(&finished.stdout).unwrap();
                assert_eq!(
                    number(&report, "/bytes/freed"),
                    gone.freed_blob_bytes(),
                    "{finished:?}"
                );
                scene.report(0, "delete", &[]).unwrap();
            }
            _ => panic!("{finished:?}"),
        }
        assert_eq!(before.gone(&scene).unwrap().removed_blobs(), scene.truth.orphans);
    }
}

#[test]
fn spools_that_cannot_be_used() {
    let full = SmallDisk::new("size=64k,nr_inodes=1").unwrap();
    let read_only = SmallDisk::new("size=64k,ro").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    for (path, why) in [
        (full.path(), "No space left on device"),
        (read_only.path(), "Read-only file system"),
        (file.path().to_str().unwrap(), "Not a directory"),
        ("/no/such/folder", "No such file or directory"),
    ] {
        for on in EVERYWHERE {
            let scene = Scene::new(on).unwrap();
            let parts = ["spool folder", path, why, "--spool-dir"];
            scene.both_fail(1, &["--spool-dir", path], &parts).unwrap();
        }
    }
}

#[test]
fn files_that_cannot_be_written_are_noticed_before_anything_else() {
    let scene = Scene::new(On::Folder).unwrap();
    for option in ["--candidates", "--removals", "--metrics-file"] {
        let parts = ["cannot write", "/no/such/folder/file"];
        scene
            .both_fail(2, &[option, "/no/such/folder/file"], &parts)
            .unwrap();
    }
}

#[test]
fn candidates_that_cannot_be_written_keep_a_delete_from_beginning() {
    let scene = Scene::new(On::Folder).unwrap();
    scene
        .both_fail(
            2,
            &["--candidates", "/dev/full"],
            &["cannot write", "/dev/full", "No space left"],
        )
        .unwrap();
}

/// What went cannot be called back: the run closes its books, and says what it could not write.
#[test]
fn removals_that_cannot_be_written_after_a_delete() {
    let scene = Scene::new(On::Folder).unwrap();
    scene
        .fails(
            2,
            "check",
            &["--removals", "/dev/full"],
            &["cannot write", "/dev/full"],
        )
        .unwrap();
    let before = scene.snapshot().unwrap();
    let finished = scene
        .run("delete", &["--removals", "/dev/full", "--output", "json"])
        .unwrap();
    says(&finished, 5, &["cannot write", "/dev/full"]).unwrap();
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["outcome"], "completed");
    assert_eq!(
        number(&report, "/bytes/freed"),
        before.gone(&scene).unwrap().freed_blob_bytes()
    );
    assert_eq!(number(&report, "/bytes/freed"), scene.truth.orphan_bytes());
}

#[test]
fn a_standard_output_that_is_full() {
    let scene = Scene::new(On::Folder).unwrap();
    let name = scene.name();
    for (command, wanted) in [("check", 2), ("delete", 5)] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut started = scene.program.command(&scene.arguments(&name, command, &[]));
        let finished = Finished::of(&started.stdout(full).output().unwrap()).unwrap();
        says(&finished, wanted, &["cannot write", "No space left"]).unwrap();
    }
}

/// A reader that has seen enough, as `head` does, is no failure.
#[test]
fn a_standard_output_that_nobody_reads() {
    let scene = Scene::new(On::Folder).unwrap();
    let name = scene.name();
    let mut started = scene.program.command(&scene.arguments(&name, "check", &[]));
    let mut child = started
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let finished = Finished::of(&child.wait_with_output().unwrap()).unwrap();
    says(&finished, 0, &[]).unwrap();
}
