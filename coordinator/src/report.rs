//! The run's report: one JSON document (schema: `docs/report.schema.json`).

mod words;

use hardprune_common::problem::Problem;
use hardprune_common::run::RunId;
use hardprune_common::seal::{MarkDocument, PlanDocument};
use hardprune_common::store::{RequestCounts, Versioning};
use hardprune_common::task::ManifestCounts;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::accounts::{Accounts, LinkCounts};
use crate::garbage::Garbage;
use crate::guards::{GuardLimits, Refusal};
pub use crate::problems::Problems;
use crate::quarantine::PutBackCounts;
use crate::read_only::Basis;
use crate::run::Reviewed;
use crate::run_record::{Mode, RunOptions, RunRecord};
use crate::tenants::TenantShare;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// To its end.
    Completed,
    /// Before it, and can be resumed.
    Stopped,
    /// A guard refused: nothing was deleted.
    Refused,
    /// By an error: nothing was deleted.
    Failed,
}

impl Outcome {
    /// Its name, as the report has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobCounts {
    /// All that were listed: `referenced + young + orphaned`.
    pub scanned: u64,
    /// Those that may be referenced.
    pub referenced: u64,
    /// Those that nothing references, older than the cutoff: `deleted + failed + not_attempted`.
    pub orphaned: u64,
    /// Those that nothing references, newer than the cutoff.
    pub young: u64,
    /// Those that are gone.
    pub deleted: u64,
    /// Those of them that are in quarantine: they can be had back.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub quarantined: u64,
    /// Those that the store refused to delete.
    pub failed: u64,
    /// Those that are still to do, or not in the reviewed plan.
    pub not_attempted: u64,
    /// Keys that are not canonical: left alone.
    pub unrecognized_keys: u64,
}

/// For fields that stand only in reports of runs that had to do with them.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteCounts {
    /// Of all blobs listed.
    pub scanned: u64,
    /// Of the orphans.
    pub orphaned: u64,
    /// Of the young.
    pub young: u64,
    /// Of the blobs that this run's deletes removed, each digest counted once.
    pub freed: u64,
    /// Of the blobs that its deletes only hid, because the bucket keeps versions, or for a while what is deleted.
    pub hidden: u64,
    /// Of the blobs that its deletes moved into quarantine: a purge frees them.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub quarantined: u64,
    /// Of abandoned uploads that went, or would go.
    pub uploads: u64,
}

/// The filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FilterFigures {
    /// Digests in them.
    pub items: u64,
    /// Their files' bytes.
    pub bytes: u64,
    /// The rate asked for.
    pub false_positive_rate: f64,
    /// Orphans that are likely kept by chance until the next run.
    pub expected_kept_by_chance: f64,
}

/// Quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineFigures {
    /// The run whose quarantine was purged.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub purges: Option<RunId>,
    /// What was put back because it was needed again.
    pub put_back: PutBackCounts,
    /// What came of looking again, where the registry took writes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub online: Option<Reviewed>,
}

/// How long the stages took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Listing repositories and reading manifests.
    pub mark: f64,
    /// Building filters.
    pub seal: f64,
    /// Listing blobs and deciding.
    pub plan: f64,
    /// Removing links of dead manifests.
    pub unlink: f64,
    /// Deleting.
    pub sweep: f64,
    /// From start to end.
    pub total: f64,
}

/// The run's report. Fields are added, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The format's version: 1.
    pub version: u32,
    /// The program and its version.
    pub tool: String,
    /// The run.
    pub run: RunId,
    /// How many epochs it took.
    pub epochs: u32,
    /// The identity of the registry's storage.
    pub registry: String,
    /// What it was to do.
    pub mode: Mode,
    /// How it ended.
    pub outcome: Outcome,
    /// How it is known that nothing was written meanwhile.
    pub read_only: String,
    /// By what: replicas that were asked, what switched the registry.
    #[serde(default)]
    pub read_only_by: Vec<String>,
    /// Where references came from.
    pub sources: Vec<String>,
    /// By what options.
    pub options: RunOptions,
    /// What is younger stayed.
    pub cutoff: Option<Timestamp>,
    /// By the store's clock.
    pub started: Timestamp,
    /// By the store's clock.
    pub finished: Timestamp,
    /// Repositories.
    pub repositories: u64,
    /// Those of which nothing goes, because their manifests could not all be read.
    pub frozen_repositories: u64,
    /// Manifests.
    pub manifests: ManifestCounts,
    /// Distinct references.
    pub references: u64,
    /// Blobs.
    pub blobs: BlobCounts,
    /// Bytes.
    pub bytes: ByteCounts,
    /// Whether the storage keeps what is deleted.
    #[serde(default)]
    pub versioning: Versioning,
    /// Links that are gone; in a check, that would go.
    pub links: LinkCounts,
    /// Garbage that is no blob.
    #[serde(default)]
    pub garbage: Garbage,
    /// Who freed what; in a check, whose blobs would go.
    #[serde(default)]
    pub tenants: Vec<TenantShare>,
    /// The filters.
    pub filter: FilterFigures,
    /// Shards listed.
    pub shards: u64,
    /// Workers.
    pub workers: u64,
    /// Requests to the registry's storage.
    pub requests: RequestCounts,
    /// How long it took.
    pub seconds: Seconds,
    /// What was found wrong.
    pub problems: Problems,
    /// Guards that refused; of a check, those that would refuse a delete.
    #[serde(default)]
    pub guards: Vec<Refusal>,
    /// What was quarantined, put back, looked at again. `None`: the run has to do with no quarantine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quarantine: Option<QuarantineFigures>,
    /// What they allowed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guard_limits: Option<GuardLimits>,
    /// The error that ended it, where one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

