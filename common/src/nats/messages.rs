//! What is sent and kept in NATS: versioned JSON documents, all of them small.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::NatsError;
use crate::digest::{Algorithm, Digest};
use crate::run::Epoch;
use crate::state::FileRef;
use crate::store::RequestCounts;
use crate::task::{Findings, MESSAGE_VERSION};

/// The versions of messages that this program reads. Fixtures of each are in `tests/fixtures/messages/`.
pub const MESSAGES_READ: RangeInclusive<u32> = MESSAGE_VERSION..=MESSAGE_VERSION;

/// Error texts in messages are cut to this many characters: a message has to stay small.
const LONGEST_ERROR: usize = 1000;

/// What became of an attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReportMessage {
    pub(super) version: u32,
    pub(super) epoch: Epoch,
    pub(super) task: String,
    pub(super) attempt: String,
    pub(super) worker: String,
    pub(super) requests: RequestCounts,
    pub(super) result: Reported,
}

/// The file of the state store with what was found, or the error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reported {
    Found(FileRef),
    Failed(String),
}

impl Reported {
    pub(super) fn failed(error: &str) -> Self {
        Self::Failed(error.chars().take(LONGEST_ERROR).collect())
    }
}

/// What a task found, in the state store. Only who can write there can say so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FindingsFile {
    pub(super) version: u32,
    /// The task that was done: another one with the same id has other findings.
    pub(super) task: Digest,
    pub(super) findings: Findings,
}

/// The sha256 of a task as it is sent: of its message, so that a program that knows fewer or more fields has the same.
pub(super) fn digest_of(message: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, message)
}

/// What a run is to do, changed by compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Go on.
    Go,
    /// Delete nothing more until it is to go on.
    Pause,
    /// Stop, and report. It can be resumed.
    Abort,
    /// Stop: its coordinator is stopping.
    Halt,
}

/// [`Wanted`], and for which epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WantedDocument {
    pub(super) version: u32,
    pub(super) epoch: Epoch,
    pub(super) wanted: Wanted,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunProgress {
    /// The stage that it is in.
    pub stage: String,
    /// Pieces of it that are done: ranges, shards, files.
    pub done: u64,
    /// Pieces that there are.
    pub total: u64,
    /// What the pieces are.
    pub unit: String,
    /// Repositories, blobs or links in those that are done.
    pub items: u64,
    /// Bytes in those that are done.
    pub bytes: u64,
    /// How long the stage has taken.
    pub seconds: f64,
    /// Blobs deleted so far.
    pub deleted_blobs: u64,
    /// Bytes freed so far.
    pub freed_bytes: u64,
    /// Workers alive.
    pub workers: u64,
}

/// What a run is, for workers and for who looks at it. Written by its coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The message version.
    pub version: u32,
    /// The epoch that it is in.
    pub epoch: Epoch,
    /// The identity of the registry's storage.
    pub registry: String,
    /// The identity of the state store.
    pub state: String,
    /// `check` or `delete`.
    pub mode: String,
    /// Host and process of the coordinator.
    pub coordinator: String,
    /// When the epoch began.
    pub started: Timestamp,
    /// When the coordinator last wrote this, by its clock.
    pub updated: Timestamp,
    /// When it stops.
    pub deadline: Option<Timestamp>,
    /// How the epoch ended: the report's outcome. `None` while it goes on, or died.
    pub ended: Option<String>,
    /// Requests a second to the registry's store that each worker may make. `None`: as many as the store takes.
    #[serde(default)]
    pub requests_per_second: Option<f64>,
    /// How far it is.
    pub progress: RunProgress,
}

/// Who has claimed a task, and with what right (R5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimDocument {
    pub(super) version: u32,
    pub(super) attempt: String,
    pub(super) worker: String,
    /// Counts renewals, so that each changes the document.
    pub(super) renewed: u64,
    pub(super) state: ClaimState,
}

/// How far a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClaimState {
    /// Its attempt is at work.
    Working,
    /// Its attempt is over and sends nothing more; the task is still to do.
    Released,
    /// The task is done and reported.
    Done,
}

