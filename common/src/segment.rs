//! Segments: what a mark task found, as files of records sorted by digest.
//!
//! A task's records go through a buffer of bounded size (R9): each time it is full it is sorted and becomes one file
//! in the state store. So the segments of one kind are each sorted, but not among each other.
//!
//! File: 4 bytes that name the kind, then the records one after another.

use std::mem;

use jiff::Timestamp;

use crate::digest::{Algorithm, Digest};
use crate::state::{FileRef, StateError, StateStore};

/// A segment's file is not much larger than this, and so is a writer's memory.
const SEGMENT_BYTES: usize = 1 << 19;

/// Something that segments hold.
pub trait Record: Ord + Sized + Send {
    /// The first bytes of a segment's file.
    const MAGIC: [u8; 4];
    /// The last part of a segment's key.
    const EXTENSION: &'static str;

    /// Appends the record's bytes.
    fn encode(&self, to: &mut Vec<u8>);

    /// Takes one record off the front. `None` where the bytes are not one.
    fn decode(from: &mut &[u8]) -> Option<Self>;

    /// What it occupies in memory, about, in bytes.
    fn weight(&self) -> usize {
        mem::size_of::<Self>()
    }
}

pub(crate) fn encode_digest(digest: &Digest, to: &mut Vec<u8>) {
    to.push(match digest.algorithm() {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    });
    to.extend_from_slice(digest.hash());
}

pub(crate) fn decode_digest(from: &mut &[u8]) -> Option<Digest> {
    let (kind, rest) = from.split_first()?;
    let algorithm = match kind {
        1 => Algorithm::Sha256,
        2 => Algorithm::Sha512,
        _ => return None,
    };
    let (hash, rest) = rest.split_at_checked(algorithm.hash_len())?;
    *from = rest;
    Digest::from_hash(algorithm, hash)
}

/// A reference: a digest that a live manifest needs, or the manifest itself.
impl Record for Digest {
    const MAGIC: [u8; 4] = *b"HPR1";
    const EXTENSION: &'static str = "references";

    fn encode(&self, to: &mut Vec<u8>) {
        encode_digest(self, to);
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        decode_digest(from)
    }
}

/// A layer link, as marking saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerLink {
    /// What it names.
    pub digest: Digest,
    /// The repository it stands in.
    pub repository: String,
    /// Whether it may be deleted if nothing references its digest: its key was exact (R3).
    pub deletable: bool,
    /// As the listing said.
    pub last_modified: Timestamp,
}

impl Record for LayerLink {
    const MAGIC: [u8; 4] = *b"HPL2";
    const EXTENSION: &'static str = "links";

    fn encode(&self, to: &mut Vec<u8>) {
        encode_digest(&self.digest, to);
        to.push(u8::from(self.deletable));
        to.extend_from_slice(&self.last_modified.as_second().to_le_bytes());
        to.extend_from_slice(&self.last_modified.subsec_nanosecond().to_le_bytes());
        encode_name(&self.repository, to);
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        let digest = decode_digest(from)?;
        let (deletable, rest) = from.split_first()?;
        let (seconds, rest) = rest.split_first_chunk::<8>()?;
        let (nanoseconds, rest) = rest.split_first_chunk::<4>()?;
        let last_modified =
            Timestamp::new(i64::from_le_bytes(*seconds), i32::from_le_bytes(*nanoseconds)).ok()?;
        *from = rest;
        Some(Self {
            digest,
            repository: decode_name(from)?,
            deletable: *deletable == 1,
            last_modified,
        })
    }

    fn weight(&self) -> usize {
        mem::size_of::<Self>() + self.repository.capacity()
    }
}

/// A repository that a cluster knows, and one of the revisions that it names there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterRevision {
    /// The repository.
    pub repository: String,
    /// The manifest. `None`: that the repository is known says nothing of any.
    pub manifest: Option<Digest>,
}

impl Record for ClusterRevision {
    const MAGIC: [u8; 4] = *b"HPC1";
    const EXTENSION: &'static str = "cluster";

    fn encode(&self, to: &mut Vec<u8>) {
        encode_name(&self.repository, to);
        match &self.manifest {
            None => to.push(0),
            Some(digest) => encode_digest(digest, to),
        }
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        let repository = decode_name(from)?;
        let manifest = match from.strip_prefix(&[0]) {
            Some(rest) => {
                *from = rest;
                None
            }
            None => Some(decode_digest(from)?),
        };
        Some(Self { repository, manifest })
    }

    fn weight(&self) -> usize {
        mem::size_of::<Self>() + self.repository.capacity()
    }
}

