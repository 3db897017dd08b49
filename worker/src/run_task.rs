//! From a task to its report.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use hardprune_common::queue::{ClaimError, QueueClosed, TaskConsumer, TaskInHand};
use hardprune_common::task::{Findings, MESSAGE_VERSION, RemovedFindings, Work};
use tracing::{Instrument, debug, info_span, warn};

use crate::context::{TaskError, WorkerContext};
use crate::metrics::{RefusalReason, TaskOutcome};
use crate::{delete_blobs, mark_range, plan_shard};

/// Takes tasks and does them, one at a time, until there are no more.
pub async fn work(context: Arc<WorkerContext>, queue: Arc<dyn TaskConsumer>) {
    while let Some(task) = queue.next_task().await {
        if attempt(&context, &*task).await.is_err() {
            return;
        }
    }
}

/// Makes one attempt at a task, and reports it or gives it back.
///
/// # Errors
///
/// [`QueueClosed`]: nobody heard of it.
pub async fn attempt(context: &WorkerContext, hand: &dyn TaskInHand) -> Result<TaskOutcome, QueueClosed> {
    let task = hand.task();
    let span = info_span!("task", run = %task.epoch.run, epoch = task.epoch.number, task = task.id, attempt = hand.attempt());
    async {
        debug!("task begins");
        let running = context.metrics.task_begins(task.work.kind());
        // What panicked is one attempt at a task, not a worker that is never heard of again. It leaves nothing half done
        // in memory: all that attempts share is behind locks that a panic does not poison.
        let result = AssertUnwindSafe(run_task(context, hand))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(TaskError::Lost("it panicked".to_owned())));
        let outcome = match &result {
            Ok(Findings::Removed(removed)) if removed.stopped => TaskOutcome::Stopped,
            Ok(_) => TaskOutcome::Done,
            Err(error) if error.gives_back().is_some() => TaskOutcome::GivenBack,
            Err(_) => TaskOutcome::Failed,
        };
        debug!(?outcome, "task ends");
        if let Err(TaskError::Authority(error)) = &result
            && error.refuses()
        {
            context.metrics.task_refused(RefusalReason::Authority);
        }
        running.ends(outcome);
        match result {
            Err(error) => match error.gives_back() {
                Some(how) => {
                    debug!(%error, "gives the task back");
                    hand.give_back(how, &error.to_string()).await;
                }
                None => {
                    warn!(%error, "a task failed");
                    hand.report(Err(error.to_string())).await?;
                }
            },
            Ok(findings) => hand.report(Ok(findings)).await?,
        }
        Ok(outcome)
    }
    .instrument(span)
    .await
}

async fn run_task(context: &WorkerContext, hand: &dyn TaskInHand) -> Result<Findings, TaskError> {
    let task = hand.task();
    if task.version != MESSAGE_VERSION {
        let detail = format!(
            "the task is of version {}, this worker of {MESSAGE_VERSION}",
            task.version
        );
        return Err(TaskError::NotForUs(detail));
    }
    for (wanted, ours) in [
        (&task.registry, context.registry.identity()),
        (&task.state, context.state.identity()),
    ] {
        if wanted != ours {
            let detail = format!("the task is on {wanted:?}, and {ours:?} is at hand");
            return Err(TaskError::NotForUs(detail));
        }
    }
    let attempt = hand.attempt();
    match &task.work {
        Work::Mark(work) => unless_withdrawn(hand, mark_range::mark_range(context, task, attempt, work))
            .await
            .map(Findings::Mark),
        Work::Plan(work) => unless_withdrawn(hand, plan_shard::plan_shard(context, task, attempt, work))
            .await
            .map(Findings::Plan),
        Work::Unlink | Work::Sweep => delete(context, hand).await.map(Findings::Removed),
    }
}

/// What only reads may be dropped at any point.
async fn unless_withdrawn<T>(
    hand: &dyn TaskInHand,
    work: impl Future<Output = Result<T, TaskError>>,
) -> Result<T, TaskError> {
    tokio::select! {
        result = work => result,
        () = hand.stop().cancelled() => Err(TaskError::Withdrawn),
    }
}

/// Deletes what the sealed plan has for the task. Traced before it is claimed: what has no right to delete claims nothing.
async fn delete(context: &WorkerContext, hand: &dyn TaskInHand) -> Result<RemovedFindings, TaskError> {
    let task = hand.task();
    let plan = context.traced_plan(&task.epoch).await?;
    let parts = plan.parts_due(&task.id).await?;
    match hand.claim(plan.longest_request().await).await {
        Ok(claim) => delete_blobs::carry_out(context, hand, &plan, &parts, claim).await,
        Err(ClaimError::Halted) => Ok(RemovedFindings::stopped()),
        Err(ClaimError::Over) => Err(TaskError::Over),
        // Nobody needs to wait for a worker that is leaving.
        Err(ClaimError::Another) if hand.stop().is_cancelled() => Err(TaskError::Withdrawn),
        Err(error @ ClaimError::Another) => Err(TaskError::Busy(error.to_string())),
        Err(ClaimError::Queue(error)) => Err(TaskError::Busy(error.to_string())),
    }
}
