//! Makes sure that nobody is at work on a registry, for who only wants to look at what a run left.

use hardprune_common::store::{ExclusiveLock, Store};

use super::{LockError, lock_advisory, read_lock, refuse_at_work};

/// Nobody is at work on a registry. Where its storage has advisory locks, nobody begins while this is held.
#[derive(Debug)]
pub struct NobodyAtWork {
    _advisory: Option<ExclusiveLock>,
}

impl NobodyAtWork {
    /// Makes sure of it without taking the registry's lock: there is none, its owner has died (on a filesystem), or its lease
    /// and its requests have passed.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] and [`LockError::Busy`] where somebody may be at work, a store that fails, a lock that cannot be read.
    pub async fn on(registry: &dyn Store) -> Result<Self, LockError> {
        let advisory = lock_advisory(registry).await?;
        if let Some((found, _)) = read_lock(registry).await? {
            refuse_at_work(registry, &found, advisory.is_some(), registry.now().await?)?;
        }
        Ok(Self { _advisory: advisory })
    }
}

#[cfg(test)]
mod tests {
    use hardprune_common::clock;
    use hardprune_common::lock::{LEASE, LockDocument};
    use hardprune_common::run::{Epoch, RunId};
    use hardprune_common::store::PutCondition;
    use hardprune_common::store::filesystem::FilesystemStore;

    use super::*;
    use crate::lock_registry::{TakeOver, write_lock};

    /// Leaves the lock of an owner that has died.
    async fn leave_lock(registry: &dyn Store, workers_elsewhere: bool) -> LockDocument {
        let now = clock::machine_now();
        let document = LockDocument {
            version: 1,
            epoch: Epoch::first(RunId::generate()),
            owner: "process 1 on there".to_owned(),
            since: now,
            renewed: now,
            lease_seconds: u32::try_from(LEASE.as_secs()).unwrap(),
            sealed_plan: None,
            stage: None,
            workers_elsewhere,
        };
        write_lock(registry, &document, PutCondition::Always)
            .await
            .unwrap();
        document
    }

    async fn refused(registry: &dyn Store) -> TakeOver {
        match NobodyAtWork::on(registry).await {
            Err(LockError::Held { take_over, .. }) => take_over,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn on_a_folder_the_advisory_lock_says_who_lives() {
        let folder = tempfile::tempdir().unwrap();
        let registry = FilesystemStore::open(folder.path()).unwrap();
        let nobody = NobodyAtWork::on(&registry).await.unwrap();
        let busy = NobodyAtWork::on(&registry).await.unwrap_err();
        assert!(matches!(busy, LockError::Busy { .. }), "{busy}");

        leave_lock(&registry, false).await;
        assert_eq!(refused(&registry).await, TakeOver::OnceDead);
        leave_lock(&registry, true).await;
        assert_eq!(refused(&registry).await, TakeOver::OnceDeadAndWorkersEnded);
        drop(nobody);

        let left = leave_lock(&registry, true).await;
        let end = left.requests_end();
        assert_eq!(refused(&registry).await, TakeOver::WorkersEndAt(end));
        leave_lock(&registry, false).await;
        NobodyAtWork::on(&registry).await.unwrap();
    }
}
