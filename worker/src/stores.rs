//! The stores that a worker was started with. Tasks name stores and never describe them: one that is not here is not touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hardprune_common::nats::{Stores, Touchable};
use hardprune_common::store::StoreError;
use hardprune_common::store::location::{Environment, OpenOptions, Settings, StorageLocation};
use serde::Deserialize;

/// Why the stores cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoresError {
    /// None was named.
    #[error(
        "which stores may this worker touch? Name each with --store URL, or all in a file with --stores FILE"
    )]
    None,
    /// The file of stores cannot be used.
    #[error("{path:?}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file of stores.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoresFile {
    stores: Vec<StoreEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreEntry {
    url: String,
    #[serde(default)]
    settings: BTreeMap<String, String>,
}

/// The stores that a worker was started with, by their identities.
#[derive(Debug)]
pub struct WorkerStores(BTreeMap<String, Arc<Touchable>>);

impl WorkerStores {
    /// Opens stores named on the command line, and those of a file.
    ///
    /// # Errors
    ///
    /// None at all, a file that cannot be read, a store that cannot be opened.
    pub fn open(urls: &[String], file: Option<&Path>, options: &OpenOptions) -> Result<Self, StoresError> {
        let mut locations = Vec::new();
        for url in urls {
            locations.push(StorageLocation::parse(url)?);
        }
        if let Some(path) = file {
            for entry in read(path)?.stores {
                let settings = entry.settings.iter();
                let settings: Settings = settings
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                locations.push(StorageLocation::parse_in(
                    &entry.url,
                    settings,
                    Environment::of_process(),
                )?);
            }
        }
        if locations.is_empty() {
            return Err(StoresError::None);
        }
        let mut stores = BTreeMap::new();
        for location in locations {
            let store = location.open(options)?;
            stores.insert(store.identity().to_owned(), Arc::new(Touchable::new(store)));
        }
        Ok(Self(stores))
    }

    /// The stores.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Touchable>> {
        self.0.values()
    }
}

impl Stores for WorkerStores {
    fn find(&self, identity: &str) -> Option<Arc<Touchable>> {
        self.0.get(identity).cloned()
    }
}

fn read(path: &Path) -> Result<StoresFile, StoresError> {
    let failed = |problem: String| StoresError::File {
        path: path.to_owned(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    // What is wrong is said without what stands there: it may be a secret.
    serde_saphyr::from_str(&text).map_err(|error| {
        let place = error
            .location()
            .map_or_else(String::new, |place| format!(" near line {}", place.line()));
        failed(format!(
            "it is no list of stores{place}; write `stores:` and for each `- url: s3://bucket/prefix` with `settings:` as needed"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<WorkerStores, StoresError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stores.yaml");
        std::fs::write(&file, text.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        WorkerStores::open(&[], Some(&file), &OpenOptions::default())
    }

    #[test]
    fn a_file_names_stores_with_their_settings() {
        let stores = open(
            "stores:\n- url: FOLDER\n- url: s3://bucket/prefix\n  settings:\n    endpoint: http://127.0.0.1:9000\n    access_key_id: me\n    secret_access_key: hunter2\n",
        )
        .unwrap();
        assert!(
            stores
                .find("s3://bucket/prefix at http://127.0.0.1:9000")
                .is_some()
        );
        assert_eq!(stores.iter().count(), 2);
        assert!(
            stores
                .find("s3://bucket/other at http://127.0.0.1:9000")
                .is_none()
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_secrets() {
        for text in [
            "stores:\n- url: s3://bucket\n  settings: [hunter2]\n",
            "stores:\n- url: s3://bucket\n  setings: {secret_access_key: hunter2}\n",
            "hunter2",
            "stores: []",
            "stores:\n- url: s3://bucket\n  settings: {no_such_thing: hunter2}\n",
        ] {
            let error = open(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
