//! From a task to its report.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use hardprune_common::queue::TaskConsumer;
use hardprune_common::task::{Findings, MESSAGE_VERSION, Task, TaskReport, Work};
use tracing::{Instrument, debug, info_span};

use crate::context::{TaskError, WorkerContext};
use crate::{delete_blobs, mark_range, plan_shard};

/// Takes tasks and does them, one at a time, until there are no more.
pub async fn work(context: Arc<WorkerContext>, queue: Arc<dyn TaskConsumer>) {
    while let Some(task) = queue.next_task().await {
        let span = info_span!("task", run = %task.epoch.run, epoch = task.epoch.number, task = task.id);
        debug!(parent: &span, "task begins");
        // What panicked is one attempt at a task, not a worker that is never heard of again. It leaves nothing half done
        // in memory: all that attempts share is behind locks that a panic does not poison.
        let attempt = AssertUnwindSafe(run_task(&context, &task).instrument(span.clone())).catch_unwind();
        let result = attempt
            .await
            .unwrap_or_else(|_| Err(TaskError::Lost("it panicked".to_owned())));
        debug!(parent: &span, done = result.is_ok(), "task ends");
        let report = TaskReport {
            version: MESSAGE_VERSION,
            task: task.id,
            epoch: task.epoch,
            result: result.map_err(|error| error.to_string()),
        };
        if queue.report(report).await.is_err() {
            return;
        }
    }
}

async fn run_task(context: &Arc<WorkerContext>, task: &Task) -> Result<Findings, TaskError> {
    if task.version != MESSAGE_VERSION {
        let detail = format!(
            "the task is of version {}, this worker of {MESSAGE_VERSION}",
            task.version
        );
        return Err(TaskError::NotForUs(detail));
    }
    if task.registry != context.registry.identity() {
        let detail = format!(
            "the task is on {:?}, this worker may touch {:?} only",
            task.registry,
            context.registry.identity()
        );
        return Err(TaskError::NotForUs(detail));
    }
    Ok(match &task.work {
        Work::Mark(work) => Findings::Mark(mark_range::mark_range(context, task, work).await?),
        Work::Plan(work) => Findings::Plan(plan_shard::plan_shard(context, task, work).await?),
        Work::Unlink(work) => Findings::Removed(delete_blobs::carry_out(context, task, &work.parts).await?),
        Work::Sweep(work) => Findings::Removed(delete_blobs::carry_out(context, task, &work.parts).await?),
    })
}
