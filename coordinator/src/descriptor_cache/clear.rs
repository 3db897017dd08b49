//! Clears the cache of what a run deletes: beside its stages, and again when its books are closed. A cache that is down never
//! stops a delete: that it is not cleared is said, and makes the exit status 5.

use std::sync::Arc;

use hardprune_common::removal::Removal;
use hardprune_common::state::{FileRef, StateError, StateStore};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::redis_cache::{CacheError, RedisCache};
use crate::books::{EpochBooks, TaskBooks};
use crate::run_record::RunRecord;

/// Why the cache is not clear.
#[derive(Debug, thiserror::Error)]
pub enum ClearError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The run's books.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Clears the cache of parts of a plan that were carried out, while the run goes on.
#[derive(Debug)]
pub struct CacheClearer {
    parts: UnboundedSender<Vec<FileRef>>,
    worker: JoinHandle<()>,
}

impl CacheClearer {
    /// Starts it.
    #[must_use]
    pub fn start(cache: Arc<RedisCache>, state: StateStore) -> Self {
        let (parts, mut next) = unbounded_channel::<Vec<FileRef>>();
        let worker = tokio::spawn(async move {
            while let Some(files) = next.recv().await {
                if let Err(error) = clear_parts(&cache, &state, &files).await {
                    warn!(%error, "the registry's cache is not cleared as deletion proceeds; it is tried again at the end");
                    return;
                }
            }
        });
        Self { parts, worker }
    }

    /// Clears the cache of all that these parts of the plan name, whether or not it is gone: an entry that is missing costs a
    /// look at the storage.
    pub fn carried_out(&self, files: &[FileRef]) {
        // Who has given up is told by the end of the run.
        let _ = self.parts.send(files.to_vec());
    }

    /// Waits until all of them are cleared, or it has given up.
    pub async fn finish(self) {
        drop(self.parts);
        if let Err(error) = self.worker.await {
            warn!(%error, "the registry's cache is not cleared as deletion proceeds");
        }
    }
}

async fn clear_parts(cache: &RedisCache, state: &StateStore, files: &[FileRef]) -> Result<(), ClearError> {
    for file in files {
        let removals: Vec<Removal> = state.read_lines(file).await?;
        cache.forget(removals.iter()).await?;
        debug!(part = file.key, "the registry's cache is clear of a part");
    }
    Ok(())
}

/// Clears the cache of all that the tasks which a run began were to remove, in all its epochs (R6). More than what is known to be
/// gone: of a run that was killed nobody has looked yet, and an entry that is missing costs the registry a look at its storage.
///
/// # Errors
///
/// A cache that does not answer, books that cannot be read.
pub async fn clear_begun(
    cache: &RedisCache,
    state: &StateStore,
    record: &RunRecord,
) -> Result<(), ClearError> {
    for book in EpochBooks::open_all(state, record).await? {
        let begun = book.tasks().filter(|(_, books)| books.journal.is_some());
        for (_, TaskBooks { parts, .. }) in begun {
            clear_parts(cache, state, parts).await?;
        }
    }
    Ok(())
}
