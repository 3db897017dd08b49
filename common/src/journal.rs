//! The journal: what a task set out to delete, batch by batch, and what became of it (R5).
//!
//! A batch's start is written before its request is sent, its end after. Each is a file of its own, because object
//! stores cannot append; the file's name says which batch, so that one listing reads most of a journal:
//!
//! ```text
//! hardprune/runs/RUN/EPOCH/journal/TASK/PART-FROM-TO-ATTEMPT.started   the request may have been sent
//!                                                         ….deleted   every key of it is gone
//!                                                         ….ended     what became of the others stands in the file
//! ```
//!
//! PART counts the task's parts of the sealed plan; FROM (included) and TO (not included) count removals in the part. ATTEMPT
//! is unlike that of any other attempt at the task, and greater than those of the claims before.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::failpoint;
use crate::run::Epoch;
use crate::state::{StateError, StateStore, epoch_folder};
use crate::store::KeyOutcome;

/// A contiguous piece of one part of a task's plan, in one delete request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Batch {
    /// The place of the part among the task's.
    pub part: usize,
    /// The first removal.
    pub from: usize,
    /// The one after the last removal.
    pub to: usize,
    /// Greater than those of all claims before (see [`first_attempt`]).
    pub attempt: u64,
}

/// Times that a batch may be sent under one claim.
pub const ATTEMPTS_PER_CLAIM: u64 = 8;

/// The number of the first attempt under a claim; those of the next claim are all greater (R5).
#[must_use]
pub fn first_attempt(claim: u64) -> u64 {
    claim * ATTEMPTS_PER_CLAIM
}

/// What became of a removal that is not known to be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fate", content = "message")]
pub enum Fate {
    /// The store refused and says why.
    Failed(String),
    /// It was asked for, and nobody knows whether it happened.
    Unknown(String),
    /// It is still there, and still to do.
    NotDone,
    /// It is gone, and who is named here may have deleted it as well: it counts as not done (R5).
    Unattributed(String),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEnd {
    /// Nothing is known: the process ended before it could say.
    Open,
    /// What is not listed here is gone. Places count from the batch's first removal.
    Ended(BTreeMap<usize, Fate>),
}

/// Writes the journal of one task.
#[derive(Debug, Clone)]
pub struct Journal {
    state: StateStore,
    folder: String,
    writer: String,
}

#[derive(Serialize, Deserialize)]
struct JournalEntry {
    version: u32,
    not_deleted: Vec<(usize, Fate)>,
    /// Who wrote it. Earlier versions did not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    writer: Option<String>,
    /// When, by the clock of the writer's machine. Earlier versions did not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    at: Option<Timestamp>,
}

/// Who sent a batch's request, and when its end was written down: for people; nothing is decided by it (R4).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witness {
    /// The process that was about to send it. `None`: the journal of an earlier version does not say.
    pub sender: Option<String>,
    /// When its end was written down, by the clock of the machine that did. `None`: it was not, or an earlier version did.
    pub ended: Option<Timestamp>,
}

impl Journal {
    /// The journal of a task. `writer` names this process in it.
    #[must_use]
    pub fn of_task(state: StateStore, epoch: &Epoch, task: &str, writer: String) -> Self {
        Self {
            state,
            folder: format!("{}{task}/", journal_folder(epoch)),
            writer,
        }
    }

    /// Names the files that are written of the task so far.
    ///
    /// # Errors
    ///
    /// A state store that fails, a file that is none of a journal.
    pub async fn files(&self) -> Result<JournalFiles, StateError> {
        let mut files = JournalFiles::default();
        for key in self.state.list(&self.folder).await? {
            let name = self.folder.len();
            files.take(key, name)?;
        }
        Ok(files)
    }

    /// Writes that a batch's request is about to be sent.
    ///
    /// # Errors
    ///
    /// The state store's: the request must not be sent.
    pub async fn start(&self, batch: Batch) -> Result<(), StateError> {
        failpoint::here("journal-before-start").await;
        self.write(batch, "started", &[]).await?;
        failpoint::here("journal-after-start").await;
        Ok(())
    }

    /// Writes what became of a batch.
    ///
    /// # Errors
    ///
    /// The state store's: the batch stays open, and is settled by looking.
    pub async fn end(&self, batch: Batch, outcomes: &[KeyOutcome]) -> Result<(), StateError> {
        let fate = |outcome: &KeyOutcome| match outcome {
            KeyOutcome::Deleted => None,
            KeyOutcome::Failed(message) => Some(Fate::Failed(message.clone())),
            KeyOutcome::Unknown(message) => Some(Fate::Unknown(message.clone())),
            KeyOutcome::Throttled => Some(Fate::NotDone),
        };
        let not_deleted: Vec<_> = outcomes
            .iter()
            .enumerate()
            .filter_map(|(place, outcome)| Some((place, fate(outcome)?)))
            .collect();
        failpoint::here("journal-before-end").await;
        if not_deleted.is_empty() {
            self.write(batch, "deleted", &[]).await?;
        } else {
            // Who settled it meanwhile waited until its request had ended, and looked: that says more.
            let (key, file) = self.entry(batch, "ended", &not_deleted);
            self.state.write_json_once(&key, &file).await?;
        }
        failpoint::here("journal-after-end").await;
        Ok(())
    }