impl Report {
    /// An empty report of a run.
    #[must_use]
    pub fn new(record: &RunRecord, outcome: Outcome, finished: Timestamp) -> Self {
        let epochs = record.epochs.iter().filter_map(|epoch| epoch.read_only.as_ref());
        let read_only = Basis::of_all(epochs).unwrap_or_else(Basis::assumed);
        Self {
            version: 1,
            tool: concat!("hardprune ", env!("CARGO_PKG_VERSION")).to_owned(),
            run: record.run,
            epochs: record.epoch().number,
            registry: record.registry.clone(),
            mode: record.mode,
            outcome,
            read_only: read_only.how.as_str().to_owned(),
            read_only_by: read_only.by,
            sources: record
                .options
                .references
                .iter()
                .map(ToString::to_string)
                .collect(),
            options: record.options.clone(),
            cutoff: None,
            started: record.started,
            finished,
            repositories: 0,
            frozen_repositories: 0,
            manifests: ManifestCounts::default(),
            references: 0,
            blobs: BlobCounts::default(),
            bytes: ByteCounts::default(),
            versioning: Versioning::NotSeen,
            links: LinkCounts::default(),
            garbage: Garbage::default(),
            tenants: Vec::new(),
            filter: FilterFigures {
                false_positive_rate: record.options.false_positive_rate,
                ..FilterFigures::default()
            },
            shards: 0,
            workers: record
                .epochs
                .iter()
                .map(|epoch| epoch.workers)
                .max()
                .unwrap_or(1)
                .max(1),
            requests: record
                .epochs
                .iter()
                .fold(RequestCounts::default(), |sum, epoch| sum.plus(epoch.requests)),
            seconds: Seconds::default(),
            problems: Problems::default(),
            guards: Vec::new(),
            quarantine: None,
            guard_limits: None,
            error: None,
        }
    }

    /// Takes in what marking found.
    pub fn add_mark(&mut self, mark: &MarkDocument) {
        self.cutoff = Some(mark.cutoff);
        self.references = mark.references;
        self.garbage.add_mark(mark);
        self.blobs.unrecognized_keys += mark.stray_keys;
        for range in &mark.ranges {
            let findings = &range.findings;
            self.repositories += findings.repositories;
            self.frozen_repositories += findings.frozen_repositories;
            self.manifests.read += findings.manifests.read;
            self.manifests.cached += findings.manifests.cached;
            self.manifests.missing += findings.manifests.missing;
            self.manifests.corrupt += findings.manifests.corrupt;
            self.manifests.unknown_type += findings.manifests.unknown_type;
            self.blobs.unrecognized_keys += findings.unrecognized_keys;
            self.bytes.uploads += findings.upload_bytes;
            for (kind, count) in &findings.problem_counts {
                self.problems.count(*kind, *count);
            }
        }
        self.filter.items = mark.filters.iter().map(|filter| filter.filter.items).sum();
        self.filter.bytes = mark.filters.iter().map(|filter| filter.filter.size).sum();
        self.shards = mark.filters.len() as u64;
    }

    /// Takes in what planning found.
    pub fn add_plan(&mut self, plan: &PlanDocument) {
        let totals = &plan.totals;
        self.blobs.scanned += totals.scanned;
        self.blobs.referenced += totals.referenced;
        self.blobs.young += totals.young;
        self.blobs.orphaned += totals.orphaned;
        self.blobs.unrecognized_keys += totals.unrecognized_keys;
        self.blobs.not_attempted = totals.orphaned;
        self.bytes.scanned += totals.scanned_bytes;
        self.bytes.young += totals.young_bytes;
        self.bytes.orphaned += totals.orphaned_bytes;
        #[expect(clippy::cast_precision_loss, reason = "an expected value")]
        let orphaned = totals.orphaned as f64;
        self.filter.expected_kept_by_chance = orphaned * self.filter.false_positive_rate;
    }

    /// Takes in what was deleted, in all epochs.
    pub fn add_accounts(&mut self, accounts: &Accounts, hidden: bool) {
        self.blobs.scanned += accounts.deleted_before;
        self.blobs.orphaned += accounts.deleted_before;
        self.bytes.scanned += accounts.deleted_before_bytes;
        self.bytes.orphaned += accounts.deleted_before_bytes;
        self.blobs.deleted = accounts.deleted_blobs;
        self.blobs.failed = accounts.failed_blobs;
        self.blobs.not_attempted = self
            .blobs
            .orphaned
            .saturating_sub(accounts.deleted_blobs + accounts.failed_blobs);
        if hidden {
            self.bytes.hidden = accounts.freed_bytes;
        } else if self.options.quarantine {
            self.blobs.quarantined = accounts.deleted_blobs;
            self.bytes.quarantined = accounts.freed_bytes;
        } else {
            self.bytes.freed = accounts.freed_bytes;
        }
        self.links = accounts.links;
        self.garbage.add_accounts(accounts);
        self.bytes.uploads = accounts.upload_bytes;
        self.problems.add_all(&accounts.problems);
    }

    /// Takes in problems that no mark counted.
    pub fn add_problems(&mut self, problems: &[Problem]) {
        for problem in problems {
            self.problems.add(problem);
        }
    }

    /// Shows problems that a mark has counted.
    pub fn add_first(&mut self, problems: &[Problem]) {
        for problem in problems {
            self.problems.show(problem);
        }
    }
}
