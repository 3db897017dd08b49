//! Hands a stage's tasks to workers and gathers their reports, on whichever transport.
//!
//! A task whose attempt failed is handed out again, a bounded number of times (R10); what then still fails is named,
//! and the stage decides what that means.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use hardprune_common::clock;
use hardprune_common::queue::{QueueClosed, TaskPublisher};
use hardprune_common::run::Epoch;
use hardprune_common::store::RequestCounts;
use hardprune_common::task::{Findings, MESSAGE_VERSION, RemovedFindings, Task, TaskReport, Work};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::metrics::CoordinatorMetrics;

/// Why a stage ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The run is to stop.
    #[error("the run was stopped")]
    Stopped,
    /// The workers are gone.
    #[error(transparent)]
    Closed(#[from] QueueClosed),
    /// A task failed too often, and the stage cannot do without it.
    #[error("task {task} failed {errors} times; the last error: {error}")]
    Poisoned {
        /// The task.
        task: String,
        /// How often.
        errors: u32,
        /// The last error.
        error: String,
    },
}

/// A task that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTask {
    /// Its id.
    pub task: String,
    /// The last error.
    pub error: String,
}

/// Hands out tasks of one epoch.
pub struct Dispatcher<'d> {
    queue: &'d dyn TaskPublisher,
    epoch: Epoch,
    registry: String,
    state: String,
    stop: CancellationToken,
    metrics: CoordinatorMetrics,
    tally: Mutex<Tally>,
    /// Whether tasks that delete were handed out.
    has_handed_out: AtomicBool,
}

/// What reports said of those who made them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Workers that were heard of.
    pub workers: BTreeSet<String>,
    /// Requests of theirs to the registry's storage.
    pub requests: RequestCounts,
}

/// A task that is under way.
struct Open {
    task: Task,
    errors: u32,
}

impl<'d> Dispatcher<'d> {
    /// Makes a dispatcher of tasks on a registry whose runs are kept in a state store, both named by their identities.
    pub fn new(
        queue: &'d dyn TaskPublisher,
        epoch: Epoch,
        (registry, state): (String, String),
        stop: CancellationToken,
        metrics: CoordinatorMetrics,
    ) -> Self {
        Self {
            queue,
            epoch,
            registry,
            state,
            stop,
            metrics,
            tally: Mutex::default(),
            has_handed_out: AtomicBool::new(false),
        }
    }

    /// What the reports so far said of those who made them.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether somebody may still delete for a task. Where reports come from other processes one of them ends a task for this
    /// side only: a worker whose claim another has taken over reports, too, and one who says that it failed may be anybody.
    #[must_use]
    pub fn may_be_at_work(&self) -> bool {
        self.has_handed_out.load(Ordering::Relaxed) && !self.queue.hears_all()
    }

