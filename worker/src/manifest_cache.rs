//! The mark cache, a mark task's part: looks manifests up in the blocks of its range, and hands on what it has seen.
//!
//! Nothing that is written there is believed: only bytes that are those of the digest count (R1), and that the blob is there
//! still says the plan's listing (R8). Whatever is wrong with a block is a manifest that is read. A few blocks are open at
//! once (R9): repositories are marked in the order of the listing, and blocks stand in it, too.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hardprune_common::digest::Digest;
use hardprune_common::failpoint;
use hardprune_common::manifest::Manifest;
use hardprune_common::mark_cache::{
    BlockBuffer, CacheBlock, CacheWork, Cached, OpenBlock, SeenManifest, cache_epoch_folder, place_of,
};
use hardprune_common::segment::read_segment;
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::task::{KeyRange, Task};
use tokio::sync::OnceCell;
use tracing::warn;

/// Blocks that one task has open.
const OPEN_BLOCKS: usize = 4;
/// Blocks that one task knows of. What others have is read: a range of usual size has a tenth of that.
const MOST_BLOCKS: usize = 2_000;

type Opening = Arc<OnceCell<Option<OpenBlock>>>;

/// The mark cache of one task.
#[derive(Debug)]
pub(crate) struct ManifestCache {
    state: StateStore,
    key_prefix: String,
    unchanged_since: i64,
    blocks: Vec<CacheBlock>,
    excluded: HashSet<Digest>,
    /// The blocks used last, the latest at the end.
    open: Mutex<VecDeque<(usize, Opening)>>,
    kept: Mutex<Kept>,
}

/// What earlier runs have of a range.
#[derive(Debug, Default)]
struct Found {
    blocks: Vec<CacheBlock>,
    excluded: HashSet<Digest>,
}

async fn find(state: &StateStore, range: &KeyRange, work: &CacheWork) -> Result<Found, StateError> {
    let mut found = Found::default();
    for segment in &work.excluded {
        found
            .excluded
            .extend(read_segment::<Digest>(state, segment).await?);
    }
    for list in &work.blocks {
        let blocks = state.read_lines::<CacheBlock>(list).await?;
        found
            .blocks
            .extend(blocks.into_iter().filter(|block| touches(range, block)));
        if found.blocks.len() >= MOST_BLOCKS {
            found.blocks.truncate(MOST_BLOCKS);
            break;
        }
    }
    Ok(found)
}

/// Whether a block has manifests of a range.
fn touches(range: &KeyRange, block: &CacheBlock) -> bool {
    range.after.as_ref().is_none_or(|after| block.last > *after)
        && range.to.as_ref().is_none_or(|to| block.first <= *to)
}

/// What is handed on.
#[derive(Debug, Default)]
struct Kept {
    buffer: BlockBuffer,
    blocks: Vec<CacheBlock>,
    begun: usize,
    /// Whether the state store did not take a block: then nothing is handed on.
    failed: bool,
    seen: Vec<SeenManifest>,
}

