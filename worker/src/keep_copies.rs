//! Keeps what a batch is about to delete: copies every key of it into the run's quarantine, and proves that the copies are there.
//!
//! Comes in: a batch of a plan whose sealed document says that it moves. Goes out: for each key, whether it may go. Upholds R5: a key
//! that is there no more needs no copy, for whoever removed it under this plan made one before.

use std::time::Duration;

use futures::{StreamExt, stream};
use hardprune_common::failpoint;
use hardprune_common::quarantine::{PutBack, copy_key};
use hardprune_common::removal::{Removal, RemovalKind};
use hardprune_common::run::RunId;
use hardprune_common::store::{DeleteBatch, Store, StoreError, find_all};

/// Copies of one batch in flight. The store bounds all batches together.
const COPIES_IN_FLIGHT: usize = 64;
const DROP_TIMEOUT: Duration = Duration::from_secs(20);

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
    let mut kept: Vec<Kept> = stream::iter(copies).buffered(COPIES_IN_FLIGHT).collect().await;
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

/// Looks whether the copies are there, and as large as what they are of: no promise of a store is believed alone (R1).
async fn prove(
    registry: &dyn Store,
    run: RunId,
    removals: &[Removal],
    kept: &mut [Kept],
) -> Result<(), StoreError> {
    let copied: Vec<usize> = (0..removals.len())
        .filter(|place| is_kept(&removals[*place]) && kept[*place] == Kept::MayGo)
        .collect();
    let keys = |places: &[usize], key: &dyn Fn(&Removal) -> String| -> Vec<String> {
        places.iter().map(|place| key(&removals[*place])).collect()
    };
    let copies = find_all(registry, &keys(&copied, &|removal| copy_key(run, &removal.key))).await?;
    let mut without = Vec::new();
    for (place, copy) in copied.into_iter().zip(copies) {
        let removal = &removals[place];
        match copy {
            None => without.push(place),
            Some(copy) if removal.kind == RemovalKind::Blob && copy.size != removal.size => {
                kept[place] = Kept::Not(format!(
                    "its copy in quarantine has {} bytes, and it had {} when it was listed",
                    copy.size, removal.size
                ));
            }
            Some(_) => {}
        }
    }
    let left = find_all(registry, &keys(&without, &|removal| removal.key.clone())).await?;
    // Of what is gone there is nothing to keep.
    for (place, _) in without.into_iter().zip(left).filter(|(_, left)| left.is_some()) {
        kept[place] = Kept::Not("its copy in quarantine is not there".to_owned());
    }
    Ok(())
}

/// Removes the copies of what could not be deleted: it is in its place, and is not to be kept twice.
///
/// # Errors
///
/// A listing that fails: the copies stay.
pub(crate) async fn drop_copies(
    registry: &dyn Store,
    run: RunId,
    left: &[&Removal],
) -> Result<(), StoreError> {
    let originals: Vec<String> = left.iter().map(|removal| removal.key.clone()).collect();
    let copies: Vec<String> = originals.iter().map(|key| copy_key(run, key)).collect();
    let originals = find_all(registry, &originals).await?;
    let copies = find_all(registry, &copies).await?;
    let seen = copies.iter().zip(&originals).filter_map(|pair| match pair {
        (Some(copy), Some(original)) => PutBack::seen(copy, original),
        _ => None,
    });
    let batch = DeleteBatch::put_back(seen.collect(), DROP_TIMEOUT);
    if !batch.keys().is_empty() {
        registry.delete(batch).await;
    }
    Ok(())
}
