//! Settles batches of which nobody knows the end: looks which of their keys are still there, and writes it down. What is
//! absent was freed by the run, what is present is still to do (R5). Where another run has deleted since, nobody can tell who
//! freed what is absent: then it counts for neither.

use std::collections::BTreeSet;

use hardprune_common::failpoint;
use hardprune_common::journal::{Batch, BatchEnd, Fate, Journal, JournalFiles};
use hardprune_common::last_delete::deleted_since;
use hardprune_common::removal::Removal;
use hardprune_common::run::Epoch;
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::store::{Store, StoreError, find_all};

use crate::process::place;

/// What went wrong while settling.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
    /// The registry's storage.
    #[error("registry: {0}")]
    Registry(#[from] StoreError),
}

/// What came of settling.
#[derive(Debug, Default)]
pub struct SettledBatches {
    /// Batches whose end is written down now.
    pub batches: u64,
    /// Removals that are gone, and that another run may have deleted as well: by this settling, and by those before.
    pub unattributed: u64,
    /// That run.
    pub deleted_since: Option<String>,
}

impl SettledBatches {
    /// Adds those of another task.
    pub fn add(&mut self, other: Self) {
        // Destructured, so that a new field cannot be forgotten.
        let Self {
            batches,
            unattributed,
            deleted_since,
        } = other;
        self.batches += batches;
        self.unattributed += unattributed;
        self.deleted_since = deleted_since.or(self.deleted_since.take());
    }

    /// Says, in one line, what is counted for nobody. `None` where nothing is.
    #[must_use]
    pub fn describe_unattributed(&self) -> Option<String> {
        let who = self.deleted_since.as_ref()?;
        Some(format!(
            "{} blobs, links or files that are gone may have been freed by {who}, which has deleted since; they count as \
             not attempted",
            self.unattributed
        ))
    }
}

/// Settles what is open in a task's journal; `parts` are the task's of the sealed plan. The caller has made sure that no
/// request of it is under way any more.
///
/// # Errors
///
/// A store that fails; the batches that are left stay open.
pub async fn settle_batches(
    registry: &dyn Store,
    state: &StateStore,
    (epoch, task): (&Epoch, &str),
    parts: &[FileRef],
    files: &JournalFiles,
) -> Result<SettledBatches, SettleError> {
    let journal = Journal::of_task(state.clone(), epoch, task, place());
    let mut settled = SettledBatches::default();
    let mut unattributed = Unattributed::default();
    for (number, file) in parts.iter().enumerate() {
        let batches = files.read_part(state, number).await?;
        let (unsettled, ended): (Vec<_>, Vec<_>) = batches.iter().partition(|(_, end)| is_unsettled(end));
        for (batch, end) in ended {
            if let BatchEnd::Ended(fates) = end {
                unattributed.note(batch, fates.iter());
            }
        }
        if unsettled.is_empty() {
            continue;
        }
        let removals: Vec<Removal> = state.read_lines(file).await?;
        for (batch, end) in unsettled {
            let removals = &removals[batch.from.min(removals.len())..batch.to.min(removals.len())];
            failpoint::here("settle-before-look").await;
            let mut looked_at = look_at(registry, removals, end).await?;
            failpoint::here("settle-after-look").await;
            // Asked only now: whoever is named first from here on has deleted nothing before.
            if let Some(who) = deleted_since(registry, epoch).await? {
                // Who deleted since may have settled it before that.
                let now = journal.files().await?.read_part(state, number).await?;
                if now.get(batch).is_some_and(|end| !is_unsettled(end)) {
                    continue;
                }
                let fates = looked_at
                    .absent
                    .drain(..)
                    .map(|place| (place, Fate::Unattributed(who.clone())));
                looked_at.not_deleted.extend(fates);
            }
            unattributed.note(
                batch,
                looked_at.not_deleted.iter().map(|(place, fate)| (place, fate)),
            );
            journal.settle(*batch, looked_at.not_deleted).await?;
            failpoint::here("settle-after-end").await;
            settled.batches += 1;
        }
    }
    settled.unattributed = unattributed.removals.len() as u64;
    settled.deleted_since = unattributed.deleted_since;
    Ok(settled)
}

/// Removals that count for nobody, each once however often it was attempted.
#[derive(Default)]
struct Unattributed {
    removals: BTreeSet<(usize, usize)>,
    deleted_since: Option<String>,
}

impl Unattributed {
    fn note<'f>(&mut self, batch: &Batch, fates: impl Iterator<Item = (&'f usize, &'f Fate)>) {
        for (place, fate) in fates {
            if let Fate::Unattributed(who) = fate {
                self.removals.insert((batch.part, batch.from + place));
                self.deleted_since = Some(who.clone());
            }
        }
    }
}

fn is_unsettled(end: &BatchEnd) -> bool {
    match end {
        BatchEnd::Open => true,
        BatchEnd::Ended(fates) => fates.values().any(|fate| matches!(fate, Fate::Unknown(_))),
    }
}

/// What a look at an unsettled batch showed, by places in it.
struct LookedAt {
    not_deleted: Vec<(usize, Fate)>,
    /// Gone, and nobody has said before who deleted it.
    absent: Vec<usize>,
}

async fn look_at(registry: &dyn Store, removals: &[Removal], end: &BatchEnd) -> Result<LookedAt, StoreError> {
    let mut looked_at = LookedAt {
        not_deleted: Vec::new(),
        absent: Vec::new(),
    };
    let mut unsure = Vec::new();
    for (place, removal) in removals.iter().enumerate() {
        let fate = match end {
            BatchEnd::Open => Some(&Fate::NotDone),
            BatchEnd::Ended(fates) => fates.get(&place),
        };
        match fate {
            None => {}
            Some(fate @ (Fate::Failed(_) | Fate::Unattributed(_))) => {
                looked_at.not_deleted.push((place, fate.clone()));
            }
            Some(Fate::Unknown(_) | Fate::NotDone) => unsure.push((place, removal.key.clone())),
        }
    }
    let (places, keys): (Vec<usize>, Vec<String>) = unsure.into_iter().unzip();
    for (place, found) in places.into_iter().zip(find_all(registry, &keys).await?) {
        match found {
            Some(_) => looked_at.not_deleted.push((place, Fate::NotDone)),
            None => looked_at.absent.push(place),
        }
    }
    Ok(looked_at)
}
