//! The lock for what carries out no plan: a restore, a switch back to writes. While it is held nobody else deletes.

use std::sync::Arc;

use hardprune_common::lock::LEASE;
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::state::StateStore;
use hardprune_common::store::Store;
use tokio_util::sync::CancellationToken;

use super::{LockTerms, RegistryLock};
use crate::error::RunError;
use crate::serve_metrics::Metrics;
use crate::settle::settle_last_delete;

/// Takes a registry's lock for an epoch that seals nothing, and settles what the run left open that was last allowed to delete: once
/// the registry changes, nobody could tell what that has freed (R5). `stop` is cancelled when the lock is lost.
///
/// # Errors
///
/// A registry that is locked, a store that cannot hold a lock.
pub async fn lock_without_plan(
    registry: &Arc<dyn Store>,
    state: &StateStore,
    stop: CancellationToken,
) -> Result<RegistryLock, RunError> {
    let terms = LockTerms {
        lease: LEASE,
        workers_elsewhere: false,
        state: registry.identity().to_owned(),
    };
    let metrics = Metrics::register()?.coordinator;
    let epoch = Epoch::first(RunId::generate());
    let lock = RegistryLock::take(Arc::clone(registry), &epoch, terms, metrics, stop).await?;
    settle_last_delete(registry, state, epoch.run, lock.last_delete()).await;
    Ok(lock)
}
