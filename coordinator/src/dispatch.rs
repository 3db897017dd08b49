//! Hands a stage's tasks to workers and gathers their reports, on whichever transport.
//!
//! A task whose attempt failed is handed out again, a bounded number of times (R10); what then still fails is named,
//! and the stage decides what that means.

use std::collections::HashMap;

use hardprune_common::queue::{QueueClosed, TaskPublisher};
use hardprune_common::run::Epoch;
use hardprune_common::task::{Findings, MESSAGE_VERSION, Task, Work};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Recorded errors after which a task is given up. Stores have retried on their own by then.
const MOST_ERRORS: u32 = 2;

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
    stop: CancellationToken,
}

impl<'d> Dispatcher<'d> {
    /// Makes a dispatcher.
    pub fn new(
        queue: &'d dyn TaskPublisher,
        epoch: Epoch,
        registry: String,
        stop: CancellationToken,
    ) -> Self {
        Self {
            queue,
            epoch,
            registry,
            stop,
        }
    }

    /// The epoch whose tasks it hands out.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
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
        while !open.is_empty() {
            let (task, result) = tokio::select! {
                next = self.next_result(&mut open) => next?,
                () = self.stop.cancelled() => return Err(DispatchError::Stopped),
            };
            match result {
                Ok(findings) => open.extend(self.publish_all(take(&task, findings)).await?),
                Err(FailedTask { task, error }) => {
                    return Err(DispatchError::Poisoned {
                        task,
                        errors: MOST_ERRORS,
                        error,
                    });
                }
            }
        }
        Ok(())
    }

    /// Does tasks that delete. They end by themselves when the run is to stop, and every one of them is waited for:
    /// what they did is in their journals. Returns those that were given up.
    ///
    /// # Errors
    ///
    /// Workers that are gone.
    pub async fn wait_for_all(
        &self,
        tasks: Vec<(String, Work)>,
        mut take: impl FnMut(Findings),
    ) -> Result<Vec<FailedTask>, DispatchError> {
        let mut open = self.publish_all(tasks).await?;
        let mut given_up = Vec::new();
        while !open.is_empty() {
            match self.next_result(&mut open).await? {
                (_, Ok(findings)) => take(findings),
                (_, Err(failed)) => given_up.push(failed),
            }
        }
        Ok(given_up)
    }

    async fn publish_all(
        &self,
        tasks: Vec<(String, Work)>,
    ) -> Result<HashMap<String, (Task, u32)>, QueueClosed> {
        let mut open = HashMap::new();
        for (id, work) in tasks {
            let task = Task {
                version: MESSAGE_VERSION,
                id: id.clone(),
                epoch: self.epoch.clone(),
                registry: self.registry.clone(),
                work,
            };
            self.queue.publish(task.clone()).await?;
            open.insert(id, (task, 0));
        }
        Ok(open)
    }

    /// Waits until a task is done or given up.
    async fn next_result(
        &self,
        open: &mut HashMap<String, (Task, u32)>,
    ) -> Result<(Task, Result<Findings, FailedTask>), QueueClosed> {
        loop {
            let report = self.queue.next_report().await?;
            // A report of another epoch, or of a task that is done already, says nothing new.
            let Some((task, errors)) = open.get_mut(&report.task).filter(|_| report.epoch == self.epoch)
            else {
                continue;
            };
            match report.result {
                Ok(findings) => {
                    let task = task.clone();
                    open.remove(&report.task);
                    return Ok((task, Ok(findings)));
                }
                Err(error) => {
                    *errors += 1;
                    warn!(task = report.task, error, errors, "a task failed");
                    if *errors >= MOST_ERRORS || self.stop.is_cancelled() {
                        let task = task.clone();
                        open.remove(&report.task);
                        return Ok((
                            task,
                            Err(FailedTask {
                                task: report.task,
                                error,
                            }),
                        ));
                    }
                    self.queue.publish(task.clone()).await?;
                }
            }
        }
    }
}
