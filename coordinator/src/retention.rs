//! Retention: what a run leaves in the state store, and for how long.

use hardprune_common::run::Epoch;
use hardprune_common::state::{StateError, StateStore, epoch_folder, run_folder};
use tracing::warn;

use crate::run_record::{RunRecord, list_runs};

/// Removes what only the run itself needed, and runs beyond those to keep. A failure here is no failure of the run.
pub async fn tidy_up(state: &StateStore, record: &RunRecord, keep_runs: usize) {
    if let Err(error) = remove_intermediate_files(state, &record.epoch()).await {
        warn!(%error, "intermediate files could not be removed");
    }
    if let Err(error) = remove_old_runs(state, record, keep_runs).await {
        warn!(%error, "earlier runs could not be removed");
    }
}

/// Segments and filters: the plan has what came of them. Dangling links are parts of the plan.
async fn remove_intermediate_files(state: &StateStore, epoch: &Epoch) -> Result<(), StateError> {
    let folder = epoch_folder(epoch);
    let mut keys = state.list(&format!("{folder}filters/")).await?;
    let segments = state.list(&format!("{folder}mark/")).await?;
    keys.extend(segments.into_iter().filter(|key| {
        [".references", ".links", ".manifests"]
            .iter()
            .any(|end| key.ends_with(end))
    }));
    state.remove(keys).await
}

async fn remove_old_runs(state: &StateStore, record: &RunRecord, keep_runs: usize) -> Result<(), StateError> {
    let runs = list_runs(state).await?;
    // Ids begin with the time: the first are the oldest.
    for run in &runs[..runs.len().saturating_sub(keep_runs.max(1))] {
        // A run that can still be resumed is never removed: its journal is all that knows what it freed.
        let resumable = match RunRecord::load(state, *run).await {
            Ok(old) => old.deletes_begun() && !old.ended,
            Err(_) => false,
        };
        if *run != record.run && !resumable {
            state.remove(state.list(&run_folder(*run)).await?).await?;
        }
    }
    Ok(())
}
