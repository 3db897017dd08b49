//! A task that a worker has in hand, from NATS: it says regularly that it is at work, claims what it deletes, asks for leave
//! before each request, and reports.
//!
//! Upholds R5: a claim is had by compare-and-set, after a look whether its holder is silent, and is good only once the
//! holder's requests must have ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::{Acker, PublishMessage};
use async_trait::async_trait;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::consumer::{Touchable, Watcher, lock};
use super::messages::{
    ClaimDocument, ClaimState, FindingsFile, ReportMessage, Reported, Wanted, bytes_of, read,
};
use super::runs::{Runs, claim_key};
use super::{Nats, NatsError};
use crate::clock;
use crate::digest::Digest;
use crate::queue::{Claim, ClaimError, GiveBack, Leave, QueueClosed, TaskInHand};
use crate::run::Epoch;
use crate::state::{StateStore, epoch_folder};
use crate::task::{Findings, MESSAGE_VERSION, Task};

/// How long a report is tried: after that the task is handed to another, who finds out what is left of it.
const REPORT_FOR: Duration = Duration::from_secs(60);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A task in hand.
pub(super) struct NatsHand {
    shared: Arc<Shared>,
    acker: Arc<Acker>,
    beating: JoinHandle<()>,
    in_hand: Arc<std::sync::Mutex<Vec<String>>>,
    /// The worker's place for one more task, free again when this is over.
    _slot: OwnedSemaphorePermit,
}

/// What the hand and its heartbeat share.
struct Shared {
    nats: Nats,
    runs: Runs,
    task: Task,
    digest: Digest,
    attempt: String,
    worker: String,
    registry: Arc<Touchable>,
    state: StateStore,
    ack_wait: Duration,
    stop: CancellationToken,
    /// The worker is leaving: nothing more is begun.
    drain: CancellationToken,
    withdrawn: AtomicBool,
    claim: Mutex<Option<HeldClaim>>,
    watcher: Arc<dyn Watcher>,
}

#[derive(Debug)]
struct HeldClaim {
    document: ClaimDocument,
    revision: u64,
}

/// What a hand is made of.
pub(super) struct HandParts {
    pub(super) nats: Nats,
    pub(super) runs: Runs,
    pub(super) task: Task,
    /// The sha256 of its message.
    pub(super) digest: Digest,
    pub(super) attempt: String,
    pub(super) worker: String,
    pub(super) registry: Arc<Touchable>,
    pub(super) state: StateStore,
    pub(super) ack_wait: Duration,
    pub(super) drain: CancellationToken,
    pub(super) watcher: Arc<dyn Watcher>,
    /// The ids of all tasks that the worker has in hand.
    pub(super) in_hand: Arc<std::sync::Mutex<Vec<String>>>,
}

impl fmt::Debug for NatsHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsHand")
            .field("task", &self.shared.task.id)
            .field("attempt", &self.shared.attempt)
            .finish_non_exhaustive()
    }
}

impl NatsHand {
    /// Takes a task, and says from now on that it is at work.
    pub(super) fn take(parts: HandParts, acker: Acker, slot: OwnedSemaphorePermit) -> Self {
        let HandParts {
            nats,
            runs,
            task,
            digest,
            attempt,
            worker,
            registry,
            state,
            ack_wait,
            drain,
            watcher,
            in_hand,
        } = parts;
        lock(&in_hand).push(task.id.clone());
        let acker = Arc::new(acker);
        let shared = Arc::new(Shared {
            nats,
            runs,
            task,
            digest,
            attempt,
            worker,
            registry,
            state,
            ack_wait,
            stop: drain.child_token(),
            drain,
            withdrawn: AtomicBool::new(false),
            claim: Mutex::new(None),
            watcher,
        });
        let beating = tokio::spawn(beat(Arc::clone(&shared), Arc::clone(&acker)));
        Self {
            shared,
            acker,
            beating,
            in_hand,
            _slot: slot,
        }
    }

    async fn ack(&self, kind: AckKind) {
        // One that is lost brings the task to another worker, who finds that it is done.
        if let Err(error) = self.acker.ack_with(kind).await {
            debug!(%error, "an ack was not sent");
        }
        self.shared.nats.flush().await;
    }

    /// Changes the state of the claim, if there is one.
    async fn leave_claim(&self, state: ClaimState) {
        let mut claim = self.shared.claim.lock().await;
        let Some(held) = claim.as_mut() else { return };
        let mut document = held.document.clone();
        document.state = state;
        let key = claim_key(&self.shared.task.epoch, &self.shared.task.id);
        let written = self
            .shared
            .runs
            .runs
            .put_if(&key, bytes_of(&document).into(), held.revision);
        match written.await {
            Ok(Some(revision)) => *held = HeldClaim { document, revision },
            Ok(None) => debug!("the claim is another's by now"),
            // Whoever claims next waits a little longer.
            Err(error) => debug!(%error, "the claim could not be given up"),
        }
    }

