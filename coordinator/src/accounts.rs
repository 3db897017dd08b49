//! Accounts: what a run deleted, from the journals of all its epochs, never from sums of reports (R5).
//!
//! Comes in: sealed plans and journals. Goes out: how many keys and bytes are gone, failed, or still to do. A digest
//! counts once, in whichever epochs and batches it was deleted.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::journal::{Batch, BatchEnd, Fate, TaskJournal};
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::removal::{Removal, RemovalKind};
use hardprune_common::state::{StateError, StateStore};
use serde::{Deserialize, Serialize};

use crate::books::{EpochBooks, TaskBooks};
use crate::garbage::GarbageLinks;
use crate::problems::Problems;
use crate::run_record::RunRecord;

/// Shards accounted for at once. Each has in memory one part, some megabytes, and, where several epochs deleted in it, the
/// digests that are gone (R9).
const SHARDS_AT_ONCE: usize = 4;

/// Links by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounts {
    /// Layer links.
    pub layer: u64,
    /// Revision links, with the signatures beside them.
    pub revision: u64,
    /// Tag index entries, and current links of tags.
    pub tag: u64,
}

/// What a run deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Blobs that are gone, each digest once.
    pub deleted_blobs: u64,
    /// Their bytes: the freed bytes.
    pub freed_bytes: u64,
    /// Blobs of the latest plan that the store refused to delete.
    pub failed_blobs: u64,
    /// Blobs of the latest plan that are still to do.
    pub not_attempted_blobs: u64,
    /// Blobs that earlier epochs deleted: the latest plan no longer saw them.
    pub deleted_before: u64,
    /// Their bytes.
    pub deleted_before_bytes: u64,
    /// Links that are gone.
    pub links: LinkCounts,
    /// Links and upload files of the latest plan that could not be removed, or were not.
    pub links_left: u64,
    /// Removals of the latest plan that nobody can read any more, and nobody has carried out: their part was changed.
    pub unreadable: u64,
    /// Links that are gone for a reason of their own.
    pub garbage: GarbageLinks,
    /// Files of uploads that are gone.
    pub upload_files: u64,
    /// Bytes of upload files that are gone.
    pub upload_bytes: u64,
    /// Removals of the latest plan that failed.
    pub problems: Problems,
}

/// One task's books, of one epoch.
struct Entries<'b> {
    is_latest: bool,
    books: TaskBooks<'b>,
}

/// What a part's removals have come to, by the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Gone,
    Failed(String),
    /// Nobody has looked whether it is still there.
    Open,
    NotDone,
}

/// Adds up what a run did; `on_gone` gets each removal that is gone, a digest as often as it was deleted.
///
/// # Errors
///
/// Plans or journals that cannot be read.
pub async fn add_up(
    state: &StateStore,
    record: &RunRecord,
    on_gone: &(dyn Fn(&Removal) + Sync),
) -> Result<Accounts, StateError> {
    let books = EpochBooks::open_all(state, record).await?;
    let mut accounts = Accounts::default();
    let latest_deleted = record.epochs.last().is_some_and(|epoch| epoch.deletes_begun);
    let mut tasks: BTreeMap<String, Vec<Entries<'_>>> = BTreeMap::new();
    for (number, book) in books.iter().enumerate() {
        let is_latest = latest_deleted && number + 1 == books.len();
        for (task, books) in book.tasks() {
            tasks.entry(task).or_default().push(Entries { is_latest, books });
        }
    }
    let sums = tasks
        .into_values()
        .map(|epochs| async move { add_up_task(state, epochs, on_gone).await });
    let mut sums = stream::iter(sums).buffer_unordered(SHARDS_AT_ONCE);
    while let Some(sum) = sums.try_next().await? {
        add(&mut accounts, sum);
    }
    Ok(accounts)
}

