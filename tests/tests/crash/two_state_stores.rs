//! One registry and two state stores, each with runs of its own: what one run left open is not taken for its own when another
//! has deleted it (R5).

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{KILLED, Scene, number, report_of};
use serde_json::Value;

/// Killed with its batch not sent, or sent and not noted.
const FAILPOINTS: [&str; 2] = ["journal-after-start", "delete-after-request"];

/// A registry that two operators prune.
struct Two {
    scene: Scene,
    registry: String,
    first: String,
    second: String,
}

impl Two {
    fn new(scene: Scene) -> Result<Self> {
        let folder = |name: &str| scene.folder().join(name).display().to_string();
        Ok(Self {
            registry: scene.store_names().swap_remove(0),
            first: folder("first"),
            second: folder("second"),
            scene,
        })
    }

    /// The first operator's runs are kept in the registry's own storage: in its root, or on S3 beside it.
    fn in_its_own_storage(mut self) -> Self {
        self.first = match self.scene.server() {
            Ok(_) => format!("{}/first", self.registry),
            Err(_) => self.registry.clone(),
        };
        self
    }

    fn everywhere() -> Result<[Self; 2]> {
        let shape = Shape::small(17);
        Ok([
            Self::new(Scene::on_folder(&shape)?)?,
            Self::new(Scene::on_s3(&shape, S3Options::default())?)?,
        ])
    }

    fn delete<'a>(&'a self, state: &'a str, others: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["delete", &self.registry, "--assume-read-only", "--output", "json"];
        // One request at a time: those of a dead run that are still under way would delete after this has looked.
        arguments.extend(["--concurrency", "1", "--state", state]);
        arguments.extend(others);
        arguments
    }

    /// The first operator's run dies. Returns its id, and the bytes that it freed.
    fn die(&self, failpoint: &str) -> Result<(String, u64)> {
        let failpoints = format!("{failpoint}=12*off->return");
        let killed = self.scene.run_with(&failpoints, &self.delete(&self.first, &[]))?;
        ensure!(killed.status == KILLED, "{killed:?}");
        if let Ok(server) = self.scene.server() {
            server.advance_clock(Duration::from_secs(81));
        }
        let words: Vec<_> = killed.stderr.split_whitespace().collect();
        let said = words
            .windows(3)
            .find(|words| words[0] == "run" && words[2] == "on");
        let run = said.context("it does not say its run")?[1].to_owned();
        Ok((run, self.freed()?))
    }

    /// The second operator's run, from its beginning to its end.
    fn second_run(&self) -> Result<(Finished, Value)> {
        let finished = self.scene.program.run(&self.delete(&self.second, &[]))?;
        let report = report_of(&finished, 0)?;
        Ok((finished, report))
    }

    fn resume(&self) -> Result<(Finished, Value)> {
        let arguments = self.delete(&self.first, &["--resume", "auto"]);
        let finished = self.scene.program.run(&arguments)?;
        let report = report_of(&finished, 0)?;
        ensure!(report["outcome"] == "completed", "{report}");
        ensure!(number(&report, "/epochs")? == 2, "{report}");
        Ok((finished, report))
    }

    fn show_arguments<'a>(&'a self, run: &'a str) -> Vec<&'a str> {
        vec!["runs", "show", run, "--output", "json", "--state", &self.first]
    }

    /// What `runs show` says of the first operator's run: its report, and what else.
    fn show(&self, run: &str) -> Result<(Value, String)> {
        let finished = self.scene.program.run(&self.show_arguments(run))?;
        Ok((report_of(&finished, 0)?, finished.stderr))
    }

    /// What went since the beginning.
    fn freed(&self) -> Result<u64> {
        Ok(self.scene.difference()?.freed_blob_bytes())
    }

    /// All that there was to delete is gone, and nothing else.
    fn check_done(&self) -> Result<()> {
        self.scene.check_intact()?;
        let went = self.scene.difference()?.removed_blobs();
        ensure!(went == self.scene.truth.orphans, "{went:?}");
        Ok(())
    }
}

