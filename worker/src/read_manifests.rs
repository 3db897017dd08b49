//! Reads manifests, checks their bytes against their digests, and understands them. Each distinct manifest is read
//! once per task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hardprune_common::digest::{Digest, scan_for_digests};
use hardprune_common::layout::blob_key;
use hardprune_common::manifest::{LARGEST_MANIFEST, Manifest};
use hardprune_common::problem::ProblemKind;
use hardprune_common::store::{Store, StoreError};
use hardprune_common::task::ManifestCounts;
use tokio::sync::OnceCell;

/// Manifests that a task remembers. A task's range ends long before; only a huge repository has more, and none of
/// those is named twice in it.
const REMEMBERED: usize = 40_000;
const SCAN_STEP: u64 = 4 << 20;
/// A digest's text is no longer than this: pieces of a scan overlap by as much.
const LONGEST_DIGEST: u64 = 256;

/// What reading a manifest gave.
#[derive(Debug)]
pub(crate) enum ManifestRead {
    /// Its bytes are those of its digest, and understood.
    Understood(Manifest),
    /// There is no such blob.
    Missing,
    /// Anything else: the repository is frozen (R8).
    Broken {
        kind: ProblemKind,
        message: String,
        /// Every digest-shaped string in the bytes there are.
        found: Vec<Digest>,
    },
}

type Slot = Arc<OnceCell<Arc<ManifestRead>>>;

/// Reads manifests for one task.
#[derive(Debug)]
pub(crate) struct ManifestReader {
    registry: Arc<dyn Store>,
    slots: Mutex<HashMap<Digest, Slot>>,
    counts: Mutex<ManifestCounts>,
}

impl ManifestReader {
    pub fn new(registry: Arc<dyn Store>) -> Self {
        Self {
            registry,
            slots: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Manifests read so far.
    pub fn counts(&self) -> ManifestCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a manifest, or remembers it.
    ///
    /// # Errors
    ///
    /// A store that fails: whether the manifest is there is not known, and the task must be tried again.
    pub async fn read(&self, digest: &Digest) -> Result<Arc<ManifestRead>, StoreError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            match slots.get(digest) {
                Some(slot) => Arc::clone(slot),
                None => {
                    let slot = Slot::default();
                    if slots.len() < REMEMBERED {
                        slots.insert(*digest, Arc::clone(&slot));
                    }
                    slot
                }
            }
        };
        let read = slot
            .get_or_try_init(|| async {
                let read = self.fetch(digest).await?;
                self.count(&read);
                Ok::<_, StoreError>(Arc::new(read))
            })
            .await?;
        Ok(Arc::clone(read))
    }

    fn count(&self, read: &ManifestRead) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            ManifestRead::Understood(_) => counts.read += 1,
            ManifestRead::Missing => counts.missing += 1,
            ManifestRead::Broken {
                kind: ProblemKind::ManifestUnknownType,
                ..
            } => counts.unknown_type += 1,
            ManifestRead::Broken { .. } => counts.corrupt += 1,
        }
    }

    async fn fetch(&self, digest: &Digest) -> Result<ManifestRead, StoreError> {
        let key = blob_key(digest);
        let object = match self.registry.get(&key, 0, LARGEST_MANIFEST + 1).await {
            Ok(object) => object,
            Err(StoreError::NotFound { .. }) => return Ok(ManifestRead::Missing),
            Err(StoreError::Denied { detail, .. }) => {
                let message = format!("its blob may not be read: {detail}");
                return Ok(ManifestRead::Broken {
                    kind: ProblemKind::ManifestUnreadable,
                    message,
                    found: Vec::new(),
                });
            }
            Err(error) => return Err(error),
        };
        if object.size > LARGEST_MANIFEST {
            return Ok(ManifestRead::Broken {
                kind: ProblemKind::ManifestTooLarge,
                message: format!(
                    "it has {} bytes; no manifest has more than {LARGEST_MANIFEST}",
                    object.size
                ),
                found: self.scan_large(&key, object.size).await?,
            });
        }
        // Only bytes that are what the digest says may speak for what can go.
        let actual = Digest::of(digest.algorithm(), &object.bytes);
        let found = || scan_for_digests(&object.bytes).collect();
        if actual != *digest {
            return Ok(ManifestRead::Broken {
                kind: ProblemKind::ManifestCorrupt,
                message: format!("its {} bytes have the digest {actual}", object.bytes.len()),
                found: found(),
            });
        }
        Ok(match Manifest::parse(&object.bytes) {
            Ok(manifest) => ManifestRead::Understood(manifest),
            Err(error) => ManifestRead::Broken {
                kind: ProblemKind::ManifestUnknownType,
                message: format!("it is {error}"),
                found: found(),
            },
        })
    }

    /// Scans a large blob in pieces that overlap by a digest's length.
    async fn scan_large(&self, key: &str, size: u64) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        let mut offset = 0;
        while offset < size {
            let piece = self.registry.get(key, offset, SCAN_STEP + LONGEST_DIGEST).await?;
            found.extend(scan_for_digests(&piece.bytes));
            found.sort_unstable();
            found.dedup();
            offset += SCAN_STEP;
        }
        Ok(found)
    }
}