async fn add_up_task(
    state: &StateStore,
    epochs: Vec<Entries<'_>>,
    on_gone: &(dyn Fn(&Removal) + Sync),
) -> Result<Accounts, StateError> {
    let mut accounts = Accounts::default();
    // R5: the union by digest, over all epochs of the shard. One epoch's plan names a digest once.
    let mut gone = Gone::new(epochs.len());
    for Entries { is_latest, books } in epochs {
        for (number, file) in books.parts.iter().enumerate() {
            let batches = books.batches_of(state, number).await?;
            let removals: Vec<Removal> = match state.read_lines(file).await {
                // Whoever carries a part out reads it by the same sha256: nothing of this one was deleted.
                Err(StateError::Changed { .. }) if batches.is_empty() => {
                    accounts.unreadable += if is_latest { file.items } else { 0 };
                    continue;
                }
                result => result?,
            };
            let states = states_of(removals.len(), &batches);
            for (removal, state) in removals.iter().zip(states) {
                if state == State::Gone {
                    on_gone(removal);
                }
                count(&mut accounts, &mut gone, removal, &state, is_latest);
            }
        }
    }
    gone.add_to(&mut accounts);
    Ok(accounts)
}

/// The blobs of a shard that are gone.
enum Gone {
    /// Of one epoch: sums are enough.
    OfOneEpoch { blobs: u64, bytes: u64, is_latest: bool },
    /// Of several: each digest once, with its size and whether the latest epoch deleted it.
    OfSeveral(HashMap<Digest, (u64, bool)>),
}

impl Gone {
    fn new(epochs: usize) -> Self {
        if epochs > 1 {
            return Self::OfSeveral(HashMap::new());
        }
        Self::OfOneEpoch {
            blobs: 0,
            bytes: 0,
            is_latest: false,
        }
    }

    fn add(&mut self, digest: Digest, size: u64, of_latest: bool) {
        match self {
            Self::OfOneEpoch {
                blobs,
                bytes,
                is_latest,
            } => {
                *blobs += 1;
                *bytes += size;
                *is_latest = of_latest;
            }
            Self::OfSeveral(digests) => digests.entry(digest).or_insert((size, false)).1 |= of_latest,
        }
    }

    fn add_to(self, accounts: &mut Accounts) {
        let mut add = |blobs: u64, bytes: u64, is_latest: bool| {
            accounts.deleted_blobs += blobs;
            accounts.freed_bytes += bytes;
            if !is_latest {
                accounts.deleted_before += blobs;
                accounts.deleted_before_bytes += bytes;
            }
        };
        match self {
            Self::OfOneEpoch {
                blobs,
                bytes,
                is_latest,
            } => add(blobs, bytes, is_latest),
            Self::OfSeveral(digests) => {
                for (size, is_latest) in digests.into_values() {
                    add(1, size, is_latest);
                }
            }
        }
    }
}

/// What the removals of a part have come to, by its batches.
pub(crate) fn states_of(removals: usize, batches: &TaskJournal) -> Vec<State> {
    let mut states = vec![State::NotDone; removals];
    for (batch, end) in batches {
        let range = batch.from.min(removals)..batch.to.min(removals);
        for (place, state) in states[range].iter_mut().enumerate() {
            // What is gone stays gone: a later attempt that says otherwise never saw it.
            if *state == State::Gone {
                continue;
            }
            *state = match end {
                BatchEnd::Open => State::Open,
                BatchEnd::Ended(not_deleted) => match not_deleted.get(&place) {
                    None => State::Gone,
                    Some(Fate::Failed(message)) => State::Failed(message.clone()),
                    Some(Fate::Unknown(_)) => State::Open,
                    Some(Fate::NotDone | Fate::Unattributed(_)) => State::NotDone,
                },
            };
        }
    }
    states
}

/// The batch by which a removal is gone. `None` where it is not.
pub(crate) fn gone_in(place: usize, batches: &TaskJournal) -> Option<&Batch> {
    let is_gone = |(batch, end): &(&Batch, &BatchEnd)| {
        let in_batch = (batch.from..batch.to).contains(&place);
        in_batch
            && matches!(end, BatchEnd::Ended(not_deleted) if !not_deleted.contains_key(&(place - batch.from)))
    };
    batches.iter().find(is_gone).map(|(batch, _)| batch)
}

