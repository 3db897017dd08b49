//! A folder as a store: the registry's filesystem driver, and local state.
//!
//! Keys are paths below the root. Symbolic links are followed by reads, by listings that ask for it, and never by
//! deletes (R3) and copies. `object_store`'s own local store follows them everywhere, hides names with `#` and fails on names
//! that are no UTF-8; hence this one.

mod copy;
mod delete;
mod empty_folders;
mod kind;
mod link_content;
mod read_entries;
mod walk;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::sync::mpsc;

use super::{
    DeleteBatch, ExclusiveLock, FolderPage, Glimpse, KeyOutcome, ListRange, ListedObject, Object,
    ObjectVersion, PutCondition, RequestCounter, RequestCounts, RequestKind, Store, StoreError, Versioning,
    Wanted,
};
use crate::clock;
use crate::digest::{Algorithm, Digest};

const PAGE: usize = 1000;
/// Copying more than this would keep other tasks waiting.
const LARGEST_CACHED_READ: u64 = 1 << 20;
/// As many as S3 takes in one request, so that journals look alike everywhere.
const DELETE_BATCH: usize = 1000;

/// A folder as a store.
#[derive(Debug, Clone)]
pub struct FilesystemStore {
    root: PathBuf,
    identity: String,
    requests: Arc<RequestCounter>,
}

