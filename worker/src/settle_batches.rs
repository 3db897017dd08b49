//! Settles batches of which nobody knows the end: looks which of their keys are still there, and writes it down. What is
//! absent was freed by the run, what is present is still to do (R5).

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::failpoint;
use hardprune_common::journal::{BatchEnd, Fate, Journal, JournalFiles};
use hardprune_common::removal::Removal;
use hardprune_common::run::Epoch;
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::store::{ListRange, Store, StoreError};

/// Keys looked for at once.
const LOOKS_AT_ONCE: usize = 32;

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

/// Settles what is open in a task's journal; `parts` are the task's of the sealed plan. The caller has made sure that no
/// request of it is under way any more.
///
/// Returns how many batches it settled.
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
) -> Result<u64, SettleError> {
    let journal = Journal::of_task(state.clone(), epoch, task);
    let mut settled = 0;
    for (number, file) in parts.iter().enumerate() {
        let batches = files.read_part(state, number).await?;
        let unsettled: Vec<_> = batches.iter().filter(|(_, end)| is_unsettled(end)).collect();
        if unsettled.is_empty() {
            continue;
        }
        let removals: Vec<Removal> = state.read_lines(file).await?;
        for (batch, end) in unsettled {
            let removals = &removals[batch.from.min(removals.len())..batch.to.min(removals.len())];
            let not_deleted = look_at(registry, removals, end).await?;
            failpoint::here("settle-before-end").await;
            journal.settle(*batch, not_deleted).await?;
            failpoint::here("settle-after-end").await;
            settled += 1;
        }
    }
    Ok(settled)
}

fn is_unsettled(end: &BatchEnd) -> bool {
    match end {
        BatchEnd::Open => true,
        BatchEnd::Ended(fates) => fates.values().any(|fate| matches!(fate, Fate::Unknown(_))),
    }
}

/// What of an unsettled batch is not gone.
async fn look_at(
    registry: &dyn Store,
    removals: &[Removal],
    end: &BatchEnd,
) -> Result<Vec<(usize, Fate)>, StoreError> {
    let mut not_deleted = Vec::new();
    let mut unsure = Vec::new();
    for (place, removal) in removals.iter().enumerate() {
        let fate = match end {
            BatchEnd::Open => Some(&Fate::NotDone),
            BatchEnd::Ended(fates) => fates.get(&place),
        };
        match fate {
            None => {}
            Some(fate @ Fate::Failed(_)) => not_deleted.push((place, fate.clone())),
            Some(Fate::Unknown(_) | Fate::NotDone) => unsure.push((place, removal.key.clone())),
        }
    }
    let mut looks = stream::iter(unsure)
        .map(|(place, key)| async move { Ok((place, is_there(registry, &key).await?)) })
        .buffer_unordered(LOOKS_AT_ONCE);
    while let Some((place, there)) = looks.try_next().await? {
        if there {
            not_deleted.push((place, Fate::NotDone));
        }
    }
    Ok(not_deleted)
}

async fn is_there(registry: &dyn Store, key: &str) -> Result<bool, StoreError> {
    // Listed, not read: the bytes may be many, and a listing is what the plan was made from.
    let mut pages = registry.list(ListRange::prefix(key));
    while let Some(page) = pages.try_next().await? {
        if page.iter().any(|object| object.key == key) {
            return Ok(true);
        }
    }
    Ok(false)
}
