//! The run record: what a run is, for the one that resumes or reads it. Lies in the state store as `run.json`.

use std::time::Duration;

use hardprune_common::digest::Digest;
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::shard::ShardDigits;
use hardprune_common::state::{FileRef, StateError, StateStore, run_folder};
use hardprune_common::store::RequestCounts;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::read_only::Basis;
use crate::reference_source::SourceName;

/// What a run is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Say what would go.
    Check,
    /// Delete it.
    Delete,
    /// Delete what an earlier run has quarantined.
    Purge,
}

impl Mode {
    /// Whether it deletes.
    #[must_use]
    pub fn deletes(self) -> bool {
        self != Self::Check
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Delete => "delete",
            Self::Purge => "purge",
        }
    }
}

/// The options that a run keeps through all its epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// Where references come from.
    #[serde(default = "storage_alone", skip_serializing_if = "is_storage_alone")]
    pub references: Vec<SourceName>,
    /// The context of the kubeconfig that named the cluster, where one was given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub context: Option<String>,
    /// What is younger stays.
    pub keep_younger_than_seconds: u64,
    /// Whether revisions that no tag needs are dead.
    pub delete_untagged: bool,
    /// Whether repositories with revisions and no tag are what they seem.
    pub accept_untagged_repositories: bool,
    /// Uploads older than this go.
    pub purge_uploads_older_than_seconds: Option<u64>,
    /// Multipart uploads older than this are aborted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub abort_multipart_older_than_seconds: Option<u64>,
    /// Whether revisions whose manifest is missing are dead.
    pub prune_broken: bool,
    /// Whether the last links of repositories without revisions go.
    pub delete_empty_repositories: bool,
    /// How old these links must be, too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub empty_repositories_older_than_seconds: Option<u64>,
    /// Entries of tags' histories older than this go.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub purge_tag_history_older_than_seconds: Option<u64>,
    /// The filters' rate.
    pub false_positive_rate: f64,
    /// Whether deletes that only hide are wanted.
    pub accept_versioned: bool,
    /// A number that fixes the filters' seed; random where there is none.
    pub filter_seed: Option<u64>,
    /// The run whose reviewed plan is carried out.
    pub plan: Option<RunId>,
    /// Whether what goes is quarantined.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub quarantine: bool,
    /// Whether the registry takes writes meanwhile.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub online: bool,
    /// The longest that one request to the registry may take, where it takes writes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub registry_request_timeout_seconds: Option<u64>,
    /// The run whose quarantine is purged.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub purges: Option<RunId>,
}

impl Default for RunOptions {
    /// Those of a run that is told nothing.
    fn default() -> Self {
        Self {
            references: storage_alone(),
            context: None,
            empty_repositories_older_than_seconds: None,
            purge_tag_history_older_than_seconds: None,
            keep_younger_than_seconds: 24 * 60 * 60,
            delete_untagged: false,
            accept_untagged_repositories: false,
            purge_uploads_older_than_seconds: None,
            abort_multipart_older_than_seconds: None,
            prune_broken: false,
            delete_empty_repositories: false,
            false_positive_rate: 1e-6,
            accept_versioned: false,
            filter_seed: None,
            plan: None,
            quarantine: false,
            online: false,
            registry_request_timeout_seconds: None,
            purges: None,
        }
    }
}

/// What versions knew that had no others.
fn storage_alone() -> Vec<SourceName> {
    vec![SourceName::Storage]
}

fn is_storage_alone(names: &[SourceName]) -> bool {
    names == [SourceName::Storage]
}

impl RunOptions {
    /// How old a thing must be to go.
    #[must_use]
    pub fn keep_younger_than(&self) -> Duration {
        Duration::from_secs(self.keep_younger_than_seconds)
    }
}

/// What was sealed and done in one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub number: u32,
    /// By the store's clock.
    pub started: Timestamp,
    /// The sha256 of its sealed plan, once there is one.
    pub sealed_plan: Option<Digest>,
    /// Whether deletes may have begun.
    pub deletes_begun: bool,
    /// Requests to the registry's storage, as far as they were noted.
    pub requests: RequestCounts,
    /// Workers of other processes that reported a task. 0: this process did all of them.
    #[serde(default)]
    pub workers: u64,
    /// How it is known that nothing was written meanwhile. `None` in a check.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub read_only: Option<Basis>,
}

/// What a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The format's version: 1.
    pub version: u32,
    /// Its id.
    pub run: RunId,
    /// The identity of the registry's storage.
    pub registry: String,
    /// What it is to do.
    pub mode: Mode,
    /// By what options.
    pub options: RunOptions,
    /// By the store's clock.
    pub started: Timestamp,
    /// How shards are cut in all its epochs, once that is known.
    pub shard_digits: Option<ShardDigits>,
    /// The sha256 of its copy of the reviewed plan that it carries out, where it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reviewed_plan: Option<Digest>,
    /// The options of its guards that were given, for the command that a check proposes. No run goes by them: a run has the
    /// limits of its own command line.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub guard_arguments: Vec<String>,
    /// The report of its latest epoch, once that has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub report: Option<FileRef>,
    /// The index of its books, once they are closed (see `book_index`).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub books: Vec<FileRef>,
    /// Its epochs.
    pub epochs: Vec<EpochRecord>,
    /// Whether it is over: a run that is not can be resumed.
    pub ended: bool,
}

impl RunRecord {
    /// The latest epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch {
            run: self.run,
            number: self.epochs.last().map_or(1, |epoch| epoch.number),
        }
    }

    /// Begins the next epoch (R11).
    pub fn begin_epoch(&mut self, started: Timestamp) -> Epoch {
        let number = self.epochs.last().map_or(1, |epoch| epoch.number + 1);
        let requests = RequestCounts::default();
        // They speak of the epochs before only.
        self.report = None;
        self.books.clear();
        self.epochs.push(EpochRecord {
            number,
            started,
            sealed_plan: None,
            deletes_begun: false,
            requests,
            workers: 0,
            read_only: None,
        });
        self.epoch()
    }

    /// Whether deletes may have begun in any epoch.
    #[must_use]
    pub fn deletes_begun(&self) -> bool {
        self.epochs.iter().any(|epoch| epoch.deletes_begun)
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn save(&self, state: &StateStore) -> Result<(), StateError> {
        state.write_json(&record_key(self.run), self).await.map(|_| ())
    }

    /// Reads a run's record.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn load(state: &StateStore, run: RunId) -> Result<Self, StateError> {
        state.read_json(&record_key(run)).await
    }
}

fn record_key(run: RunId) -> String {
    format!("{}run.json", run_folder(run))
}

/// The runs in a state store, oldest first.
///
/// # Errors
///
/// The state store's.
pub async fn list_runs(state: &StateStore) -> Result<Vec<RunId>, StateError> {
    let folder = format!("{}runs/", hardprune_common::store::OWN_FOLDER);
    let names = state.list_folders(&folder).await?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