    /// Writes what was found to have become of an open batch.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn settle(&self, batch: Batch, not_deleted: Vec<(usize, Fate)>) -> Result<(), StateError> {
        if not_deleted.is_empty() {
            self.write(batch, "deleted", &[]).await
        } else {
            self.write(batch, "ended", &not_deleted).await
        }
    }

    async fn write(&self, batch: Batch, step: &str, not_deleted: &[(usize, Fate)]) -> Result<(), StateError> {
        let (key, file) = self.entry(batch, step, not_deleted);
        self.state.write_json(&key, &file).await?;
        Ok(())
    }

    fn entry(&self, batch: Batch, step: &str, not_deleted: &[(usize, Fate)]) -> (String, JournalEntry) {
        let Batch {
            part,
            from,
            to,
            attempt,
        } = batch;
        let key = format!("{}{part}-{from}-{to}-{attempt}.{step}", self.folder);
        let file = JournalEntry {
            version: 1,
            not_deleted: not_deleted.to_vec(),
            writer: Some(self.writer.clone()),
            at: Some(clock::machine_now()),
        };
        (key, file)
    }
}

/// A task's batches, or those of one of its parts, in the order of their attempts.
pub type TaskJournal = BTreeMap<Batch, BatchEnd>;

/// Every task's files.
pub type EpochJournal = BTreeMap<String, JournalFiles>;

/// The files of one task's journal. What stands in them is read part by part: where a store refuses everything it is much (R9).
#[derive(Debug, Clone, Default)]
pub struct JournalFiles(Vec<JournalFile>);

#[derive(Debug, Clone)]
struct JournalFile {
    key: String,
    batch: Batch,
    step: Step,
}

/// What a file of a journal says of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Deleted,
    Ended,
    Started,
}

/// Names the files of the journals of all tasks of an epoch.
///
/// # Errors
///
/// A state store that fails, a file that is none of a journal.
pub async fn list_journals(state: &StateStore, epoch: &Epoch) -> Result<EpochJournal, StateError> {
    let folder = journal_folder(epoch);
    let mut journal = EpochJournal::new();
    for key in state.list(&folder).await? {
        let (task, _) = key[folder.len()..]
            .split_once('/')
            .ok_or_else(|| no_journal(&key))?;
        let name = folder.len() + task.len() + 1;
        let files = journal.entry(task.to_owned()).or_default();
        files.take(key, name)?;
    }
    Ok(journal)
}

impl JournalFiles {
    /// Takes a file's key; its name begins at the byte `name`.
    fn take(&mut self, key: String, name: usize) -> Result<(), StateError> {
        if is_cut_short(&key[name..]) {
            return Ok(());
        }
        let (batch, step) = parse_name(&key[name..]).ok_or_else(|| no_journal(&key))?;
        self.0.push(JournalFile { key, batch, step });
        Ok(())
    }

    /// Those of the claims before one. A later claim's are not for that one to judge: their requests may be still to come (R5).
    #[must_use]
    pub fn of_claims_before(mut self, claim: u64) -> Self {
        self.0.retain(|file| file.batch.attempt < first_attempt(claim));
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a batch was begun whose end nobody has written down.
    #[must_use]
    pub fn has_open_batches(&self) -> bool {
        let ended = self.0.iter().filter(|file| file.step != Step::Started);
        let ended: HashSet<Batch> = ended.map(|file| file.batch).collect();
        self.0.iter().any(|file| !ended.contains(&file.batch))
    }

    /// Reads what became of the batches of one part.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub async fn read_part(&self, state: &StateStore, part: usize) -> Result<TaskJournal, StateError> {
        let mut journal = TaskJournal::new();
        // A batch's files were listed in the order of their endings: deleted, ended, started.
        for JournalFile { key, batch, step } in self.0.iter().filter(|file| file.batch.part == part) {
            match step {
                Step::Started => {
                    journal.entry(*batch).or_insert(BatchEnd::Open);
                }
                Step::Deleted => {
                    journal.insert(*batch, BatchEnd::Ended(BTreeMap::new()));
                }
                // Who had it settled saw keys that the batch deleted later: what is gone stays gone.
                Step::Ended if journal.contains_key(batch) => {}
                Step::Ended => {
                    // A power failure can leave a file without its bytes: then the batch is open, and settled by looking.
                    let end = match state.read_json::<JournalEntry>(key).await {
                        Ok(file) => BatchEnd::Ended(file.not_deleted.into_iter().collect()),
                        Err(StateError::Format { .. }) => BatchEnd::Open,
                        Err(error) => return Err(error),
                    };
                    journal.insert(*batch, end);
                }
            }
        }
        Ok(journal)
    }

