//! Tasks and their reports: the small messages between coordinator and workers. They name files of the state store
//! and never carry data.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::layout::REPOSITORIES;
use crate::mark_cache::CacheWork;
use crate::metrics::Label;
use crate::problem::ProblemKind;
use crate::run::Epoch;
use crate::shard::Shard;
use crate::state::FileRef;
use crate::store::{ListRange, RequestCounts};

/// The version of these messages. A worker gives a task of another version back.
pub const MESSAGE_VERSION: u32 = 1;

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// [`MESSAGE_VERSION`].
    pub version: u32,
    /// Unique in its epoch; the last part of its subject and of the keys it writes.
    pub id: String,
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// The identity of the registry's storage.
    pub registry: String,
    /// The identity of the state store.
    pub state: String,
    /// What to do.
    pub work: Work,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.id, self.epoch)
    }
}

/// What a task asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Work {
    /// List a range of repositories, read their manifests, write segments.
    Mark(MarkWork),
    /// List a shard, decide per blob, write its plan.
    Plan(PlanWork),
    /// Remove one file of the sealed plan's that goes before the shards: links of dead manifests, dangling links, uploads.
    /// Which one it is says the sealed plan, by the task's id.
    Unlink,
    /// Delete what a shard's sealed plan names. Which shard it is says the sealed plan, by the task's id.
    Sweep,
}

impl Work {
    /// The kind of work.
    #[must_use]
    pub fn kind(&self) -> WorkKind {
        match self {
            Self::Mark(_) => WorkKind::Mark,
            Self::Plan(_) => WorkKind::Plan,
            Self::Unlink => WorkKind::Unlink,
            Self::Sweep => WorkKind::Sweep,
        }
    }

    /// Whether it deletes anything of the registry.
    #[must_use]
    pub fn deletes(&self) -> bool {
        match self {
            Self::Mark(_) | Self::Plan(_) => false,
            Self::Unlink | Self::Sweep => true,
        }
    }
}

/// Kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkKind {
    /// [`Work::Mark`].
    Mark,
    /// [`Work::Plan`].
    Plan,
    /// [`Work::Unlink`].
    Unlink,
    /// [`Work::Sweep`].
    Sweep,
}

impl Label for WorkKind {
    const NAME: &'static str = "kind";
    const ALL: &'static [Self] = &[Self::Mark, Self::Plan, Self::Unlink, Self::Sweep];

    fn value(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Plan => "plan",
            Self::Unlink => "unlink",
            Self::Sweep => "sweep",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Mark => "list a range of repositories, read their manifests",
            Self::Plan => "list a shard, decide per blob",
            Self::Unlink => "delete links, and what else goes before the blobs",
            Self::Sweep => "delete a shard's blobs",
        }
    }
}

/// A range of the `repositories/` key space, cut between repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// Keys are greater than this one. `None`: from the first.
    pub after: Option<String>,
    /// Keys are up to and with this one. `None`: to the last.
    pub to: Option<String>,
}

impl KeyRange {
    /// The listing that covers it.
    #[must_use]
    pub fn listing(&self) -> ListRange {
        ListRange {
            prefix: REPOSITORIES.to_owned(),
            after: self.after.clone(),
            // The key right behind the last one.
            before: self.to.as_ref().map(|to| format!("{to}\0")),
            follow_symbolic_links: true,
        }
    }
}

/// What counts as dead, by the options of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRules {
    /// Young is what the store says was modified at this time or later (R4).
    pub cutoff: Timestamp,
    /// Whether revisions that no tag needs are dead.
    pub delete_untagged: bool,
    /// Whether revisions whose manifest is missing are dead.
    pub prune_broken: bool,
    /// Whether the last links of repositories without revisions go.
    pub delete_empty_repositories: bool,
    /// Only where all of these links are older than this, too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub empty_before: Option<Timestamp>,
    /// Entries of tags' histories that are older than this and not what the tag means now go.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub purge_tag_history_before: Option<Timestamp>,
    /// Uploads all of whose files are older than this go.
    pub purge_uploads_before: Option<Timestamp>,
    /// Whether repositories with revisions and without any tag are what they seem, and no sign of tags that
    /// are kept elsewhere (Harbor).
    pub accept_untagged_repositories: bool,
    /// Where the run carries out a reviewed plan: the list of its files of removals. What they do not name is not dead.
    pub reviewed: Option<FileRef>,
    /// What a cluster says of these repositories.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<ClusterSays>,
}

