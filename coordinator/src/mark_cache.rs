//! The mark cache, the coordinator's part (decision 0017): which ranges the next run is cut into and what it need not read, in the
//! state store, for all runs on one registry.
//!
//! Comes in: what the latest run that sealed a mark handed on. Goes out: the work of mark tasks, and what this run hands on. Nothing of it
//! is believed: ranges must leave repositories whole, bytes must be those of their digests (`worker/src/manifest_cache.rs`), and every
//! manifest that was not read must be listed (`find`). What cannot be used is as if it were not there.

mod args;
mod group_ranges;
mod retention;

use std::collections::HashSet;
use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::digest::Digest;
use hardprune_common::failpoint;
use hardprune_common::layout::is_between_repositories;
use hardprune_common::mark_cache::{CacheWork, SeenManifest, cache_epoch_folder, cache_folder};
use hardprune_common::run::Epoch;
use hardprune_common::seal::MarkedRange;
use hardprune_common::segment::{SegmentWriter, read_segment};
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::task::{KeyRange, RangeCut, RangeSize};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

pub use self::args::MarkCacheArgs;
use self::group_ranges::group;
use crate::mark::ToMark;

/// The version of the index and of all that it names.
const VERSION: u32 = 1;
/// Manifests that are read whatever the cache has, at most (R9): each task holds their digests. With more of them everything is
/// read.
const MOST_EXCLUDED: u64 = 5_000;
/// A range is planned to have fewer keys than this, so that it may grow before a worker hands a part of it back.
const KEYS_OF_A_RANGE: u64 = 80_000;
/// The same for revisions, where repositories are judged as a whole.
const REVISIONS_OF_A_RANGE: u64 = 1_600;

/// Servers of one store have clocks of their own: what was written so shortly before an epoch may have been written in it.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);

/// What a run hands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    version: u32,
    registry: String,
    /// Ranges that tile the key space.
    ranges: Vec<CachedRange>,
    /// Manifests that must be read, whatever the blocks have.
    excluded: Vec<FileRef>,
}

/// A range as it was marked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedRange {
    range: KeyRange,
    size: RangeSize,
    cuts: Vec<RangeCut>,
    /// Lists of blocks that have its manifests.
    blocks: Vec<FileRef>,
}

impl CachedRange {
    /// Takes what is to be handed on out of what a task found: the sealed mark need not have it.
    pub fn take(marked: &mut MarkedRange) -> Self {
        Self {
            range: marked.range.clone(),
            size: std::mem::take(&mut marked.findings.size),
            cuts: std::mem::take(&mut marked.findings.cuts),
            blocks: marked.findings.cached.take().into_iter().collect(),
        }
    }
}

/// Names the index. Written last, and at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Latest {
    version: u32,
    index: FileRef,
}

fn latest_key(registry: &str) -> String {
    format!("{}latest.json", cache_folder(registry))
}

/// The mark cache of a run.
#[derive(Debug)]
pub struct MarkCache {
    state: StateStore,
    registry: String,
    epoch: Epoch,
    unchanged_since: Timestamp,
    found: Option<Index>,
    /// Manifests that are read, whatever the cache has.
    excluded: Vec<FileRef>,
    /// Whether nothing of what was found is used.
    is_distrusted: bool,
    published: Option<Index>,
}

impl MarkCache {
    /// Opens a registry's cache for an epoch that began at this time by the store's clock (R4). What cannot be used is as if it were not
    /// there.
    pub async fn open(state: &StateStore, registry: &str, epoch: &Epoch, started: Timestamp) -> Self {
        let found = match find(state, registry).await {
            Ok(Some(index)) => {
                info!(
                    ranges = index.ranges.len(),
                    "the mark cache of an earlier run is used"
                );
                Some(index)
            }
            Ok(None) => None,
            Err(error) => {
                warn!(%error, "the mark cache cannot be used; every manifest is read");
                None
            }
        };
        Self {
            state: state.clone(),
            registry: registry.to_owned(),
            epoch: epoch.clone(),
            unchanged_since: clock::earlier(started, CLOCKS_DIFFER),
            excluded: found
                .as_ref()
                .map(|index| index.excluded.clone())
                .unwrap_or_default(),
            found,
            is_distrusted: false,
            published: None,
        }
    }

    /// The ranges that the key space is cut into, about so many, none of them large: by what the latest run found in it. `None` where
    /// that is not known.
    #[must_use]
    pub fn ranges(
        &self,
        wanted: usize,
        listings_begin_anywhere: bool,
        whole_repositories: bool,
    ) -> Option<Vec<KeyRange>> {
        let index = self.found.as_ref()?;
        let limit = match (listings_begin_anywhere, whole_repositories) {
            (false, _) => RangeSize {
                keys: u64::MAX,
                revisions: u64::MAX,
            },
            (true, false) => RangeSize {
                keys: KEYS_OF_A_RANGE,
                revisions: u64::MAX,
            },
            (true, true) => RangeSize {
                keys: KEYS_OF_A_RANGE,
                revisions: REVISIONS_OF_A_RANGE,
            },
        };
        Some(group(&index.ranges, wanted, limit))
    }

