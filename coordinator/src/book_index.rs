//! The index of a run's books: the sha256 of every file of its journals and of its lists of problems, once they are closed. The
//! run's record names the index, so that `runs verify` sees what was changed, removed or added since.

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::journal::journal_folder;
use hardprune_common::run::Epoch;
use hardprune_common::state::{FileRef, StateError, StateStore, epoch_folder, run_folder};

use crate::run_record::RunRecord;
use crate::tenants::tenants_key;

/// Files that one file of the index names, at most (R9).
const FILE_ENTRIES: usize = 10_000;
/// Files read at once.
const READS_AT_ONCE: usize = 32;

/// Names all files of the books: journals, lists of problems, and who freed what.
///
/// # Errors
///
/// The state store's.
pub async fn list_books(state: &StateStore, record: &RunRecord) -> Result<Vec<String>, StateError> {
    let mut keys = Vec::new();
    for epoch in record.epochs.iter().filter(|epoch| epoch.deletes_begun) {
        let epoch = Epoch {
            run: record.run,
            number: epoch.number,
        };
        keys.extend(state.list(&journal_folder(&epoch)).await?);
        keys.extend(state.list(&format!("{}problems/", epoch_folder(&epoch))).await?);
    }
    keys.extend(state.list(&tenants_key(record.run)).await?);
    // What a process left that was killed while it wrote to a folder.
    keys.retain(|key| !key.rsplit('/').next().unwrap_or_default().starts_with('.'));
    Ok(keys)
}

/// Writes the index of books that are closed.
///
/// # Errors
///
/// The state store's.
pub async fn write_book_index(state: &StateStore, record: &RunRecord) -> Result<Vec<FileRef>, StateError> {
    let mut index = Vec::new();
    for keys in list_books(state, record).await?.chunks(FILE_ENTRIES) {
        let files: Vec<FileRef> = stream::iter(keys)
            .map(|key| state.name(key))
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await?;
        let key = format!("{}books/{}.jsonl", run_folder(record.run), index.len());
        index.push(state.write_lines(&key, &files).await?);
    }
    Ok(index)
}
