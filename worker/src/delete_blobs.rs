//! Unlink and sweep: deletes exactly what a sealed plan names. The only file that deletes anything of a registry.
//!
//! Where the plan says so, what goes is kept in quarantine first. Upholds R2 (keys come from a plan traced to the lock), R5 (a batch's start is journaled before it is sent, its
//! outcome after), R6 (parts one after another, in the order of their task) and R10 (a permit for each request, no hidden
//! retries: each attempt is a batch of its own in the journal).

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use hardprune_common::authority::{PlanPart, TracedPart, TracedPlan};
use hardprune_common::journal::{ATTEMPTS_PER_CLAIM, Batch, BatchEnd, Journal, first_attempt};
use hardprune_common::quarantine::Undo;
use hardprune_common::queue::{Claim, Leave, TaskInHand};
use hardprune_common::removal::RemovalKind;
use hardprune_common::state::{FileRef, StateError};
use hardprune_common::store::{DeleteBatch, KeyOutcome};
use hardprune_common::task::RemovedFindings;
use hardprune_common::{clock, failpoint};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::context::{TaskError, WorkerContext};
use crate::keep_copies::{Kept, drop_copies, keep};
use crate::process::place;
use crate::settle_batches::{SettleError, settle_batches};

/// Requests of one task in flight.
const BATCHES_IN_FLIGHT: usize = 4;
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
/// How long a paused task waits before it asks again.
const PAUSE: Duration = Duration::from_secs(1);