    /// How many keys the latest run found. `None` where that is not known.
    #[must_use]
    pub fn known_keys(&self) -> Option<u64> {
        let ranges = &self.found.as_ref()?.ranges;
        Some(
            ranges
                .iter()
                .fold(0, |keys: u64, range| keys.saturating_add(range.size.keys)),
        )
    }

    /// What a task is told that marks a range.
    #[must_use]
    pub fn to_mark(&self, range: KeyRange) -> ToMark {
        let blocks = if self.is_distrusted {
            Vec::new()
        } else {
            self.blocks_of(&range)
        };
        let cache = CacheWork {
            unchanged_since: self.unchanged_since,
            blocks,
            excluded: self.excluded.clone(),
        };
        ToMark {
            range,
            cache: Some(cache),
        }
    }

    /// The lists that were found and may have blocks of a range.
    fn blocks_of(&self, range: &KeyRange) -> Vec<FileRef> {
        let ends_before = |a: &KeyRange, b: &KeyRange| a.to.is_some() && a.to <= b.after;
        let ranges = self.found.as_ref().map_or(&[][..], |index| &index.ranges);
        // They tile the key space, ascending.
        let first = ranges.partition_point(|cached| ends_before(&cached.range, range));
        let touching = ranges[first..]
            .iter()
            .take_while(|cached| !ends_before(range, &cached.range));
        let mut blocks: Vec<FileRef> = touching.flat_map(|cached| &cached.blocks).cloned().collect();
        blocks.dedup();
        blocks
    }

    /// Hands on what was marked before the run was stopped, or failed: what is left of `to_mark` is marked by the next one.
    pub async fn publish_part(&mut self, to_mark: &[KeyRange], marked: Vec<CachedRange>) {
        let mut ranges = Vec::new();
        let mut marked = marked.into_iter().peekable();
        for range in to_mark {
            let mut after = range.after.clone();
            // A task marks its range from the beginning on, and the rest of it is another's.
            while let Some(part) = marked.next_if(|part| part.range.after == after && after != range.to) {
                after.clone_from(&part.range.to);
                ranges.push(part);
            }
            let is_whole = ranges.last().is_some_and(|last| last.range.to == range.to);
            if !is_whole {
                let rest = KeyRange {
                    after,
                    to: range.to.clone(),
                };
                ranges.push(CachedRange {
                    // Nobody knows, so it is not brought together with others.
                    size: RangeSize {
                        keys: KEYS_OF_A_RANGE,
                        revisions: REVISIONS_OF_A_RANGE,
                    },
                    cuts: Vec::new(),
                    blocks: self.blocks_of(&rest),
                    range: rest,
                });
            }
        }
        if ranges.iter().any(|range| !range.blocks.is_empty()) {
            self.publish(&ranges, None).await;
        }
    }

    /// Takes in that manifests were remembered and not listed so. Returns for each marked range whether it must be marked again: if it
    /// went by one of them.
    ///
    /// # Errors
    ///
    /// Segments that cannot be read: this run wrote them.
    pub async fn doubt(
        &mut self,
        doubted: Vec<FileRef>,
        marked: &[MarkedRange],
        is_last_time: bool,
    ) -> Result<Vec<bool>, StateError> {
        if is_last_time || items_of(&doubted) > MOST_EXCLUDED {
            self.is_distrusted = true;
            self.excluded.clear();
            return Ok(vec![true; marked.len()]);
        }
        let mut digests: HashSet<Digest> = HashSet::new();
        for segment in &doubted {
            digests.extend(read_segment::<Digest>(&self.state, segment).await?);
        }
        self.excluded.extend(doubted);
        let mut again = Vec::with_capacity(marked.len());
        for range in marked {
            again.push(self.goes_by(range, &digests).await?);
        }
        Ok(again)
    }

