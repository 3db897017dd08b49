//! The worker's metrics, under the names of docs/metrics.md.

mod labels;
mod resident_bytes;

use std::sync::Arc;
use std::time::Instant;

use hardprune_common::clock;
use hardprune_common::metrics::{
    Counters, Gauges, Histograms, StoreRequests, counter, counters, gauge, gauges, histograms, register,
};
use hardprune_common::nats::Watcher;
use hardprune_common::quarantine::Undo;
use hardprune_common::removal::Removal;
use hardprune_common::store::{KeyOutcome, Store};
use hardprune_common::task::WorkKind;
use prometheus::{Error, IntCounter, IntGauge, Registry};

pub use labels::{RefusalReason, TaskOutcome};
use resident_bytes::ResidentBytes;

/// Upper bounds of the buckets of a task's time, in seconds: 10 ms to an hour.
const TASK_SECONDS: [f64; 14] = [
    0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
];

/// The worker's metrics. Clones count into the same ones.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {
    tasks: Counters<(WorkKind, TaskOutcome)>,
    running_tasks: Gauges<WorkKind>,
    task_seconds: Histograms<WorkKind>,
    deleted_keys: IntCounter,
    freed_bytes: IntCounter,
    delete_failures: IntCounter,
    throttled_batches: IntCounter,
    store_requests: StoreRequests,
    nats_connected: IntGauge,
    nats_reconnects: IntCounter,
    claims_taken_over: IntCounter,
    refused_tasks: Counters<RefusalReason>,
}

impl WorkerMetrics {
    /// Registers all of the worker's metrics.
    ///
    /// # Errors
    ///
    /// A name that is taken: they can be registered once in a registry.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        register(registry, ResidentBytes::new()?)?;
        Ok(Self {
            tasks: counters(
                registry,
                "hardprune_worker_tasks_total",
                "Attempts at tasks that ended.",
            )?,
            running_tasks: gauges(
                registry,
                "hardprune_worker_running_tasks",
                "Tasks that are being done.",
            )?,
            task_seconds: histograms(
                registry,
                "hardprune_worker_task_seconds",
                "How long attempts at tasks took, whatever their outcome.",
                &TASK_SECONDS,
            )?,
            deleted_keys: counter(
                registry,
                "hardprune_worker_deleted_keys_total",
                "Keys that the registry's storage said are gone: blobs, links, uploads. A key that went twice counts twice.",
            )?,
            freed_bytes: counter(
                registry,
                "hardprune_worker_freed_bytes_total",
                "Bytes of the blobs among the deleted keys. For rates: a run's exact figure is in its report.",
            )?,
            delete_failures: counter(
                registry,
                "hardprune_worker_delete_failures_total",
                "Keys that were to be deleted and for which the registry's storage answered with an error, or not at all.",
            )?,
            throttled_batches: counter(
                registry,
                "hardprune_worker_throttled_batches_total",
                "Batches of deletes that the registry's storage told to slow down (429, 503).",
            )?,
            store_requests: StoreRequests::register(
                registry,
                "hardprune_worker_store_requests_total",
                "Requests sent to all stores, registries and state. Every attempt counts.",
            )?,
            nats_connected: gauge(
                registry,
                "hardprune_worker_nats_connected",
                "Whether the connection to NATS is up.",
            )?,
            nats_reconnects: counter(
                registry,
                "hardprune_worker_nats_reconnects_total",
                "Times that the connection to NATS was lost and came back.",
            )?,
            claims_taken_over: counter(
                registry,
                "hardprune_worker_claims_taken_over_total",
                "Tasks with deletes that were taken over from a worker that had stopped renewing its claim.",
            )?,
            refused_tasks: counters(
                registry,
                "hardprune_worker_refused_tasks_total",
                "Tasks that were not begun.",
            )?,
        })
    }

    /// Counts the requests of a store from now on, those that it was sent before too. Call it for each store that is
    /// opened; it is kept.
    pub fn count_requests_of(&self, store: &Arc<dyn Store>) {
        self.store_requests.count(store);
    }

    /// Counts a task as running until what is returned ends.
    #[must_use = "the task counts as running while this is held"]
    pub fn task_begins(&self, kind: WorkKind) -> RunningTask {
        self.running_tasks.of(kind).inc();
        RunningTask {
            metrics: self.clone(),
            kind,
            began: clock::monotonic_now(),
            outcome: TaskOutcome::Failed,
        }
    }

    fn deleted(&self, keys: u64, freed_bytes: u64) {
        self.deleted_keys.inc_by(keys);
        self.freed_bytes.inc_by(freed_bytes);
    }

    fn delete_failed(&self, keys: u64) {
        self.delete_failures.inc_by(keys);
    }

    fn batch_throttled(&self) {
        self.throttled_batches.inc();
    }

    /// Counts what became of the keys of one request. What can be had back has freed nothing.
    pub fn batch_ended(&self, removals: &[Removal], outcomes: &[KeyOutcome], undo: Undo) {
        let (mut keys, mut freed_bytes, mut failed, mut throttled) = (0, 0, 0, false);
        for (removal, outcome) in removals.iter().zip(outcomes) {
            match outcome {
                KeyOutcome::Deleted => {
                    keys += 1;
                    let is_freed = undo == Undo::Nothing && removal.blob().is_some();
                    freed_bytes += if is_freed { removal.size } else { 0 };
                }
                KeyOutcome::Failed(_) | KeyOutcome::Unknown(_) => failed += 1,
                KeyOutcome::Throttled => throttled = true,
            }
        }
        self.deleted(keys, freed_bytes);
        self.delete_failed(failed);
        if throttled {
            self.batch_throttled();
        }
    }

    /// Says whether the connection to NATS is up.
    pub fn set_nats_connected(&self, connected: bool) {
        self.nats_connected.set(connected.into());
    }

    /// Counts a connection to NATS that was lost and came back.
    pub fn nats_reconnected(&self) {
        self.nats_reconnects.inc();
    }

    /// Counts a task that was not begun.
    pub fn task_refused(&self, reason: RefusalReason) {
        self.refused_tasks.of(reason).inc();
    }
}

