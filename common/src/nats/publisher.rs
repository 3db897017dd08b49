//! The coordinator's end: hands tasks to workers of other processes. Their reports come in by `reports`; `lost_tasks` sees to
//! it that every task has somebody.

mod lost_tasks;
mod reports;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use self::reports::Inbox;
use super::messages::{ClaimDocument, ClaimState, RunState, Wanted, bytes_of, digest_of, read};
use super::runs::{Runs, claim_key};
use super::streams::{self, REPORTS, TASKS};
use super::{Nats, NatsError};
use crate::digest::Digest;
use crate::metrics::Label;
use crate::queue::{Halted, QueueClosed, TaskPublisher};
use crate::run::Epoch;
use crate::state::StateStore;
use crate::task::{Task, TaskReport};

/// Recorded errors after which a task is given up.
const MOST_ERRORS: u32 = 5;
/// The pause before NATS is asked again that did not answer.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A worker whose request has ended needs no longer than this to report.
const REPORT_WITHIN: Duration = Duration::from_secs(5);
/// Claims looked at at once.
const CLAIMS_AT_ONCE: usize = 32;

/// How a run's queue is kept.
#[derive(Debug, Clone, Copy)]
pub struct PublisherOptions {
    /// A task that its worker does not speak of for so long is handed to another.
    pub ack_wait: Duration,
    /// How long a delete request may take.
    pub longest_request: Duration,
    /// How long workers may go by their last look at the registry's lock.
    pub look_again_after: Duration,
}

/// The coordinator's end of a queue in NATS, for one epoch.
#[derive(Debug)]
pub struct NatsPublisher {
    nats: Nats,
    runs: Runs,
    epoch: Epoch,
    state: StateStore,
    tasks: Stream,
    reports: Stream,
    options: PublisherOptions,
    inbox: Mutex<Inbox>,
    sent: Mutex<HashMap<String, Sent>>,
    /// Nothing more is to be begun.
    is_halted: AtomicBool,
}

/// A task that was handed out.
#[derive(Debug)]
struct Sent {
    task: Task,
    digest: Digest,
    times: u64,
    is_open: bool,
    /// Attempts whose errors were passed on: a report may come more than once.
    failed: HashSet<String>,
}

impl NatsPublisher {
    /// Opens a queue for an epoch of a run. What earlier epochs of the run left in it is gone then.
    ///
    /// # Errors
    ///
    /// Streams that are not set up or not hardprune's, a server that refuses.
    pub async fn open(
        nats: &Nats,
        run_state: &RunState,
        state: StateStore,
        options: PublisherOptions,
    ) -> Result<Self, NatsError> {
        let runs = Runs::open(nats).await?;
        let tasks = streams::open(nats, TASKS).await?;
        let reports = streams::open(nats, REPORTS).await?;
        let epoch = run_state.epoch.clone();
        // First what workers go by, so that none begins with what is about to be removed.
        runs.put(run_state).await?;
        runs.begin(&epoch).await?;
        let publisher = Self {
            nats: nats.clone(),
            runs,
            epoch,
            state,
            tasks,
            reports,
            options,
            inbox: Mutex::new(Inbox::new()),
            sent: Mutex::default(),
            is_halted: AtomicBool::new(false),
        };
        publisher.remove_messages().await?;
        publisher.make_consumer().await?;
        publisher.inbox.lock().await.consumer = Some(publisher.report_consumer().await?);
        Ok(publisher)
    }

    async fn make_consumer(&self) -> Result<(), NatsError> {
        let run = self.epoch.run;
        let name = streams::consumer_name(run);
        // One of an earlier epoch may wait otherwise.
        let _ = self.tasks.delete_consumer(&name).await;
        self.tasks
            .create_consumer(streams::task_consumer(run, self.options.ack_wait))
            .await
            .map(|_| ())
            .map_err(|error| NatsError::request(format!("create the consumer {name:?}"), error))
    }

    /// Removes the run's tasks and reports.
    async fn remove_messages(&self) -> Result<(), NatsError> {
        let run = self.epoch.run;
        for (stream, subjects) in [
            (&self.tasks, format!("hardprune.tasks.{run}.>")),
            (&self.reports, format!("hardprune.reports.{run}.>")),
        ] {
            let purged = stream.purge().filter(&subjects).await;
            purged.map_err(|error| NatsError::request(format!("remove {subjects:?}"), error))?;
        }
        Ok(())
    }

    /// Ends the queue: nothing of the run is left to do. What it was stays known.
    pub async fn end(self, run_state: &RunState) {
        let ended = async {
            self.runs.want(self.epoch.run, Wanted::Halt, |_| false).await?;
            self.runs.put(run_state).await?;
            self.remove_messages().await?;
            self.runs.remove_claims(self.epoch.run).await?;
            let name = streams::consumer_name(self.epoch.run);
            let deleted = self.tasks.delete_consumer(&name).await;
            deleted.map_err(|error| NatsError::request(format!("remove the consumer {name:?}"), error))
        };
        if let Err(error) = ended.await {
            warn!(%error, "what the run left in NATS could not be removed; it expires by itself");
        }
        self.nats.flush().await;
    }

