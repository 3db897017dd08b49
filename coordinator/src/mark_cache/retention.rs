//! What the mark cache keeps in the state store: what the latest two indexes name, and what runs under way are writing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::mark_cache::{cache_epoch_folder, cache_folder};
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::state::{StateError, StateStore};

use crate::run_record::RunRecord;

/// A run that has not ended after so long was killed, or is not worth waiting for.
const LONGEST_RUN: Duration = Duration::from_secs(14 * 86_400);

/// Removes the files of a registry's cache that nothing names, but for those of other runs that may be under way: they are named once their
/// mark is sealed.
///
/// # Errors
///
/// The state store's.
pub async fn remove_unnamed(
    state: &StateStore,
    registry: &str,
    epoch: &Epoch,
    named: &HashSet<&str>,
) -> Result<(), StateError> {
    let folder = cache_folder(registry);
    let ours = cache_epoch_folder(registry, epoch);
    let mut are_under_way: HashMap<RunId, bool> = HashMap::new();
    let mut unneeded = Vec::new();
    for key in state.list(&folder).await? {
        let run = key[folder.len()..]
            .split_once('-')
            .and_then(|(run, _)| run.parse::<RunId>().ok());
        let Some(run) = run.filter(|_| !named.contains(key.as_str())) else {
            continue;
        };
        if key.starts_with(&ours) {
            let is_index = key[ours.len()..].starts_with("index-");
            if !is_index {
                unneeded.push(key);
            }
            continue;
        }
        let is_under_way = match are_under_way.get(&run) {
            Some(is_under_way) => *is_under_way,
            None => {
                let is_under_way = run != epoch.run && is_under_way(state, run).await;
                are_under_way.insert(run, is_under_way);
                is_under_way
            }
        };
        if !is_under_way {
            unneeded.push(key);
        }
    }
    state.remove(unneeded).await
}

async fn is_under_way(state: &StateStore, run: RunId) -> bool {
    let began = run.datetime();
    let is_recent = clock::machine_now()
        .duration_since(began.try_into().unwrap_or_default())
        .unsigned_abs()
        < LONGEST_RUN;
    is_recent
        && RunRecord::load(state, run)
            .await
            .is_ok_and(|record| !record.ended)
}
