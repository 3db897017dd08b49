//! Reports: fetched from NATS, and believed as far as the state store bears them out.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use futures::StreamExt;
use tracing::warn;

use super::NatsPublisher;
use crate::clock;
use crate::nats::NatsError;
use crate::nats::messages::{FindingsFile, ReportMessage, Reported, read};
use crate::state::{StateError, epoch_folder};
use crate::task::TaskReport;

/// Reports fetched at once.
const REPORTS_AT_ONCE: usize = 256;
/// How long one request for reports waits.
const FETCH_FOR: Duration = Duration::from_secs(1);
/// A server that answers at all does so within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Reports that were fetched, and where more come from.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) consumer: Option<PullConsumer>,
    pub(super) fetched: VecDeque<TaskReport>,
    pub(super) last_heard: std::time::Instant,
    /// How often nothing was heard for long since then.
    pub(super) silences: u32,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            consumer: None,
            fetched: VecDeque::new(),
            last_heard: clock::monotonic_now(),
            silences: 0,
        }
    }
}

impl NatsPublisher {
    /// Makes the consumer of the run's reports. Before the first task is published: a server of version 2.9 was seen to lose
    /// sight of messages that came while a consumer was made.
    pub(super) async fn report_consumer(&self) -> Result<PullConsumer, NatsError> {
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
    pub(super) async fn fetch(&self, inbox: &mut Inbox) -> Result<(), NatsError> {
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
}
