//! Removals that the store refused, all of them, as problems: JSON lines in the state store, one file for a part of the plan
//! (R9). The report shows the first ones only.

use hardprune_common::journal::{BatchEnd, Fate, TaskJournal};
use hardprune_common::problem::Problem;
use hardprune_common::removal::Removal;
use hardprune_common::state::{StateError, StateStore, epoch_folder};

use crate::accounts::{State, delete_failed, states_of};
use crate::books::EpochBooks;
use crate::run_record::RunRecord;

/// Writes what the latest epoch could not remove. Written again, it is the same.
///
/// # Errors
///
/// Plans or journals that cannot be read, a state store that cannot be written to.
pub async fn write_failed_removals(state: &StateStore, record: &RunRecord) -> Result<(), StateError> {
    let Some(latest) = record.epochs.last() else {
        return Ok(());
    };
    let Some(books) = EpochBooks::open(state, record.run, latest).await? else {
        return Ok(());
    };
    let folder = format!("{}problems/", epoch_folder(&record.epoch()));
    for (task, books) in books.tasks() {
        for (part, file) in books.parts.iter().enumerate() {
            let batches = books.batches_of(state, part).await?;
            if !has_failures(&batches) {
                continue;
            }
            let removals: Vec<Removal> = state.read_lines(file).await?;
            let states = states_of(removals.len(), &batches);
            let failed = |(removal, state): (&Removal, &State)| match state {
                State::Failed(message) => Some(delete_failed(removal, message)),
                State::Gone | State::Open | State::NotDone => None,
            };
            let problems: Vec<Problem> = removals.iter().zip(&states).filter_map(failed).collect();
            state
                .write_lines(&format!("{folder}{task}-{part}.problems.jsonl"), &problems)
                .await?;
        }
    }
    Ok(())
}

fn has_failures(batches: &TaskJournal) -> bool {
    batches.values().any(|end| match end {
        BatchEnd::Open => false,
        BatchEnd::Ended(fates) => fates.values().any(|fate| matches!(fate, Fate::Failed(_))),
    })
}
