//! The state store: where a run keeps its segments, filters, plans, journals and reports.
//!
//! A file is named by its key and its sha256, and read only if both fit (R2). Everything lies under `hardprune/`,
//! so the state may stand in the registry's own storage, beside `docker/`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, Digest};
use crate::run::{Epoch, RunId};
use crate::store::{DeleteBatch, KeyOutcome, ListRange, OWN_FOLDER, PutCondition, Store, StoreError};

/// No state file is larger: what could be is written in parts.
const LARGEST_FILE: u64 = 1 << 30;
const HOUSEKEEPING_TIMEOUT: Duration = Duration::from_secs(60);

/// A file in the state store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Its key.
    pub key: String,
    /// The sha256 of its bytes.
    pub sha256: Digest,
    /// Its bytes.
    pub size: u64,
    /// Records, lines or digests in it.
    pub items: u64,
}

/// What can go wrong with the state store.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The store failed.
    #[error("state store: {0}")]
    Store(#[from] StoreError),
    /// A file is not the one that was written.
    #[error("state store: {key:?} has changed: its sha256 is {found}, not {wanted}")]
    Changed {
        /// The file's key.
        key: String,
        /// What it is.
        found: Digest,
        /// What it was.
        wanted: Digest,
    },
    /// A file is not of the form that its place asks for.
    #[error("state store: {key:?} cannot be read: {problem}")]
    Format {
        /// The file's key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The folder of a run.
#[must_use]
pub fn run_folder(run: RunId) -> String {
    format!("{OWN_FOLDER}runs/{run}/")
}

/// The folder of one epoch of a run.
#[must_use]
pub fn epoch_folder(epoch: &Epoch) -> String {
    format!("{}{}/", run_folder(epoch.run), epoch.number)
}

/// A store, used for state.
#[derive(Debug, Clone)]
pub struct StateStore {
    store: Arc<dyn Store>,
}

impl StateStore {
    /// Uses a store for state.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store's name, without secrets.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.store.identity()
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn write(&self, key: &str, bytes: Bytes, items: u64) -> Result<FileRef, StateError> {
        let sha256 = Digest::of(Algorithm::Sha256, &bytes);
        let size = bytes.len() as u64;
        self.store.put(key, bytes, PutCondition::Always).await?;
        Ok(FileRef {
            key: key.to_owned(),
            sha256,
            size,
            items,
        })
    }

    /// Makes what was written so far outlast a power failure.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn flush(&self) -> Result<(), StateError> {
        Ok(self.store.flush().await?)
    }

    /// Reads a file and checks that it is the one named.
    ///
    /// # Errors
    ///
    /// [`StateError::Changed`], and the store's.
    pub async fn read(&self, file: &FileRef) -> Result<Bytes, StateError> {
        let bytes = self.store.get(&file.key, 0, LARGEST_FILE).await?.bytes;
        let found = Digest::of(Algorithm::Sha256, &bytes);
        if found != file.sha256 {
            return Err(StateError::Changed {
                key: file.key.clone(),
                found,
                wanted: file.sha256,
            });
        }
        Ok(bytes)
    }

    /// Names a file by what it is now.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn name(&self, key: &str) -> Result<FileRef, StateError> {
        let bytes = self.store.get(key, 0, LARGEST_FILE).await?.bytes;
        Ok(FileRef {
            key: key.to_owned(),
            sha256: Digest::of(Algorithm::Sha256, &bytes),
            size: bytes.len() as u64,
            items: 1,
        })
    }

    /// Writes a value as one JSON document.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn write_json<T: Serialize + Sync>(&self, key: &str, value: &T) -> Result<FileRef, StateError> {
        self.write(key, json_of(key, value)?.into(), 1).await
    }

    /// Writes a value as a JSON document, unless there is one with this key. Returns whether it was written.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn write_json_once<T: Serialize + Sync>(
        &self,
        key: &str,
        value: &T,
    ) -> Result<bool, StateError> {
        match self
            .store
            .put(key, json_of(key, value)?.into(), PutCondition::IfAbsent)
            .await
        {
            Ok(_) => Ok(true),
            Err(StoreError::ConditionNotMet { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a JSON document that is named by its key alone.
    ///
    /// # Errors
    ///
    /// A document of another form, and the store's.
    pub async fn read_json<T: DeserializeOwned>(&self, key: &str) -> Result<T, StateError> {
        let bytes = self.store.get(key, 0, LARGEST_FILE).await?.bytes;
        parse_json(key, &bytes)
    }

    /// Reads the JSON document with this key and sha256.
    ///
    /// # Errors
    ///
    /// [`StateError::Changed`], a document of another form, and the store's.
    pub async fn read_sealed<T: DeserializeOwned>(&self, key: &str, sha256: Digest) -> Result<T, StateError> {
        let file = FileRef {
            key: key.to_owned(),
            sha256,
            size: 0,
            items: 1,
        };
        parse_json(key, &self.read(&file).await?)
    }

    /// Writes values as JSON lines.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn write_lines<T: Serialize + Sync>(
        &self,
        key: &str,
        values: &[T],
    ) -> Result<FileRef, StateError> {
        let mut bytes = Vec::new();
        for value in values {
            push_line(&mut bytes, key, value)?;
        }
        self.write(key, bytes.into(), values.len() as u64).await
    }

    /// Reads JSON lines.
    ///
    /// # Errors
    ///
    /// Lines of another form or number, and those of [`StateStore::read`].
    pub async fn read_lines<T: DeserializeOwned>(&self, file: &FileRef) -> Result<Vec<T>, StateError> {
        let bytes = self.read(file).await?;
        let values = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| parse_json(&file.key, line))
            .collect::<Result<Vec<T>, _>>()?;
        if values.len() as u64 != file.items {
            let problem = format!("it has {} lines, not {}", values.len(), file.items);
            return Err(StateError::Format {
                key: file.key.clone(),
                problem,
            });
        }
        Ok(values)
    }

    /// Names the files under a folder, ascending.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, StateError> {
        let mut keys = Vec::new();
        let mut pages = self.store.list(ListRange::prefix(folder));
        while let Some(page) = pages.try_next().await? {
            keys.extend(page.into_iter().map(|object| object.key));
        }
        Ok(keys)
    }

    /// Names the folders directly under a folder, ascending, each without the folder before and the `/` behind it.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn list_folders(&self, folder: &str) -> Result<Vec<String>, StateError> {
        let mut names = Vec::new();
        let mut pages = self.store.list_folder(folder);
        while let Some(page) = pages.try_next().await? {
            let name = |key: &String| Some(key.strip_prefix(folder)?.trim_end_matches('/').to_owned());
            names.extend(page.folders.iter().filter_map(name));
        }
        Ok(names)
    }

    /// Removes files of hardprune's own.
    ///
    /// # Errors
    ///
    /// The first file that could not be removed, or is none of hardprune's.
    pub async fn remove(&self, keys: Vec<String>) -> Result<(), StateError> {
        for keys in keys.chunks(self.store.delete_batch_limit()) {
            let batch = DeleteBatch::own_files(keys.to_vec(), HOUSEKEEPING_TIMEOUT).map_err(|error| {
                StateError::Format {
                    key: keys[0].clone(),
                    problem: error.to_string(),
                }
            })?;
            let outcomes = self.store.delete(batch).await;
            let failed = keys
                .iter()
                .zip(outcomes)
                .find(|(_, outcome)| *outcome != KeyOutcome::Deleted);
            if let Some((key, outcome)) = failed {
                let problem = format!("it could not be removed: {outcome:?}");
                return Err(StateError::Format {
                    key: key.clone(),
                    problem,
                });
            }
        }
        Ok(())
    }
}

fn json_of<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec_pretty(value).map_err(|error| StateError::Format {
        key: key.to_owned(),
        problem: error.to_string(),
    })
}

/// Appends a value as a JSON line of the file with this key.
pub(crate) fn push_line<T: Serialize>(to: &mut Vec<u8>, key: &str, value: &T) -> Result<(), StateError> {
    serde_json::to_writer(&mut *to, value).map_err(|error| StateError::Format {
        key: key.to_owned(),
        problem: error.to_string(),
    })?;
    to.push(b'\n');
    Ok(())
}

fn parse_json<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|error| StateError::Format {
        key: key.to_owned(),
        problem: error.to_string(),
    })
}
