//! Reads manifests, checks their bytes against their digests, and understands them. Each distinct manifest is read
//! once per task (decision 0012 has the exception), and not at all where the mark cache has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hardprune_common::digest::{Digest, scan_for_digests};
use hardprune_common::layout::blob_key;
use hardprune_common::manifest::{LARGEST_MANIFEST, Manifest};
use hardprune_common::problem::ProblemKind;
use hardprune_common::store::{Store, StoreError};
use hardprune_common::task::ManifestCounts;
use tokio::sync::OnceCell;

use crate::manifest_cache::ManifestCache;

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

/// What is remembered of a manifest.
#[derive(Debug)]
struct Slot {
    /// The repository that needed it first.
    repository: Arc<str>,
    state: SlotState,
}

#[derive(Debug)]
enum SlotState {
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
    cache: Option<ManifestCache>,
    slots: Mutex<HashMap<Digest, Slot>>,
    counts: Mutex<ManifestCounts>,
}

impl ManifestReader {
    pub fn new(registry: Arc<dyn Store>, remember: Remember, cache: Option<ManifestCache>) -> Self {
        Self {
            registry,
            remember,
            cache,
            slots: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Manifests read so far.
    pub fn counts(&self) -> ManifestCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the manifests are kept in for the next run.
    pub fn cache(&self) -> Option<&ManifestCache> {
        self.cache.as_ref()
    }

    /// Reads a manifest that a repository needs, or remembers it.
    ///
    /// # Errors
    ///
    /// A store that fails: whether the manifest is there is not known, and the task must be tried again.
    pub async fn read(
        &self,
        repository: &Arc<str>,
        digest: &Digest,
    ) -> Result<Arc<ManifestRead>, StoreError> {
        let (reading, needed_before) = self.slot(repository, digest);
        if let (Some(cache), Some(other)) = (&self.cache, needed_before)
            && *other != **repository
        {
            cache.same_as(repository, digest, &other).await;
        }
        let reading = match reading {
            SlotState::MarkedBefore { children } => {
                return Ok(Arc::new(ManifestRead::MarkedBefore { children }));
            }
            SlotState::Reading(reading) => reading,
        };
        let read = reading
            .get_or_try_init(|| async {
                let read = match self.look_up(repository, digest).await {
                    Some(cached) => cached,
                    None => {
                        let read = self.fetch(repository, digest).await?;
                        self.count(&read);
                        read
                    }
                };
                Ok::<_, StoreError>(Arc::new(read))
            })
            .await?;
        if let (Remember::ThatItWasRead { .. }, ManifestRead::Understood(manifest)) = (self.remember, &**read)
        {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = slots.get_mut(digest) {
                let children = manifest.children.as_slice().into();
                slot.state = SlotState::MarkedBefore { children };
            }
        }
        Ok(Arc::clone(read))
    }

    /// What is remembered of a manifest, or begins to be; and the repository that needed it before, if one did.
    fn slot(&self, repository: &Arc<str>, digest: &Digest) -> (SlotState, Option<Arc<str>>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(digest) {
            let state = match &slot.state {
                SlotState::Reading(reading) => SlotState::Reading(Arc::clone(reading)),
                SlotState::MarkedBefore { children } => SlotState::MarkedBefore {
                    children: Arc::clone(children),
                },
            };
            return (state, Some(Arc::clone(&slot.repository)));
        }
        let reading = Reading::default();
        let (Remember::ThatItWasRead { at_most } | Remember::WhatItSays { at_most }) = self.remember;
        if slots.len() < at_most {
            let slot = Slot {
                repository: Arc::clone(repository),
                state: SlotState::Reading(Arc::clone(&reading)),
            };
            slots.insert(*digest, slot);
        }
        (SlotState::Reading(reading), None)
    }

    async fn look_up(&self, repository: &str, digest: &Digest) -> Option<ManifestRead> {
        let manifest = self.cache.as_ref()?.look_up(repository, digest).await?;
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).cached += 1;
        Some(ManifestRead::Understood(manifest))
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

    async fn fetch(&self, repository: &str, digest: &Digest) -> Result<ManifestRead, StoreError> {
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
            Ok(manifest) => {
                if let Some(cache) = &self.cache {
                    cache.read(repository, digest, object.bytes).await;
                }
                ManifestRead::Understood(manifest)
            }
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