/// That a worker is there, and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerState {
    /// The message version.
    pub version: u32,
    /// Unlike that of any other worker.
    pub id: String,
    /// Host and process.
    pub place: String,
    /// The program's version.
    pub program: String,
    /// Tasks that it has in hand.
    pub tasks: Vec<String>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Writes a message.
pub(super) fn bytes_of(message: &impl Serialize) -> Vec<u8> {
    // None of these has a map with keys that are no text: they can always be written.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Reads a message of a version that this program knows.
pub(super) fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, NatsError> {
    let garbage = |error: serde_json::Error| NatsError::Garbage {
        what: what.to_owned(),
        problem: error.to_string(),
    };
    let Version { version } = serde_json::from_slice(bytes).map_err(garbage)?;
    if !MESSAGES_READ.contains(&version) {
        return Err(NatsError::OtherVersion {
            what: what.to_owned(),
            found: version,
            read: format!("{} to {}", MESSAGES_READ.start(), MESSAGES_READ.end()),
        });
    }
    serde_json::from_slice(bytes).map_err(garbage)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::task::Task;

    /// Reads a fixture, and makes sure that nothing of it was lost.
    fn check<T: DeserializeOwned + Serialize>(name: &str, bytes: &[u8]) {
        let message: T = read(name, bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let fixture: Value = serde_json::from_slice(bytes).unwrap();
        let again: Value = serde_json::from_slice(&bytes_of(&message)).unwrap();
        assert!(holds(&again, &fixture), "{name}: {fixture} is read as {again}");
    }

    /// Whether one document has all that another has. Fields are added, never changed.
    fn holds(document: &Value, part: &Value) -> bool {
        match (document, part) {
            (Value::Object(document), Value::Object(part)) => part
                .iter()
                .all(|(name, part)| document.get(name).is_some_and(|value| holds(value, part))),
            (Value::Array(document), Value::Array(part)) => {
                document.len() == part.len()
                    && document.iter().zip(part).all(|(value, part)| holds(value, part))
            }
            (document, part) => document == part,
        }
    }

    #[test]
    fn messages_of_every_version_that_is_read_can_be_read() {
        for version in MESSAGES_READ {
            let folder =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/messages/{version}"));
            let mut kinds = std::collections::BTreeMap::<String, u32>::new();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                let kind = name.split('-').next().unwrap();
                match kind {
                    "task" => check::<Task>(name, &bytes),
                    "report" => check::<ReportMessage>(name, &bytes),
                    "findings" => check::<FindingsFile>(name, &bytes),
                    "wanted" => check::<WantedDocument>(name, &bytes),
                    "claim" => check::<ClaimDocument>(name, &bytes),
                    "run" => check::<RunState>(name, &bytes),
                    "worker" => check::<WorkerState>(name, &bytes),
                    other => panic!("{other:?} is no kind of message"),
                }
                *kinds.entry(kind.to_owned()).or_default() += 1;
            }
            let counts: Vec<_> = kinds
                .iter()
                .map(|(kind, count)| (kind.as_str(), *count))
                .collect();
            let wanted = [
                ("claim", 3),
                ("findings", 3),
                ("report", 2),
                ("run", 2),
                ("task", 5),
                ("wanted", 4),
                ("worker", 1),
            ];
            assert_eq!(counts, wanted, "version {version}");
        }
    }

    #[test]
    fn a_message_of_another_version_says_which_are_read() {
        let error = read::<Task>("a task", br#"{"version":99,"anything":"else"}"#).unwrap_err();
        assert!(
            matches!(error, NatsError::OtherVersion { found: 99, .. }),
            "{error}"
        );
        for garbage in [&b""[..], b"{}", b"[]", br#"{"version":"1"}"#, br#"{"version":1}"#] {
            assert!(matches!(
                read::<Task>("a task", garbage),
                Err(NatsError::Garbage { .. })
            ));
        }
    }

    #[test]
    fn errors_are_cut_to_what_a_message_takes() {
        let Reported::Failed(error) = Reported::failed(&"ä".repeat(5_000)) else {
            panic!("it is a failure");
        };
        assert_eq!(error.chars().count(), LONGEST_ERROR);
    }
}
