//! Which epoch was last allowed to delete on a registry, and where its books are (R5). Lies beside the lock in the registry's
//! own storage; written before the lock allows anything, and never removed.
//!
//! Two runs may have two state stores, and neither knows of the other's. What a run left open and is absent was freed by it only
//! as long as no other run has deleted since.

use serde::{Deserialize, Serialize};

use crate::run::Epoch;
use crate::store::{ObjectVersion, PutCondition, Store, StoreError};

/// The file's key.
pub const LAST_DELETE_KEY: &str = "hardprune/last-delete.json";

const LARGEST: u64 = 1 << 20;

/// Who was last allowed to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDelete {
    /// The format's version: 1.
    pub version: u32,
    /// Which epoch.
    pub epoch: Epoch,
    /// The identity of the state store that has its books, without secrets.
    pub state: String,
    /// Whether its books are closed: nothing of it is left to settle.
    #[serde(default)]
    pub closed: bool,
}

/// What a registry's storage says of who was last allowed to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Who. `None`: what stands there cannot be read.
    pub last: Option<LastDelete>,
    /// This state of the file.
    pub version: ObjectVersion,
}

/// Reads who was last allowed to delete. `None` where nobody ever was.
///
/// # Errors
///
/// The store's.
pub async fn read(registry: &dyn Store) -> Result<Option<Noted>, StoreError> {
    match registry.get(LAST_DELETE_KEY, 0, LARGEST).await {
        Ok(object) => Ok(Some(Noted {
            last: serde_json::from_slice(&object.bytes).ok(),
            version: object.version,
        })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names who may have deleted since `epoch` was last allowed to. `None`: nobody.
///
/// A later epoch of the same run counts: between the two another run may have deleted. Only what was absent before this was asked was
/// deleted by `epoch`: others may be allowed to at any moment after.
///
/// # Errors
///
/// The store's.
pub async fn deleted_since(registry: &dyn Store, epoch: &Epoch) -> Result<Option<String>, StoreError> {
    Ok(match read(registry).await? {
        None => None,
        Some(Noted { last: None, .. }) => {
            Some(format!("a run that {LAST_DELETE_KEY:?} does not name any more"))
        }
        Some(Noted { last: Some(last), .. }) => {
            let who = match last.epoch.run == epoch.run {
                true => format!("epoch {} of this run", last.epoch.number),
                false => format!("run {}", last.epoch.run),
            };
            (last.epoch != *epoch).then_some(who)
        }
    })
}

/// Writes who is allowed to delete from now on; `seen` is what stood there when the lock was taken. Nothing may be deleted before.
///
/// # Errors
///
/// [`StoreError::ConditionNotMet`] where somebody else has written since, and other failures of the store.
pub async fn write(registry: &dyn Store, last: &LastDelete, seen: Option<&Noted>) -> Result<(), StoreError> {
    // A document without maps can always be written.
    let bytes = serde_json::to_vec_pretty(last).unwrap_or_default();
    // Who was suspended until its lock was taken from it must not hide who has deleted since.
    let condition = match seen {
        None => PutCondition::IfAbsent,
        Some(noted) => PutCondition::IfUnchanged(noted.version.clone()),
    };
    if let Err(error) = registry.put(LAST_DELETE_KEY, bytes.into(), condition).await {
        // It may have been written without an answer.
        match read(registry).await {
            Ok(Some(found)) if found.last.as_ref() == Some(last) => {}
            _ => return Err(error),
        }
    }
    registry.flush().await
}

/// Notes that the books of an epoch are closed, where it was the last that was allowed to delete. Nothing is written where
/// another has been allowed to since.
///
/// # Errors
///
/// The store's. The books count as open then, and are closed once more.
pub async fn close(registry: &dyn Store, epoch: &Epoch) -> Result<(), StoreError> {
    let Some(noted) = read(registry).await? else {
        return Ok(());
    };
    match &noted.last {
        Some(last) if last.epoch == *epoch && !last.closed => {
            let closed = LastDelete {
                closed: true,
                ..last.clone()
            };
            write(registry, &closed, Some(&noted)).await
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunId;
    use crate::store::filesystem::FilesystemStore;

    fn last(run: RunId) -> LastDelete {
        LastDelete {
            version: 1,
            epoch: Epoch::first(run),
            state: "s3://state".to_owned(),
            closed: false,
        }
    }

    #[tokio::test]
    async fn the_last_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let registry = FilesystemStore::open(folder.path()).unwrap();
        let (first, second) = (RunId::generate(), RunId::generate());
        assert_eq!(read(&registry).await.unwrap(), None);
        assert_eq!(
            deleted_since(&registry, &Epoch::first(first)).await.unwrap(),
            None
        );

        write(&registry, &last(first), None).await.unwrap();
        let seen = read(&registry).await.unwrap().unwrap();
        assert_eq!(seen.last, Some(last(first)));
        assert_eq!(
            deleted_since(&registry, &Epoch::first(first)).await.unwrap(),
            None
        );

        write(&registry, &last(second), Some(&seen)).await.unwrap();
        let who = deleted_since(&registry, &Epoch::first(first)).await.unwrap();
        assert_eq!(who, Some(format!("run {second}")));
        assert_eq!(
            deleted_since(&registry, &Epoch::first(second)).await.unwrap(),
            None
        );
    }

    #[tokio::test]
    async fn only_who_is_noted_closes_its_books() {
        let folder = tempfile::tempdir().unwrap();
        let registry = FilesystemStore::open(folder.path()).unwrap();
        let (first, second) = (RunId::generate(), RunId::generate());
        close(&registry, &Epoch::first(first)).await.unwrap();
        assert_eq!(read(&registry).await.unwrap(), None);
        write(&registry, &last(first), None).await.unwrap();
        for (epoch, closed) in [
            (Epoch::first(second), false),
            (Epoch::first(first).next(), false),
            (Epoch::first(first), true),
            (Epoch::first(first), true),
        ] {
            close(&registry, &epoch).await.unwrap();
            let expected = LastDelete {
                closed,
                ..last(first)
            };
            assert_eq!(read(&registry).await.unwrap().unwrap().last, Some(expected));
        }
    }

    #[tokio::test]
    async fn a_later_epoch_of_the_same_run_may_have_come_after_another_run() {
        let folder = tempfile::tempdir().unwrap();
        let registry = FilesystemStore::open(folder.path()).unwrap();
        let first = Epoch::first(RunId::generate());
        let later = LastDelete {
            epoch: first.next(),
            ..last(first.run)
        };
        write(&registry, &later, None).await.unwrap();
        let who = deleted_since(&registry, &first).await.unwrap();
        assert_eq!(who.as_deref(), Some("epoch 2 of this run"));
        assert_eq!(deleted_since(&registry, &first.next()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn who_saw_less_does_not_write_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let registry = FilesystemStore::open(folder.path()).unwrap();
        let (first, second) = (RunId::generate(), RunId::generate());
        write(&registry, &last(first), None).await.unwrap();
        let error = write(&registry, &last(second), None).await.unwrap_err();
        assert!(matches!(error, StoreError::ConditionNotMet { .. }), "{error}");
        // What it says itself it has written, with or without an answer.
        write(&registry, &last(first), None).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_read_may_name_anybody_and_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let registry = FilesystemStore::open(folder.path()).unwrap();
        let run = RunId::generate();
        registry
            .put(LAST_DELETE_KEY, "".into(), PutCondition::Always)
            .await
            .unwrap();
        assert!(
            deleted_since(&registry, &Epoch::first(run))
                .await
                .unwrap()
                .is_some()
        );
        let seen = read(&registry).await.unwrap().unwrap();
        assert_eq!(seen.last, None);
        write(&registry, &last(run), Some(&seen)).await.unwrap();
        assert_eq!(deleted_since(&registry, &Epoch::first(run)).await.unwrap(), None);
    }
}
