//! A storage in memory, for tests that make many registries and need no server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::Storage;

/// Objects in memory, with the times that they were given.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, (Vec<u8>, SystemTime)>>,
}

impl Memory {
    /// When an object was last modified.
    pub fn modified(&self, key: &str) -> Option<SystemTime> {
        self.objects().get(key).map(|(_, modified)| *modified)
    }

    /// No operation on a map leaves it half done, so a panic elsewhere does not matter here.
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, (Vec<u8>, SystemTime)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Memory {
    fn put(&self, key: &str, bytes: &[u8], modified: SystemTime) -> Result<()> {
        self.objects().insert(key.to_string(), (bytes.to_vec(), modified));
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.objects()
            .remove(key)
            .map(|_| ())
            .with_context(|| format!("removing {key}: it is not there"))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.objects().get(key).map(|(bytes, _)| bytes.clone()))
    }

    fn keys(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self
            .objects()
            .iter()
            .map(|(key, (bytes, _))| (key.clone(), bytes.len() as u64))
            .collect())
    }
}