    /// Reads who sent the batches of one part. A file without its bytes says nothing.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub async fn witnesses(
        &self,
        state: &StateStore,
        part: usize,
    ) -> Result<BTreeMap<Batch, Witness>, StateError> {
        let mut witnesses: BTreeMap<Batch, Witness> = BTreeMap::new();
        for JournalFile { key, batch, step } in self.0.iter().filter(|file| file.batch.part == part) {
            let entry = match state.read_json::<JournalEntry>(key).await {
                Err(StateError::Format { .. }) => continue,
                result => result?,
            };
            let witness = witnesses.entry(*batch).or_default();
            match step {
                Step::Started => witness.sender = entry.writer,
                Step::Deleted | Step::Ended => witness.ended = entry.at.or(witness.ended),
            }
        }
        Ok(witnesses)
    }
}

/// The folder of all journals of an epoch.
#[must_use]
pub fn journal_folder(epoch: &Epoch) -> String {
    format!("{}journal/", epoch_folder(epoch))
}

fn no_journal(key: &str) -> StateError {
    StateError::Format {
        key: key.to_owned(),
        problem: "it is no file of a journal".to_owned(),
    }
}

/// Whether a file is what a process left that was killed while it wrote to a folder: nothing was said by it yet.
fn is_cut_short(name: &str) -> bool {
    name.starts_with('.')
}

fn parse_name(name: &str) -> Option<(Batch, Step)> {
    let (batch, step) = name.split_once('.')?;
    let step = match step {
        "deleted" => Step::Deleted,
        "ended" => Step::Ended,
        "started" => Step::Started,
        _ => return None,
    };
    let mut numbers = batch.split('-');
    let mut number = || numbers.next()?.parse::<usize>().ok();
    let (part, from, to) = (number()?, number()?, number()?);
    let attempt = numbers.next()?.parse().ok()?;
    let batch = Batch {
        part,
        from,
        to,
        attempt,
    };
    (numbers.next().is_none() && from < to).then_some((batch, step))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::filesystem::FilesystemStore;

    #[test]
    fn names_round_trip() {
        let batch = Batch {
            part: 1,
            from: 1000,
            to: 2000,
            attempt: 2,
        };
        assert_eq!(parse_name("1-1000-2000-2.started"), Some((batch, Step::Started)));
        for bad in [
            "1-0-2.started",
            "1-2-2-1.started",
            "1-0-2-1",
            "a-0-2-1.ended",
            "1-0-2-1.other",
        ] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_was_settled_is_not_written_over_and_later_claims_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = FilesystemStore::open(folder.path()).unwrap();
        let state = StateStore::new(Arc::new(store));
        let epoch = Epoch::first(crate::run::RunId::generate());
        let journal = Journal::of_task(state.clone(), &epoch, "sweep", "a test".to_owned());
        let batch = |claim| Batch {
            part: 0,
            from: 0,
            to: 1,
            attempt: first_attempt(claim),
        };
        for claim in [1, 2] {
            journal.start(batch(claim)).await.unwrap();
        }
        let before = journal.files().await.unwrap().of_claims_before(2);
        let seen = before.read_part(&state, 0).await.unwrap();
        assert_eq!(seen.into_keys().collect::<Vec<_>>(), [batch(1)]);

        let settled = Fate::Failed("seen".to_owned());
        journal
            .settle(batch(1), vec![(0, settled.clone())])
            .await
            .unwrap();
        let late = KeyOutcome::Unknown("no answer".to_owned());
        journal.end(batch(1), &[late]).await.unwrap();
        let files = journal.files().await.unwrap();
        let ends = files.read_part(&state, 0).await.unwrap();
        assert_eq!(ends[&batch(1)], BatchEnd::Ended([(0, settled)].into()));
        assert_eq!(ends[&batch(2)], BatchEnd::Open);
        // That all of it went is said in any case.
        journal.end(batch(1), &[KeyOutcome::Deleted]).await.unwrap();
        let files = journal.files().await.unwrap();
        let ends = files.read_part(&state, 0).await.unwrap();
        assert_eq!(ends[&batch(1)], BatchEnd::Ended(BTreeMap::new()));
    }

    #[test]
    fn attempts_of_a_later_claim_are_greater() {
        assert!(first_attempt(4) + ATTEMPTS_PER_CLAIM - 1 < first_attempt(5));
    }
}
