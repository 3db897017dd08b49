//! Runs of a fleet: slow enough to be met in the middle, gone on with when they were stopped.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Fleet, wait_until};
use crate::generate::Shape;
use crate::nats_server::NatsOptions;
use crate::s3_server::{Effect, Fault, Operation, S3Options};
use crate::scene::{Running, Scene, report_of};

/// How long the lock of a dead coordinator may stand in the way on the terms of tests.
const LONGEST_LOCK: Duration = Duration::from_secs(40);

impl Fleet {
    /// A registry on an S3 server, each of whose bulk deletes takes this long.
    ///
    /// # Errors
    ///
    /// As [`Scene::on_s3`] and [`Fleet::of`].
    pub fn with_slow_deletes(shape: &Shape, delay: Duration) -> Result<Self> {
        let scene = Scene::on_s3(shape, S3Options::default())?;
        let slow = Fault::on(Operation::DeleteObjects, Effect::DelayBefore(delay));
        scene.server()?.faults().add(slow);
        Self::with(scene, &NatsOptions::default())
    }

    /// Starts a coordinator that deletes, with failpoints.
    ///
    /// # Errors
    ///
    /// A program that does not start.
    pub fn start_delete(&self, failpoints: &str, others: &[&str]) -> Result<Running> {
        let url = self.nats.url();
        let options = self.options(&url, others);
        let child = self.scene.start_with(failpoints, &self.scene.delete(&options))?;
        Running::of(child, self.scene.folder().join("hold"))
    }

    /// Deletes to the end, which must be this one. Returns the report.
    ///
    /// # Errors
    ///
    /// Another end.
    pub fn delete(&self, wanted: i32, others: &[&str]) -> Result<Value> {
        let url = self.nats.url();
        let options = self.options(&url, others);
        self.scene.report(wanted, &self.scene.delete(&options))
    }

    /// Goes on with the latest run, as soon as the lock of a dead coordinator has lapsed. It must end well.
    ///
    /// # Errors
    ///
    /// Another end.
    pub fn resume(&self) -> Result<Value> {
        let url = self.nats.url();
        let options = self.options(&url, &["--resume", "auto"]);
        let begun = Instant::now();
        loop {
            let finished = self.scene.program.run(&self.scene.delete(&options))?;
            if finished.status != 7 {
                return report_of(&finished, 0);
            }
            ensure!(begun.elapsed() < LONGEST_LOCK, "{}", finished.stderr);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// All is right and done: exactly the orphans are gone, and the report says so.
    ///
    /// # Errors
    ///
    /// What is not.
    pub fn check_finished(&self, report: &Value) -> Result<()> {
        self.scene.check_finished(report, &self.scene.orphans())
    }

    /// Waits until blobs are being deleted.
    ///
    /// # Errors
    ///
    /// A minute without that.
    pub fn wait_for_deletes(&self) -> Result<()> {
        let before = self.scene.start.blob_bytes();
        wait_until("the first deletes of blobs", || {
            self.scene.inventory().is_ok_and(|now| now.blob_bytes() < before)
        })
    }
}