/// Carries out parts of the sealed plan, in their order, under a claim.
pub(crate) async fn carry_out(
    context: &WorkerContext,
    hand: &dyn TaskInHand,
    plan: &TracedPlan,
    parts: &[PlanPart],
    claim: Claim,
) -> Result<RemovedFindings, TaskError> {
    let task = hand.task();
    let journal = Journal::of_task(context.state.clone(), &task.epoch, &task.id, place());
    // A claim can be removed, too, by whoever reaches NATS: only the journal says whether there was one.
    let done = if claim.has_predecessor || !claim.predecessors_ended {
        let wait = match claim.predecessors_ended {
            true => Duration::ZERO,
            false => plan.longest_request().await,
        };
        settle_predecessors(context, hand, &journal, parts, &claim, wait).await?
    } else {
        HashSet::new()
    };
    let mut findings = RemovedFindings::default();
    for (number, name) in parts.iter().enumerate() {
        let part = plan.read(name).await?;
        let limit = context.registry.delete_batch_limit();
        let removals = part.removals().len();
        let batches = (0..removals).step_by(limit).map(|from| Batch {
            part: number,
            from,
            to: removals.min(from + limit),
            attempt: first_attempt(claim.number),
        });
        // Ends with the task, or with the first batch of this part that fails.
        let stop = hand.stop().child_token();
        let sender = Sender {
            context,
            hand,
            plan,
            part: &part,
            journal: &journal,
            stop: &stop,
        };
        let work = batches.map(|batch| {
            let is_done = done.contains(&(batch.part, batch.from, batch.to));
            let sender = &sender;
            async move {
                if is_done {
                    return Ok(sum_up(
                        sender.part,
                        batch,
                        &vec![KeyOutcome::Deleted; batch.to - batch.from],
                    ));
                }
                sender.delete_until_settled(batch).await
            }
        });
        let mut ended = stream::iter(work).buffer_unordered(BATCHES_IN_FLIGHT);
        let mut failure = None;
        // Batches in flight end in any case, so that the journal says what became of them.
        while let Some(result) = ended.next().await {
            match result {
                Ok(batch) => findings.add(&batch),
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

/// Settles what earlier claimants left open (R5), after a wait: then no request of theirs is under way. Returns the batches of which
/// every key is gone.
async fn settle_predecessors(
    context: &WorkerContext,
    hand: &dyn TaskInHand,
    journal: &Journal,
    parts: &[PlanPart],
    claim: &Claim,
    wait: Duration,
) -> Result<HashSet<(usize, usize, usize)>, TaskError> {
    let task = hand.task();
    let files: Vec<FileRef> = parts.iter().map(|part| part.file().clone()).collect();
    let of_predecessors =
        || async { Ok::<_, StateError>(journal.files().await?.of_claims_before(claim.number)) };
    let mut open = of_predecessors().await?;
    if open.is_empty() {
        return Ok(HashSet::new());
    }
    if !wait.is_zero() && open.has_open_batches() {
        tokio::time::sleep(wait).await;
        open = of_predecessors().await?;
    }
    settle_batches(
        &*context.registry,
        &context.state,
        (&task.epoch, &task.id),
        &files,
        &open,
    )
    .await
    .map_err(|error| match error {
        SettleError::State(error) => TaskError::State(error),
        SettleError::Registry(error) => TaskError::Registry(error),
    })?;
    let settled = journal.files().await?;
    let mut gone = HashSet::new();
    for part in 0..parts.len() {
        let batches = settled.read_part(&context.state, part).await?;
        gone.extend(batches.into_iter().filter_map(|(batch, end)| match end {
            BatchEnd::Ended(not_deleted) if not_deleted.is_empty() => {
                Some((batch.part, batch.from, batch.to))
            }
            BatchEnd::Open | BatchEnd::Ended(_) => None,
        }));
    }
    Ok(gone)
}

/// Sends the batches of one part.
struct Sender<'s> {
    context: &'s WorkerContext,
    hand: &'s dyn TaskInHand,
    plan: &'s TracedPlan,
    part: &'s TracedPart,
    journal: &'s Journal,
    stop: &'s CancellationToken,
}

impl Sender<'_> {
    /// Sends a batch, again where the store asks for patience or does not say what happened.
    async fn delete_until_settled(&self, mut batch: Batch) -> Result<RemovedFindings, TaskError> {
        let mut back_off = FIRST_BACK_OFF;
        let last_attempt = batch.attempt + ATTEMPTS_PER_CLAIM - 1;
        loop {
            self.wait_for_turn(batch).await;
            if !self.may_go_on().await? {
                return Ok(RemovedFindings::stopped());
            }
            let outcomes = self.delete_once(batch).await?;
            let unsettled =
                |outcome: &KeyOutcome| matches!(outcome, KeyOutcome::Throttled | KeyOutcome::Unknown(_));
            if !outcomes.iter().any(unsettled) || batch.attempt == last_attempt {
                return Ok(sum_up(self.part, batch, &outcomes));
            }
            warn!(
                from = batch.from,
                to = batch.to,
                attempt = batch.attempt,
                "a delete was throttled or not answered"
            );
            self.pause(back_off).await;
            back_off *= 2;
            batch.attempt += 1;
        }
    }

    /// Waits until the store is to be asked for the batch, or the run is to stop.
    async fn wait_for_turn(&self, batch: Batch) {
        let Some(first) = self.part.removals().get(batch.from) else {
            return;
        };
        let turn = self
            .context
            .registry
            .wait_to_delete(&first.key, batch.to - batch.from);
        tokio::select! {
            () = turn => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Waits for leave to send the next batch. Returns false where the run is to stop, or another batch has failed.
    async fn may_go_on(&self) -> Result<bool, TaskError> {
        loop {
            // Looked at before leave is asked for: where the worker is leaving, the answer is that this attempt is withdrawn, not
            // that the run is to stop.
            let is_stopping = self.stop.is_cancelled();
            match self.hand.leave().await {
                Leave::Withdrawn => return Err(TaskError::Withdrawn),
                Leave::Granted | Leave::Paused if is_stopping => return Ok(false),
                Leave::Granted => return Ok(true),
                Leave::Halted => return Ok(false),
                Leave::Paused => self.pause(PAUSE).await,
            }
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn delete_once(&self, batch: Batch) -> Result<Vec<KeyOutcome>, TaskError> {
        self.journal.start(batch).await?;
        let kept = match self.keep(batch).await {
            Ok(kept) => kept,
            Err(error) => {
                self.not_sent(batch).await?;
                return Err(error);
            }
        };
        let keys: Vec<_> = (batch.from..batch.to)
            .zip(&kept)
            .filter(|(_, kept)| **kept == Kept::MayGo)
            .filter_map(|(place, _)| self.part.planned_key(place))
            .collect();
        // Claim and lock are looked at between the journal and the request (R5). The request must end a delete's timeout after
        // the moment before that look (R10): whoever claims the task next counts from a later one.
        let asked = clock::monotonic_now();
        let permit = match self.hand.leave().await {
            Leave::Granted => self.plan.permit(asked).await.map_err(TaskError::from),
            Leave::Paused | Leave::Halted => return self.not_sent(batch).await,
            Leave::Withdrawn => Err(TaskError::Withdrawn),
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(error) => {
                self.not_sent(batch).await?;
                return Err(error);
            }
        };
        failpoint::here("delete-before-request").await;
        let deleted = match keys.as_slice() {
            [] => Vec::new(),
            _ => {
                let batch = DeleteBatch::planned(&permit, keys);
                self.context.registry.delete(batch).await
            }
        };
        failpoint::here("delete-after-request").await;
        let outcomes = outcomes_of(kept, deleted);
        self.context.metrics.batch_ended(
            &self.part.removals()[batch.from..batch.to],
            &outcomes,
            self.plan.undo(),
        );
        self.journal.end(batch, &outcomes).await?;
        self.drop_copies(batch, &outcomes).await?;
        Ok(outcomes)
    }

    /// Keeps what the batch deletes, where the plan says so: before a permit is asked for, which is good for seconds only.
    async fn keep(&self, batch: Batch) -> Result<Vec<Kept>, TaskError> {
        let removals = &self.part.removals()[batch.from..batch.to];
        match self.plan.undo() {
            Undo::Copies => Ok(keep(&*self.context.registry, self.plan.epoch().run, removals).await?),
            Undo::Nothing | Undo::Versions => Ok(vec![Kept::MayGo; removals.len()]),
        }
    }

    /// Removes the copies of what the store would not delete.
    async fn drop_copies(&self, batch: Batch, outcomes: &[KeyOutcome]) -> Result<(), TaskError> {
        let removals = &self.part.removals()[batch.from..batch.to];
        let refused = removals.iter().zip(outcomes);
        let refused: Vec<_> = refused
            .filter(|(_, outcome)| matches!(outcome, KeyOutcome::Failed(_)))
            .map(|(removal, _)| removal)
            .collect();
        if self.plan.undo() == Undo::Copies && !refused.is_empty() {
            drop_copies(&*self.context.registry, self.plan.epoch().run, &refused).await?;
        }
        Ok(())
    }

    /// Nothing was sent: whoever else deletes these keys frees them, not this batch (R5).
    async fn not_sent(&self, batch: Batch) -> Result<Vec<KeyOutcome>, TaskError> {
        let outcomes = vec![KeyOutcome::Throttled; batch.to - batch.from];
        self.journal.end(batch, &outcomes).await?;
        Ok(outcomes)
    }
}

/// What became of each key of a batch: of those that were sent, and of those that could not be kept and so stay.
fn outcomes_of(kept: Vec<Kept>, deleted: Vec<KeyOutcome>) -> Vec<KeyOutcome> {
    let mut deleted = deleted.into_iter();
    let not_told = || KeyOutcome::Unknown("the store did not say what became of it".to_owned());
    let outcome = |kept| match kept {
        Kept::MayGo => deleted.next().unwrap_or_else(not_told),
        Kept::Not(why) => KeyOutcome::Failed(why),
        Kept::NotYet => KeyOutcome::Throttled,
    };
    kept.into_iter().map(outcome).collect()
}

fn sum_up(part: &TracedPart, batch: Batch, outcomes: &[KeyOutcome]) -> RemovedFindings {
    let mut findings = RemovedFindings::default();
    for (removal, outcome) in part.removals()[batch.from..batch.to].iter().zip(outcomes) {
        if *outcome == KeyOutcome::Deleted {
            findings.removed += 1;
            if matches!(removal.kind, RemovalKind::Blob | RemovalKind::QuarantinedBlob) {
                findings.freed_bytes += removal.size;
            }
        } else {
            findings.failed += 1;
        }
    }
    findings
}
