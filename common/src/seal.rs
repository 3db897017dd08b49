//! Seals: the documents that stand between finding and deleting (R2).
//!
//! A [`SealedMark`] can only be made by sealing, a [`SealedPlan`] only from a sealed mark, and nothing is planned
//! or deleted without the one or the other.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::filter::FilterSeed;
use crate::quarantine::Undo;
use crate::removal::RemovalStage;
use crate::run::Epoch;
use crate::shard::{Shard, ShardDigits};
use crate::state::{FileRef, StateError, StateStore, epoch_folder};
use crate::task::{KeyRange, MarkFindings, PlanFindings, Scope, ShardTotals};

/// What one mark task covered and found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedRange {
    /// The part of the `repositories/` key space that was listed to its end.
    pub range: KeyRange,
    /// What was found there.
    pub findings: MarkFindings,
}

/// One shard's filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFilter {
    /// The shard.
    pub shard: Shard,
    /// The filter's file; its items are the digests in it.
    pub filter: FileRef,
    /// Its references that may well have no blob, where there are any: a segment.
    #[serde(default)]
    pub may_be_absent: Option<FileRef>,
    /// Its manifests whose blobs its listing must show, where there are any: a segment.
    #[serde(default)]
    pub manifests: Option<FileRef>,
}

/// Everything that marking found, and what planning goes by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MarkDocument {
    /// The format's version: 1.
    pub version: u32,
    /// The epoch that it holds for, and no other (R11).
    pub epoch: Epoch,
    /// The identity of the registry's storage.
    pub registry: String,
    /// Young is what the store says was modified at this time or later (R4).
    pub cutoff: Timestamp,
    /// Every mark task, ascending. Their ranges tile the key space.
    pub ranges: Vec<MarkedRange>,
    /// References that other sources than the storage named: segments.
    #[serde(default)]
    pub source_references: Vec<FileRef>,
    /// Those of them that may well have no blob: segments.
    #[serde(default)]
    pub source_may_be_absent: Vec<FileRef>,
    /// Distinct references.
    pub references: u64,
    /// Those of them that may well have no blob.
    #[serde(default)]
    pub may_be_absent: u64,
    /// Manifests that were remembered and not read: their blobs must be listed as they are remembered, or there is no plan (R8).
    #[serde(default)]
    pub remembered: u64,
    /// Those of them that no shard's listing can show, because there are no blobs where theirs would be: segments of their digests.
    #[serde(default)]
    pub doubted: Vec<FileRef>,
    /// How shards are cut.
    pub shard_digits: ShardDigits,
    /// The filters' rate.
    pub false_positive_rate: f64,
    /// The filters' seed.
    pub seed: FilterSeed,
    /// A filter for every shard that has blobs.
    pub filters: Vec<ShardFilter>,
    /// Removals of links of dead manifests and the like, of all ranges together.
    pub unlink: Vec<FileRef>,
    /// Removals of layer links that no reference answers, of all shards together, ascending by digest.
    pub dangling: Vec<FileRef>,
    /// Folders of the blob space that no shard's listing covers: all below is left alone.
    #[serde(default)]
    pub stray_folders: Vec<String>,
    /// Keys of the blob space that no shard's listing covers and that lie in no folder: left alone.
    #[serde(default)]
    pub stray_keys: u64,
}

/// Why something cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The mark tasks leave a part of the key space out, or cover one twice.
    #[error(
        "the mark cannot be sealed: no task covers the repositories between {0:?} and {1:?} exactly once"
    )]
    Gap(Option<String>, Option<String>),
    /// A task stopped early, and the rest of its range is not there.
    #[error("the mark cannot be sealed: a task stopped at {0:?} and its range was not shortened")]
    Unfinished(String),
    /// A shard was planned without a filter of the sealed mark.
    #[error("the plan cannot be sealed: {0}")]
    Plan(String),
    /// Manifests were taken from the cache that may not be there any more.
    #[error("the plan cannot be sealed: {found} of {wanted} manifests that were remembered were listed")]
    Remembered {
        /// Those that the mark goes by.
        wanted: u64,
        /// Those that were listed.
        found: u64,
    },
    /// The document could not be written.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A mark that is whole.
#[derive(Debug)]
pub struct SealedMark {
    document: MarkDocument,
    file: FileRef,
}

impl SealedMark {
    /// Seals a mark: checks that its ranges, in their order, tile the key space without a gap (R2), and writes it to a folder: the
    /// epoch's, for the mark that its plan is made from.
    ///
    /// # Errors
    ///
    /// A gap, an overlap, or a document that cannot be written.
    pub async fn seal(document: MarkDocument, folder: &str, state: &StateStore) -> Result<Self, SealError> {
        check_tiling(&document.ranges)?;
        let key = format!("{folder}mark.json");
        let file = state.write_json(&key, &document).await?;
        Ok(Self { document, file })
    }

