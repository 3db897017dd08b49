//! Files of removals: the parts of a plan. Each is of bounded size, so that who reads one has no more in memory (R9).

use crate::removal::Removal;
use crate::state::{FileRef, StateError, StateStore};

/// Removals that one file holds.
const FILE_REMOVALS: usize = 10_000;

/// Writes removals to files, in their order.
#[derive(Debug)]
pub struct RemovalWriter {
    state: StateStore,
    key_prefix: String,
    removals: Vec<Removal>,
    files: Vec<FileRef>,
}

impl RemovalWriter {
    /// Makes a writer; the keys of its files are `<key_prefix>-<number>.jsonl`, counted from 0.
    #[must_use]
    pub fn new(state: StateStore, key_prefix: String) -> Self {
        Self {
            state,
            key_prefix,
            removals: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Takes a removal, and writes a file each time there are enough.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn push(&mut self, removal: Removal) -> Result<(), StateError> {
        self.removals.push(removal);
        if self.removals.len() < FILE_REMOVALS {
            return Ok(());
        }
        self.end_file().await
    }

    /// Writes the last file, and names them all.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn finish(mut self) -> Result<Vec<FileRef>, StateError> {
        if !self.removals.is_empty() {
            self.end_file().await?;
        }
        Ok(self.files)
    }

    async fn end_file(&mut self) -> Result<(), StateError> {
        let key = format!("{}-{}.jsonl", self.key_prefix, self.files.len());
        self.files
            .push(self.state.write_lines(&key, &self.removals).await?);
        self.removals.clear();
        Ok(())
    }
}
