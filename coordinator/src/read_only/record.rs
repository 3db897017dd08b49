//! How a registry was switched to read-only mode, noted beside the lock in its own storage before it is, so that whoever comes
//! after a crash knows what to switch back.
//!
//! No command stands there: whoever can write to the storage could have it run on the operator's machine.

use std::time::Duration;

use hardprune_common::run::Epoch;
use hardprune_common::store::{DeleteBatch, KeyOutcome, ObjectVersion, PutCondition, Store};
use hardprune_worker::process::place;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ReadOnlyError;
use super::switch::Switch;

/// The file's key.
pub const READ_ONLY_KEY: &str = "hardprune/read-only.json";

const LARGEST: u64 = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(20);

/// How a registry was switched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchRecord {
    /// The format's version: 1.
    pub version: u32,
    /// For which epoch, first.
    pub epoch: Epoch,
    /// By whom: host, process.
    pub owner: String,
    /// When, by the store's clock.
    pub since: Timestamp,
    /// How: `command`, or the target of `--read-only-via`.
    pub by: String,
    /// The registry's container, where it was named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// Whether the operator's own pruning of images was suspended as well.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub image_pruner: bool,
}

/// Reads the record. `None` where the registry was not switched, or was switched back.
///
/// # Errors
///
/// A record that cannot be read, and failures of the store.
pub(super) async fn read(registry: &dyn Store) -> Result<Option<SwitchRecord>, ReadOnlyError> {
    Ok(read_version(registry).await?.map(|(record, _)| record))
}

async fn read_version(registry: &dyn Store) -> Result<Option<(SwitchRecord, ObjectVersion)>, ReadOnlyError> {
    let object = match registry.get(READ_ONLY_KEY, 0, LARGEST).await {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let unreadable = |problem: String| ReadOnlyError::RecordUnreadable {
        registry: registry.identity().to_owned(),
        key: READ_ONLY_KEY,
        problem,
    };
    let record: SwitchRecord =
        serde_json::from_slice(&object.bytes).map_err(|error| unreadable(error.to_string()))?;
    if record.version != 1 {
        return Err(unreadable(format!("version {} is not known", record.version)));
    }
    Ok(Some((record, object.version)))
}

/// Notes that the registry is about to be switched. Whoever calls owns the registry's lock, so nobody else writes here.
///
/// # Errors
///
/// The store's.
pub(super) async fn write(registry: &dyn Store, epoch: &Epoch, switch: &Switch) -> Result<(), ReadOnlyError> {
    let record = SwitchRecord {
        version: 1,
        epoch: epoch.clone(),
        owner: place(),
        since: registry.now().await?,
        by: switch.name(),
        container: switch.container(),
        image_pruner: switch.suspends_image_pruner(),
    };
    put(registry, &record, PutCondition::IfAbsent).await
}

/// Notes that the operator's own pruning of images is about to be suspended as well, by a run that found the registry switched.
///
/// # Errors
///
/// The store's.
pub(super) async fn add_image_pruner(
    registry: &dyn Store,
    before: SwitchRecord,
) -> Result<(), ReadOnlyError> {
    let record = SwitchRecord {
        image_pruner: true,
        ..before
    };
    put(registry, &record, PutCondition::Always).await
}

async fn put(
    registry: &dyn Store,
    record: &SwitchRecord,
    condition: PutCondition,
) -> Result<(), ReadOnlyError> {
    // A document without maps can always be written.
    let bytes = serde_json::to_vec_pretty(record).unwrap_or_default();
    if let Err(error) = registry.put(READ_ONLY_KEY, bytes.into(), condition).await {
        // It may have been written without an answer.
        match read_version(registry).await {
            Ok(Some((found, _))) if found == *record => {}
            _ => return Err(error.into()),
        }
    }
    Ok(registry.flush().await?)
}

/// Removes the record: the registry was switched back.
///
/// # Errors
///
/// Why it may still be there.
pub(super) async fn remove(registry: &dyn Store) -> Result<(), String> {
    let batch =
        DeleteBatch::own_files(vec![READ_ONLY_KEY.to_owned()], TIMEOUT).map_err(|error| error.to_string())?;
    match registry.delete(batch).await.as_slice() {
        [KeyOutcome::Deleted] => Ok(()),
        outcomes => Err(format!("{READ_ONLY_KEY:?} could not be removed: {outcomes:?}")),
    }
}

#[cfg(test)]
mod tests {
    use hardprune_common::run::RunId;
    use hardprune_common::store::filesystem::FilesystemStore;

    use super::super::switch::{Cluster, SwitchTarget};
    use super::*;

    fn by_operator() -> Cluster {
        Cluster::new(
            SwitchTarget::OpenshiftOperator,
            None,
            (Duration::ZERO, Duration::ZERO),
        )
    }

    #[tokio::test]
    async fn the_first_switch_is_remembered_until_it_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let registry = FilesystemStore::open(folder.path()).unwrap();
        let epoch = Epoch::first(RunId::generate());
        assert_eq!(read(&registry).await.unwrap(), None);
        let switch = Switch::Cluster(by_operator());
        write(&registry, &epoch, &switch).await.unwrap();
        let record = read(&registry).await.unwrap().unwrap();
        assert_eq!(
            (record.by.as_str(), &record.epoch),
            ("openshift-operator", &epoch)
        );
        assert!(!record.image_pruner);
        write(&registry, &epoch, &switch).await.unwrap_err();
        assert_eq!(read(&registry).await.unwrap(), Some(record.clone()));
        add_image_pruner(&registry, record).await.unwrap();
        assert!(read(&registry).await.unwrap().unwrap().image_pruner);
        remove(&registry).await.unwrap();
        assert_eq!(read(&registry).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let registry = FilesystemStore::open(folder.path()).unwrap();
        let put = |text: &'static str| registry.put(READ_ONLY_KEY, text.into(), PutCondition::Always);
        put("{").await.unwrap();
        let error = read(&registry).await.unwrap_err();
        assert!(error.to_string().contains(READ_ONLY_KEY), "{error}");
    }
}
