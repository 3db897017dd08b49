//! Holds an epoch to read-only mode: proves it again and again, and ends the epoch when that fails (R11).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::error::ReadOnlyError;
use super::probe::Probe;
use crate::lock_registry::Revoker;

/// Watches until it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    lost: Arc<Mutex<Option<ReadOnlyError>>>,
    watching: JoinHandle<()>,
}

impl Hold {
    /// Begins to watch. Where the proof fails, `stop` is cancelled, and the lock permits no more deletes.
    pub fn begin(probe: Arc<Probe>, every: Duration, revoker: Revoker, stop: CancellationToken) -> Self {
        let lost = Arc::new(Mutex::new(None));
        let found = Arc::clone(&lost);
        let watching = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Err(problem) = probe.prove().await else {
                    continue;
                };
                error!(%problem, "read-only mode is lost; stops");
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
                // First who is near and hears it at once, then everybody who looks at the lock.
                stop.cancel();
                if let Err(problem) = revoker.revoke().await {
                    warn!(%problem, "the lock could not be made to forbid deletes yet");
                }
                return;
            }
        });
        Self { lost, watching }
    }

    /// What was seen when read-only mode was lost, where it was. Told once.
    pub fn take_lost(&self) -> Option<ReadOnlyError> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
