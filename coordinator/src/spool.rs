//! A spool: records gathered by shard, in memory while they are few and on disk when they are many (R9).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::path::PathBuf;

use hardprune_common::segment::Record;
use hardprune_common::shard::Shard;
use tempfile::TempDir;

/// Bytes that one spool holds in memory before it writes to disk.
const MEMORY: usize = 24 << 20;

/// A spool that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("spool folder {folder:?}: {source}; give another one with --spool-dir")]
pub struct SpoolError {
    folder: PathBuf,
    source: io::Error,
}

impl SpoolError {
    pub(crate) fn new(folder: &std::path::Path, source: io::Error) -> Self {
        Self {
            folder: folder.to_owned(),
            source,
        }
    }
}

/// Records by shard.
#[derive(Debug)]
pub struct Spool {
    folder: TempDir,
    buffers: BTreeMap<Shard, Vec<u8>>,
    in_memory: usize,
    on_disk: BTreeMap<Shard, PathBuf>,
}

impl Spool {
    /// Makes an empty spool below a folder.
    ///
    /// # Errors
    ///
    /// A folder that cannot be written to.
    pub fn new(below: &std::path::Path) -> Result<Self, SpoolError> {
        let folder = tempfile::Builder::new()
            .prefix("hardprune-spool-")
            .tempdir_in(below)
            .map_err(|source| SpoolError::new(below, source))?;
        Ok(Self {
            folder,
            buffers: BTreeMap::new(),
            in_memory: 0,
            on_disk: BTreeMap::new(),
        })
    }

    /// Takes a record of a shard.
    ///
    /// # Errors
    ///
    /// A disk that is full, or gone.
    pub fn push<R: Record>(&mut self, shard: &Shard, record: &R) -> Result<(), SpoolError> {
        if !self.buffers.contains_key(shard) {
            self.buffers.insert(shard.clone(), Vec::new());
        }
        if let Some(buffer) = self.buffers.get_mut(shard) {
            let before = buffer.len();
            record.encode(buffer);
            self.in_memory += buffer.len() - before;
        }
        if self.in_memory > MEMORY {
            self.write_out()
        } else {
            Ok(())
        }
    }

    fn write_out(&mut self) -> Result<(), SpoolError> {
        self.in_memory = 0;
        for (shard, buffer) in mem::take(&mut self.buffers) {
            let path = self.folder.path().join(shard.to_string());
            let written = OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .and_then(|mut file| file.write_all(&buffer));
            written.map_err(|source| self.error(source))?;
            self.on_disk.insert(shard, path);
        }
        Ok(())
    }

    /// The shards that have records, ascending.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.buffers.keys().chain(self.on_disk.keys())
    }

    /// Takes all records of a shard out, sorted, each once.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or was damaged.
    pub fn take<R: Record>(&mut self, shard: &Shard) -> Result<Vec<R>, SpoolError> {
        let mut records = Vec::new();
        let mut decode = |mut bytes: &[u8]| {
            while !bytes.is_empty() {
                match R::decode(&mut bytes) {
                    Some(record) => records.push(record),
                    None => return Err(io::Error::other(format!("the file of shard {shard} was damaged"))),
                }
            }
            Ok(())
        };
        let from_disk = match self.on_disk.remove(shard) {
            Some(path) => fs::read(&path).and_then(|bytes| {
                decode(&bytes)?;
                fs::remove_file(&path)
            }),
            None => Ok(()),
        };
        let decoded = from_disk.and_then(|()| decode(&self.buffers.remove(shard).unwrap_or_default()));
        decoded.map_err(|source| self.error(source))?;
        records.sort_unstable();
        records.dedup();
        Ok(records)
    }

    fn error(&self, source: io::Error) -> SpoolError {
        SpoolError::new(self.folder.path(), source)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hardprune_common::digest::{Algorithm, Digest};
    use hardprune_common::shard::ShardDigits;

    use super::*;

    #[test]
    fn records_come_back_whether_they_went_to_disk_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let digits = ShardDigits::for_blobs(0);
        let mut spool = Spool::new(folder.path()).unwrap();
        let digests: Vec<_> = (0..2_000u32)
            .map(|number| Digest::of(Algorithm::Sha256, &number.to_le_bytes()))
            .collect();
        for (number, digest) in digests.iter().chain(&digests).enumerate() {
            spool.push(&digits.shard_of(digest), digest).unwrap();
            if number == 2_500 {
                spool.write_out().unwrap();
            }
        }
        let shards: BTreeSet<Shard> = spool.shards().cloned().collect();
        let mut found = Vec::new();
        for shard in &shards {
            let records: Vec<Digest> = spool.take(shard).unwrap();
            assert!(records.iter().all(|digest| shard.contains(digest)));
            found.extend(records);
        }
        let expected: Vec<_> = digests.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        assert_eq!(found, expected);
    }
}
