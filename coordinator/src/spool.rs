//! A spool: records gathered by shard, in memory while they are few and on disk when they are many (R9).
//!
//! Several are filled one after another before any is taken out: one that waits keeps little in memory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::path::PathBuf;

use hardprune_common::segment::Record;
use hardprune_common::shard::Shard;
use tempfile::TempDir;

/// Bytes that one spool holds in memory before it writes to disk. Each time it opens a file for every shard, of which there may be
/// some thousands: less would cost more time than it is worth.
const MEMORY: usize = 16 << 20;
/// Bytes that one keeps in memory when it is full: what small registries have needs no disk.
const MEMORY_AT_REST: usize = 4 << 20;
/// Bytes that are read at once.
const READ: usize = 256 << 10;

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
            let before = buffer.capacity();
            record.encode(buffer);
            self.in_memory += buffer.capacity() - before;
        }
        if self.in_memory > MEMORY {
            self.write_out()
        } else {
            Ok(())
        }
    }

    /// Lets go of memory: nothing, or little, is pushed any more before records are taken.
    ///
    /// # Errors
    ///
    /// A disk that is full, or gone.
    pub fn rest(&mut self) -> Result<(), SpoolError> {
        if self.in_memory > MEMORY_AT_REST {
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
        self.take_where(shard, |_| true)
    }

    /// The same of those records alone that are wanted: the others take no memory.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub fn take_where<R: Record>(
        &mut self,
        shard: &Shard,
        is_wanted: impl Fn(&R) -> bool,
    ) -> Result<Vec<R>, SpoolError> {
        let mut records = Vec::new();
        let mut take = |record| {
            if is_wanted(&record) {
                records.push(record);
            }
        };
        let taken = match self.on_disk.remove(shard) {
            Some(path) => File::open(&path)
                .and_then(|file| decode_all(file, &mut take))
                .and_then(|()| fs::remove_file(&path)),
            None => Ok(()),
        };
        let buffer = self.buffers.remove(shard).unwrap_or_default();
        self.in_memory -= buffer.capacity();
        taken
            .and_then(|()| decode_all(buffer.as_slice(), &mut take))
            .map_err(|source| self.error(source))?;
        records.sort_unstable();
        records.dedup();
        Ok(records)
    }

    fn error(&self, source: io::Error) -> SpoolError {
        SpoolError::new(self.folder.path(), source)
    }
}

/// Decodes records, of which few bytes are in memory at once.
fn decode_all<R: Record>(mut from: impl Read, mut take: impl FnMut(R)) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let is_end = from.by_ref().take(READ as u64).read_to_end(&mut bytes)? == 0;
        let mut rest = bytes.as_slice();
        let mut ahead = rest;
        while let Some(record) = R::decode(&mut ahead) {
            take(record);
            rest = ahead;
        }
        let left = rest.len();
        match (is_end, left) {
            (true, 0) => return Ok(()),
            (true, _) => return Err(io::Error::other("a record in it was damaged")),
            // A record goes on behind these bytes.
            (false, _) => drop(bytes.drain(..bytes.len() - left)),
        }
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
        spool.rest().unwrap();
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

    #[test]
    fn only_wanted_records_are_taken_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let digits = ShardDigits::for_blobs(0);
        let mut spool = Spool::new(folder.path()).unwrap();
        let digest_of = |number: u32| {
            let mut hash = [0; 32];
            hash[28..].copy_from_slice(&number.to_be_bytes());
            Digest::from_hash(Algorithm::Sha256, &hash).unwrap()
        };
        let digest = digest_of(u32::MAX);
        let shard = digits.shard_of(&digest);
        let in_shard = (0..30_000).map(digest_of);
        for digest in in_shard.chain([digest]) {
            spool.push(&shard, &digest).unwrap();
        }
        spool.write_out().unwrap();
        assert!(fs::metadata(&spool.on_disk[&shard]).unwrap().len() > 3 * READ as u64);
        assert_eq!(
            spool
                .take_where(&shard, |found: &Digest| *found == digest)
                .unwrap(),
            [digest]
        );
        assert!(spool.take::<Digest>(&shard).unwrap().is_empty());

        spool.push(&shard, &digest).unwrap();
        spool.write_out().unwrap();
        let file = OpenOptions::new()
            .append(true)
            .open(&spool.on_disk[&shard])
            .unwrap();
        (&file).write_all(&[1, 2, 3]).unwrap();
        assert!(spool.take::<Digest>(&shard).is_err());
    }
}
