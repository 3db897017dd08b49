//! What is kept of a run, as its file beside the copies says it: written before the first key moves, and again when the run has ended,
//! with a line for each key: what came from where.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use hardprune_common::quarantine::{Keeping, QUARANTINE, Undo, copies_of, keeping_key};
use hardprune_common::removal::RemovalKind;
use hardprune_common::removal_files::RemovalWriter;
use hardprune_common::run::RunId;
use hardprune_common::state::StateStore;
use hardprune_common::store::{
    DeleteBatch, KeyOutcome, ListRange, PutCondition, Store, StoreError, Undeletion, Versioning,
};

use crate::accounts::Accounts;
use crate::books::EpochBooks;
use crate::error::RunError;
use crate::gone::{Detail, GoneParts};
use crate::run::Run;

const LARGEST_KEEPING: u64 = 1 << 20;
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// Notes that a run is about to move what it removes. A resumed run goes on with what it has noted before.
///
/// # Errors
///
/// The registry's storage.
pub async fn note_begin(run: &Run, undo: Undo) -> Result<(), RunError> {
    if let Some(mut keeping) = read(&*run.registry, run.record.run).await? {
        if keeping.ended.take().is_some() {
            write(&*run.registry, &keeping).await?;
        }
        return Ok(());
    }
    let keeping = Keeping {
        version: 1,
        run: run.record.run,
        registry: run.registry.identity().to_owned(),
        state: run.state.identity().to_owned(),
        undo,
        online: run.record.options.online,
        began: run.registry.now().await?,
        ended: None,
        blobs: 0,
        bytes: 0,
        links: 0,
    };
    write(&*run.registry, &keeping).await
}

/// Notes that a run has ended, and what it moved, key by key.
///
/// # Errors
///
/// Books that cannot be read, the registry's storage.
pub async fn note_end(run: &Run, accounts: &Accounts) -> Result<(), RunError> {
    let Some(mut keeping) = read(&*run.registry, run.record.run).await? else {
        return Ok(());
    };
    let storage = StateStore::new(Arc::clone(&run.registry));
    let mut manifest = RemovalWriter::new(storage, manifest_prefix(run.record.run));
    let books = EpochBooks::open_all(&run.state, &run.record).await?;
    let mut parts = GoneParts::of(&run.state, &books, Detail::Keys);
    while let Some(part) = parts.next().await? {
        for gone in part {
            if gone.removal.kind != RemovalKind::UploadFile {
                manifest.push(gone.removal).await?;
            }
        }
    }
    manifest.finish().await?;
    keeping.ended = Some(run.registry.now().await?);
    keeping.blobs = accounts.deleted_blobs;
    keeping.bytes = accounts.freed_bytes;
    let links = accounts.links;
    keeping.links = links.layer + links.revision + links.tag;
    write(&*run.registry, &keeping).await
}

/// Reads what is kept of a run. `None`: nothing is.
///
/// # Errors
///
/// The store's; a file of another form.
pub async fn read(registry: &dyn Store, run: RunId) -> Result<Option<Keeping>, RunError> {
    let key = keeping_key(run);
    let bytes = match registry.get(&key, 0, LARGEST_KEEPING).await {
        Ok(object) => object.bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    parse(&key, &bytes).map(Some)
}

/// Reads what is kept of all runs, the oldest first.
///
/// # Errors
///
/// As [`read`].
pub async fn read_all(registry: &dyn Store) -> Result<Vec<Keeping>, RunError> {
    let mut keepings = Vec::new();
    let mut pages = registry.list_folder(QUARANTINE);
    while let Some(page) = pages.try_next().await? {
        for object in page.objects {
            let name = object.key.strip_prefix(QUARANTINE);
            let run = name
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|run| run.parse().ok());
            if let Some(run) = run {
                keepings.extend(read(registry, run).await?);
            }
        }
    }
    keepings.sort_by_key(|keeping| keeping.run);
    Ok(keepings)
}

/// Forgets a run of which nothing is kept any more.
///
/// # Errors
///
/// The store's.
pub async fn forget(registry: &Arc<dyn Store>, run: RunId) -> Result<(), RunError> {
    let storage = StateStore::new(Arc::clone(registry));
    storage.remove(storage.list(&manifest_prefix(run)).await?).await?;
    storage.remove(vec![keeping_key(run)]).await?;
    Ok(())
}

/// The lines that say what came from where.
fn manifest_prefix(run: RunId) -> String {
    format!("{QUARANTINE}{run}.manifest")
}

fn parse(key: &str, bytes: &Bytes) -> Result<Keeping, RunError> {
    let keeping: Keeping = serde_json::from_slice(bytes).map_err(|error| {
        RunError::Usage(format!(
            "{key} cannot be read ({error}): what is kept there stays"
        ))
    })?;
    match keeping.version {
        1 => Ok(keeping),
        version => Err(RunError::Usage(format!(
            "{key} has format {version}, and this program knows 1: use the version of hardprune that wrote it"
        ))),
    }
}

async fn write(registry: &dyn Store, keeping: &Keeping) -> Result<(), RunError> {
    // Its document has no map with keys that are no text: it can always be written.
    let bytes = serde_json::to_vec_pretty(keeping).unwrap_or_default();
    let key = keeping_key(keeping.run);
    registry.put(&key, bytes.into(), PutCondition::Always).await?;
    Ok(registry.flush().await?)
}

/// Whether any copy of a run is there.
///
/// # Errors
///
/// The store's.
pub async fn has_copies(registry: &dyn Store, run: RunId) -> Result<bool, StoreError> {
    let mut pages = registry.list(ListRange::prefix(copies_of(run)));
    while let Some(page) = pages.try_next().await? {
        if !page.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a delete in this bucket can be taken back: tried with a file of hardprune's own, because a bucket whose versioning was
/// suspended says that it has versions, and loses what is deleted.
///
/// # Errors
///
/// The store's.
pub async fn proves_versions(registry: &dyn Store, run: RunId) -> Result<bool, RunError> {
    if registry.versioning() != Versioning::Seen || !registry.takes_deletes_back() {
        return Ok(false);
    }
    let key = format!("{QUARANTINE}{run}.probe");
    registry.put(&key, "1".into(), PutCondition::Always).await?;
    remove_probe(registry, &key).await?;
    let is_back = registry.undelete(&key).await? == Undeletion::Undeleted;
    remove_probe(registry, &key).await?;
    Ok(is_back)
}

async fn remove_probe(registry: &dyn Store, key: &str) -> Result<(), RunError> {
    let batch = DeleteBatch::own_files(vec![key.to_owned()], PROBE_TIMEOUT)
        .map_err(|error| RunError::Usage(error.to_string()))?;
    match registry.delete(batch).await.as_slice() {
        [KeyOutcome::Deleted] => Ok(()),
        outcomes => Err(RunError::Refused(format!(
            "whether a delete can be taken back in {} could not be tried with {key}: {outcomes:?}",
            registry.identity()
        ))),
    }
}