fn freed_in(report: &Value) -> Result<u64> {
    number(report, "/bytes/freed")
}

#[test]
fn the_books_of_a_dead_run_are_closed_before_another_deletes() {
    for failpoint in FAILPOINTS {
        let own = Two::everywhere().unwrap().map(Two::in_its_own_storage);
        for two in Two::everywhere().unwrap().into_iter().chain(own) {
            closed_before(&two, failpoint)
                .with_context(|| format!("{failpoint}, {}", two.first))
                .unwrap();
        }
    }
}

fn closed_before(two: &Two, failpoint: &str) -> Result<()> {
    let (dead, by_the_dead) = two.die(failpoint)?;
    ensure!(by_the_dead > 0, "it freed nothing");
    let (finished, report) = two.second_run()?;
    ensure!(!finished.stderr.contains("cannot be closed"), "{finished:?}");
    let by_the_second = two.freed()? - by_the_dead;
    ensure!(freed_in(&report)? == by_the_second, "{report}");

    let (shown, said) = two.show(&dead)?;
    ensure!(freed_in(&shown)? == by_the_dead, "{by_the_dead} {shown}");
    ensure!(!said.contains("may have been freed"), "{said}");
    let (_, resumed) = two.resume()?;
    ensure!(freed_in(&resumed)? == by_the_dead, "{by_the_dead} {resumed}");
    two.check_done()
}

/// The first operator's run came to its end: where its books are is nobody's concern any more.
#[test]
fn books_that_are_closed_need_not_be_reached() {
    for two in Two::everywhere().unwrap() {
        let first = two.delete(&two.first, &[]);
        let report = report_of(&two.scene.program.run(&first).unwrap(), 0).unwrap();
        assert!(freed_in(&report).unwrap() > 0, "{report}");
        fs::rename(&two.first, format!("{}.away", two.first)).unwrap();
        let (finished, _) = two.second_run().unwrap();
        for word in ["cannot be closed", "are settled"] {
            assert!(!finished.stderr.contains(word), "{finished:?}");
        }
        assert!(!Path::new(&two.first).exists());
    }
}

/// The second operator cannot reach the books: what nobody can tell any more counts for nobody, and that is said.
#[test]
fn what_two_runs_may_have_deleted_counts_for_neither() {
    for failpoint in FAILPOINTS {
        for two in Two::everywhere().unwrap() {
            counted_for_neither(&two, failpoint)
                .with_context(|| format!("{failpoint}, {}", two.first))
                .unwrap();
        }
    }
}

fn counted_for_neither(two: &Two, failpoint: &str) -> Result<()> {
    let (dead, by_the_dead) = two.die(failpoint)?;
    let away = format!("{}.away", two.first);
    fs::rename(&two.first, &away)?;
    let (finished, report) = two.second_run()?;
    let said = &finished.stderr;
    ensure!(
        said.contains("cannot be closed") && said.contains(&dead),
        "{said}"
    );
    ensure!(
        !Path::new(&two.first).exists(),
        "it made a folder for runs that are not its own"
    );
    let by_the_second = two.freed()? - by_the_dead;
    ensure!(freed_in(&report)? == by_the_second, "{report}");
    fs::rename(&away, &two.first)?;

    let second = report["run"].as_str().context("a report names its run")?;
    let line =
        format!("may have been freed by run {second}, which has deleted since; they count as not attempted");
    let (shown, said) = two.show(&dead)?;
    ensure!(said.contains(&line), "{said}");
    let known = freed_in(&shown)?;
    // What its last batch deleted is what nobody knows.
    let is_right = match failpoint {
        "delete-after-request" => known < by_the_dead,
        _ => known == by_the_dead,
    };
    ensure!(is_right, "{by_the_dead} {shown}");
    let blobs = |name: &str| number(&shown, &format!("/blobs/{name}"));
    let parts = blobs("deleted")? + blobs("failed")? + blobs("not_attempted")?;
    ensure!(blobs("orphaned")? == parts, "{shown}");

    // Its next epoch deletes last again: what was not to be told before is not now.
    let (again, said) = two.show(&dead)?;
    ensure!(again == shown && said.contains(&line), "{again} {said}");
    let (finished, resumed) = two.resume()?;
    ensure!(finished.stderr.contains(&line), "{finished:?}");
    ensure!(freed_in(&resumed)? == known, "{resumed}");
    two.check_done()
}

