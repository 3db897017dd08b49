//! The books of an epoch: its sealed plan, and the journals of the tasks that carried it out.

use hardprune_common::journal::{EpochJournal, read_journals};
use hardprune_common::run::Epoch;
use hardprune_common::seal::{PlanDocument, plan_key};
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::store::Store;
use hardprune_worker::settle_batches::{SettleError, SettledBatches, settle_batches};

use crate::run_record::RunRecord;

/// One epoch's plan with its journals.
#[derive(Debug)]
pub struct EpochBooks {
    /// Which epoch.
    pub epoch: Epoch,
    /// Its sealed plan.
    pub plan: PlanDocument,
    /// What became of it, by task.
    pub journal: EpochJournal,
}

impl EpochBooks {
    /// Opens the books of all epochs of a run that may have deleted anything, in their order.
    ///
    /// # Errors
    ///
    /// Plans or journals that cannot be read.
    pub async fn open_all(state: &StateStore, record: &RunRecord) -> Result<Vec<Self>, StateError> {
        let mut books = Vec::new();
        for epoch in record.epochs.iter().filter(|epoch| epoch.deletes_begun) {
            let Some(sha256) = epoch.sealed_plan else {
                continue;
            };
            let of = Epoch {
                run: record.run,
                number: epoch.number,
            };
            let file = FileRef {
                key: plan_key(&of),
                sha256,
                size: 0,
                items: 1,
            };
            let bytes = state.read(&file).await?;
            let plan = serde_json::from_slice(&bytes).map_err(|error| StateError::Format {
                key: file.key,
                problem: error.to_string(),
            })?;
            books.push(Self {
                plan,
                journal: read_journals(state, &of).await?,
                epoch: of,
            });
        }
        Ok(books)
    }
}

/// Settles the open batches of all epochs of a run. The caller has made sure that no request of it is under way any more.
///
/// # Errors
///
/// A store that fails; the batches that are left stay open.
pub async fn settle_open_batches(
    registry: &dyn Store,
    state: &StateStore,
    record: &RunRecord,
) -> Result<SettledBatches, SettleError> {
    let mut settled = SettledBatches::default();
    for books in EpochBooks::open_all(state, record).await? {
        for (task, batches) in &books.journal {
            if let Some((_, parts)) = books.plan.parts_of(task) {
                let epoch = &books.epoch;
                settled.add(settle_batches(registry, state, (epoch, task), parts, batches).await?);
            }
        }
    }
    Ok(settled)
}
