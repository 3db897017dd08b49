//! What the mark cache keeps in the state store: the folders that the latest two indexes name, and those of runs under way.

use std::collections::HashSet;
use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::mark_cache::cache_folder;
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::state::{StateError, StateStore};

use crate::run_record::RunRecord;

/// A run that has not ended after so long was killed, or is not worth waiting for.
const LONGEST_RUN: Duration = Duration::from_secs(14 * 86_400);

/// Removes the files of a registry's cache that lie in no named folder, but for those of other runs that may be under way: they are named
/// once their mark is sealed.
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
    let cache = cache_folder(registry);
    for name in state.list_folders(&cache).await? {
        let folder = format!("{cache}{name}/");
        let run = name
            .split_once('-')
            .and_then(|(run, _)| run.parse::<RunId>().ok());
        if let Some(run) = run
            && !named.contains(folder.as_str())
            && (run == epoch.run || !is_under_way(state, run).await)
        {
            state.remove(state.list(&folder).await?).await?;
        }
    }
    Ok(())
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
