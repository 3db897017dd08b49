//! Accounts: what a run deleted, from the journals of all its epochs, never from sums of reports (R5).
//!
//! Comes in: sealed plans and journals. Goes out: how many keys and bytes are gone, failed, or still to do. A digest
//! counts once, in whichever epochs and batches it was deleted.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::journal::{BatchEnd, Fate, TaskJournal};
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::removal::{Removal, RemovalKind};
use hardprune_common::seal::{sweep_task, unlink_task};
use hardprune_common::state::{FileRef, StateError, StateStore};
use serde::{Deserialize, Serialize};

use crate::books::EpochBooks;
use crate::run_record::RunRecord;

/// Shards accounted for at once.
const SHARDS_AT_ONCE: usize = 32;

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
    /// Bytes of upload files that are gone.
    pub upload_bytes: u64,
    /// The first removals that failed.
    pub problems: Vec<Problem>,
}

/// One task's part of an epoch's plan, with its journal.
struct TaskBooks<'b> {
    is_latest: bool,
    parts: &'b [FileRef],
    batches: Option<&'b TaskJournal>,
}

/// What a part's removals have come to, by the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
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
    let mut shards: BTreeMap<String, Vec<TaskBooks<'_>>> = BTreeMap::new();
    for (number, book) in books.iter().enumerate() {
        let is_latest = latest_deleted && number + 1 == books.len();
        for plan in &book.plan.shards {
            let task = sweep_task(&plan.scope);
            let batches = book.journal.get(&task);
            shards.entry(task).or_default().push(TaskBooks {
                is_latest,
                parts: &plan.findings.parts,
                batches,
            });
        }
        for (place, file) in book.plan.before_shards().enumerate() {
            let task = unlink_task(place);
            let batches = book.journal.get(&task);
            let books = TaskBooks {
                is_latest,
                parts: std::slice::from_ref(file),
                batches,
            };
            shards.entry(format!("{number} {task}")).or_default().push(books);
        }
    }
    let sums = shards
        .into_values()
        .map(|epochs| async move { add_up_shard(state, epochs, on_gone).await });
    let mut sums = stream::iter(sums).buffer_unordered(SHARDS_AT_ONCE);
    while let Some(sum) = sums.try_next().await? {
        add(&mut accounts, sum);
    }
    Ok(accounts)
}

async fn add_up_shard(
    state: &StateStore,
    epochs: Vec<TaskBooks<'_>>,
    on_gone: &(dyn Fn(&Removal) + Sync),
) -> Result<Accounts, StateError> {
    let mut accounts = Accounts::default();
    // R5: the union by digest, over all epochs of the shard.
    let mut gone: HashMap<Digest, (u64, bool)> = HashMap::new();
    for TaskBooks {
        is_latest,
        parts,
        batches,
    } in epochs
    {
        for (number, file) in parts.iter().enumerate() {
            let removals: Vec<Removal> = match state.read_lines(file).await {
                // Whoever carries a part out reads it by the same sha256: nothing of this one was deleted.
                Err(StateError::Changed { .. }) if !has_batches_of(number, batches) => {
                    accounts.unreadable += if is_latest { file.items } else { 0 };
                    continue;
                }
                result => result?,
            };
            let states = states_of(number, removals.len(), batches);
            for (removal, state) in removals.iter().zip(states) {
                if state == State::Gone {
                    on_gone(removal);
                }
                count(&mut accounts, &mut gone, removal, &state, is_latest);
            }
        }
    }
    for (size, in_latest) in gone.into_values() {
        accounts.deleted_blobs += 1;
        accounts.freed_bytes += size;
        if !in_latest {
            accounts.deleted_before += 1;
            accounts.deleted_before_bytes += size;
        }
    }
    Ok(accounts)
}

fn has_batches_of(part: usize, batches: Option<&TaskJournal>) -> bool {
    batches.is_some_and(|batches| batches.keys().any(|batch| batch.part == part))
}

fn states_of(part: usize, removals: usize, batches: Option<&TaskJournal>) -> Vec<State> {
    let mut states = vec![State::NotDone; removals];
    for (batch, end) in batches
        .into_iter()
        .flatten()
        .filter(|(batch, _)| batch.part == part)
    {
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

fn count(
    accounts: &mut Accounts,
    gone: &mut HashMap<Digest, (u64, bool)>,
    removal: &Removal,
    state: &State,
    is_latest: bool,
) {
    if *state == State::Gone {
        match removal.kind {
            RemovalKind::Blob => {
                if let Some(digest) = removal.blob() {
                    let entry = gone.entry(digest).or_insert((removal.size, false));
                    entry.1 |= is_latest;
                }
            }
            RemovalKind::LayerLink => accounts.links.layer += 1,
            RemovalKind::RevisionLink | RemovalKind::SignatureLink => accounts.links.revision += 1,
            RemovalKind::TagIndexEntry | RemovalKind::TagCurrent => accounts.links.tag += 1,
            RemovalKind::UploadFile => accounts.upload_bytes += removal.size,
        }
        return;
    }
    if !is_latest {
        return;
    }
    match (removal.kind, state) {
        (RemovalKind::Blob, State::Failed(_)) => accounts.failed_blobs += 1,
        (RemovalKind::Blob, _) => accounts.not_attempted_blobs += 1,
        _ => accounts.links_left += 1,
    }
    if let State::Failed(message) = state {
        accounts.problems.push(Problem {
            repository: None,
            digest: removal.blob(),
            kind: ProblemKind::DeleteFailed,
            message: format!("{} could not be deleted: {message}", removal.key),
        });
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
    sum.upload_bytes += upload_bytes;
    sum.problems.extend(problems);
}

#[cfg(test)]
mod tests {
    use hardprune_common::journal::Batch;

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
        let states = states_of(0, 5, Some(&batches));
        let expected = [
            State::Gone,
            State::Gone,
            State::Open,
            State::Failed("no".to_owned()),
            State::NotDone,
        ];
        assert_eq!(states, expected);
    }
}
