//! Unlink and sweep: deletes exactly what a sealed plan names. The only file that deletes anything of a registry.
//!
//! Upholds R2 (keys come from a plan traced to the lock), R5 (a batch's start is journaled before it is sent, its
//! outcome after), R6 (parts one after another, in the order of their task) and R10 (a permit for each request, no hidden
//! retries: each attempt is a batch of its own in the journal).

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use hardprune_common::authority::{TracedPart, TracedPlan};
use hardprune_common::failpoint;
use hardprune_common::journal::{Batch, Journal};
use hardprune_common::removal::RemovalKind;
use hardprune_common::state::FileRef;
use hardprune_common::store::{DeleteBatch, KeyOutcome};
use hardprune_common::task::{RemovedFindings, Task};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::context::{TaskError, WorkerContext};

/// Requests of one task in flight.
const BATCHES_IN_FLIGHT: usize = 4;
/// Times that a batch is sent while the store asks for patience or does not say what happened.
const ATTEMPTS: u32 = 8;
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);

/// Carries out parts of the sealed plan, in their order.
pub(crate) async fn carry_out(
    context: &WorkerContext,
    task: &Task,
    parts: &[FileRef],
) -> Result<RemovedFindings, TaskError> {
    let plan = context.traced_plan(&task.epoch).await?;
    let journal = Journal::of_task(context.state.clone(), &task.epoch, &task.id);
    let mut findings = RemovedFindings::default();
    for (number, file) in parts.iter().enumerate() {
        let part = plan.part(file).await?;
        let limit = context.registry.delete_batch_limit();
        let removals = part.removals().len();
        let batches = (0..removals).step_by(limit).map(|from| Batch {
            part: number,
            from,
            to: removals.min(from + limit),
            attempt: 1,
        });
        // Ends with the process's deletes, or with the first batch of this part that fails.
        let stop = context.stop.child_token();
        let work = batches.map(|batch| delete_until_settled(context, &plan, &part, &journal, batch, &stop));
        let mut ended = stream::iter(work).buffer_unordered(BATCHES_IN_FLIGHT);
        let mut failure = None;
        // Batches in flight end in any case, so that the journal says what became of them.
        while let Some(result) = ended.next().await {
            match result {
                Ok(batch) => add(&mut findings, &batch),
                Err(error) => {
                    stop.cancel();
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if findings.stopped {
            break;
        }
    }
    Ok(findings)
}

fn add(sum: &mut RemovedFindings, batch: &RemovedFindings) {
    let RemovedFindings {
        removed,
        freed_bytes,
        failed,
        stopped,
    } = *batch;
    sum.removed += removed;
    sum.freed_bytes += freed_bytes;
    sum.failed += failed;
    sum.stopped |= stopped;
}

/// Sends a batch, again where the store asks for patience or does not say what happened.
async fn delete_until_settled(
    context: &WorkerContext,
    plan: &TracedPlan,
    part: &TracedPart,
    journal: &Journal,
    mut batch: Batch,
    stop: &CancellationToken,
) -> Result<RemovedFindings, TaskError> {
    let mut back_off = FIRST_BACK_OFF;
    loop {
        if stop.is_cancelled() {
            return Ok(RemovedFindings {
                stopped: true,
                ..RemovedFindings::default()
            });
        }
        let outcomes = delete_once(context, plan, part, journal, batch).await?;
        let unsettled =
            |outcome: &KeyOutcome| matches!(outcome, KeyOutcome::Throttled | KeyOutcome::Unknown(_));
        if !outcomes.iter().any(unsettled) || batch.attempt == ATTEMPTS {
            return Ok(sum_up(part, batch, &outcomes));
        }
        warn!(
            from = batch.from,
            to = batch.to,
            attempt = batch.attempt,
            "a delete was throttled or not answered"
        );
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            () = stop.cancelled() => {}
        }
        back_off *= 2;
        batch.attempt += 1;
    }
}

async fn delete_once(
    context: &WorkerContext,
    plan: &TracedPlan,
    part: &TracedPart,
    journal: &Journal,
    batch: Batch,
) -> Result<Vec<KeyOutcome>, TaskError> {
    let keys = (batch.from..batch.to)
        .filter_map(|place| part.planned_key(place))
        .collect();
    journal.start(batch).await?;
    // The lock is looked at between the journal and the request (R5), and the permit bounds the request (R10).
    let permit = plan.permit().await?;
    failpoint::here("delete-before-request").await;
    let outcomes = context.registry.delete(DeleteBatch::planned(&permit, keys)).await;
    failpoint::here("delete-after-request").await;
    journal.end(batch, &outcomes).await?;
    Ok(outcomes)
}

fn sum_up(part: &TracedPart, batch: Batch, outcomes: &[KeyOutcome]) -> RemovedFindings {
    let mut findings = RemovedFindings::default();
    for (removal, outcome) in part.removals()[batch.from..batch.to].iter().zip(outcomes) {
        if *outcome == KeyOutcome::Deleted {
            findings.removed += 1;
            if removal.kind == RemovalKind::Blob {
                findings.freed_bytes += removal.size;
            }
        } else {
            findings.failed += 1;
        }
    }
    findings
}