    /// What is in it.
    #[must_use]
    pub fn document(&self) -> &MarkDocument {
        &self.document
    }
}

fn check_tiling(ranges: &[MarkedRange]) -> Result<(), SealError> {
    let mut end: Option<&KeyRange> = None;
    for MarkedRange { range, findings } in ranges {
        if let Some(done_to) = &findings.done_to {
            return Err(SealError::Unfinished(done_to.clone()));
        }
        // Each range begins where the last one ended; the first has no beginning.
        let gap = match end {
            None => range.after.is_some(),
            Some(last) => last.to.is_none() || last.to != range.after,
        };
        if gap {
            let last = end.and_then(|last| last.to.clone());
            return Err(SealError::Gap(last, range.after.clone()));
        }
        end = Some(range);
    }
    match end {
        Some(last) if last.to.is_none() => Ok(()),
        last => Err(SealError::Gap(last.and_then(|last| last.to.clone()), None)),
    }
}

/// One shard's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlan {
    /// What was listed.
    pub scope: Scope,
    /// What would go.
    pub findings: PlanFindings,
}

/// The version of a plan's format. Who knows only version 1 would delete what is to be quarantined first.
pub const PLAN_VERSION: u32 = 2;

/// Everything that would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// The format's version: [`PLAN_VERSION`].
    pub version: u32,
    /// The epoch that it holds for, and no other (R11).
    pub epoch: Epoch,
    /// The identity of the registry's storage.
    pub registry: String,
    /// The sha256 of the sealed mark.
    pub mark: Digest,
    /// How shards are cut.
    pub shard_digits: ShardDigits,
    /// How what goes can be had back. Uploads cannot.
    #[serde(skip_serializing_if = "Undo::is_nothing", default)]
    pub undo: Undo,
    /// What goes first: links of dead manifests; in a purge, copies of links.
    pub unlink: Vec<FileRef>,
    /// What goes next: dangling layer links, of all shards together.
    pub dangling: Vec<FileRef>,
    /// Every shard.
    pub shards: Vec<ShardPlan>,
    /// The sum of all shards.
    pub totals: ShardTotals,
    /// The places of the shards that tasks carry out, once somebody has asked: there may be tens of thousands.
    #[serde(skip)]
    sweep_tasks: OnceLock<HashMap<String, usize>>,
}

impl PlanDocument {
    /// Dangling layer links that go.
    #[must_use]
    pub fn dangling_links(&self) -> u64 {
        self.dangling.iter().map(|file| file.items).sum()
    }

    /// All that goes before any shard, in its order (R6). The place of a file here is the number of its task.
    pub fn before_shards(&self) -> impl Iterator<Item = &FileRef> {
        self.unlink.iter().chain(&self.dangling)
    }

    /// The stage that a task belongs to, and the parts of this plan that it carries out. `None` for a task that this plan
    /// does not have.
    #[must_use]
    pub fn parts_of(&self, task: &str) -> Option<(RemovalStage, &[FileRef])> {
        let sweep_tasks = self.sweep_tasks.get_or_init(|| {
            let places = self.shards.iter().enumerate();
            places
                .map(|(place, shard)| (sweep_task(&shard.scope), place))
                .collect()
        });
        if let Some(place) = sweep_tasks.get(task) {
            return Some((RemovalStage::Sweep, &self.shards[*place].findings.parts));
        }
        let place = place_of_unlink(task)?;
        let (stage, file) = match self.unlink.get(place) {
            Some(file) => (RemovalStage::Unlink, file),
            None => (RemovalStage::Links, self.dangling.get(place - self.unlink.len())?),
        };
        Some((stage, std::slice::from_ref(file)))
    }
}

/// The id of the task that carries out a shard's plan.
#[must_use]
pub fn sweep_task(scope: &Scope) -> String {
    match scope {
        Scope::Shard(shard) => format!("sweep-{shard}"),
        Scope::Stray(folder) => format!("sweep-stray-{folder}"),
    }
}

/// The id of the task that carries out one file of removals, by its place in [`PlanDocument::before_shards`].
#[must_use]
pub fn unlink_task(place: usize) -> String {
    format!("unlink-{place:06}")
}

/// What [`unlink_task`] made a task's id from.
fn place_of_unlink(task: &str) -> Option<usize> {
    let place = task.strip_prefix("unlink-")?.parse().ok()?;
    (unlink_task(place) == task).then_some(place)
}

