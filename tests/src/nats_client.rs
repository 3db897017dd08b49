//! Somebody who reaches NATS, and nothing else: reads what lies there, sends, changes and removes what it likes. Everything
//! is a message to it; nothing of hardprune's own code is used.

use anyhow::{Context as _, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The stream of tasks.
pub const TASKS: &str = "HARDPRUNE_TASKS";
/// The stream of reports.
pub const REPORTS: &str = "HARDPRUNE_REPORTS";
/// The stream of what runs are and what they are to do.
pub const RUNS: &str = "KV_hardprune_runs";

/// A client of its own.
#[derive(Debug)]
pub struct NatsClient {
    runtime: Runtime,
    context: Context,
}

impl NatsClient {
    /// Connects.
    ///
    /// # Errors
    ///
    /// A server that is not there.
    pub fn connect(url: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let context = runtime
            .block_on(async { Ok::<_, anyhow::Error>(jetstream::new(async_nats::connect(url).await?)) })?;
        Ok(Self { runtime, context })
    }

    /// Sends a message, and waits until a stream has it.
    ///
    /// # Errors
    ///
    /// A stream that does not take it.
    pub fn send(&self, subject: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let (subject, bytes) = (subject.to_owned(), bytes.into());
        self.runtime.block_on(async {
            self.context
                .publish_with_headers(subject, HeaderMap::new(), bytes)
                .await?
                .await?;
            Ok(())
        })
    }

    /// Sends a document.
    ///
    /// # Errors
    ///
    /// A stream that does not take it.
    pub fn send_json(&self, subject: &str, document: &Value) -> Result<()> {
        self.send(subject, document.to_string())
    }

    /// Sends a task of a run, as its own id has it.
    ///
    /// # Errors
    ///
    /// As [`NatsClient::send`].
    pub fn send_task(&self, run: &str, task: &Value) -> Result<()> {
        let kind = task["work"]["kind"].as_str().unwrap_or("mark");
        let id = task["id"].as_str().unwrap_or("of-no-id");
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        // What a subject cannot hold stands in the message alone.
        let last = if (1..100).contains(&id.len()) && id.chars().all(plain) {
            id
        } else {
            "odd"
        };
        self.send_json(&format!("hardprune.tasks.{run}.{kind}.{last}"), task)
    }

    /// Sends a report of an attempt at a task of a run's first epoch.
    ///
    /// # Errors
    ///
    /// As [`NatsClient::send`].
    pub fn send_report(&self, run: &str, task: &str, attempt: &str, result: &Value) -> Result<()> {
        let report = json!({
            "version": 1, "epoch": {"run": run, "number": 1}, "task": task, "attempt": attempt, "worker": "nobody",
            "requests": {"list": 0, "get": 0, "head": 0, "put": 0, "copy": 0, "delete": 0}, "result": result,
        });
        self.send_json(&format!("hardprune.reports.{run}.{task}"), &report)
    }

    /// The last message of a subject, if there is one.
    ///
    /// # Errors
    ///
    /// A stream that is not there, a message that is no document.
    pub fn last(&self, stream: &str, subject: &str) -> Result<Option<Value>> {
        self.runtime.block_on(async {
            let stream = self.context.get_stream(stream).await?;
            match stream.get_last_raw_message_by_subject(subject).await {
                Ok(message) => Ok(Some(serde_json::from_slice(&message.payload)?)),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Sends the last message of a subject once more, byte by byte.
    ///
    /// # Errors
    ///
    /// A subject without a message.
    pub fn send_again(&self, stream: &str, subject: &str) -> Result<()> {
        let payload = self.runtime.block_on(async {
            let stream = self.context.get_stream(stream).await?;
            let message = stream.get_last_raw_message_by_subject(subject).await?;
            Ok::<_, anyhow::Error>(message.payload)
        })?;
        self.send(subject, payload)
    }

    /// The subjects of a stream that match, as far as it has messages of them. None where there is no stream yet.
    ///
    /// # Errors
    ///
    /// A server that is gone.
    pub fn subjects(&self, stream: &str, filter: &str) -> Result<Vec<String>> {
        self.runtime.block_on(async {
            let Ok(stream) = self.context.get_stream(stream).await else {
                return Ok(Vec::new());
            };
            let subjects = stream.info_builder().subjects(filter).fetch().await?;
            Ok(subjects.map_ok(|(subject, _)| subject).try_collect().await?)
        })
    }

    /// Removes the messages of a stream that match.
    ///
    /// # Errors
    ///
    /// A stream that is not there.
    pub fn purge(&self, stream: &str, filter: &str) -> Result<()> {
        self.runtime.block_on(async {
            self.context
                .get_stream(stream)
                .await?
                .purge()
                .filter(filter)
                .await?;
            Ok(())
        })
    }

    /// Removes a run's consumer of tasks.
    ///
    /// # Errors
    ///
    /// One that is not there.
    pub fn delete_consumer(&self, run: &str) -> Result<()> {
        self.runtime.block_on(async {
            self.tasks().await?.delete_consumer(&format!("run-{run}")).await?;
            Ok(())
        })
    }

    /// Tasks of a run that nobody has in hand, and tasks that somebody has or has given back for later.
    ///
    /// # Errors
    ///
    /// A run without a consumer.
    pub fn pending(&self, run: &str) -> Result<(u64, usize)> {
        self.runtime.block_on(async {
            let info = self.tasks().await?.consumer_info(format!("run-{run}")).await?;
            Ok((info.num_pending, info.num_ack_pending))
        })
    }

    /// How often tasks of a run were handed out.
    ///
    /// # Errors
    ///
    /// A run without a consumer.
    pub fn deliveries(&self, run: &str) -> Result<u64> {
        self.runtime.block_on(async {
            let info = self.tasks().await?.consumer_info(format!("run-{run}")).await?;
            Ok(info.delivered.consumer_sequence)
        })
    }

    /// The one run that NATS knows of.
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn run(&self) -> Result<String> {
        let subjects = self.subjects(RUNS, "$KV.hardprune_runs.*.run")?;
        let subject = subjects.first().context("there is no run yet")?;
        let parts: Vec<&str> = subject.split('.').collect();
        Ok(parts[2].to_owned())
    }

    /// What a run is to do.
    ///
    /// # Errors
    ///
    /// A run that NATS does not know of.
    pub fn wanted(&self, run: &str) -> Result<Value> {
        let found = self.last(RUNS, &format!("$KV.hardprune_runs.{run}.wanted"))?;
        found.context("the run is not there")
    }

    /// Says what a run is to do, in an epoch of it.
    ///
    /// # Errors
    ///
    /// As [`NatsClient::send`].
    pub fn want(&self, run: &str, epoch: u64, wanted: &str) -> Result<()> {
        let document = json!({"version": 1, "epoch": {"run": run, "number": epoch}, "wanted": wanted});
        self.send_json(&format!("$KV.hardprune_runs.{run}.wanted"), &document)
    }

    async fn tasks(&self) -> Result<Stream> {
        Ok(self.context.get_stream(TASKS).await?)
    }
}