/// What a cluster says of the repositories of a range, where it is asked. It decides over what the storage says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSays {
    /// Segments of the repositories that it knows, and of the revisions that it names there. They may name others than the
    /// range's.
    pub revisions: Vec<FileRef>,
    /// Whether repositories that it does not know go. Else the storage alone says what becomes of them.
    pub unknown_repositories_go: bool,
}

impl MarkRules {
    /// Whether what becomes of a link depends on the rest of its repository.
    #[must_use]
    pub fn judge_whole_repositories(&self) -> bool {
        self.delete_untagged
            || self.prune_broken
            || self.delete_empty_repositories
            || self.purge_uploads_before.is_some()
            || self.purge_tag_history_before.is_some()
            || self.cluster.is_some()
    }
}

/// Work of [`Work::Mark`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkWork {
    /// Where to look.
    pub range: KeyRange,
    /// What to look for.
    pub rules: MarkRules,
    /// What earlier runs read. `None`: everything is read, and nothing is handed on.
    #[serde(default)]
    pub cache: Option<CacheWork>,
}

/// What a shard's plan is to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The blobs of a shard.
    Shard(Shard),
    /// A folder of the blob space that is no shard's: all of it is unrecognized, and left alone.
    Stray(String),
}

/// Work of [`Work::Plan`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanWork {
    /// What to list.
    pub scope: Scope,
    /// The shard's filter. `None` only for a stray folder.
    pub filter: Option<FileRef>,
    /// Young is what the store says was modified at this time or later (R4).
    pub cutoff: Timestamp,
    /// The shard's references that may well have no blob, where there are any: a segment. Those that have one are counted.
    #[serde(default)]
    pub may_be_absent: Option<FileRef>,
    /// Where the run carries out a reviewed plan: the list of its parts for this shard. What they do not name stays.
    pub reviewed: Option<FileRef>,
    /// The manifests of the shard whose blobs the listing must show, as they were when they were read: a segment.
    #[serde(default)]
    pub manifests: Option<FileRef>,
}

/// What became of one attempt at a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReport {
    /// The task's id.
    pub task: String,
    /// The task's epoch.
    pub epoch: Epoch,
    /// The worker that made the attempt. Empty for one of the coordinator's own process.
    pub worker: String,
    /// Requests to the registry's storage that the worker has made since its last report, and that the coordinator cannot
    /// have counted.
    pub requests: RequestCounts,
    /// What was found or done, or the error that ended the attempt.
    pub result: Result<Findings, String>,
}

/// What a task found or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Findings {
    /// Of [`Work::Mark`].
    Mark(MarkFindings),
    /// Of [`Work::Plan`].
    Plan(PlanFindings),
    /// Of [`Work::Unlink`] and [`Work::Sweep`]: the journal has the facts.
    Removed(RemovedFindings),
}

/// Manifests by what reading them gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestCounts {
    /// Distinct manifests read by each task.
    pub read: u64,
    /// Those that each task had from the cache, instead of reading them.
    #[serde(default)]
    pub cached: u64,
    /// Their blob was not there.
    pub missing: u64,
    /// Their bytes could not be had, or were not what the digest says.
    pub corrupt: u64,
    /// Their bytes were not understood.
    pub unknown_type: u64,
}

/// What a mark task found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkFindings {
    /// Where it stopped because its range was large: keys after this one are still to be marked.
    pub done_to: Option<String>,
    /// Segments of references.
    pub references: Vec<FileRef>,
    /// Segments of those references that may well have no blob: foreign layers, children that an index lists and nobody
    /// pushed, whatever only a frozen repository or a young link names.
    #[serde(default)]
    pub may_be_absent: Vec<FileRef>,
    /// Segments of layer links.
    pub layer_links: Vec<FileRef>,
    /// Removals that go before the shards: links of dead manifests, uploads.
    pub removals: Vec<FileRef>,
    /// Names of frozen repositories, as JSON lines.
    pub frozen: Option<FileRef>,
    /// Problems, as JSON lines.
    pub problems: Option<FileRef>,
    /// Problems by kind.
    pub problem_counts: BTreeMap<ProblemKind, u64>,
    /// Repositories in the range.
    pub repositories: u64,
    /// Frozen ones of them.
    pub frozen_repositories: u64,
    /// Manifests.
    pub manifests: ManifestCounts,
    /// Keys that are not canonical; left alone (R3).
    pub unrecognized_keys: u64,
    /// Uploads that go.
    #[serde(default)]
    pub uploads: u64,
    /// Bytes of the uploads that go.
    pub upload_bytes: u64,
    /// Repositories of which nothing but old links is left, where these go.
    #[serde(default)]
    pub empty_repositories: u64,
    /// Keys and revisions in the range.
    #[serde(default)]
    pub size: RangeSize,
    /// Where the range may be cut the next time, ascending.
    #[serde(default)]
    pub cuts: Vec<RangeCut>,
    /// Segments of the manifests whose blobs the listing must show.
    #[serde(default)]
    pub manifests_seen: Vec<FileRef>,
    /// What was handed on for the next run: the list of its blocks, as JSON lines.
    #[serde(default)]
    pub cached: Option<FileRef>,
}