fn count(accounts: &mut Accounts, gone: &mut Gone, removal: &Removal, state: &State, is_latest: bool) {
    if *state == State::Gone {
        accounts.garbage.count(removal);
        match removal.original_kind() {
            RemovalKind::Blob => {
                if let Some(digest) = removal.blob() {
                    gone.add(digest, removal.size, is_latest);
                }
            }
            RemovalKind::LayerLink => accounts.links.layer += 1,
            RemovalKind::RevisionLink | RemovalKind::SignatureLink => accounts.links.revision += 1,
            RemovalKind::TagIndexEntry | RemovalKind::TagCurrent => accounts.links.tag += 1,
            RemovalKind::UploadFile => {
                accounts.upload_files += 1;
                accounts.upload_bytes += removal.size;
            }
            // No original is one.
            RemovalKind::QuarantinedLink | RemovalKind::QuarantinedBlob => {}
        }
        return;
    }
    if !is_latest {
        return;
    }
    match (removal.original_kind(), state) {
        (RemovalKind::Blob, State::Failed(_)) => accounts.failed_blobs += 1,
        (RemovalKind::Blob, _) => accounts.not_attempted_blobs += 1,
        _ => accounts.links_left += 1,
    }
    if let State::Failed(message) = state {
        accounts.problems.add(&delete_failed(removal, message));
    }
}

/// A removal that the store refused, as the report shows it.
pub(crate) fn delete_failed(removal: &Removal, message: &str) -> Problem {
    Problem {
        repository: None,
        digest: removal.blob(),
        kind: ProblemKind::DeleteFailed,
        message: format!("{} could not be deleted: {message}", removal.key),
    }
}

fn add(sum: &mut Accounts, other: Accounts) {
    // Destructured, so that a new field cannot be forgotten.
    let Accounts {
        deleted_blobs,
        freed_bytes,
        failed_blobs,
        not_attempted_blobs,
        deleted_before,
        deleted_before_bytes,
        links: LinkCounts { layer, revision, tag },
        links_left,
        unreadable,
        garbage,
        upload_files,
        upload_bytes,
        problems,
    } = other;
    sum.deleted_blobs += deleted_blobs;
    sum.freed_bytes += freed_bytes;
    sum.failed_blobs += failed_blobs;
    sum.not_attempted_blobs += not_attempted_blobs;
    sum.deleted_before += deleted_before;
    sum.deleted_before_bytes += deleted_before_bytes;
    sum.links.layer += layer;
    sum.links.revision += revision;
    sum.links.tag += tag;
    sum.links_left += links_left;
    sum.unreadable += unreadable;
    sum.garbage.add(garbage);
    sum.upload_files += upload_files;
    sum.upload_bytes += upload_bytes;
    sum.problems.add_all(&problems);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(from: usize, to: usize, attempt: u64) -> Batch {
        Batch {
            part: 0,
            from,
            to,
            attempt,
        }
    }

    #[test]
    fn a_removal_is_gone_if_any_attempt_says_so() {
        let fates = |fates: Vec<(usize, Fate)>| BatchEnd::Ended(fates.into_iter().collect());
        let batches = BTreeMap::from([
            (batch(0, 2, 1), fates(vec![(1, Fate::Unknown("cut".to_owned()))])),
            (batch(0, 2, 2), fates(vec![(0, Fate::NotDone)])),
            (batch(2, 3, 1), BatchEnd::Open),
            (batch(3, 4, 1), fates(vec![(0, Fate::Failed("no".to_owned()))])),
            (
                batch(4, 5, 1),
                fates(vec![(0, Fate::Unattributed("run".to_owned()))]),
            ),
        ]);
        let states = states_of(5, &batches);
        let expected = [
            State::Gone,
            State::Gone,
            State::Open,
            State::Failed("no".to_owned()),
            State::NotDone,
        ];
        assert_eq!(states, expected);
        let gone: Vec<bool> = (0..5).map(|place| gone_in(place, &batches).is_some()).collect();
        assert_eq!(gone, [true, true, false, false, false]);
        assert_eq!(gone_in(0, &batches), Some(&batch(0, 2, 1)));
        assert_eq!(gone_in(1, &batches), Some(&batch(0, 2, 2)));
    }
}
