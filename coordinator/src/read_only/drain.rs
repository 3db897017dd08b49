//! Waits until uploads that were under way when a registry became read-only have come to rest.
//!
//! None can begin any more, so they are looked for once and then only looked at. What is in flight shows as a folder in
//! `_uploads` that is written to, or goes. At rest is what has not changed from one look to the next, and was last written to
//! before read-only mode began, by the store's clock (R4).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::clock;
use hardprune_common::layout::REPOSITORIES;
use hardprune_common::store::{ListRange, Store, StoreError};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::error::ReadOnlyError;

const FOLDERS_AT_ONCE: usize = 32;
/// The store's `Date` has whole seconds, files' times may be finer, and clocks of two of its machines differ: what was written in the
/// moment before the switch must not look as if it was written after it, for ever.
const CLOCK_SLACK: Duration = Duration::from_secs(3);
const UPLOADS: &str = "_uploads/";
/// So many are named in an error.
const EXAMPLES: usize = 3;

/// Files of uploads, with what changes when they are written to.
type Uploads = BTreeMap<String, (u64, Timestamp)>;

/// Waits until no upload is in flight any more; looks every `pause`.
///
/// # Errors
///
/// Uploads that have not come to rest in time, a store that fails, a run that is to stop.
pub(super) async fn drain(
    registry: &dyn Store,
    read_only_since: Timestamp,
    at_most: Duration,
    pause: Duration,
    stop: &CancellationToken,
) -> Result<(), ReadOnlyError> {
    let began = clock::monotonic_now();
    let read_only_since = clock::later(read_only_since, CLOCK_SLACK);
    let folders = find_upload_folders(registry).await?;
    let mut before = look(registry, &folders).await?;
    info!(
        repositories = folders.len(),
        files = before.len(),
        "uploads are looked for"
    );
    while !before.is_empty() {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Err(ReadOnlyError::Stopped),
        }
        let now = look(registry, &folders).await?;
        let moving: Vec<&String> = now
            .iter()
            .filter(|(key, seen)| before.get(*key) != Some(*seen) || seen.1 > read_only_since)
            .map(|(key, _)| key)
            .collect();
        // One that has gone was ended a moment ago: what it wrote elsewhere is waited for until the next look.
        let has_ended = before.keys().any(|key| !now.contains_key(key));
        if moving.is_empty() && !has_ended {
            return Ok(());
        }
        if !moving.is_empty() && clock::since(began) >= at_most {
            let examples: Vec<&str> = moving.iter().take(EXAMPLES).map(|key| key.as_str()).collect();
            return Err(ReadOnlyError::UploadsInFlight {
                count: moving.len(),
                example: examples.join(", "),
                waited: at_most,
            });
        }
        before = now;
    }
    Ok(())
}

/// Finds the folders of uploads, by listing every folder that is a part of repositories' names.
async fn find_upload_folders(registry: &dyn Store) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let mut level = vec![REPOSITORIES.to_owned()];
    while !level.is_empty() {
        let mut below = stream::iter(level)
            .map(|folder| subfolders(registry, folder))
            .buffer_unordered(FOLDERS_AT_ONCE);
        let mut next = Vec::new();
        while let Some(folders) = below.try_next().await? {
            for (folder, name_at) in folders {
                match &folder[name_at..] {
                    UPLOADS => found.push(folder),
                    name if name.starts_with('_') => {}
                    _ => next.push(folder),
                }
            }
        }
        level = next;
    }
    Ok(found)
}

/// The folders in one, each with the place where its own name begins.
async fn subfolders(registry: &dyn Store, folder: String) -> Result<Vec<(String, usize)>, StoreError> {
    let mut found = Vec::new();
    let mut pages = registry.list_folder(&folder);
    while let Some(page) = pages.try_next().await? {
        // A link may lead back up. What is behind it is found where it is, or is another storage's.
        let is_link = |key: &String| page.links.contains(key);
        found.extend(page.folders.iter().filter(|key| !is_link(key)).cloned());
    }
    Ok(found.into_iter().map(|key| (key, folder.len())).collect())
}

async fn look(registry: &dyn Store, folders: &[String]) -> Result<Uploads, StoreError> {
    let mut looked = stream::iter(folders)
        .map(|folder| async move {
            let mut files = Vec::new();
            let mut pages = registry.list(ListRange::prefix(folder.as_str()));
            while let Some(page) = pages.try_next().await? {
                files.extend(page);
            }
            Ok::<_, StoreError>(files)
        })
        .buffer_unordered(FOLDERS_AT_ONCE);
    let mut uploads = Uploads::new();
    while let Some(files) = looked.try_next().await? {
        uploads.extend(
            files
                .into_iter()
                .map(|file| (file.key, (file.size, file.last_modified))),
        );
    }
    Ok(uploads)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hardprune_common::store::filesystem::FilesystemStore;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(5);

    fn upload(root: &Path, repository: &str) -> std::path::PathBuf {
        let folder = root.join(REPOSITORIES).join(repository).join("_uploads/1");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("data");
        std::fs::write(&file, "begun").unwrap();
        file
    }

    async fn drained(root: &Path, since: Timestamp, at_most: Duration) -> Result<(), ReadOnlyError> {
        let registry = FilesystemStore::open(root).unwrap();
        drain(&registry, since, at_most, PAUSE, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn what_rests_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        upload(folder.path(), "a");
        upload(folder.path(), "a/b");
        let since = clock::later(clock::machine_now(), Duration::from_secs(1));
        drained(folder.path(), since, Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_written_after_the_switch_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let since = clock::earlier(clock::machine_now(), Duration::from_secs(60));
        upload(folder.path(), "a/b");
        let error = drained(folder.path(), since, Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().contains("a/b/_uploads/1/data"), "{error}");
    }

    #[tokio::test]
    async fn an_upload_that_ends_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let since = clock::earlier(clock::machine_now(), Duration::from_secs(60));
        let file = upload(folder.path(), "a");
        let ends = tokio::spawn(async move {
            tokio::time::sleep(10 * PAUSE).await;
            std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
        });
        drained(folder.path(), since, Duration::from_secs(60))
            .await
            .unwrap();
        assert!(ends.is_finished(), "it was not waited for");
    }
}