impl FilesystemStore {
    /// Opens an existing folder.
    ///
    /// # Errors
    ///
    /// A path that is no folder, or may not be read.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let named = root.display().to_string();
        let canonical = fs::canonicalize(root).map_err(|error| match error.kind() {
            ErrorKind::NotFound => StoreError::NoSuchPlace {
                store: named.clone(),
                what: "folder",
            },
            ErrorKind::NotADirectory => StoreError::Configuration {
                store: named.clone(),
                problem: "a part of this path is not a folder".to_owned(),
            },
            _ => io_error(&named, "open", "", error),
        })?;
        if !canonical.is_dir() {
            let problem = "it is not a folder".to_owned();
            return Err(StoreError::Configuration {
                store: named,
                problem,
            });
        }
        let identity = canonical.display().to_string();
        Ok(Self {
            root: canonical,
            identity,
            requests: Arc::default(),
        })
    }

    /// Opens a folder, and makes it first where it is not there.
    ///
    /// # Errors
    ///
    /// As [`FilesystemStore::open`], and a folder that cannot be made.
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        match fs::create_dir_all(root) {
            // What is there is no folder: opening it says so.
            Err(error) if !matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotADirectory) => {
                Err(io_error(&root.display().to_string(), "create", "", error))
            }
            _ => Self::open(root),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Refuses a key that leads out of the root: keys come from messages, too.
    fn check_inside(&self, action: &'static str, key: &str) -> Result<(), StoreError> {
        if key.starts_with('/') || key.split('/').any(|part| part == "..") {
            return Err(StoreError::Denied {
                store: self.identity.clone(),
                action,
                key: key.to_owned(),
                detail: "it leads out of the store".to_owned(),
            });
        }
        Ok(())
    }

    fn error(&self, action: &'static str, key: &str, error: io::Error) -> StoreError {
        io_error(&self.identity, action, key, error)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(store)).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Unavailable {
                store: self.identity.clone(),
                action: "work on",
                key: String::new(),
                detail: "its thread ended".to_owned(),
                source: Some(error.into()),
            }),
        }
    }

    /// Runs a walk on a thread of its own; its pages come through a short queue, so that it is never far ahead.
    ///
    /// None of the pool's threads: a walk waits for those who take its pages, and they may need one of these to read.
    fn pages<T: Send + 'static>(
        &self,
        walk: impl FnOnce(Self, &mut dyn FnMut(Result<T, StoreError>) -> bool) + Send + 'static,
    ) -> BoxStream<'_, Result<T, StoreError>> {
        let (sender, receiver) = mpsc::channel(4);
        let store = self.clone();
        let started = thread::Builder::new().name("walk".to_owned()).spawn(move || {
            walk(store, &mut |page| sender.blocking_send(page).is_ok());
        });
        if let Err(error) = started {
            return stream::once(future::ready(Err(self.error("start a walk of", "", error)))).boxed();
        }
        stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        })
        .boxed()
    }

    /// Reads what the kernel has in memory, never waiting for a disk. `None` where it has not, or is too old to say.
    fn read_cached(&self, key: &str, offset: u64, limit: u64) -> Option<Object> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat2(CWD, self.path(key), flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
        let stat = fstat(&file).ok()?;
        let size = u64::try_from(stat.st_size).ok()?;
        let expected = size.saturating_sub(offset).min(limit);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || expected > LARGEST_CACHED_READ {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(expected).ok()?];
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let read = preadv2(&file, &mut buffers, offset, ReadWriteFlags::NOWAIT).ok()?;
        (read == bytes.len()).then(|| Object {
            size,
            version: version_of(&bytes),
            bytes: bytes.into(),
        })
    }

    fn read(&self, key: &str, offset: u64, limit: u64) -> Result<Object, StoreError> {
        let read = || -> io::Result<Option<Object>> {
            let mut file = File::open(self.path(key))?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Ok(None);
            }
            let size = metadata.len();
            if offset > 0 {
                file.seek(SeekFrom::Start(offset))?;
            }
            let expected = usize::try_from(size.saturating_sub(offset).min(limit)).unwrap_or(0);
            let mut bytes = Vec::with_capacity(expected);
            file.take(limit).read_to_end(&mut bytes)?;
            let version = version_of(&bytes);
            Ok(Some(Object {
                bytes: bytes.into(),
                size,
                version,
            }))
        };
        let not_found = || StoreError::NotFound {
            store: self.identity.clone(),
            key: key.to_owned(),
        };
        match read() {
            Ok(object) => object.ok_or_else(not_found),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(not_found())
            }
            Err(error) => Err(self.error("read", key, error)),
        }
    }

    fn write(&self, key: &str, bytes: &[u8], condition: &PutCondition) -> Result<ObjectVersion, StoreError> {
        self.requests.add(RequestKind::Put, 1);
        let path = self.path(key);
        let error = |error| self.error("write", key, error);
        let not_met = || StoreError::ConditionNotMet {
            store: self.identity.clone(),
            key: key.to_owned(),
        };
        let folder = path.parent().unwrap_or(&self.root);

        // Readers see the old or the new bytes, never a mixture: written beside it, then put in its place.
        let beside = folder.join(format!(".{}.tmp", ulid::Ulid::generate()));
        let written = (|| {
            let create = || {
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o640)
                    .open(&beside)
            };
            let mut file = match create() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    fs::create_dir_all(folder)?;
                    create()?
                }
                opened => opened?,
            };
            file.write_all(bytes)?;
            Ok(())
        })();
        let placed = written.map_err(error).and_then(|()| match condition {
            PutCondition::Always => fs::rename(&beside, &path).map_err(error),
            PutCondition::IfAbsent => fs::hard_link(&beside, &path).map_err(|cause| match cause.kind() {
                ErrorKind::AlreadyExists => not_met(),
                _ => error(cause),
            }),
            // Not atomic by itself: who writes so holds the advisory lock.
            PutCondition::IfUnchanged(version) => match fs::read(&path) {
                Ok(found) if version_of(&found) == *version => fs::rename(&beside, &path).map_err(error),
                Ok(_) => Err(not_met()),
                Err(cause) if cause.kind() == ErrorKind::NotFound => Err(not_met()),
                Err(cause) => Err(error(cause)),
            },
        });
        if placed.is_err() || *condition == PutCondition::IfAbsent {
            // What is left beside has no other name; if even that fails, it is an unrecognized file of our own.
            let _ = fs::remove_file(&beside);
        }
        placed?;
        Ok(version_of(bytes))
    }
}

fn version_of(bytes: &[u8]) -> ObjectVersion {
    ObjectVersion(Digest::of(Algorithm::Sha256, bytes).hex())
}

