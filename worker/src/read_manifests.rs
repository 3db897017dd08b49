//! Reads manifests, checks their bytes against their digests, and understands them. Each distinct manifest is read
//! once per task (decision 0012 has the exception).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hardprune_common::digest::{Digest, scan_for_digests};
use hardprune_common::layout::blob_key;
use hardprune_common::manifest::{LARGEST_MANIFEST, Manifest};
use hardprune_common::problem::ProblemKind;
use hardprune_common::store::{Store, StoreError};
use hardprune_common::task::ManifestCounts;
use tokio::sync::OnceCell;

const SCAN_STEP: u64 = 4 << 20;
/// A digest's text is no longer than this: pieces of a scan overlap by as much.
const LONGEST_DIGEST: u64 = 256;

/// What reading a manifest gave.
#[derive(Debug)]
pub(crate) enum ManifestRead {
    /// Its bytes are those of its digest, and understood.
    Understood(Manifest),
    /// It was understood before in this task, and all that it needs was marked then. Its children are named again: one
    /// that cannot be read freezes every repository that needs it.
    MarkedBefore { children: Arc<[Digest]> },
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

type Reading = Arc<OnceCell<Arc<ManifestRead>>>;

#[derive(Debug)]
enum Slot {
    Reading(Reading),
    MarkedBefore { children: Arc<[Digest]> },
}

/// What is remembered of a manifest that was understood, and of how many. Those beyond are read again (R9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remember {
    /// That it was: enough where every manifest is live, because a reference counts once per task.
    ThatItWasRead { at_most: usize },
    /// What it says: it may be live in one repository and dead in another.
    WhatItSays { at_most: usize },
}

/// Reads manifests for one task.
#[derive(Debug)]
pub(crate) struct ManifestReader {
    registry: Arc<dyn Store>,
    remember: Remember,
    slots: Mutex<HashMap<Digest, Slot>>,
    counts: Mutex<ManifestCounts>,
}

impl ManifestReader {
    pub fn new(registry: Arc<dyn Store>, remember: Remember) -> Self {
        Self {
            registry,
            remember,
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
        let reading = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            match slots.get(digest) {
                Some(Slot::MarkedBefore { children }) => {
                    let children = Arc::clone(children);
                    return Ok(Arc::new(ManifestRead::MarkedBefore { children }));
                }
                Some(Slot::Reading(reading)) => Arc::clone(reading),
                None => {
                    let reading = Reading::default();
                    let (Remember::ThatItWasRead { at_most } | Remember::WhatItSays { at_most }) =
                        self.remember;
                    if slots.len() < at_most {
                        slots.insert(*digest, Slot::Reading(Arc::clone(&reading)));
                    }
                    reading
                }
            }
        };
        let read = reading
            .get_or_try_init(|| async {
                let read = self.fetch(digest).await?;
                self.count(&read);
                Ok::<_, StoreError>(Arc::new(read))
            })
            .await?;
        if let (Remember::ThatItWasRead { .. }, ManifestRead::Understood(manifest)) = (self.remember, &**read)
        {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = slots.get_mut(digest) {
                let children = manifest.children.as_slice().into();
                *slot = Slot::MarkedBefore { children };
            }
        }
        Ok(Arc::clone(read))
    }

    fn count(&self, read: &ManifestRead) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            ManifestRead::Understood(_) => counts.read += 1,
            ManifestRead::MarkedBefore { .. } => {}
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
