//! Keeps what a batch is about to delete: copies every key of it into the run's quarantine, and proves that the copies are there.
//!
//! Comes in: a batch of a plan whose sealed document says that it moves. Goes out: for each key, whether it may go. Upholds R5: a key
//! that is there no more needs no copy, for whoever removed it under this plan made one before.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::failpoint;
use hardprune_common::quarantine::copy_key;
use hardprune_common::removal::{Removal, RemovalKind};
use hardprune_common::run::RunId;
use hardprune_common::store::{ListRange, Store, StoreError};

/// Copies of one batch in flight. The store bounds all batches together.
const COPIES_IN_FLIGHT: usize = 64;

/// What became of the attempt to keep a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It may go: its copy is there, or nothing is left of it, or it is none that is kept.
    MayGo,
    /// There is no copy of it, and so it stays.
    Not(String),
    /// The store did not answer: there may be a copy when it is asked again.
    NotYet,
}

/// Copies what a batch removes.
///
/// # Errors
///
/// A listing of the copies that fails: then nothing of the batch may go.
pub(crate) async fn keep(
    registry: &dyn Store,
    run: RunId,
    removals: &[Removal],
) -> Result<Vec<Kept>, StoreError> {
    let copies: Vec<_> = removals
        .iter()
        .map(|removal| keep_one(registry, run, removal))
        .collect();
    let mut kept: Vec<Kept> = stream::iter(copies)
        .buffered(COPIES_IN_FLIGHT)
        .collect()
        .await;
    // A copy must outlast a power failure that the delete outlasts.
    registry.flush().await?;
    failpoint::here("quarantine-copied").await;
    prove(registry, run, removals, &mut kept).await?;
    Ok(kept)
}

async fn keep_one(registry: &dyn Store, run: RunId, removal: &Removal) -> Kept {
    if !is_kept(removal) {
        return Kept::MayGo;
    }
    let copied = registry
        .copy(&removal.key, &copy_key(run, &removal.key), removal.size)
        .await;
    match copied {
        Ok(()) => Kept::MayGo,
        Err(error) if error.is_not_found() => Kept::MayGo,
        Err(StoreError::Unavailable { .. }) => Kept::NotYet,
        Err(error) => Kept::Not(format!("it could not be copied into quarantine first: {error}")),
    }
}

/// Whether a removal is one that quarantine keeps: what was left of uploads is of no use to anybody.
fn is_kept(removal: &Removal) -> bool {
    removal.kind != RemovalKind::UploadFile
}

/// Looks whether the copies are there, and as large as what they are of (R1: no promise of a store is believed alone).
async fn prove(
    registry: &dyn Store,
    run: RunId,
    removals: &[Removal],
    kept: &mut [Kept],
) -> Result<(), StoreError> {
    let mut wanted: HashMap<String, usize> = HashMap::new();
    for (place, removal) in removals.iter().enumerate() {
        if is_kept(removal) && kept[place] == Kept::MayGo {
            wanted.insert(copy_key(run, &removal.key), place);
        }
    }
    let (Some(first), Some(last)) = (wanted.keys().min(), wanted.keys().max()) else {
        return Ok(());
    };
    // A key less its last character sorts before it.
    let range = ListRange {
        after: first.get(..first.len() - 1).map(str::to_owned),
        before: Some(format!("{last}/")),
        ..ListRange::prefix(common_prefix(first, last))
    };
    let mut pages = registry.list(range);
    while let Some(page) = pages.try_next().await? {
        for object in page {
            let Some(place) = wanted.remove(&object.key) else {
                continue;
            };
            let removal = &removals[place];
            if removal.kind == RemovalKind::Blob && object.size != removal.size {
                kept[place] = Kept::Not(format!(
                    "its copy in quarantine has {} bytes, and it had {} when it was listed",
                    object.size, removal.size
                ));
            }
        }
    }
    let missing: Vec<(String, usize)> = wanted.into_iter().collect();
    let mut looks = stream::iter(missing)
        .map(|(copy, place)| async move {
            let is_there = registry.find(&removals[place].key).await?.is_some();
            Ok::<_, StoreError>((copy, place, is_there))
        })
        .buffer_unordered(COPIES_IN_FLIGHT);
    while let Some((copy, place, is_there)) = looks.try_next().await? {
        // Of what is gone there is nothing to keep.
        if is_there {
            kept[place] = Kept::Not(format!("its copy in quarantine, {copy}, is not there"));
        }
    }
    Ok(())
}

/// What two keys begin with alike, in whole characters.
fn common_prefix<'k>(first: &'k str, last: &str) -> &'k str {
    let alike = first
        .char_indices()
        .zip(last.chars())
        .find(|((_, ours), theirs)| ours != theirs);
    let end = alike.map_or(first.len().min(last.len()), |((at, _), _)| at);
    &first[..end]
}