    /// The runs and workers that NATS knows of.
    #[must_use]
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Writes what the run is.
    ///
    /// # Errors
    ///
    /// A server that does not answer.
    pub async fn say(&self, run_state: &RunState) -> Result<(), NatsError> {
        self.runs.put(run_state).await
    }

    /// Tasks that no worker has in hand yet.
    ///
    /// # Errors
    ///
    /// A server that does not answer.
    pub async fn pending_tasks(&self) -> Result<u64, NatsError> {
        let name = streams::consumer_name(self.epoch.run);
        match self.tasks.consumer_info(&name).await {
            Ok(info) => Ok(info.num_pending),
            Err(error) => Err(NatsError::request(
                format!("look at the consumer {name:?}"),
                error,
            )),
        }
    }

    async fn send(&self, task: &Task, times: u64) -> Result<(), NatsError> {
        let bytes = bytes_of(task);
        if bytes.len() > self.nats.max_payload() {
            return Err(NatsError::Garbage {
                what: format!("task {}", task.id),
                problem: format!(
                    "it has {} bytes, the server takes {}",
                    bytes.len(),
                    self.nats.max_payload()
                ),
            });
        }
        let Epoch { run, number } = task.epoch;
        let message = PublishMessage::build()
            .payload(bytes.into())
            .message_id(format!("{run}.{number}.{}.{times}", task.id));
        let subject = format!("hardprune.tasks.{run}.{}.{}", task.work.kind().value(), task.id);
        let failed = |error| NatsError::request(format!("publish task {}", task.id), error);
        let sent = self.nats.context().send_publish(subject, message).await;
        sent.map_err(failed)?.await.map(|_| ()).map_err(failed)
    }

    /// Sends a task, again while NATS does not answer: a message's id makes that one message.
    async fn send_in_any_case(&self, task: &Task, times: u64) -> Result<(), NatsError> {
        loop {
            match self.send(task, times).await {
                Err(error) if error.may_pass() => {
                    warn!(%error, "tries again");
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
                result => return result,
            }
        }
    }

    async fn is_claimed(&self, task: &str) -> Result<bool, NatsError> {
        let claim = self.runs.runs.get(&claim_key(&self.epoch, task)).await?;
        let claim: Option<ClaimDocument> = claim.map(|entry| read("a claim", &entry.value)).transpose()?;
        // One that is done has its report on the way.
        Ok(claim.is_some_and(|claim| claim.state != ClaimState::Released))
    }
}

#[async_trait]
impl TaskPublisher for NatsPublisher {
    async fn publish(&self, task: Task) -> Result<(), QueueClosed> {
        let times = {
            let mut sent = self.sent.lock().await;
            let digest = digest_of(&bytes_of(&task));
            let entry = sent.entry(task.id.clone()).or_insert_with(|| Sent {
                task: task.clone(),
                digest,
                times: 0,
                is_open: true,
                failed: HashSet::new(),
            });
            entry.times += 1;
            entry.times
        };
        Ok(self.send_in_any_case(&task, times).await?)
    }

    async fn next_report(&self) -> Result<TaskReport, QueueClosed> {
        let mut inbox = self.inbox.lock().await;
        loop {
            if let Some(report) = inbox.fetched.pop_front() {
                return Ok(report);
            }
            let fetched = self.fetch(&mut inbox).await;
            let fetched = match fetched {
                Ok(()) if inbox.fetched.is_empty() => self.send_lost_tasks_again(&mut inbox).await,
                fetched => fetched,
            };
            if let Err(error) = fetched {
                // However long it takes: the lock is renewed meanwhile, and whoever runs this may stop it.
                debug!(%error, "tries again");
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
        }
    }

    fn most_errors(&self) -> u32 {
        MOST_ERRORS
    }

    /// Whoever reaches NATS can send them.
    fn hears_all(&self) -> bool {
        false
    }

    async fn halt(&self, open: Vec<String>) -> Result<Halted, QueueClosed> {
        self.is_halted.store(true, Ordering::Relaxed);
        let mut at_most = self.options.longest_request + REPORT_WITHIN;
        let halted = async {
            self.runs.want(self.epoch.run, Wanted::Halt, |_| false).await?;
            let subjects = format!("hardprune.tasks.{}.>", self.epoch.run);
            let purged = self.tasks.purge().filter(&subjects).await;
            purged.map_err(|error| NatsError::request(format!("remove {subjects:?}"), error))?;
            // Who claims a task from now on is told to halt before anything is sent.
            let claims: Vec<_> = stream::iter(open.clone())
                .map(|task| async move { Ok::<_, NatsError>(self.is_claimed(&task).await?.then_some(task)) })
                .buffer_unordered(CLAIMS_AT_ONCE)
                .try_collect()
                .await?;
            Ok::<_, NatsError>(claims.into_iter().flatten().collect())
        };
        let in_hand = match halted.await {
            Ok(in_hand) => in_hand,
            Err(error) => {
                // The lock says it, too, to who looks there again.
                warn!(%error, "workers could not be told to halt");
                at_most += self.options.look_again_after;
                open
            }
        };
        Ok(Halted {
            in_hand,
            at_most: Some(at_most),
        })
    }
}