    async fn goes_by(&self, range: &MarkedRange, digests: &HashSet<Digest>) -> Result<bool, StateError> {
        for segment in &range.findings.manifests_seen {
            let seen = read_segment::<SeenManifest>(&self.state, segment).await?;
            if seen
                .iter()
                .any(|manifest| manifest.cached && digests.contains(&manifest.digest))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands on what was marked. `unconfirmed`: manifests that the plan's listing did not show as they were read; `None` before there is a
    /// plan. A failure is no failure of the run.
    pub async fn publish(&mut self, ranges: &[CachedRange], unconfirmed: Option<Vec<FileRef>>) {
        let unconfirmed = unconfirmed.unwrap_or_else(|| self.excluded.clone());
        let published = match self.gather(unconfirmed).await {
            Ok(Some(excluded)) => self.publish_index(ranges, excluded).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            warn!(%error, "what was marked cannot be kept for the next run");
        }
    }

    async fn publish_index(
        &mut self,
        ranges: &[CachedRange],
        excluded: Vec<FileRef>,
    ) -> Result<(), StateError> {
        let index = Index {
            version: VERSION,
            registry: self.registry.clone(),
            ranges: ranges.to_vec(),
            excluded,
        };
        if self.published.as_ref() == Some(&index) {
            return Ok(());
        }
        let file = self
            .state
            .write_json(&self.own_key("index", ".json"), &index)
            .await?;
        failpoint::here("mark-cache-index").await;
        let latest = Latest {
            version: VERSION,
            index: file,
        };
        self.state
            .write_json(&latest_key(&self.registry), &latest)
            .await?;
        self.published = Some(index);
        Ok(())
    }

    /// Brings digests that must be read together, beside what lasts. `None` where there are too many.
    async fn gather(&self, segments: Vec<FileRef>) -> Result<Option<Vec<FileRef>>, StateError> {
        if items_of(&segments) > MOST_EXCLUDED {
            warn!(
                "more manifests than can be kept apart are not listed as they were read: the next run has to look twice"
            );
            return Ok(None);
        }
        let mut gathered = SegmentWriter::new(self.state.clone(), self.own_key("excluded", ""));
        for segment in &segments {
            for digest in read_segment::<Digest>(&self.state, segment).await? {
                gathered.push(digest).await?;
            }
        }
        Ok(Some(gathered.finish().await?))
    }

    /// The key of a file of what is published next: what is published already must stay what it is.
    fn own_key(&self, name: &str, end: &str) -> String {
        let folder = cache_epoch_folder(&self.registry, &self.epoch);
        let number = usize::from(self.published.is_some());
        format!("{folder}{name}-{number}{end}")
    }

    /// Removes what neither this run nor the one before it has handed on. A failure is no failure of the run.
    pub async fn tidy_up(&self) {
        let Some(published) = &self.published else { return };
        let kept = [Some(published), self.found.as_ref()];
        let mut named: HashSet<&str> = kept.iter().flatten().flat_map(|index| index.folders()).collect();
        let ours = cache_epoch_folder(&self.registry, &self.epoch);
        named.insert(&ours);
        if let Err(error) = retention::remove_unnamed(&self.state, &self.registry, &self.epoch, &named).await
        {
            warn!(%error, "what the mark cache does not need any more could not be removed");
        }
    }
}

impl Index {
    fn files(&self) -> impl Iterator<Item = &FileRef> {
        self.ranges
            .iter()
            .flat_map(|range| &range.blocks)
            .chain(&self.excluded)
    }

    /// The folders of its files. Blocks lie in the folder of their list.
    fn folders(&self) -> impl Iterator<Item = &str> {
        let folder = |file: &'_ FileRef| file.key.rfind('/').map(|end| end + 1);
        self.files()
            .filter_map(move |file| Some(&file.key[..folder(file)?]))
    }

    /// Whether its ranges tile the key space and leave every repository whole, and all its files are the registry's cache's own.
    fn is_sound(&self, registry: &str) -> bool {
        let folder = cache_folder(registry);
        let mut end: Option<&String> = None;
        for (number, cached) in self.ranges.iter().enumerate() {
            let is_last = number + 1 == self.ranges.len();
            let mut last = cached.range.after.as_ref();
            let ends = cached.cuts.iter().map(|cut| &cut.to).chain(&cached.range.to);
            for to in ends {
                // Where a repository is taken apart, its tags may be in another range than what they name (R1).
                if !is_between_repositories(to) || Some(to) <= last {
                    return false;
                }
                last = Some(to);
            }
            if cached.range.after.as_ref() != end || cached.range.to.is_none() != is_last {
                return false;
            }
            end = cached.range.to.as_ref();
        }
        self.version == VERSION
            && self.registry == registry
            && !self.ranges.is_empty()
            && self.files().all(|file| file.key.starts_with(&folder))
            && items_of(&self.excluded) <= MOST_EXCLUDED
    }
}

async fn find(state: &StateStore, registry: &str) -> Result<Option<Index>, StateError> {
    let key = latest_key(registry);
    let latest: Latest = match state.read_json(&key).await {
        Err(StateError::Store(error)) if error.is_not_found() => return Ok(None),
        latest => latest?,
    };
    if latest.version != VERSION {
        return Ok(None);
    }
    let index: Index = state.read_sealed(&latest.index.key, latest.index.sha256).await?;
    let mut is_sound = index.is_sound(registry);
    // Who damaged them must not end the run.
    for segment in index.excluded.iter().filter(|_| is_sound) {
        read_segment::<Digest>(state, segment).await?;
    }
    is_sound &= latest.index.key.starts_with(&cache_folder(registry));
    if is_sound {
        return Ok(Some(index));
    }
    Err(StateError::Format {
        key: latest.index.key,
        problem: "its ranges do not cover the repositories, or it is another registry's".to_owned(),
    })
}

/// The records of files, all together, whatever these say.
fn items_of(files: &[FileRef]) -> u64 {
    files
        .iter()
        .fold(0, |items, file| items.saturating_add(file.items))
}

#[cfg(test)]
mod tests;
