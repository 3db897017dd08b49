//! The books of an epoch: its sealed plan, and the journals of the tasks that carried it out.

use hardprune_common::journal::{EpochJournal, JournalFiles, TaskJournal, list_journals};
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::{PlanDocument, plan_key, sweep_task, unlink_task};
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::store::Store;
use hardprune_worker::settle_batches::{SettleError, SettledBatches, settle_batches};

use crate::run_record::{EpochRecord, RunRecord};

/// One epoch's plan with its journals.
#[derive(Debug)]
pub struct EpochBooks {
    epoch: Epoch,
    plan: PlanDocument,
    /// What became of it, by task.
    journal: EpochJournal,
}

/// One task's parts of an epoch's plan, with its journal.
#[derive(Debug, Clone, Copy)]
pub struct TaskBooks<'b> {
    /// The parts.
    pub parts: &'b [FileRef],
    /// What became of them. `None`: nobody has begun with any.
    pub journal: Option<&'b JournalFiles>,
}

impl EpochBooks {
    /// Opens the books of all epochs of a run that may have deleted anything, in their order.
    ///
    /// # Errors
    ///
    /// Plans that cannot be read, journals that cannot be listed.
    pub async fn open_all(state: &StateStore, record: &RunRecord) -> Result<Vec<Self>, StateError> {
        let mut books = Vec::new();
        for epoch in &record.epochs {
            books.extend(Self::open(state, record.run, epoch).await?);
        }
        Ok(books)
    }

    /// Opens the books of one epoch. `None` where it can have deleted nothing.
    ///
    /// # Errors
    ///
    /// As [`EpochBooks::open_all`].
    pub async fn open(
        state: &StateStore,
        run: RunId,
        record: &EpochRecord,
    ) -> Result<Option<Self>, StateError> {
        let Some(sha256) = record.sealed_plan.filter(|_| record.deletes_begun) else {
            return Ok(None);
        };
        let epoch = Epoch {
            run,
            number: record.number,
        };
        Ok(Some(Self {
            plan: state.read_sealed(&plan_key(&epoch), sha256).await?,
            journal: list_journals(state, &epoch).await?,
            epoch,
        }))
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The sealed plan.
    #[must_use]
    pub fn plan(&self) -> &PlanDocument {
        &self.plan
    }

    /// The books of all its tasks, by the tasks' ids.
    pub fn tasks(&self) -> impl Iterator<Item = (String, TaskBooks<'_>)> {
        let shards = self.plan.shards.iter().map(|shard| {
            let parts = shard.findings.parts.as_slice();
            (sweep_task(&shard.scope), parts)
        });
        let before = self
            .plan
            .before_shards()
            .enumerate()
            .map(|(place, file)| (unlink_task(place), std::slice::from_ref(file)));
        before.chain(shards).map(|(task, parts)| {
            let journal = self.journal.get(&task);
            (task, TaskBooks { parts, journal })
        })
    }
}

impl TaskBooks<'_> {
    /// Reads what became of the batches of one part.
    ///
    /// # Errors
    ///
    /// A journal that cannot be read.
    pub async fn batches_of(&self, state: &StateStore, part: usize) -> Result<TaskJournal, StateError> {
        match self.journal {
            Some(files) => files.read_part(state, part).await,
            None => Ok(TaskJournal::new()),
        }
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
        for (task, TaskBooks { parts, journal }) in books.tasks() {
            if let Some(files) = journal {
                let epoch = &books.epoch;
                settled.add(settle_batches(registry, state, (epoch, &task), parts, files).await?);
            }
        }
    }
    Ok(settled)
}
