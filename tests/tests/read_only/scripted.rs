//! Registries that answer as the tests want, and what the scenarios share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use hardprune_tests::program::Finished;
use hardprune_tests::scene::Scene;
use hardprune_tests::scripted_http::{Reply, ScriptedHttp};

pub const VERSION: (&str, &str) = ("Docker-Distribution-Api-Version", "registry/2.0");

/// What Distribution 2.8.2 answers in read-only mode.
pub fn read_only_answer() -> Reply {
    let headers = [
        VERSION,
        ("Allow", "GET, HEAD"),
        ("Content-Type", "text/plain; charset=utf-8"),
    ];
    Reply::new(405, &headers, "Method Not Allowed\n")
}

/// A registry that can be made writable.
pub struct Switchable {
    pub server: ScriptedHttp,
    pub is_writable: Arc<AtomicBool>,
}

impl Switchable {
    pub fn start() -> Result<Self> {
        let is_writable = Arc::new(AtomicBool::new(false));
        let writable = Arc::clone(&is_writable);
        let server = ScriptedHttp::start(move |asked| match asked.method.as_str() {
            "POST" if writable.load(Ordering::SeqCst) => Reply::new(
                202,
                &[VERSION, ("Location", "/v2/hardprune/probe/blobs/uploads/1")],
                "",
            ),
            "POST" => read_only_answer(),
            _ => Reply::new(204, &[VERSION], ""),
        })?;
        Ok(Self { server, is_writable })
    }

    pub fn make_writable(&self) {
        self.is_writable.store(true, Ordering::SeqCst);
    }

    pub fn make_read_only(&self) {
        self.is_writable.store(false, Ordering::SeqCst);
    }
}

/// The arguments of a `delete` that is told nothing yet of read-only mode.
pub fn delete<'a>(scene: &'a Scene, others: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = scene.delete(others);
    arguments.retain(|argument| *argument != "--assume-read-only");
    arguments.extend([
        "--probe-every",
        "100ms",
        "--probe-timeout",
        "2s",
        "--rollout-pause",
        "20ms",
    ]);
    arguments
}

/// It must have refused, with nothing deleted, and have said all of this.
pub fn refused(scene: &Scene, finished: &Finished, parts: &[&str]) -> Result<()> {
    ensure!(finished.status == 3, "{finished:?}");
    for part in parts {
        ensure!(
            finished.stderr.contains(part),
            "{part:?} is missing: {finished:?}"
        );
    }
    let removed = scene.difference()?.removed;
    ensure!(removed.is_empty(), "deleted: {removed:?}");
    ensure!(
        !scene.state().join("hardprune/lock.json").exists(),
        "the lock is left"
    );
    Ok(())
}
