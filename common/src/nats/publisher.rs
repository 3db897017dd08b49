//! The coordinator's end: hands tasks to workers of other processes, and gathers their reports.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::messages::{
    ClaimDocument, ClaimState, FindingsFile, ReportMessage, Reported, RunState, Wanted, bytes_of, digest_of,
    read,
};
use super::runs::{Runs, claim_key};
use super::streams::{self, REPORTS, TASKS};
use super::{Nats, NatsError};
use crate::clock;
use crate::digest::Digest;
use crate::metrics::Label;
use crate::queue::{Halted, QueueClosed, TaskPublisher};
use crate::run::Epoch;
use crate::state::{StateError, StateStore, epoch_folder};
use crate::task::{Task, TaskReport};

/// Recorded errors after which a task is given up.
const MOST_ERRORS: u32 = 5;
/// Reports fetched at once.
const REPORTS_AT_ONCE: usize = 256;
/// How long one request for reports waits.
const FETCH_FOR: Duration = Duration::from_secs(1);
/// A server that answers at all does so within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
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

/// Reports that were fetched, and where more come from.
#[derive(Debug)]
struct Inbox {
    consumer: Option<PullConsumer>,
    fetched: VecDeque<TaskReport>,
    last_heard: std::time::Instant,
    /// How often nothing was heard for long since then.
    silences: u32,
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
            inbox: Mutex::new(Inbox {
                consumer: None,
                fetched: VecDeque::new(),
                last_heard: clock::monotonic_now(),
                silences: 0,
            }),
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