impl ManifestCache {
    /// Opens the cache of a task that marks a range. Where it cannot be had whole, nothing is known.
    pub async fn open(
        state: &StateStore,
        task: &Task,
        attempt: &str,
        range: &KeyRange,
        work: &CacheWork,
    ) -> Self {
        let folder = cache_epoch_folder(&task.registry, &task.epoch);
        let found = find(state, range, work).await.unwrap_or_else(|error| {
            warn!(%error, "the mark cache cannot be used; every manifest is read");
            Found::default()
        });
        Self {
            state: state.clone(),
            key_prefix: format!("{folder}{}.{attempt}", task.id),
            unchanged_since: work.unchanged_since.as_microsecond(),
            blocks: found.blocks,
            excluded: found.excluded,
            open: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// A manifest that an earlier run read for this repository.
    pub async fn look_up(&self, repository: &str, digest: &Digest) -> Option<Manifest> {
        if self.excluded.contains(digest) {
            return None;
        }
        let (verified, bytes) = match self.find(&place_of(repository, digest)).await? {
            Cached::Bytes { verified, bytes } => (verified, bytes),
            Cached::SameAs(other) => match self.find(&place_of(&other, digest)).await? {
                Cached::Bytes { verified, bytes } => (verified, bytes),
                Cached::SameAs(_) => return None,
            },
        };
        // R1: only bytes that are what the digest says may speak for what can go.
        if Digest::of(digest.algorithm(), &bytes) != *digest {
            return None;
        }
        let manifest = Manifest::parse(&bytes).ok()?;
        self.keep(repository, digest, verified, bytes, true).await;
        Some(manifest)
    }

    /// Hands on a manifest that was read, whose bytes are those of its digest, and understood.
    pub async fn read(&self, repository: &str, digest: &Digest, bytes: Bytes) {
        self.keep(repository, digest, self.unchanged_since, bytes, false)
            .await;
    }

    /// Hands on that a repository needs a manifest that another needed before.
    pub async fn same_as(&self, repository: &str, digest: &Digest, other: &str) {
        let same = Cached::SameAs(other.to_owned());
        let full = self.kept().buffer.push(repository, digest, same);
        self.write(full).await;
    }

    /// Manifests that were seen since this was asked last.
    pub fn take_seen(&self) -> Vec<SeenManifest> {
        std::mem::take(&mut self.kept().seen)
    }

    /// Writes what is left; names the list of what was handed on, if anything was.
    pub async fn finish(&self) -> Option<FileRef> {
        let rest = std::mem::take(&mut self.kept().buffer);
        self.write(Some(rest).filter(|rest| !rest.is_empty())).await;
        let blocks = {
            let mut kept = self.kept();
            if kept.failed {
                return None;
            }
            std::mem::take(&mut kept.blocks)
        };
        if blocks.is_empty() {
            return None;
        }
        let key = format!("{}.blocks.jsonl", self.key_prefix);
        match self.state.write_lines(&key, &blocks).await {
            Ok(list) => Some(list),
            Err(error) => {
                warn!(%error, "what was read cannot be kept for the next run");
                None
            }
        }
    }

    async fn keep(&self, repository: &str, digest: &Digest, verified: i64, bytes: Bytes, cached: bool) {
        let full = {
            let mut kept = self.kept();
            kept.seen.push(SeenManifest {
                digest: *digest,
                size: bytes.len() as u64,
                verified,
                cached,
            });
            kept.buffer
                .push(repository, digest, Cached::Bytes { verified, bytes })
        };
        self.write(full).await;
    }

    async fn write(&self, full: Option<BlockBuffer>) {
        let Some(full) = full else { return };
        let key = {
            let mut kept = self.kept();
            if kept.failed {
                return;
            }
            kept.begun += 1;
            format!("{}-{}.manifests", self.key_prefix, kept.begun)
        };
        let written = full.write(&self.state, &key).await;
        failpoint::here("mark-cache-block").await;
        let mut kept = self.kept();
        match written {
            Ok(block) => kept.blocks.extend(block),
            Err(error) => {
                warn!(%error, "what was read cannot be kept for the next run");
                kept.failed = true;
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, place: &str) -> Option<Cached> {
        for (number, block) in self.blocks.iter().enumerate() {
            if block.first.as_str() > place || block.last.as_str() < place {
                continue;
            }
            let opening = self.opening(number);
            let open = opening.get_or_init(|| self.read_block(block)).await;
            if let Some(cached) = open.as_ref().and_then(|block| block.get(place)) {
                return Some(cached.clone());
            }
        }
        None
    }

    /// A block that is open, or is to be opened in the place of the one that was not used for longest.
    fn opening(&self, number: usize) -> Opening {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let opening = match open.iter().position(|(other, _)| *other == number) {
            Some(position) => open.remove(position).map(|(_, opening)| opening),
            None => None,
        }
        .unwrap_or_default();
        if open.len() >= OPEN_BLOCKS {
            open.pop_front();
        }
        open.push_back((number, Arc::clone(&opening)));
        opening
    }

    async fn read_block(&self, block: &CacheBlock) -> Option<OpenBlock> {
        match OpenBlock::read(&self.state, &block.file).await {
            Ok(open) => Some(open),
            Err(error) => {
                warn!(%error, "a block of cached manifests cannot be used; they are read");
                None
            }
        }
    }
}
