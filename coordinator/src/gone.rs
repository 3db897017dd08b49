//! What a run has removed, key by key, from the books of all its epochs: one part of a plan after another, so that it can be
//! streamed (R9). A blob comes once, however often it was deleted (R5).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet, VecDeque};

use hardprune_common::digest::Digest;
use hardprune_common::journal::{JournalFiles, Witness};
use hardprune_common::removal::Removal;
use hardprune_common::run::Epoch;
use hardprune_common::state::{FileRef, StateError, StateStore};

use crate::accounts::gone_in;
use crate::books::{EpochBooks, TaskBooks};

/// A key that is gone.
#[derive(Debug)]
pub(crate) struct Gone {
    /// The epoch that deleted it.
    pub epoch: Epoch,
    /// What it was.
    pub removal: Removal,
    /// By whom it was deleted, and when that was written down, where that was asked for and the journal says so.
    pub witness: Witness,
}

/// How much is to be told of what is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What it was.
    Keys,
    /// By whom it was deleted, too: that reads every file of the journals.
    Witnesses,
}

/// All that is gone, part by part.
pub(crate) struct GoneParts<'b> {
    state: &'b StateStore,
    detail: Detail,
    parts: VecDeque<Part<'b>>,
    /// The blobs of the task that have come already, where several epochs did it.
    counted: HashSet<Digest>,
}

struct Part<'b> {
    epoch: &'b Epoch,
    journal: &'b JournalFiles,
    number: usize,
    file: &'b FileRef,
    is_first_of_task: bool,
    of_several: bool,
}

impl<'b> GoneParts<'b> {
    /// Of the books of all epochs of a run.
    pub fn of(state: &'b StateStore, books: &'b [EpochBooks], detail: Detail) -> Self {
        let mut tasks: BTreeMap<(bool, String), Vec<(&Epoch, TaskBooks<'_>)>> = BTreeMap::new();
        for book in books {
            for (task, books) in book.tasks() {
                // R6: what goes before the blobs comes before them here, too.
                let is_sweep = task.starts_with("sweep-");
                match tasks.entry((is_sweep, task)) {
                    Entry::Vacant(entry) => {
                        entry.insert(vec![(book.epoch(), books)]);
                    }
                    Entry::Occupied(mut entry) => entry.get_mut().push((book.epoch(), books)),
                }
            }
        }
        let mut parts = VecDeque::new();
        for epochs in tasks.into_values() {
            let (mut is_first_of_task, of_several) = (true, epochs.len() > 1);
            for (
                epoch,
                TaskBooks {
                    parts: files,
                    journal,
                },
            ) in epochs
            {
                let Some(journal) = journal else { continue };
                for (number, file) in files.iter().enumerate() {
                    parts.push_back(Part {
                        epoch,
                        journal,
                        number,
                        file,
                        is_first_of_task,
                        of_several,
                    });
                    is_first_of_task = false;
                }
            }
        }
        Self {
            state,
            detail,
            parts,
            counted: HashSet::new(),
        }
    }

    /// What is gone of the next part. `None` after the last.
    ///
    /// # Errors
    ///
    /// Books that cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<Gone>>, StateError> {
        let Some(part) = self.parts.pop_front() else {
            return Ok(None);
        };
        if part.is_first_of_task {
            self.counted.clear();
        }
        let batches = part.journal.read_part(self.state, part.number).await?;
        if batches.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let witnesses = match self.detail {
            Detail::Keys => BTreeMap::new(),
            Detail::Witnesses => part.journal.witnesses(self.state, part.number).await?,
        };
        let removals = self.state.read_lines::<Removal>(part.file).await?;
        let mut gone = Vec::new();
        for (place, removal) in removals.into_iter().enumerate() {
            let Some(batch) = gone_in(place, &batches) else {
                continue;
            };
            if part.of_several && removal.blob().is_some_and(|digest| !self.counted.insert(digest)) {
                continue;
            }
            gone.push(Gone {
                epoch: part.epoch.clone(),
                removal,
                witness: witnesses.get(batch).cloned().unwrap_or_default(),
            });
        }
        Ok(Some(gone))
    }
}