    /// Makes the consumer of the run's reports. Before the first task is published: a server of version 2.9 was seen to lose
    /// sight of messages that came while a consumer was made.
    async fn report_consumer(&self) -> Result<PullConsumer, NatsError> {
        self.reports
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::None,
                filter_subject: format!("hardprune.reports.{}.>", self.epoch.run),
                ..pull::Config::default()
            })
            .await
            .map_err(|error| NatsError::request("make a consumer of reports", error))
    }

    /// Fetches the reports that there are, or waits a while for one.
    async fn fetch(&self, inbox: &mut Inbox) -> Result<(), NatsError> {
        // Taken, so that one that fails in any way is made anew, and tells everything once more.
        let consumer = match inbox.consumer.take() {
            Some(consumer) => consumer,
            None => self.report_consumer().await?,
        };
        let fetched = async {
            let mut fetched = Vec::new();
            let mut messages = consumer.fetch().max_messages(REPORTS_AT_ONCE).messages().await?;
            while let Some(message) = messages.next().await {
                fetched.push(message?.payload.clone());
            }
            if fetched.is_empty() {
                let mut messages = consumer
                    .batch()
                    .max_messages(1)
                    .expires(FETCH_FOR)
                    .messages()
                    .await?;
                while let Some(message) = messages.next().await {
                    fetched.push(message?.payload.clone());
                }
            }
            Ok::<_, async_nats::Error>(fetched)
        };
        // A server does not answer for a consumer that is gone.
        let fetched = tokio::time::timeout(FETCH_FOR + ANSWER_WITHIN, fetched)
            .await
            .map_err(|_| NatsError::request("fetch reports", "there was no answer"))?
            .map_err(|error| NatsError::request("fetch reports", error))?;
        inbox.consumer = Some(consumer);
        for payload in fetched {
            match self.open_report(&payload).await {
                Ok(Some(report)) => {
                    inbox.last_heard = clock::monotonic_now();
                    inbox.silences = 0;
                    inbox.fetched.push_back(report);
                }
                Ok(None) => {}
                Err(error) => warn!(%error, "a report is not believed"),
            }
        }
        Ok(())
    }

    /// Reads a report, and from the state store what was found. `None` for one that says nothing new.
    async fn open_report(&self, payload: &[u8]) -> Result<Option<TaskReport>, NatsError> {
        let message: ReportMessage = read("a report", payload)?;
        if message.epoch != self.epoch {
            return Ok(None);
        }
        let digest = match self.sent.lock().await.get(&message.task) {
            Some(sent) if sent.is_open => sent.digest,
            _ => return Ok(None),
        };
        let result = match message.result {
            Reported::Failed(error) => Err(error),
            Reported::Found(file) => {
                let folder = format!("{}reports/", epoch_folder(&self.epoch));
                let garbage = |problem: String| NatsError::Garbage {
                    what: format!("a report of task {}", message.task),
                    problem,
                };
                // Who cannot write to the state store cannot say what was found; who can send messages could name another file.
                if !file.key.starts_with(&folder) {
                    return Err(garbage(format!("{:?} is not in {folder:?}", file.key)));
                }
                let bytes = match self.state.read(&file).await {
                    Ok(bytes) => bytes,
                    Err(error @ StateError::Changed { .. }) => return Err(garbage(error.to_string())),
                    Err(StateError::Store(error)) if error.is_not_found() => {
                        return Err(garbage(error.to_string()));
                    }
                    // It is there, and cannot be had: another attempt may do better.
                    Err(error) => {
                        return Ok(Some(self.failed(message.task, message.worker, error.to_string())));
                    }
                };
                let found: FindingsFile = read("what a task found", &bytes)?;
                if found.task != digest {
                    return Err(garbage("it is of another task with this id".to_owned()));
                }
                Ok(found.findings)
            }
        };
        if let Some(sent) = self.sent.lock().await.get_mut(&message.task) {
            if result.is_ok() {
                sent.is_open = false;
            } else if !sent.failed.insert(message.attempt) {
                return Ok(None);
            }
        }
        Ok(Some(TaskReport {
            task: message.task,
            epoch: message.epoch,
            worker: message.worker,
            requests: message.requests,
            result,
        }))
    }

    fn failed(&self, task: String, worker: String, error: String) -> TaskReport {
        TaskReport {
            task,
            epoch: self.epoch.clone(),
            worker,
            requests: crate::store::RequestCounts::default(),
            result: Err(error),
        }
    }

    /// Sends tasks again that nobody has, nobody has reported, and that are not waiting any more: somebody has removed them, or
    /// their reports.
    async fn send_lost_tasks_again(&self, inbox: &mut Inbox) -> Result<(), NatsError> {
        let is_halted = self.is_halted.load(Ordering::Relaxed);
        if is_halted || clock::since(inbox.last_heard) < self.options.ack_wait * 2 {
            return Ok(());
        }
        inbox.last_heard = clock::monotonic_now();
        // First, reports may be there that the consumer does not see.
        inbox.consumer = None;
        inbox.silences += 1;
        if inbox.silences == 1 {
            return Ok(());
        }
        let name = streams::consumer_name(self.epoch.run);
        match self.tasks.consumer_info(&name).await {
            Ok(_) => {}
            Err(error) if !self.nats.is_connected() => {
                return Err(NatsError::request("look at tasks", error));
            }
            Err(_) => self.make_consumer().await?,
        }
        let there = self.tasks_there().await?;
        self.runs.begin_unless_known(&self.epoch).await?;
        let mut sent = self.sent.lock().await;
        let is_lost = |task: &&mut Sent| task.is_open && !there.contains(&task.task.id);
        for task in sent.values_mut().filter(is_lost) {
            warn!(
                task = task.task.id,
                "nobody has this task any more; it is sent again"
            );
            self.reopen(&task.task.id).await?;
            task.times += 1;
            self.send(&task.task, task.times).await?;
        }
        Ok(())
    }

    /// The ids of tasks that wait, or that some worker has in hand.
    async fn tasks_there(&self) -> Result<HashSet<String>, NatsError> {
        let failed = |error| NatsError::request("look at tasks", error);
        let filter = format!("hardprune.tasks.{}.>", self.epoch.run);
        let info = self.tasks.info_builder().subjects(filter);
        let subjects = info.fetch().await.map_err(failed)?;
        let id = |(subject, _): (String, usize)| Some(subject.rsplit_once('.')?.1.to_owned());
        let ids = subjects.try_filter_map(|subject| std::future::ready(Ok(id(subject))));
        ids.try_collect().await.map_err(failed)
    }

    /// Whoever claimed a task as done has sent its report before, and sends no request any more. Where that report is gone
    /// the task has to be done again, which finds out what is left of it (R5).
    async fn reopen(&self, task: &str) -> Result<(), NatsError> {
        let key = claim_key(&self.epoch, task);
        let Some(entry) = self.runs.runs.get(&key).await? else {
            return Ok(());
        };
        match read::<ClaimDocument>("a claim", &entry.value) {
            Ok(claim) if claim.state == ClaimState::Done => {
                let released = ClaimDocument {
                    state: ClaimState::Released,
                    ..claim
                };
                // Where somebody else changes it at this moment it is not done any more.
                let written = self
                    .runs
                    .runs
                    .put_if(&key, bytes_of(&released).into(), entry.revision);
                written.await.map(|_| ())
            }
            // Whoever takes the task finds out.
            Ok(_) | Err(_) => Ok(()),
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