/// How much lies in a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSize {
    /// Keys listed.
    pub keys: u64,
    /// Links of revisions among them.
    pub revisions: u64,
}

/// A place between two repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeCut {
    /// A key as [`KeyRange::to`] has it.
    pub to: String,
    /// What lies before it in its range.
    pub before: RangeSize,
}

/// Blobs and bytes of one shard, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardTotals {
    /// Blobs listed.
    pub scanned: u64,
    /// Blobs that may be referenced.
    pub referenced: u64,
    /// Those of them that might as well have been absent.
    #[serde(default)]
    pub may_be_absent: u64,
    /// Blobs that nothing references, newer than the cutoff.
    pub young: u64,
    /// Blobs that would go.
    pub orphaned: u64,
    /// Keys that are not canonical; left alone (R3).
    pub unrecognized_keys: u64,
    /// Bytes of the blobs listed.
    pub scanned_bytes: u64,
    /// Bytes of the young ones.
    pub young_bytes: u64,
    /// Bytes of those that would go.
    pub orphaned_bytes: u64,
    /// Manifests that were remembered and whose blobs were listed as they were remembered.
    #[serde(default)]
    pub remembered: u64,
    /// Orphans that stay because the reviewed plan does not name them.
    pub not_reviewed: u64,
    /// Their bytes.
    #[serde(default)]
    pub not_reviewed_bytes: u64,
}

impl ShardTotals {
    /// Adds another shard's totals.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        // Destructured, so that a new field cannot be forgotten.
        let Self {
            scanned,
            referenced,
            may_be_absent,
            young,
            orphaned,
            unrecognized_keys,
            scanned_bytes,
            young_bytes,
            orphaned_bytes,
            remembered,
            not_reviewed,
            not_reviewed_bytes,
        } = *other;
        Self {
            scanned: self.scanned + scanned,
            referenced: self.referenced + referenced,
            may_be_absent: self.may_be_absent + may_be_absent,
            young: self.young + young,
            orphaned: self.orphaned + orphaned,
            unrecognized_keys: self.unrecognized_keys + unrecognized_keys,
            scanned_bytes: self.scanned_bytes + scanned_bytes,
            young_bytes: self.young_bytes + young_bytes,
            orphaned_bytes: self.orphaned_bytes + orphaned_bytes,
            remembered: self.remembered + remembered,
            not_reviewed: self.not_reviewed + not_reviewed,
            not_reviewed_bytes: self.not_reviewed_bytes + not_reviewed_bytes,
        }
    }
}

/// What a plan task found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFindings {
    /// Removals of the shard's blobs.
    pub parts: Vec<FileRef>,
    /// Their sums, and what stays.
    pub totals: ShardTotals,
    /// Manifests that were remembered and whose blobs were not listed as they were remembered: a segment of their digests.
    #[serde(default)]
    pub doubted: Option<FileRef>,
    /// Manifests that were read and whose blobs were not listed as they were read: a segment of their digests.
    #[serde(default)]
    pub unconfirmed: Option<FileRef>,
}

/// What an unlink or sweep task did in this attempt. For progress only: accounts come from the journal (R5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedFindings {
    /// Keys that are gone.
    pub removed: u64,
    /// Bytes of the blobs among them.
    pub freed_bytes: u64,
    /// Keys that the store refused to delete.
    pub failed: u64,
    /// Whether it ended before all keys had been tried: the run is stopping.
    pub stopped: bool,
}

impl RemovedFindings {
    /// Of an attempt that stopped before it did anything.
    #[must_use]
    pub fn stopped() -> Self {
        Self {
            stopped: true,
            ..Self::default()
        }
    }

    /// Adds another's to these.
    pub fn add(&mut self, other: &Self) {
        // Destructured, so that a new field cannot be forgotten.
        let Self {
            removed,
            freed_bytes,
            failed,
            stopped,
        } = *other;
        self.removed += removed;
        self.freed_bytes += freed_bytes;
        self.failed += failed;
        self.stopped |= stopped;
    }
}
