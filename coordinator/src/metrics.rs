//! The coordinator's metrics, under the names of docs/metrics.md, and those figures of a run that `--metrics-file` has as
//! well.

mod lock_lease;
mod run_figures;
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hardprune_common::metrics::{
    Counters, Gauges, Label, StoreRequests, counter, counters, gauge, gauge_value, gauges, register,
};
use hardprune_common::store::Store;
use jiff::Timestamp;
use prometheus::{Error, Gauge, IntCounter, IntGauge, Registry};

use crate::exit_status::ExitStatus;
use lock_lease::LockLease;
pub(crate) use run_figures::RunFigures;
pub use stage::Stage;

/// The coordinator's metrics. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct CoordinatorMetrics {
    pending_tasks: IntGauge,
    open_tasks: Gauges<Stage>,
    finished_tasks: Counters<Stage>,
    stage_info: Gauges<Stage>,
    run: RunFigures,
    alive_workers: IntGauge,
    poisoned_tasks: IntCounter,
    task_errors: IntCounter,
    lock_renewal_failures: IntCounter,
    lock_lease: LockLease,
    store_requests: StoreRequests,
    run_exit_status: Gauge,
}

impl CoordinatorMetrics {
    /// Registers all of the coordinator's metrics.
    ///
    /// # Errors
    ///
    /// A name that is taken: they can be registered once in a registry.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let exit_status = Gauge::new(
            "hardprune_coordinator_run_exit_status",
            "The exit status that the run ended with. NaN until then.",
        )?;
        exit_status.set(f64::NAN);
        Ok(Self {
            pending_tasks: gauge(
                registry,
                "hardprune_coordinator_pending_tasks",
                "Tasks that wait for a worker. What workers are scaled by.",
            )?,
            open_tasks: gauges(
                registry,
                "hardprune_coordinator_open_tasks",
                "Tasks that were published and have no result yet, those that workers are doing among them.",
            )?,
            finished_tasks: counters(
                registry,
                "hardprune_coordinator_finished_tasks_total",
                "Tasks that have their result. A task that was set aside has none.",
            )?,
            stage_info: gauges(
                registry,
                "hardprune_coordinator_stage_info",
                "1 for the stage that the run is in, 0 for the others, and for all when no run is under way.",
            )?,
            run: RunFigures::register(registry)?,
            alive_workers: gauge(
                registry,
                "hardprune_coordinator_alive_workers",
                "Workers that have lately said that they live.",
            )?,
            poisoned_tasks: counter(
                registry,
                "hardprune_coordinator_poisoned_tasks_total",
                "Tasks that were set aside after five recorded errors.",
            )?,
            task_errors: counter(
                registry,
                "hardprune_coordinator_task_errors_total",
                "Errors of tasks that workers recorded. The task is tried again.",
            )?,
            lock_renewal_failures: counter(
                registry,
                "hardprune_coordinator_lock_renewal_failures_total",
                "Times that the registry's lock could not be renewed.",
            )?,
            lock_lease: register(registry, LockLease::new()?)?,
            store_requests: StoreRequests::register(
                registry,
                "hardprune_coordinator_store_requests_total",
                "Requests sent by this process to the registry's storage and to the state store. Every attempt counts.",
            )?,
            run_exit_status: register(registry, exit_status)?,
        })
    }

    /// Counts the requests of a store from now on, those that it was sent before too. Call it for each store that is
    /// opened; it is kept.
    pub fn count_requests_of(&self, store: &Arc<dyn Store>) {
        self.store_requests.count(store);
    }

    /// The run enters a stage. Tasks of other stages are not open any more.
    pub fn enter(&self, stage: Stage) {
        self.show_stage(Some(stage));
    }

    /// Tasks of a stage were published.
    pub fn tasks_published(&self, stage: Stage, tasks: u64) {
        self.open_tasks.of(stage).add(gauge_value(tasks));
    }

    /// A task has its result.
    pub fn task_finished(&self, stage: Stage) {
        self.open_tasks.of(stage).dec();
        self.finished_tasks.of(stage).inc();
    }

    /// A task of the stage that the run is in was set aside: it will not have a result.
    pub fn task_poisoned(&self) {
        for stage in Stage::ALL {
            self.open_tasks.of(*stage).sub(self.stage_info.of(*stage).get());
        }
        self.poisoned_tasks.inc();
    }

    /// A worker recorded an error of a task.
    pub fn task_error(&self) {
        self.task_errors.inc();
    }

    /// So many tasks wait for a worker.
    pub fn set_pending_tasks(&self, tasks: u64) {
        self.pending_tasks.set(gauge_value(tasks));
    }

    /// So many workers live.
    pub fn set_alive_workers(&self, workers: u64) {
        self.alive_workers.set(gauge_value(workers));
    }

    /// So far the run has deleted so many blobs, of so many bytes. Once its books are closed: exactly so many.
    pub fn set_deleted(&self, blobs: u64, freed_bytes: u64) {
        self.run.deleted_blobs.set(gauge_value(blobs));
        self.run.freed_bytes.set(gauge_value(freed_bytes));
    }

    /// The registry's lock was written at `asked` or later, and is good for `lease` after that. Take `asked` before the request is sent.
    pub fn lock_renewed(&self, asked: Instant, lease: Duration) {
        self.lock_lease.lapses(asked.checked_add(lease));
    }

    /// The registry's lock could not be renewed.
    pub fn lock_renewal_failed(&self) {
        self.lock_renewal_failures.inc();
    }

    /// The registry's lock was given back.
    pub fn lock_given_back(&self) {
        self.lock_lease.lapses(None);
    }

    /// The run has ended.
    pub fn run_ended(&self, at: Timestamp, status: ExitStatus) {
        self.show_stage(None);
        self.pending_tasks.set(0);
        self.run.ended(at);
        self.run_exit_status.set(f64::from(status as u8));
    }

    fn show_stage(&self, current: Option<Stage>) {
        for stage in Stage::ALL {
            let is_current = Some(*stage) == current;
            self.stage_info.of(*stage).set(is_current.into());
            if !is_current {
                self.open_tasks.of(*stage).set(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hardprune_common::clock;
    use prometheus::TextEncoder;

    use super::*;

    fn metrics() -> (Registry, CoordinatorMetrics) {
        let registry = Registry::new();
        let metrics = CoordinatorMetrics::register(&registry).unwrap();
        (registry, metrics)
    }

    #[track_caller]
    fn assert_has(registry: &Registry, lines: &[&str]) {
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in lines {
            assert!(
                text.lines()
                    .any(|found| found == format!("hardprune_coordinator_{line}")),
                "{line} in {text}"
            );
        }
    }

    #[test]
    fn what_is_not_known_yet_is_not_a_number() {
        let (registry, _metrics) = metrics();
        assert_has(
            &registry,
            &[
                "run_exit_status NaN",
                "run_finished_timestamp_seconds NaN",
                "lock_lease_remaining_seconds NaN",
                "freed_bytes 0",
                r#"stage_info{stage="links"} 0"#,
                r#"finished_tasks_total{stage="settle"} 0"#,
            ],
        );
    }

    #[test]
    fn a_run_is_in_one_stage_and_only_its_tasks_are_open() {
        let (registry, metrics) = metrics();
        metrics.enter(Stage::Mark);
        metrics.tasks_published(Stage::Mark, 5);
        metrics.task_finished(Stage::Mark);
        metrics.task_error();
        metrics.task_poisoned();
        assert_has(
            &registry,
            &[
                r#"stage_info{stage="mark"} 1"#,
                r#"open_tasks{stage="mark"} 3"#,
                r#"finished_tasks_total{stage="mark"} 1"#,
                "task_errors_total 1",
                "poisoned_tasks_total 1",
            ],
        );
        metrics.enter(Stage::Plan);
        metrics.tasks_published(Stage::Plan, 2);
        assert_has(
            &registry,
            &[
                r#"stage_info{stage="mark"} 0"#,
                r#"stage_info{stage="plan"} 1"#,
                r#"open_tasks{stage="mark"} 0"#,
                r#"open_tasks{stage="plan"} 2"#,
                r#"finished_tasks_total{stage="mark"} 1"#,
            ],
        );
    }

    #[test]
    fn the_end_of_a_run_shows_what_it_did_and_no_stage() {
        let (registry, metrics) = metrics();
        metrics.enter(Stage::Sweep);
        metrics.tasks_published(Stage::Sweep, 2);
        metrics.set_pending_tasks(1);
        metrics.set_alive_workers(3);
        metrics.set_deleted(7, 5_000_000_000);
        metrics.run_ended(
            Timestamp::from_second(1_790_000_000).unwrap(),
            ExitStatus::Stopped,
        );
        assert_has(
            &registry,
            &[
                r#"stage_info{stage="sweep"} 0"#,
                r#"open_tasks{stage="sweep"} 0"#,
                "pending_tasks 0",
                "alive_workers 3",
                "deleted_blobs 7",
                "freed_bytes 5000000000",
                "run_finished_timestamp_seconds 1790000000",
                "run_exit_status 4",
            ],
        );
    }

    #[test]
    fn a_lease_that_has_passed_has_nothing_left_and_one_given_back_is_none() {
        let (registry, metrics) = metrics();
        metrics.lock_renewed(clock::monotonic_now(), Duration::ZERO);
        metrics.lock_renewal_failed();
        assert_has(
            &registry,
            &["lock_lease_remaining_seconds 0", "lock_renewal_failures_total 1"],
        );
        metrics.lock_given_back();
        assert_has(&registry, &["lock_lease_remaining_seconds NaN"]);
    }
}