fn io_error(store: &str, action: &'static str, key: &str, error: io::Error) -> StoreError {
    let (store, key, detail) = (store.to_owned(), key.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::PermissionDenied => StoreError::Denied {
            store,
            action,
            key,
            detail,
        },
        _ => StoreError::Unavailable {
            store,
            action,
            key,
            detail,
            source: Some(error.into()),
        },
    }
}

#[async_trait]
impl Store for FilesystemStore {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn delete_batch_limit(&self) -> usize {
        DELETE_BATCH
    }

    fn rereads_are_cheap(&self) -> bool {
        kind::is_local(&self.root)
    }

    fn list(&self, range: ListRange) -> BoxStream<'_, Result<Vec<ListedObject>, StoreError>> {
        self.pages(
            move |store, send| match store.check_inside("list", &range.prefix) {
                Ok(()) => walk::list(&store, &range, send),
                Err(error) => {
                    send(Err(error));
                }
            },
        )
    }

    fn glance(&self, range: ListRange, wanted: Wanted) -> BoxStream<'_, Result<Vec<Glimpse>, StoreError>> {
        self.pages(
            move |store, send| match store.check_inside("list", &range.prefix) {
                Ok(()) => walk::glance(&store, &range, wanted, send),
                Err(error) => {
                    send(Err(error));
                }
            },
        )
    }

    async fn look_at(&self, keys: Vec<String>) -> Result<Vec<ListedObject>, StoreError> {
        self.blocking(move |store| walk::look_at(&store, &keys)).await
    }

    fn list_folder(&self, folder: &str) -> BoxStream<'_, Result<FolderPage, StoreError>> {
        let folder = folder.to_owned();
        self.pages(move |store, send| {
            let inside = store.check_inside("list", &folder);
            send(inside.and_then(|()| walk::read_folder(&store, &folder)));
        })
    }

    async fn get(&self, key: &str, offset: u64, limit: u64) -> Result<Object, StoreError> {
        self.requests.add(RequestKind::Get, 1);
        self.check_inside("read", key)?;
        // To hand it to a thread that may wait costs more than to read it.
        if let Some(object) = self.read_cached(key, offset, limit) {
            return Ok(object);
        }
        let key = key.to_owned();
        self.blocking(move |store| store.read(&key, offset, limit)).await
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        condition: PutCondition,
    ) -> Result<ObjectVersion, StoreError> {
        self.check_inside("write", key)?;
        let key = key.to_owned();
        self.blocking(move |store| store.write(&key, &bytes, &condition))
            .await
    }

    async fn delete(&self, batch: DeleteBatch) -> Vec<KeyOutcome> {
        let keys = batch.keys().len();
        let deleted = self
            .blocking(move |store| Ok(delete::delete(&store, &batch)))
            .await;
        deleted.unwrap_or_else(|error| vec![KeyOutcome::Unknown(error.to_string()); keys])
    }

    async fn copy(&self, from: &str, to: &str, _size: u64) -> Result<(), StoreError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.blocking(move |store| copy::copy(&store, &from, &to)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(clock::machine_now())
    }

    fn requests(&self) -> RequestCounts {
        self.requests.counts()
    }

    fn versioning(&self) -> Versioning {
        Versioning::NotSeen
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.blocking(|store| {
            let root = File::open(&store.root).map_err(|error| store.error("flush", "", error))?;
            rustix::fs::syncfs(root).map_err(|error| store.error("flush", "", error.into()))
        })
        .await
    }

    async fn lock_exclusively(&self, key: &str) -> Result<Option<ExclusiveLock>, StoreError> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let path = store.path(&key);
            let error = |error| store.error("lock", &key, error);
            fs::create_dir_all(path.parent().unwrap_or(&store.root)).map_err(error)?;
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(error)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(ExclusiveLock(file))),
                Err(TryLockError::WouldBlock) => Err(StoreError::ConditionNotMet {
                    store: store.identity.clone(),
                    key: key.clone(),
                }),
                Err(TryLockError::Error(cause)) => Err(error(cause)),
            }
        })
        .await
    }

    async fn remove_empty_repositories(&self) -> Result<u64, StoreError> {
        self.blocking(|store| empty_folders::remove_empty_repositories(&store))
            .await
    }
}
