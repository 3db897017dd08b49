//! Usage: what cannot be meant is refused before anything is touched.

use anyhow::Result;

use crate::scene::{On, Scene, says};

const UNKNOWN_RUN: &str = "01J00000000000000000000000";

fn scene() -> Result<Scene> {
    Scene::new(On::Folder)
}

#[test]
fn durations_that_are_none() {
    let scene = scene().unwrap();
    for bad in ["24", "-1h", "yesterday", "", "24 parsecs"] {
        let option = format!("--keep-younger-than={bad}");
        let parts = ["--keep-younger-than"];
        scene.both_fail(2, &[&option], &parts).unwrap();
        let option = format!("--purge-uploads-older-than={bad}");
        scene
            .both_fail(2, &[&option], &["--purge-uploads-older-than"])
            .unwrap();
    }
}

#[test]
fn rates_that_make_no_filter() {
    let scene = scene().unwrap();
    for bad in ["0", "1", "-1e-6", "NaN", "one"] {
        let option = format!("--false-positive-rate={bad}");
        let parts = ["--false-positive-rate", "a number from 1e-12 to 0.1"];
        scene.both_fail(2, &[&option], &parts).unwrap();
    }
}

#[test]
fn numbers_out_of_range() {
    let scene = scene().unwrap();
    for bad in ["0", "5000", "many"] {
        let option = format!("--concurrency={bad}");
        scene.both_fail(2, &[&option], &["--concurrency"]).unwrap();
    }
}

#[test]
fn no_storage() {
    let scene = scene().unwrap();
    for arguments in [&["check"][..], &["delete", "--assume-read-only"]] {
        let finished = scene.program.run(arguments).unwrap();
        says(&finished, 2, &["STORAGE", "--registry-config"]).unwrap();
    }
}

#[test]
fn storage_of_a_kind_that_is_not_known() {
    let scene = scene().unwrap();
    for name in ["ftp://host/registry", "s3://", "s3://a/../b", "s3://b?key=SECRET"] {
        let finished = scene.program.run(&["check", name]).unwrap();
        says(&finished, 2, &[]).unwrap();
        assert!(!finished.stderr.contains("SECRET"), "{}", finished.stderr);
    }
}

#[test]
fn a_delete_insists_on_read_only() {
    let scene = scene().unwrap();
    let before = scene.snapshot().unwrap();
    let finished = scene.program.run(&["delete", &scene.name()]).unwrap();
    let parts = [
        "refused",
        "nothing may write",
        "--assume-read-only",
        "MAINTENANCE_READONLY",
    ];
    says(&finished, 3, &parts).unwrap();
    before.is_unchanged(&scene).unwrap();
    assert!(!scene.root().join("hardprune").exists());
}

#[test]
fn a_guard_is_not_overridden_by_the_environment() {
    let mut scene = scene().unwrap();
    scene.program = scene.program.with("HARDPRUNE_ASSUME_READ_ONLY", "true");
    let before = scene.snapshot().unwrap();
    let finished = scene.program.run(&["delete", &scene.name()]).unwrap();
    says(&finished, 3, &["refused"]).unwrap();
    before.is_unchanged(&scene).unwrap();
}

#[test]
fn runs_that_are_not_there() {
    let scene = scene().unwrap();
    for option in ["--resume", "--plan"] {
        let parts = [UNKNOWN_RUN, "no run", "hardprune runs list"];
        scene.fails(2, "delete", &[option, UNKNOWN_RUN], &parts).unwrap();
    }
    scene
        .fails(2, "delete", &["--resume", "auto"], &["no run", "left to resume"])
        .unwrap();
    let shown = scene.program.run(&["runs", "show", UNKNOWN_RUN]).unwrap();
    says(&shown, 2, &[UNKNOWN_RUN, "no run"]).unwrap();
}

#[test]
fn ids_that_are_none() {
    let scene = scene().unwrap();
    for option in ["--resume", "--plan"] {
        scene
            .fails(2, "delete", &[option, "yesterday"], &[option, "yesterday"])
            .unwrap();
    }
    let shown = scene.program.run(&["runs", "show", "yesterday"]).unwrap();
    says(&shown, 2, &["yesterday"]).unwrap();
}

fn run_of(scene: &Scene, command: &str, more: &[&str]) -> Result<String> {
    let report = scene.report(0, command, more)?;
    Ok(report["run"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_plan_for_another_registry() {
    let (one, two) = (scene().unwrap(), scene().unwrap());
    let state = tempfile::tempdir().unwrap();
    let state = ["--state", state.path().to_str().unwrap()];
    let run = run_of(&one, "check", &state).unwrap();
    let more = [state[0], state[1], "--plan", &run];
    two.fails(2, "delete", &more, &[&run, &one.name(), &two.name()])
        .unwrap();
}

#[test]
fn a_run_that_is_over_or_only_checked_cannot_be_resumed() {
    let scene = scene().unwrap();
    let state = tempfile::tempdir().unwrap();
    let state = ["--state", state.path().to_str().unwrap()];
    for command in ["check", "delete"] {
        let run = run_of(&scene, command, &state).unwrap();
        let more = [state[0], state[1], "--resume", &run];
        scene
            .fails(2, "delete", &more, &[&run, "nothing to resume"])
            .unwrap();
    }
}

#[test]
fn options_that_contradict_each_other() {
    let scene = scene().unwrap();
    let more = ["--plan", UNKNOWN_RUN, "--resume", "auto"];
    scene.fails(2, "delete", &more, &["--plan", "--resume"]).unwrap();
    scene
        .fails(
            2,
            "check",
            &["--accept-untagged-repositories"],
            &["--delete-untagged"],
        )
        .unwrap();
}
