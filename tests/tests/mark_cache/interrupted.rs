//! Killed, stopped and resumed: what was read is known, and what was written in part is not believed.

use anyhow::{Result, ensure};
use hardprune_tests::scene::{KILLED, Scene, number, report_of};

use crate::scene::*;

fn all(scene: &Scene) -> u64 {
    scene.truth.manifests as u64
}

/// Kills a first delete where it comes to a failpoint, and goes on with it. Returns what the second epoch read, and what it knew.
fn kill_and_resume(scene: &Scene, failpoints: &str) -> Result<(u64, u64)> {
    let killed = scene.run_with(failpoints, &scene.delete(&SEED))?;
    ensure!(
        killed.status == KILLED,
        "it was not killed at {failpoints}: {killed:?}"
    );
    scene.check_intact()?;
    let report = scene.report(0, &scene.resume())?;
    scene.check_finished(&report, &scene.orphans())?;
    manifests_of(&report)
}

#[test]
fn a_resumed_run_knows_what_its_sealed_mark_knew() {
    for failpoint in ["after-seal", "after-lock-allows", "after-dangling", "after-sweep"] {
        let scene = on_folder();
        let known = kill_and_resume(&scene, &format!("{failpoint}=return")).unwrap();
        assert_eq!(known, (0, all(&scene)), "{failpoint}");
    }
}

#[test]
fn killed_while_it_is_written_nothing_is_known_and_nothing_is_lost() {
    for failpoints in [
        "mark-cache-block=return",
        "mark-cache-block=5*off->return",
        "after-mark=return",
    ] {
        let scene = on_folder();
        let known = kill_and_resume(&scene, failpoints).unwrap();
        assert_eq!(known, (all(&scene), 0), "{failpoints}");
        let report = scene.report(0, &scene.delete(&SEED)).unwrap();
        assert_eq!(manifests_of(&report).unwrap(), (0, all(&scene)), "{failpoints}");
    }
}

/// A later run is killed while it writes: what the run before it knew is known still.
#[test]
fn killed_while_it_is_written_again_the_earlier_one_is_used() {
    let scene = on_s3();
    scene.check(&[]).unwrap();
    let state = scene.state().display().to_string();
    let name = format!("s3://{}", scene.server().unwrap().bucket());
    push(scene.storage(), "team-01", "new").unwrap();
    for (number, failpoints) in [
        "mark-cache-block=return",
        "mark-cache-block=1*off->return",
        "mark-cache-index=return",
    ]
    .into_iter()
    .enumerate()
    {
        let arguments = ["check", &name, "--output", "json", "--state", &state];
        report_of(&scene.program.run(&arguments).unwrap(), 0).unwrap();
        push(scene.storage(), "team-02", &format!("new-{number}")).unwrap();
        let killed = scene.run_with(failpoints, &arguments).unwrap();
        assert_eq!(killed.status, KILLED, "{failpoints}: {killed:?}");
        let report = report_of(&scene.program.run(&arguments).unwrap(), 0).unwrap();
        assert_eq!(manifests_of(&report).unwrap().0, 1, "{failpoints}");
    }
}

/// Stopped in the middle of its mark, a run hands on what it had marked until then.
#[test]
fn a_run_that_is_stopped_hands_on_what_it_has_marked() {
    let scene = on_s3();
    let all = all(&scene);
    let arguments = scene.delete(&["--concurrency", "1", "--filter-seed", "5"]);
    let running = scene.hold_at("mark-cache-block", 1, &arguments).unwrap();
    running.signal("TERM").unwrap();
    let finished = running.finish().unwrap();
    assert_eq!(finished.status, 1, "{finished:?}");
    let report = scene
        .report(0, &scene.delete(&["--concurrency", "1", "--filter-seed", "5"]))
        .unwrap();
    let (read, known) = manifests_of(&report).unwrap();
    assert!(
        read > 0 && known > 0 && read + known == all,
        "{read} read, {known} known"
    );
    assert_eq!(
        number(&report, "/blobs/deleted").unwrap(),
        scene.truth.orphans.len() as u64
    );
    scene.check_intact().unwrap();
}

/// A state store that takes no block ends no run.
#[test]
fn a_cache_that_cannot_be_written_is_none() {
    let scene = on_folder();
    let report = scene.check(&[]).unwrap();
    let folder = scene.program.home().join(".local/state/hardprune/mark-cache");
    std::fs::remove_dir_all(&folder).unwrap();
    // A file where the folder would be.
    std::fs::write(&folder, b"").unwrap();
    for _ in 0..2 {
        let again = scene.check(&[]).unwrap();
        assert_eq!(manifests_of(&again).unwrap(), manifests_of(&report).unwrap());
        assert_eq!(again["outcome"], "completed");
    }
}
