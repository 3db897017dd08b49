//! The mark cache: bytes of manifests that an earlier run read, kept in the state store (decision 0017).
//!
//! What is kept is the bytes, not what they were understood to say: who uses them checks them against the digest again, so
//! that nothing that is written here can make a run forget a reference (R1). A block is a bounded number of manifests of
//! one range, compressed, ascending by place (R9).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::mem;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, Digest};
use crate::layout::{RepositoryEntry, parse_repository_key, repository_key};
use crate::run::Epoch;
use crate::segment::{Record, decode_digest, encode_digest};
use crate::state::{FileRef, StateError, StateStore};
use crate::store::OWN_FOLDER;

/// The bytes of a block before it is compressed, about.
const BLOCK_BYTES: usize = 512 << 10;
/// Larger manifests are read each time. Nearly all are a hundred times smaller.
const LARGEST_CACHED: usize = 256 << 10;
/// No block is larger: it has one manifest too many, and what names them.
const LARGEST_BLOCK: u64 = 2 << 20;
const MAGIC: [u8; 4] = *b"HPC1";

/// The folder of a registry's mark cache, by the identity of the registry's storage.
#[must_use]
pub fn cache_folder(registry: &str) -> String {
    let name = Digest::of(Algorithm::Sha256, registry.as_bytes()).hex();
    format!("{OWN_FOLDER}mark-cache/{name}/")
}

/// The folder of what one epoch writes to a registry's mark cache.
#[must_use]
pub fn cache_epoch_folder(registry: &str, epoch: &Epoch) -> String {
    format!("{}{}-{}/", cache_folder(registry), epoch.run, epoch.number)
}

/// Where a repository's manifest stands in the order of a listing: the key of its revision link, whether there is one or not.
#[must_use]
pub fn place_of(repository: &str, digest: &Digest) -> String {
    repository_key(repository, &RepositoryEntry::RevisionLink(*digest))
}

/// A block of cached manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheBlock {
    /// Its file; its items are the manifests in it.
    pub file: FileRef,
    /// The place of the first one.
    pub first: String,
    /// The place of the last one.
    pub last: String,
}

/// What a mark task has of earlier runs, and what it must know to hand something on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheWork {
    /// What was written before then, by the store's clock (R4), was not written in this epoch, so that it is what is read in it.
    pub unchanged_since: Timestamp,
    /// Lists of blocks, some of which may have manifests of the range: as JSON lines.
    pub blocks: Vec<FileRef>,
    /// Manifests that must be read, whatever the blocks have: segments of their digests.
    pub excluded: Vec<FileRef>,
}

/// A manifest of a mark task whose bytes are those of its digest: what a listing must say of its blob if it is to be so still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// When it was what it is, by the store's clock, in microseconds since 1970. What was written before then is that.
    pub verified: i64,
    /// Whether its bytes came from the cache, and nobody has looked at the blob.
    pub cached: bool,
}

impl SeenManifest {
    /// Whether a listed blob of this digest is the one that was read.
    #[must_use]
    pub fn is(&self, size: u64, last_modified: Timestamp) -> bool {
        self.size == size && last_modified.as_microsecond() < self.verified
    }

    fn as_tuple(&self) -> (Digest, u64, i64, bool) {
        (self.digest, self.size, self.verified, self.cached)
    }
}

impl Ord for SeenManifest {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_tuple().cmp(&other.as_tuple())
    }
}

impl PartialOrd for SeenManifest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Record for SeenManifest {
    const MAGIC: [u8; 4] = *b"HPM1";
    const EXTENSION: &'static str = "manifests";

    fn encode(&self, to: &mut Vec<u8>) {
        encode_digest(&self.digest, to);
        to.extend_from_slice(&self.size.to_le_bytes());
        to.extend_from_slice(&self.verified.to_le_bytes());
        to.push(u8::from(self.cached));
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        let digest = decode_digest(from)?;
        let (size, rest) = from.split_first_chunk()?;
        let (verified, rest) = rest.split_first_chunk()?;
        let (cached, rest) = rest.split_first()?;
        *from = rest;
        Some(Self {
            digest,
            size: u64::from_le_bytes(*size),
            verified: i64::from_le_bytes(*verified),
            cached: *cached == 1,
        })
    }
}