/// Appends a name: its length, then its bytes.
pub fn encode_name(name: &str, to: &mut Vec<u8>) {
    // Stores' keys are far shorter than 64 KiB (S3: 1 KiB; Linux paths: 4 KiB).
    let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
    to.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    to.extend_from_slice(name);
}

/// Takes a name off the front. `None` where the bytes are not one.
pub fn decode_name(from: &mut &[u8]) -> Option<String> {
    let (length, rest) = from.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *from = rest;
    String::from_utf8(name.to_vec()).ok()
}

/// Collects records and writes them as segments.
#[derive(Debug)]
pub struct SegmentWriter<R> {
    state: StateStore,
    key_prefix: String,
    /// In the order of their coming, some of them more than once.
    records: Vec<R>,
    weight: usize,
    written: Vec<FileRef>,
}

impl<R: Record> SegmentWriter<R> {
    /// Makes a writer whose files get keys that begin with `key_prefix`.
    #[must_use]
    pub fn new(state: StateStore, key_prefix: String) -> Self {
        Self {
            state,
            key_prefix,
            records: Vec::new(),
            weight: 0,
            written: Vec::new(),
        }
    }

    /// Takes a record; one that is there already counts once.
    ///
    /// # Errors
    ///
    /// A full buffer that could not be written.
    pub async fn push(&mut self, record: R) -> Result<(), StateError> {
        self.weight += record.weight();
        self.records.push(record);
        if self.weight >= SEGMENT_BYTES {
            self.sort();
            // What is mostly repeated is gathered further: so a sort has half a buffer of new records at least.
            if self.weight >= SEGMENT_BYTES / 2 {
                self.write_segment().await?;
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.records.sort_unstable();
        self.records.dedup();
        self.weight = self.records.iter().map(Record::weight).sum();
    }

    /// Writes what is left and names all files.
    ///
    /// # Errors
    ///
    /// The last segment could not be written.
    pub async fn finish(mut self) -> Result<Vec<FileRef>, StateError> {
        if !self.records.is_empty() {
            self.sort();
            self.write_segment().await?;
        }
        Ok(self.written)
    }

    /// Writes the records, which are sorted.
    async fn write_segment(&mut self) -> Result<(), StateError> {
        let key = format!("{}-{}.{}", self.key_prefix, self.written.len(), R::EXTENSION);
        let bytes = encode_segment(self.records.iter());
        let items = self.records.len() as u64;
        self.records.clear();
        self.weight = 0;
        self.written
            .push(self.state.write(&key, bytes.into(), items).await?);
        Ok(())
    }
}

/// The bytes of a segment of records, which are ascending and each once.
pub fn encode_segment<'r, R: Record + 'r>(records: impl Iterator<Item = &'r R>) -> Vec<u8> {
    let mut bytes = R::MAGIC.to_vec();
    records.for_each(|record| record.encode(&mut bytes));
    bytes
}

/// Reads a segment whole, checked against its hash, its number of records and its order.
///
/// # Errors
///
/// A file that cannot be read or is not what `file` says.
pub async fn read_segment<R: Record + Clone>(
    state: &StateStore,
    file: &FileRef,
) -> Result<Vec<R>, StateError> {
    let bytes = state.read(file).await?;
    let mut records = Vec::new();
    for_each_record(&bytes, file, |record: &R| {
        records.push(record.clone());
        Ok::<_, StateError>(())
    })?;
    Ok(records)
}

/// Hands on the records of a segment, one after another, checked as [`read_segment`] does. `bytes` are those of the file, checked against
/// its hash; what is handed on before an error is part of a segment that is none.
///
/// # Errors
///
/// Bytes that are not what `file` says, and those of `take`.
pub fn for_each_record<R: Record, E: From<StateError>>(
    bytes: &[u8],
    file: &FileRef,
    mut take: impl FnMut(&R) -> Result<(), E>,
) -> Result<(), E> {
    let bad = || {
        E::from(StateError::Format {
            key: file.key.clone(),
            problem: format!(
                "it is no segment of {} {} in ascending order",
                file.items,
                R::EXTENSION
            ),
        })
    };
    let mut rest = bytes.strip_prefix(&R::MAGIC).ok_or_else(bad)?;
    let (mut last, mut items) = (None, 0);
    while !rest.is_empty() {
        let record = R::decode(&mut rest).ok_or_else(bad)?;
        if last.is_some_and(|last| last >= record) {
            return Err(bad());
        }
        take(&record)?;
        items += 1;
        last = Some(record);
    }
    if items == file.items { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::store::filesystem::FilesystemStore;

    fn file_of(items: u64) -> FileRef {
        FileRef {
            key: "hardprune/test".to_owned(),
            sha256: Digest::of(Algorithm::Sha256, b""),
            size: 0,
            items,
        }
    }

    /// The records of a segment. `None`: it is none.
    fn decode_segment<R: Record + Clone>(bytes: &[u8], items: u64) -> Option<Vec<R>> {
        let mut records = Vec::new();
        let decoded = for_each_record(bytes, &file_of(items), |record: &R| {
            records.push(record.clone());
            Ok::<_, StateError>(())
        });
        decoded.is_ok().then_some(records)
    }

    proptest! {
        #[test]
        fn a_clusters_revisions_round_trip(
            names in prop::collection::btree_set(("[a-z/]{0,30}", any::<Option<u8>>()), 0..50)
        ) {
            let revisions: BTreeSet<_> = names
                .into_iter()
                .map(|(repository, manifest)| ClusterRevision {
                    repository,
                    manifest: manifest.map(|byte| Digest::of(Algorithm::Sha256, &[byte])),
                })
                .collect();
            let bytes = encode_segment(revisions.iter());
            let decoded = decode_segment::<ClusterRevision>(&bytes, revisions.len() as u64).unwrap();
            prop_assert!(decoded.iter().eq(revisions.iter()));
        }

        #[test]
        fn layer_links_round_trip(
            names in prop::collection::btree_set(("[a-z/]{1,30}", any::<bool>(), any::<bool>(), any::<u32>()), 0..50)
        ) {
            let links: BTreeSet<_> = names
                .into_iter()
                .map(|(repository, deletable, long, time)| LayerLink {
                    last_modified: Timestamp::new(i64::from(time) - 1_000_000, 999_999_999).unwrap(),
                    digest: Digest::of(
                        if long { Algorithm::Sha512 } else { Algorithm::Sha256 },
                        repository.as_bytes(),
                    ),
                    repository,
                    deletable,
                })
                .collect();
            let mut bytes = LayerLink::MAGIC.to_vec();
            links.iter().for_each(|link| link.encode(&mut bytes));
            let decoded = decode_segment::<LayerLink>(&bytes, links.len() as u64).unwrap();
            prop_assert_eq!(decoded, links.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_decode_or_fail_without_a_panic(bytes: Vec<u8>, items in 0u64..10) {
            let mut file = LayerLink::MAGIC.to_vec();
            file.extend(bytes);
            let _ = decode_segment::<LayerLink>(&file, items);
            let _ = decode_segment::<Digest>(&file, items);
        }
    }

    #[tokio::test]
    async fn records_that_come_again_and_again_take_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateStore::new(Arc::new(FilesystemStore::open(folder.path()).unwrap()));
        let mut writer = SegmentWriter::new(state.clone(), "hardprune/test".to_owned());
        let digest = |number: u32| Digest::of(Algorithm::Sha256, &number.to_le_bytes());
        for number in 0..60_000 {
            writer.push(digest(number % 100)).await.unwrap();
        }
        let files = writer.finish().await.unwrap();
        assert_eq!(files.iter().map(|file| file.items).collect::<Vec<_>>(), [100]);
        let read: BTreeSet<Digest> = read_segment(&state, &files[0])
            .await
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(read, (0..100).map(digest).collect());
    }

    #[test]
    fn a_segment_out_of_order_is_refused() {
        let digests = [
            Digest::of(Algorithm::Sha256, b"1"),
            Digest::of(Algorithm::Sha256, b"2"),
        ];
        let mut sorted = digests.to_vec();
        sorted.sort();
        let bytes = encode_segment(sorted.iter());
        let mut found = Vec::new();
        let mut take = |digest: &Digest| {
            found.push(*digest);
            Ok::<_, StateError>(())
        };
        for_each_record(&bytes, &file_of(2), &mut take).unwrap();
        assert!(for_each_record(&bytes, &file_of(3), &mut take).is_err());
        assert_eq!(found[..2], sorted);
        for order in [[sorted[1], sorted[0]], [sorted[0], sorted[0]]] {
            let mut bytes = Digest::MAGIC.to_vec();
            order.iter().for_each(|digest| digest.encode(&mut bytes));
            assert_eq!(decode_segment::<Digest>(&bytes, 2), None);
            assert!(for_each_record(&bytes, &file_of(2), |_: &Digest| Ok::<_, StateError>(())).is_err());
        }
    }
}
