//! Files of removals: the parts of a plan. Each is of bounded size, so that who reads one has no more in memory (R9).

use std::mem;

use crate::removal::Removal;
use crate::state::{FileRef, StateError, StateStore, push_line};

/// Removals that one file holds: whole batches of what stores delete at once.
const FILE_REMOVALS: u64 = 5_000;

/// Writes removals to files, in their order.
#[derive(Debug)]
pub struct RemovalWriter {
    state: StateStore,
    key_prefix: String,
    /// As they stand in the file.
    lines: Vec<u8>,
    removals: u64,
    files: Vec<FileRef>,
}

impl RemovalWriter {
    /// Makes a writer; the keys of its files are `<key_prefix>-<number>.jsonl`, counted from 0.
    #[must_use]
    pub fn new(state: StateStore, key_prefix: String) -> Self {
        Self {
            state,
            key_prefix,
            lines: Vec::new(),
            removals: 0,
            files: Vec::new(),
        }
    }

    /// Takes a removal, and writes a file each time there are enough.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn push(&mut self, removal: Removal) -> Result<(), StateError> {
        push_line(&mut self.lines, &self.key_prefix, &removal)?;
        self.removals += 1;
        if self.removals < FILE_REMOVALS {
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
        if self.removals > 0 {
            self.end_file().await?;
        }
        Ok(self.files)
    }

    async fn end_file(&mut self) -> Result<(), StateError> {
        let key = format!("{}-{}.jsonl", self.key_prefix, self.files.len());
        let (lines, removals) = (mem::take(&mut self.lines), mem::take(&mut self.removals));
        self.files
            .push(self.state.write(&key, lines.into(), removals).await?);
        Ok(())
    }
}