/// What a block has at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cached {
    /// The manifest's bytes, as they were written down. Nobody has checked them since.
    Bytes {
        /// See [`SeenManifest::verified`].
        verified: i64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The bytes stand at the place of the same manifest in this repository.
    SameAs(String),
}

const KIND_BYTES: u8 = 1;
const KIND_SAME_AS: u8 = 2;

/// A block, decompressed.
#[derive(Debug, Default)]
pub struct OpenBlock {
    entries: BTreeMap<String, Cached>,
}

impl OpenBlock {
    /// Reads a block's file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or is not what `file` says.
    pub async fn read(state: &StateStore, file: &FileRef) -> Result<Self, StateError> {
        let bytes = state.read(file).await?;
        Self::decode(&bytes).ok_or_else(|| StateError::Format {
            key: file.key.clone(),
            problem: "it is no block of cached manifests".to_owned(),
        })
    }

    fn decode(compressed: &[u8]) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut decoder = ZlibDecoder::new(compressed).take(LARGEST_BLOCK + 1);
        decoder.read_to_end(&mut bytes).ok()?;
        let mut rest = bytes.strip_prefix(&MAGIC)?;
        if bytes.len() as u64 > LARGEST_BLOCK {
            return None;
        }
        let mut entries = BTreeMap::new();
        while !rest.is_empty() {
            let repository = text(&mut rest)?;
            let digest = decode_digest(&mut rest)?;
            let (kind, after) = rest.split_first()?;
            rest = after;
            let cached = match *kind {
                KIND_BYTES => {
                    let (verified, after) = rest.split_first_chunk()?;
                    let (length, after) = after.split_first_chunk()?;
                    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
                    let (bytes, after) = after.split_at_checked(length)?;
                    rest = after;
                    Cached::Bytes {
                        verified: i64::from_le_bytes(*verified),
                        bytes: Bytes::copy_from_slice(bytes),
                    }
                }
                KIND_SAME_AS => Cached::SameAs(text(&mut rest)?),
                _ => return None,
            };
            entries.insert(place_of(&repository, &digest), cached);
        }
        Some(Self { entries })
    }

    /// What stands at a place.
    #[must_use]
    pub fn get(&self, place: &str) -> Option<&Cached> {
        self.entries.get(place)
    }
}