impl Watcher for WorkerMetrics {
    fn claim_taken_over(&self) {
        self.claims_taken_over.inc();
    }

    fn store_refused(&self) {
        self.task_refused(RefusalReason::Store);
    }

    fn version_refused(&self) {
        self.task_refused(RefusalReason::Version);
    }
}

/// A task that counts as running. Dropped without an outcome, in a panic or with the future that held it, it failed.
#[derive(Debug)]
pub struct RunningTask {
    metrics: WorkerMetrics,
    kind: WorkKind,
    began: Instant,
    outcome: TaskOutcome,
}

impl RunningTask {
    /// Ends the attempt.
    pub fn ends(mut self, outcome: TaskOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        let seconds = clock::since(self.began).as_secs_f64();
        self.metrics.running_tasks.of(self.kind).dec();
        self.metrics.task_seconds.of(self.kind).observe(seconds);
        self.metrics.tasks.of((self.kind, self.outcome)).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn metrics() -> (Registry, WorkerMetrics) {
        let registry = Registry::new();
        let metrics = WorkerMetrics::register(&registry).unwrap();
        (registry, metrics)
    }

    #[track_caller]
    fn assert_has(registry: &Registry, lines: &[&str]) {
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in lines {
            assert!(
                text.lines()
                    .any(|found| found == format!("hardprune_worker_{line}")),
                "{line} in {text}"
            );
        }
    }

    #[test]
    fn a_task_runs_until_it_ends_and_counts_by_its_outcome() {
        let (registry, metrics) = metrics();
        let plan = metrics.task_begins(WorkKind::Plan);
        let sweep = metrics.task_begins(WorkKind::Sweep);
        assert_has(
            &registry,
            &[
                r#"running_tasks{kind="plan"} 1"#,
                r#"running_tasks{kind="sweep"} 1"#,
                r#"tasks_total{kind="plan",outcome="done"} 0"#,
            ],
        );
        plan.ends(TaskOutcome::Done);
        drop(sweep);
        assert_has(
            &registry,
            &[
                r#"running_tasks{kind="plan"} 0"#,
                r#"running_tasks{kind="sweep"} 0"#,
                r#"tasks_total{kind="plan",outcome="done"} 1"#,
                r#"tasks_total{kind="plan",outcome="failed"} 0"#,
                r#"tasks_total{kind="sweep",outcome="failed"} 1"#,
                r#"task_seconds_count{kind="plan"} 1"#,
                r#"task_seconds_bucket{kind="mark",le="0.01"} 0"#,
                r#"task_seconds_bucket{kind="mark",le="3600"} 0"#,
            ],
        );
    }

    #[test]
    fn each_method_counts_into_its_own_metric() {
        let (registry, metrics) = metrics();
        metrics.deleted(1000, 5_000_000_000);
        metrics.delete_failed(2);
        metrics.batch_throttled();
        metrics.set_nats_connected(true);
        metrics.nats_reconnected();
        metrics.claim_taken_over();
        metrics.task_refused(RefusalReason::Version);
        assert_has(
            &registry,
            &[
                "deleted_keys_total 1000",
                "freed_bytes_total 5000000000",
                "delete_failures_total 2",
                "throttled_batches_total 1",
                "nats_connected 1",
                "nats_reconnects_total 1",
                "claims_taken_over_total 1",
                r#"refused_tasks_total{reason="version"} 1"#,
                r#"refused_tasks_total{reason="store"} 0"#,
            ],
        );
        metrics.set_nats_connected(false);
        assert_has(&registry, &["nats_connected 0"]);
    }
}