/// A plan that is whole.
#[derive(Debug)]
pub struct SealedPlan {
    document: PlanDocument,
    file: FileRef,
}

impl SealedPlan {
    /// Seals a plan: every filter's shard must have been planned, once, and no other (R2), and every manifest that was
    /// remembered must have been listed (R8).
    ///
    /// # Errors
    ///
    /// A shard without a plan or without a filter, a manifest that was not listed, or a document that cannot be written.
    pub async fn seal(
        mark: &SealedMark,
        shards: Vec<ShardPlan>,
        undo: Undo,
        state: &StateStore,
    ) -> Result<Self, SealError> {
        let filters = &mark.document.filters;
        let plans = shards.iter().filter_map(|plan| shard_of(&plan.scope));
        let planned: HashSet<_> = plans.clone().collect();
        if let Some(missing) = filters.iter().find(|filter| !planned.contains(&filter.shard)) {
            return Err(SealError::Plan(format!("shard {} has no plan", missing.shard)));
        }
        let plans = plans.count();
        if plans != filters.len() {
            let detail = format!("{} shards have a filter, {plans} a plan", filters.len());
            return Err(SealError::Plan(detail));
        }
        let wanted = mark.document.remembered;
        let found = shards.iter().map(|plan| plan.findings.totals.remembered).sum();
        if wanted != found {
            return Err(SealError::Remembered { wanted, found });
        }
        let links = (mark.document.unlink.clone(), mark.document.dangling.clone());
        Self::write(mark, links, shards, undo, state).await
    }

    /// Seals the plan of a purge: copies of links, then copies of blobs by shard, which no reference of the mark names. Nothing
    /// else goes.
    ///
    /// # Errors
    ///
    /// A document that cannot be written.
    pub async fn seal_purge(
        mark: &SealedMark,
        links: Vec<FileRef>,
        shards: Vec<ShardPlan>,
        state: &StateStore,
    ) -> Result<Self, SealError> {
        Self::write(mark, (links, Vec::new()), shards, Undo::Nothing, state).await
    }

    async fn write(
        mark: &SealedMark,
        (unlink, dangling): (Vec<FileRef>, Vec<FileRef>),
        shards: Vec<ShardPlan>,
        undo: Undo,
        state: &StateStore,
    ) -> Result<Self, SealError> {
        let document = PlanDocument {
            version: PLAN_VERSION,
            epoch: mark.document.epoch.clone(),
            registry: mark.document.registry.clone(),
            mark: mark.file.sha256,
            shard_digits: mark.document.shard_digits,
            undo,
            unlink,
            dangling,
            totals: shards.iter().fold(ShardTotals::default(), |sum, plan| {
                sum.plus(&plan.findings.totals)
            }),
            shards,
            sweep_tasks: OnceLock::new(),
        };
        let file = state.write_json(&plan_key(&document.epoch), &document).await?;
        Ok(Self { document, file })
    }

    /// What is in it.
    #[must_use]
    pub fn document(&self) -> &PlanDocument {
        &self.document
    }

    /// Its file, whose sha256 stands in the lock while it is carried out.
    #[must_use]
    pub fn file(&self) -> &FileRef {
        &self.file
    }
}

/// The key of an epoch's sealed plan.
#[must_use]
pub fn plan_key(epoch: &Epoch) -> String {
    format!("{}plan.json", epoch_folder(epoch))
}

fn shard_of(scope: &Scope) -> Option<&Shard> {
    match scope {
        Scope::Shard(shard) => Some(shard),
        Scope::Stray(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(after: Option<&str>, to: Option<&str>) -> MarkedRange {
        MarkedRange {
            range: KeyRange {
                after: after.map(Into::into),
                to: to.map(Into::into),
            },
            findings: MarkFindings::default(),
        }
    }

    #[test]
    fn ranges_must_tile_the_key_space() {
        assert!(check_tiling(&[range(None, None)]).is_ok());
        assert!(check_tiling(&[range(None, Some("b")), range(Some("b"), None)]).is_ok());
        assert!(check_tiling(&[]).is_err());
        assert!(check_tiling(&[range(None, Some("b"))]).is_err());
        assert!(check_tiling(&[range(Some("a"), None)]).is_err());
        assert!(check_tiling(&[range(None, Some("b")), range(Some("c"), None)]).is_err());
        assert!(check_tiling(&[range(None, None), range(Some("b"), None)]).is_err());
        let mut unfinished = range(None, None);
        unfinished.findings.done_to = Some("k".to_owned());
        assert!(check_tiling(&[unfinished]).is_err());
    }
}