fn text(from: &mut &[u8]) -> Option<String> {
    let (length, rest) = from.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *from = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn encode_text(text: &str, to: &mut Vec<u8>) -> Option<()> {
    to.extend_from_slice(&u16::try_from(text.len()).ok()?.to_le_bytes());
    to.extend_from_slice(text.as_bytes());
    Some(())
}

/// Manifests that will be one block.
#[derive(Debug, Default)]
pub struct BlockBuffer {
    entries: BTreeMap<String, Cached>,
    weight: usize,
}

impl BlockBuffer {
    /// Takes a manifest, unless it is too large; returns what is full with it.
    pub fn push(&mut self, repository: &str, digest: &Digest, cached: Cached) -> Option<Self> {
        let weight = match &cached {
            Cached::Bytes { bytes, .. } if bytes.len() > LARGEST_CACHED => return None,
            Cached::Bytes { bytes, .. } => bytes.len(),
            Cached::SameAs(repository) => repository.len(),
        };
        let place = place_of(repository, digest);
        // A name that no registry gives: read each time.
        parse_repository_key(&place)?.entry?;
        let weight = weight + place.len();
        match (self.entries.get(&place), &cached) {
            // The bytes themselves serve as well as a hint where they are.
            (Some(Cached::Bytes { .. }), Cached::SameAs(_)) => return None,
            (Some(_), _) => {}
            (None, _) => self.weight += weight,
        }
        self.entries.insert(place, cached);
        (self.weight >= BLOCK_BYTES).then(|| mem::take(self))
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes it under a key.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn write(self, state: &StateStore, key: &str) -> Result<Option<CacheBlock>, StateError> {
        let (Some((first, _)), Some((last, _))) =
            (self.entries.first_key_value(), self.entries.last_key_value())
        else {
            return Ok(None);
        };
        let (first, last, items) = (first.clone(), last.clone(), self.entries.len() as u64);
        let bytes = self.encode().ok_or_else(|| StateError::Format {
            key: key.to_owned(),
            problem: "a block of cached manifests cannot be made".to_owned(),
        })?;
        let file = state.write(key, bytes.into(), items).await?;
        Ok(Some(CacheBlock { file, first, last }))
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let mut plain = MAGIC.to_vec();
        for (place, cached) in &self.entries {
            let key = parse_repository_key(place)?;
            let RepositoryEntry::RevisionLink(digest) = key.entry? else {
                return None;
            };
            encode_text(key.repository, &mut plain)?;
            encode_digest(&digest, &mut plain);
            match cached {
                Cached::Bytes { verified, bytes } => {
                    plain.push(KIND_BYTES);
                    plain.extend_from_slice(&verified.to_le_bytes());
                    plain.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
                    plain.extend_from_slice(bytes);
                }
                Cached::SameAs(repository) => {
                    plain.push(KIND_SAME_AS);
                    encode_text(repository, &mut plain)?;
                }
            }
        }
        // Digests do not shrink by more effort, and all else does by the least.
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain).ok()?;
        encoder.finish().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cached() -> impl Strategy<Value = Cached> {
        prop_oneof![
            (any::<i64>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(verified, bytes)| {
                Cached::Bytes {
                    verified,
                    bytes: bytes.into(),
                }
            }),
            "[a-z]{1,8}(/[a-z]{1,8})?".prop_map(Cached::SameAs),
        ]
    }

    proptest! {
        #[test]
        fn blocks_round_trip(
            entries in prop::collection::vec(("[a-z]{1,8}(/[a-z]{1,8})?", any::<u8>(), cached()), 1..40)
        ) {
            let mut buffer = BlockBuffer::default();
            for (repository, content, cached) in &entries {
                let digest = Digest::of(Algorithm::Sha256, &[*content]);
                prop_assert!(buffer.push(repository, &digest, cached.clone()).is_none());
            }
            let block = OpenBlock::decode(&buffer.encode().unwrap()).unwrap();
            prop_assert_eq!(block.entries, buffer.entries);
        }

        #[test]
        fn any_bytes_decode_or_fail_without_a_panic(bytes: Vec<u8>, compress: bool) {
            let mut file = bytes.clone();
            if compress {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&MAGIC).unwrap();
                encoder.write_all(&bytes).unwrap();
                file = encoder.finish().unwrap();
            }
            let _ = OpenBlock::decode(&file);
        }
    }

    #[test]
    fn a_block_that_grows_without_bounds_is_none() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&MAGIC).unwrap();
        encoder.write_all(&vec![0; 64 << 20]).unwrap();
        assert!(OpenBlock::decode(&encoder.finish().unwrap()).is_none());
    }

    #[test]
    fn blocks_end_when_they_are_full_and_leave_out_what_is_too_large() {
        let mut buffer = BlockBuffer::default();
        let of = |bytes: usize| Cached::Bytes {
            verified: 0,
            bytes: vec![0; bytes].into(),
        };
        let digest = |number: u8| Digest::of(Algorithm::Sha256, &[number]);
        assert!(buffer.push("a", &digest(1), of(LARGEST_CACHED + 1)).is_none());
        assert!(buffer.is_empty());
        assert!(buffer.push("a", &digest(1), of(LARGEST_CACHED)).is_none());
        let full = buffer.push("a", &digest(2), of(LARGEST_CACHED)).unwrap();
        assert!(buffer.is_empty());
        assert_eq!(
            OpenBlock::decode(&full.encode().unwrap()).unwrap().entries.len(),
            2
        );
    }
}
