//! The server's content as a [`Storage`], past its HTTP front.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Result, bail};
use jiff::Timestamp;

use super::S3Server;
use crate::storage_writer::Storage;

impl Storage for S3Server {
    fn put(&self, key: &str, bytes: &[u8], modified: SystemTime) -> Result<()> {
        Self::put(self, key, bytes.to_vec(), Some(Timestamp::try_from(modified)?));
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<()> {
        if Self::remove(self, key) {
            Ok(())
        } else {
            bail!("there is no object {key:?}")
        }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(Self::get(self, key).map(|bytes| bytes.to_vec()))
    }

    fn keys(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self
            .inventory()
            .into_iter()
            .map(|(key, (size, _))| (key, size))
            .collect())
    }
}