    /// Publishes a report, again for a while where NATS does not answer: its id makes that one message.
    async fn publish(&self, result: Reported) -> Result<(), QueueClosed> {
        let shared = &self.shared;
        let Epoch { run, number } = shared.task.epoch;
        let message = ReportMessage {
            version: MESSAGE_VERSION,
            epoch: shared.task.epoch.clone(),
            task: shared.task.id.clone(),
            attempt: shared.attempt.clone(),
            worker: shared.worker.clone(),
            requests: shared.registry.unreported_requests(),
            result,
        };
        let bytes = bytes_of(&message);
        let began = clock::monotonic_now();
        loop {
            let message = PublishMessage::build()
                .payload(bytes.clone().into())
                .message_id(format!("{run}.{number}.{}.{}", shared.task.id, shared.attempt));
            let subject = format!("hardprune.reports.{run}.{}", shared.task.id);
            let sent = async { shared.nats.context().send_publish(subject, message).await?.await };
            match sent.await {
                Ok(_) => return Ok(()),
                Err(error) if clock::since(began) > REPORT_FOR => {
                    return Err(QueueClosed(format!("a report could not be sent: {error}")));
                }
                Err(error) => {
                    debug!(%error, "a report is sent again");
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
            }
        }
    }
}

impl Shared {
    /// Whether the task's epoch goes on, and what its run is to do. `None`: its epoch is over.
    async fn wanted(&self) -> Result<Option<Wanted>, NatsError> {
        let wanted = self.runs.wanted(self.task.epoch.run).await?;
        Ok(wanted.and_then(|(epoch, wanted)| (epoch == self.task.epoch).then_some(wanted)))
    }

    /// Who has claimed the task, and the claim's revision. What cannot be read counts as the claim of somebody who may be at work.
    async fn claim_now(&self) -> Result<Option<(ClaimDocument, u64)>, NatsError> {
        let key = claim_key(&self.task.epoch, &self.task.id);
        let Some(entry) = self.runs.runs.get(&key).await? else {
            return Ok(None);
        };
        let claim = read("a claim", &entry.value).unwrap_or_else(|error| {
            debug!(%error, "takes it for the claim of somebody else");
            ClaimDocument {
                version: MESSAGE_VERSION,
                attempt: String::new(),
                worker: String::new(),
                renewed: 0,
                state: ClaimState::Working,
            }
        });
        Ok(Some((claim, entry.revision)))
    }

    fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }

    /// Says that the claim is still held. Its loss ends the attempt.
    async fn renew_claim(&self) {
        let mut claim = self.claim.lock().await;
        let Some(held) = claim.as_mut() else { return };
        if held.document.state != ClaimState::Working {
            return;
        }
        let mut document = held.document.clone();
        document.renewed += 1;
        let key = claim_key(&self.task.epoch, &self.task.id);
        match self
            .runs
            .runs
            .put_if(&key, bytes_of(&document).into(), held.revision)
            .await
        {
            Ok(Some(revision)) => *held = HeldClaim { document, revision },
            // Our own write may have happened without an answer: then the claim says so.
            Ok(None) => match self.claim_now().await {
                Ok(Some((found, revision))) if found.attempt == self.attempt => {
                    *held = HeldClaim {
                        document: found,
                        revision,
                    };
                }
                Ok(_) => {
                    info!("another has claimed the task");
                    self.withdraw();
                }
                Err(error) => debug!(%error, "the claim could not be looked at"),
            },
            Err(error) => debug!(%error, "the claim could not be renewed"),
        }
    }
}

/// Says, often enough, that the task is being worked on; ends the attempt when its run does.
async fn beat(shared: Arc<Shared>, acker: Arc<Acker>) {
    loop {
        tokio::time::sleep(shared.ack_wait / 4).await;
        if let Err(error) = acker.ack_with(AckKind::Progress).await {
            debug!(%error, "the task's progress could not be sent");
        }
        shared.renew_claim().await;
        match shared.wanted().await {
            Ok(Some(Wanted::Go | Wanted::Pause)) => {}
            Ok(Some(Wanted::Halt | Wanted::Abort)) => shared.stop.cancel(),
            Ok(None) => shared.withdraw(),
            Err(error) => debug!(%error, "what the run is to do could not be read"),
        }
    }
}

#[async_trait]
impl TaskInHand for NatsHand {
    fn task(&self) -> &Task {
        &self.shared.task
    }

    fn attempt(&self) -> &str {
        &self.shared.attempt
    }

    fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }

    async fn claim(&self, longest_request: Duration) -> Result<Claim, ClaimError> {
        let shared = &self.shared;
        let key = claim_key(&shared.task.epoch, &shared.task.id);
        loop {
            match shared.wanted().await.map_err(QueueClosed::from)? {
                None => return Err(ClaimError::Over),
                Some(Wanted::Halt | Wanted::Abort) => return Err(ClaimError::Halted),
                Some(Wanted::Go | Wanted::Pause) => {}
            }
            let found = shared.claim_now().await.map_err(QueueClosed::from)?;
            let (revision, from_another) = match &found {
                None => (0, false),
                Some((claim, _)) if claim.state == ClaimState::Done => return Err(ClaimError::Over),
                Some((claim, revision)) => (*revision, claim.state == ClaimState::Working),
            };
            if from_another {
                // Its holder renews it more often than this, unless it is dead, suspended or cut off.
                tokio::select! {
                    () = tokio::time::sleep(shared.ack_wait / 2) => {}
                    () = shared.stop.cancelled() => return Err(ClaimError::Another),
                }
                let still = shared.claim_now().await.map_err(QueueClosed::from)?;
                if still.is_none_or(|(_, now)| now != revision) {
                    return Err(ClaimError::Another);
                }
            }
            let document = ClaimDocument {
                version: MESSAGE_VERSION,
                attempt: shared.attempt.clone(),
                worker: shared.worker.clone(),
                renewed: 0,
                state: ClaimState::Working,
            };
            let written = shared
                .runs
                .runs
                .put_if(&key, bytes_of(&document).into(), revision);
            let Some(number) = written.await.map_err(QueueClosed::from)? else {
                // Somebody was faster, or this very write was answered late: the next look tells.
                continue;
            };
            *shared.claim.lock().await = Some(HeldClaim {
                document,
                revision: number,
            });
            if from_another {
                warn!("takes over the task of a worker that is silent");
                shared.watcher.claim_taken_over();
                // R5: what it sent before it could know of this has ended then.
                tokio::time::sleep(longest_request).await;
            }
            return Ok(Claim {
                number,
                has_predecessor: found.is_some(),
                predecessors_ended: from_another,
            });
        }
    }

    async fn leave(&self) -> Leave {
        let shared = &self.shared;
        if shared.drain.is_cancelled() || shared.withdrawn.load(Ordering::Relaxed) {
            return Leave::Withdrawn;
        }
        // Both are asked of the server each time (R5): what was true a moment ago says nothing.
        let (wanted, claim) = tokio::join!(shared.wanted(), shared.claim_now());
        let (wanted, claim) = match (wanted, claim) {
            (Ok(wanted), Ok(claim)) => (wanted, claim),
            (Err(error), _) | (_, Err(error)) => {
                debug!(%error, "nothing is deleted while NATS does not answer");
                return Leave::Paused;
            }
        };
        let is_ours = claim
            .is_some_and(|(claim, _)| claim.attempt == shared.attempt && claim.state == ClaimState::Working);
        match wanted {
            Some(_) if !is_ours => Leave::Withdrawn,
            None => Leave::Withdrawn,
            Some(Wanted::Go) => Leave::Granted,
            Some(Wanted::Pause) => Leave::Paused,
            Some(Wanted::Halt | Wanted::Abort) => Leave::Halted,
        }
    }

    async fn report(&self, result: Result<Findings, String>) -> Result<(), QueueClosed> {
        let shared = &self.shared;
        let is_done = matches!(&result, Ok(findings) if !matches!(findings, Findings::Removed(removed) if removed.stopped));
        let reported = match result {
            Ok(findings) => {
                let file = FindingsFile {
                    version: MESSAGE_VERSION,
                    task: shared.digest,
                    findings,
                };
                let folder = epoch_folder(&shared.task.epoch);
                let key = format!("{folder}reports/{}.{}.json", shared.task.id, shared.attempt);
                match shared.state.write_json(&key, &file).await {
                    Ok(file) => Reported::Found(file),
                    Err(error) => Reported::failed(&error.to_string()),
                }
            }
            Err(error) => Reported::failed(&error),
        };
        let is_done = is_done && matches!(reported, Reported::Found(_));
        // A claim is given up once nothing more is sent, and done once the report is there.
        if !is_done {
            self.leave_claim(ClaimState::Released).await;
        }
        self.publish(reported).await?;
        if is_done {
            self.leave_claim(ClaimState::Done).await;
        }
        self.ack(AckKind::Ack).await;
        Ok(())
    }

    async fn give_back(&self, how: GiveBack, why: &str) {
        debug!(?how, why, "gives a task back");
        self.leave_claim(ClaimState::Released).await;
        self.ack(match how {
            GiveBack::Now => AckKind::Nak(None),
            GiveBack::Later => AckKind::Nak(Some(self.shared.ack_wait / 3)),
            GiveBack::Over => AckKind::Ack,
        })
        .await;
    }
}

impl Drop for NatsHand {
    fn drop(&mut self) {
        self.beating.abort();
        let mut in_hand = lock(&self.in_hand);
        if let Some(place) = in_hand.iter().position(|id| *id == self.shared.task.id) {
            in_hand.swap_remove(place);
        }
    }
}
