//! The streams that hardprune keeps in NATS, and what they must be like. What exists is compared before anything is changed.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};

use super::{Nats, NatsError};
use crate::run::RunId;

pub(super) const TASKS: &str = "HARDPRUNE_TASKS";
pub(super) const REPORTS: &str = "HARDPRUNE_REPORTS";
pub(super) const RUNS: &str = "KV_hardprune_runs";
pub(super) const WORKERS: &str = "KV_hardprune_workers";

pub(super) const RUNS_PREFIX: &str = "$KV.hardprune_runs.";
pub(super) const WORKERS_PREFIX: &str = "$KV.hardprune_workers.";

/// A worker that has not said for so long that it is there counts as gone.
pub(super) const WORKER_SILENCE: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What an abandoned run leaves is gone after this.
const ABANDONED_AFTER: Duration = Duration::from_secs(7 * DAY.as_secs());
const RUNS_KEPT: Duration = Duration::from_secs(30 * DAY.as_secs());
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

const MEBIBYTE: i64 = 1 << 20;

/// Every stream, as a coordinator makes it.
fn wanted(replicas: usize) -> [Config; 4] {
    let stream = |name: &str, subjects: &str| Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        storage: StorageType::File,
        // What does not fit is refused, never pushed out: a task or a report must not vanish.
        discard: DiscardPolicy::New,
        num_replicas: replicas,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    };
    [
        Config {
            retention: RetentionPolicy::WorkQueue,
            max_age: ABANDONED_AFTER,
            max_bytes: 128 * MEBIBYTE,
            ..stream(TASKS, "hardprune.tasks.>")
        },
        Config {
            retention: RetentionPolicy::Limits,
            max_age: ABANDONED_AFTER,
            max_bytes: 128 * MEBIBYTE,
            ..stream(REPORTS, "hardprune.reports.>")
        },
        Config {
            retention: RetentionPolicy::Limits,
            max_age: RUNS_KEPT,
            max_bytes: 64 * MEBIBYTE,
            max_messages_per_subject: 1,
            ..stream(RUNS, "$KV.hardprune_runs.>")
        },
        Config {
            retention: RetentionPolicy::Limits,
            max_age: WORKER_SILENCE,
            max_bytes: 8 * MEBIBYTE,
            max_messages_per_subject: 1,
            duplicate_window: WORKER_SILENCE,
            ..stream(WORKERS, "$KV.hardprune_workers.>")
        },
    ]
}

/// Makes the streams that are not there.
///
/// # Errors
///
/// [`NatsError::Differs`] for one that is there and another, before anything is made; a server that refuses.
pub async fn set_up(nats: &Nats, replicas: usize) -> Result<(), NatsError> {
    let mut missing = Vec::new();
    for config in wanted(replicas) {
        match existing(nats, &config.name).await? {
            Some(stream) => compare(&stream.cached_info().config, &config, true)?,
            None => missing.push(config),
        }
    }
    for config in missing {
        let name = config.name.clone();
        nats.context()
            .create_stream(config)
            .await
            .map_err(|error| NatsError::request(format!("create the stream {name:?}"), error))?;
    }
    Ok(())
}

/// Makes sure that what a worker needs is there and as it must be. Of what is another it says so even where the rest is missing.
pub(super) async fn are_set_up_for_workers(nats: &Nats) -> Result<(), NatsError> {
    let mut missing = None;
    for name in [TASKS, RUNS, WORKERS] {
        match open(nats, name).await {
            Ok(_) => {}
            Err(error @ NatsError::NotSetUp(_)) => missing = missing.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    missing.map_or(Ok(()), Err)
}

/// One of the streams, compared with what it must be like.
pub(super) async fn open(nats: &Nats, name: &'static str) -> Result<Stream, NatsError> {
    let stream = existing(nats, name).await?.ok_or(NatsError::NotSetUp(name))?;
    let wanted = wanted(1).into_iter().find(|config| config.name == name);
    if let Some(wanted) = wanted {
        // How many replicas there are is for the coordinator to decide.
        compare(&stream.cached_info().config, &wanted, false)?;
    }
    Ok(stream)
}

async fn existing(nats: &Nats, name: &str) -> Result<Option<Stream>, NatsError> {
    match nats.context().get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error)
                if error.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(NatsError::request(format!("look at the stream {name:?}"), error)),
        },
    }
}

fn compare(found: &Config, wanted: &Config, with_replicas: bool) -> Result<(), NatsError> {
    let mut differences = Vec::new();
    let mut field = |name: &str, found: String, wanted: String| {
        if found != wanted {
            differences.push(format!("{name} is {found}, not {wanted}"));
        }
    };
    macro_rules! fields {
        ($($name:ident),*) => {
            $(field(stringify!($name), format!("{:?}", found.$name), format!("{:?}", wanted.$name));)*
        };
    }
    fields!(
        subjects,
        retention,
        storage,
        discard,
        max_age,
        max_bytes,
        max_messages,
        max_messages_per_subject,
        max_message_size,
        max_consumers,
        duplicate_window,
        no_ack,
        sealed,
        deny_delete,
        deny_purge,
        mirror,
        sources
    );
    if with_replicas {
        fields!(num_replicas);
    }
    differs("stream", &wanted.name, &differences)
}

/// The name of a run's consumer of tasks.
pub(super) fn consumer_name(run: RunId) -> String {
    format!("run-{run}")
}

/// The run whose consumer has this name.
pub(super) fn run_of_consumer(name: &str) -> Option<RunId> {
    name.strip_prefix("run-")?.parse().ok()
}

/// The consumer of a run's tasks: all its workers pull from this one, so that runs share workers fairly.
pub(super) fn task_consumer(run: RunId, ack_wait: Duration) -> pull::Config {
    pull::Config {
        durable_name: Some(consumer_name(run)),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        // A task is given up by recorded errors, never by deliveries.
        max_deliver: -1,
        max_ack_pending: -1,
        filter_subject: format!("hardprune.tasks.{run}.>"),
        inactive_threshold: ABANDONED_AFTER,
        ..pull::Config::default()
    }
}

/// Whether a run's consumer is one that a coordinator makes; how long it waits for an ack is the coordinator's to say.
pub(super) fn compare_consumer(
    run: RunId,
    found: &async_nats::jetstream::consumer::Config,
) -> Result<(), NatsError> {
    let wanted = task_consumer(run, found.ack_wait);
    let mut differences = Vec::new();
    if found.ack_policy != wanted.ack_policy {
        differences.push(format!(
            "ack_policy is {:?}, not {:?}",
            found.ack_policy, wanted.ack_policy
        ));
    }
    if found.filter_subject != wanted.filter_subject {
        differences.push(format!(
            "filter_subject is {:?}, not {:?}",
            found.filter_subject, wanted.filter_subject
        ));
    }
    if found.max_deliver > 0 {
        differences.push(format!("max_deliver is {}, not unlimited", found.max_deliver));
    }
    differs("consumer", &consumer_name(run), &differences)
}

fn differs(what: &'static str, name: &str, differences: &[String]) -> Result<(), NatsError> {
    if differences.is_empty() {
        return Ok(());
    }
    Err(NatsError::Differs {
        what,
        name: name.to_owned(),
        differences: differences.join("; "),
    })
}