    /// Does tasks until none is left; `take` gets the findings of each, and may return more tasks.
    ///
    /// # Errors
    ///
    /// [`DispatchError::Stopped`] as soon as the run is to stop, and a task that failed too often.
    pub async fn finish_all(
        &self,
        tasks: Vec<(String, Work)>,
        mut take: impl FnMut(&Task, Findings) -> Vec<(String, Work)>,
    ) -> Result<(), DispatchError> {
        let mut open = self.publish_all(tasks).await?;
        // Where the run is to stop, tasks may not have been handed out at all.
        while !open.is_empty() || self.stop.is_cancelled() {
            let (task, result) = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(DispatchError::Stopped),
                next = self.next_result(&mut open) => next?,
            };
            match result {
                Ok(findings) => open.extend(self.publish_all(take(&task, findings)).await?),
                // What was heard of first says nothing else: tasks are given back when the run is to stop.
                Err(_) if self.stop.is_cancelled() => return Err(DispatchError::Stopped),
                Err(FailedTask { task, error }) => {
                    return Err(DispatchError::Poisoned {
                        task,
                        errors: self.queue.most_errors(),
                        error,
                    });
                }
            }
        }
        Ok(())
    }

    /// Does tasks that delete. They end by themselves when the run is to stop, and every one of them that a worker has in hand
    /// then is waited for: what they did is in their journals. `take` gets the findings of those that reported, with their ids; tasks
    /// that nobody will do any more have stopped, together and without one. Returns those that were given up.
    ///
    /// # Errors
    ///
    /// Workers that are gone.
    pub async fn wait_for_all(
        &self,
        tasks: Vec<(String, Work)>,
        mut take: impl FnMut(Option<&str>, RemovedFindings),
    ) -> Result<Vec<FailedTask>, DispatchError> {
        self.has_handed_out.fetch_or(!tasks.is_empty(), Ordering::Relaxed);
        let wanted = tasks.len();
        let mut open = self.publish_all(tasks).await?;
        let not_handed_out = wanted - open.len();
        let mut given_up = Vec::new();
        let mut has_stopped = not_handed_out > 0;
        let mut take_next = |(task, result): (Task, _)| match result {
            Ok(Findings::Removed(findings)) => take(Some(&task.id), findings),
            Ok(Findings::Mark(_) | Findings::Plan(_)) => {}
            Err(failed) => given_up.push(failed),
        };
        while !open.is_empty() {
            tokio::select! {
                next = self.next_result(&mut open) => take_next(next?),
                () = self.stop.cancelled() => break,
            }
        }
        if !open.is_empty() {
            let halted = self.queue.halt(open.keys().cloned().collect()).await?;
            let unknown = open.len() - halted.in_hand.len();
            open.retain(|id, _| halted.in_hand.contains(id));
            let until = halted.at_most.map(|longest| clock::monotonic_now() + longest);
            while !open.is_empty() {
                let next = self.next_result(&mut open);
                let next = match until {
                    Some(until) => tokio::time::timeout_at(until.into(), next).await,
                    None => Ok(next.await),
                };
                match next {
                    Ok(next) => take_next(next?),
                    // Their workers are gone. What they sent has ended by now, and settling looks what became of it (R5).
                    Err(_) => break,
                }
            }
            if unknown + open.len() > 0 {
                has_stopped = true;
            }
        }
        if has_stopped {
            take(None, RemovedFindings::stopped());
        }
        Ok(given_up)
    }

    /// Hands out tasks, until the run is to stop: a queue that cannot be reached must not keep it. Returns those that were, or may
    /// have been, handed out.
    async fn publish_all(&self, tasks: Vec<(String, Work)>) -> Result<HashMap<String, Open>, QueueClosed> {
        let mut open = HashMap::new();
        for (id, work) in tasks {
            let task = Task {
                version: MESSAGE_VERSION,
                id: id.clone(),
                epoch: self.epoch.clone(),
                registry: self.registry.clone(),
                state: self.state.clone(),
                work,
            };
            if self.stop.is_cancelled() {
                break;
            }
            open.insert(
                id,
                Open {
                    task: task.clone(),
                    errors: 0,
                },
            );
            tokio::select! {
                biased;
                published = self.queue.publish(task) => published?,
                () = self.stop.cancelled() => break,
            }
        }
        Ok(open)
    }

    /// Waits until a task is done or given up.
    async fn next_result(
        &self,
        open: &mut HashMap<String, Open>,
    ) -> Result<(Task, Result<Findings, FailedTask>), QueueClosed> {
        loop {
            let report = self.queue.next_report().await?;
            self.count(&report);
            // A report of another epoch, or of a task that is done already, says nothing new.
            let Entry::Occupied(mut entry) = open.entry(report.task) else {
                continue;
            };
            if report.epoch != self.epoch {
                continue;
            }
            let error = match report.result {
                Ok(findings) => return Ok((entry.remove().task, Ok(findings))),
                Err(error) => error,
            };
            let errors = entry.get().errors + 1;
            warn!(task = entry.key(), error, errors, "a task failed");
            self.metrics.task_error();
            if errors >= self.queue.most_errors() || self.stop.is_cancelled() {
                let (id, open) = entry.remove_entry();
                self.metrics.task_poisoned();
                return Ok((open.task, Err(FailedTask { task: id, error })));
            }
            entry.get_mut().errors = errors;
            self.queue.publish(entry.get().task.clone()).await?;
        }
    }

    fn count(&self, report: &TaskReport) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.requests = tally.requests.plus(report.requests);
        if !report.worker.is_empty() && !tally.workers.contains(&report.worker) {
            tally.workers.insert(report.worker.clone());
        }
    }
}
