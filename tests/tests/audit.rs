//! The audit of a run: `runs verify`, `runs export` and `runs explain`, of runs that ended, were killed, or are of an earlier version;
//! and who freed what.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "audit/explained.rs"]
mod explained;
#[path = "audit/exported.rs"]
mod exported;
#[path = "audit/tenants.rs"]
mod tenants;
#[path = "audit/verified.rs"]
mod verified;

use anyhow::{Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::scene::Scene;
use serde_json::Value;

const DEAD_TOO: [&str; 2] = ["--delete-untagged", "--accept-untagged-repositories"];

/// Runs `runs COMMAND RUN …` of the one run that there is.
fn ask(scene: &Scene, command: &str, others: &[&str]) -> Result<Finished> {
    let (run, state) = (scene.run_id()?, scene.state().display().to_string());
    let mut arguments = vec!["runs", command, &run, "--state", &state];
    arguments.extend(others);
    scene.program.run(&arguments)
}

fn answer(scene: &Scene, command: &str, others: &[&str], wanted: i32) -> Result<String> {
    let finished = ask(scene, command, others)?;
    ensure!(finished.status == wanted, "{command} {others:?}: {finished:?}");
    Ok(finished.stdout)
}

fn deleted(shape: &Shape) -> Result<(Scene, Value)> {
    let scene = Scene::on_folder(shape)?;
    let report = scene.report(0, &scene.delete(&DEAD_TOO))?;
    Ok((scene, report))
}