/// A dead run is resumed when another has deleted, and nobody has looked at it before.
#[test]
fn a_resumed_run_counts_nothing_that_another_may_have_deleted() {
    for two in Two::everywhere().unwrap() {
        let (dead, by_the_dead) = two.die("journal-after-start").unwrap();
        let away = format!("{}.away", two.first);
        fs::rename(&two.first, &away).unwrap();
        two.second_run().unwrap();
        fs::rename(&away, &two.first).unwrap();
        let (finished, resumed) = two.resume().unwrap();
        assert!(
            finished.stderr.contains("may have been freed by run"),
            "{finished:?}"
        );
        assert_eq!(freed_in(&resumed).unwrap(), by_the_dead, "{resumed}");
        assert_eq!(freed_in(&two.show(&dead).unwrap().0).unwrap(), by_the_dead);
        two.check_done().unwrap();
    }
}

#[test]
fn who_deleted_last_and_cannot_be_read_may_be_anybody() {
    for two in Two::everywhere().unwrap() {
        let (dead, by_the_dead) = two.die("delete-after-request").unwrap();
        let storage = two.scene.storage();
        storage
            .put("hardprune/last-delete.json", b"", SystemTime::now())
            .unwrap();
        let (finished, report) = two.second_run().unwrap();
        assert!(
            finished.stderr.contains("last-delete.json cannot be read"),
            "{finished:?}"
        );
        let by_the_second = two.freed().unwrap() - by_the_dead;
        assert_eq!(freed_in(&report).unwrap(), by_the_second, "{report}");
        let (shown, said) = two.show(&dead).unwrap();
        assert!(said.contains("may have been freed by run"), "{said}");
        assert!(freed_in(&shown).unwrap() < by_the_dead, "{shown}");
    }
}

/// On a folder nobody begins to delete while `runs show` looks.
#[test]
fn on_a_folder_another_run_waits_for_who_looks() {
    let [two, _] = Two::everywhere().unwrap();
    let (dead, by_the_dead) = two.die("delete-after-request").unwrap();
    let arguments = two.show_arguments(&dead);
    let looking = two.scene.hold_at("settle-after-look", 0, &arguments).unwrap();
    let arguments = two.delete(&two.second, &[]);
    let locked = two.scene.program.run(&arguments).unwrap();
    assert_eq!(locked.status, 7, "{locked:?}");
    looking.release().unwrap();
    let shown = report_of(&looking.finish().unwrap(), 0).unwrap();
    assert_eq!(freed_in(&shown).unwrap(), by_the_dead, "{shown}");
}

/// On S3 another run can begin while `runs show` looks, and end before it writes down what it saw.
#[test]
fn on_s3_who_looks_while_another_deletes_writes_nothing_down() {
    for looks in ["settle-before-look", "settle-after-look"] {
        for failpoint in FAILPOINTS {
            looked_meanwhile(looks, failpoint)
                .with_context(|| format!("{failpoint}, {looks}"))
                .unwrap();
        }
    }
}

fn looked_meanwhile(looks: &str, failpoint: &str) -> Result<()> {
    let [_, two] = Two::everywhere()?;
    let (dead, by_the_dead) = two.die(failpoint)?;
    let looking = two.scene.hold_at(looks, 0, &two.show_arguments(&dead))?;
    let (_, report) = two.second_run()?;
    ensure!(freed_in(&report)? == two.freed()? - by_the_dead, "{report}");
    looking.release()?;
    let finished = looking.finish()?;
    // The second run had settled it before.
    ensure!(!finished.stderr.contains("may have been freed"), "{finished:?}");
    let shown = report_of(&finished, 0)?;
    ensure!(freed_in(&shown)? == by_the_dead, "{by_the_dead} {shown}");
    Ok(())
}
