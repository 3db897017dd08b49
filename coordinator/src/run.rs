//! A run, from its stores to its report: mark, seal, plan, and for `delete` unlink, sweep, settle.

mod carry_out;
mod close;
mod mark_and_plan;
mod purge;
mod read_only_mode;
mod reference_sources;
mod refuse;
mod review;

pub use review::Reviewed;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardprune_common::clock;
use hardprune_common::problem::Problem;
use hardprune_common::run::Epoch;
use hardprune_common::seal::{SealedMark, SealedPlan};
use hardprune_common::state::StateStore;
use hardprune_common::store::Store;
use hardprune_worker::metrics::WorkerMetrics;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::accounts;
use crate::books;
use crate::ceiling::Ceiling;
use crate::descriptor_cache::RedisCache;
use crate::dispatch::{Dispatcher, Tally};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::garbage::MultipartCounts;
use crate::guards::{Amount, Guards, Refusal};
use crate::lock_registry::{LockTerms, RegistryLock};
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::quarantine::PutBackCounts;
use crate::read_only::ReadOnly;
use crate::reference_source::References;
use crate::report::{Outcome, Report, Seconds};
use crate::reviewed::ReviewedPlan;
use crate::run_record::{Mode, RunRecord};
use crate::settle;
use crate::silence::wait_for_silence;
use crate::transport::{Elsewhere, Transport};

/// What a run works with.
#[derive(Debug)]
pub struct Run {
    /// The registry's storage.
    pub registry: Arc<dyn Store>,
    /// Where the run is kept.
    pub state: StateStore,
    /// What it is.
    pub record: RunRecord,
    /// The workers of other processes that do its tasks. `None`: this process does them.
    pub elsewhere: Option<Elsewhere>,
    /// How it is known that nothing writes to the registry. `None`: a check.
    pub read_only: Option<ReadOnly>,
    /// A bound on the requests to the registry's store.
    pub ceiling: Ceiling,
    /// How long the registry's lock is good for without being renewed.
    pub lease: Duration,
    /// When it stops.
    pub deadline: Option<Timestamp>,
    /// The reviewed plan that it carries out, its files copied into this run's state.
    pub reviewed: Option<ReviewedPlan>,
    /// Where references come from.
    pub references: References,
    /// What guards go by.
    pub guards: Guards,
    /// The registry's cache, where it is one whose entries are removed.
    pub cache: Option<Arc<RedisCache>>,
    /// Whether what earlier runs read need not be read again.
    pub uses_mark_cache: bool,
    /// Tasks done at once.
    pub workers: usize,
    /// Reads that one task has in flight.
    pub reads_in_flight: usize,
    /// Where spools go.
    pub spool_dir: PathBuf,
    /// Files that were asked for.
    pub outputs: Outputs,
    /// State of so many earlier runs is kept.
    pub keep_runs: usize,
    /// Where progress is shown.
    pub progress: Progress,
    /// What the workers of this process count, where they do the tasks.
    pub worker_metrics: WorkerMetrics,
    /// Ends the run.
    pub stop: CancellationToken,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Its report.
    pub report: Report,
    /// The exit status that goes with it.
    pub status: ExitStatus,
    /// What ended it, where it had deleted nothing: a failure, a guard, a stop.
    pub error: Option<RunError>,
}

/// What came of an epoch as far as it got.
#[derive(Debug, Default)]
struct Found {
    seconds: Seconds,
    plan: Option<Arc<SealedPlan>>,
    mark: Option<Arc<SealedMark>>,
    /// What earlier epochs deleted.
    gone_before: Amount,
    /// Guards that refuse, or would refuse a delete.
    guards: Vec<Refusal>,
    /// Multipart uploads that were aborted; in a check, that would be.
    multipart_uploads: MultipartCounts,
    /// What was quarantined and is needed again.
    put_back: PutBackCounts,
    /// What came of looking again, where the registry took writes.
    reviewed: Option<Reviewed>,
    /// Problems of this process that no mark counted.
    problems: Vec<Problem>,
    /// Whether a stage before the sweep left something that blobs must wait for (R6).
    held_back: bool,
    /// Whether a sweep ended before its end: the run is to stop, or has lost the lock (R11).
    stopped: bool,
    /// What reports said of those who made them.
    tally: Tally,
}

impl Run {
    /// Does one epoch of the run and reports.
    ///
    /// # Errors
    ///
    /// What ended it before there was a run, or kept its report from being made.
    pub async fn execute(mut self) -> Result<Ended, RunError> {
        let began = clock::monotonic_now();
        let now = self.registry.now().await?;
        let epoch = self.record.begin_epoch(now);
        self.note_basis();
        let lock = match self.record.mode {
            Mode::Check => None,
            Mode::Delete | Mode::Purge => {
                let registry = Arc::clone(&self.registry);
                let terms = LockTerms {
                    lease: self.lease,
                    workers_elsewhere: self.elsewhere.is_some(),
                    state: self.state.identity().to_owned(),
                };
                let metrics = self.progress.metrics().clone();
                Some(RegistryLock::take(registry, &epoch, terms, metrics, self.stop.clone()).await?)
            }
        };
        let mut result = self.epoch(&epoch, lock.as_ref(), began).await;
        if let Some(lock) = lock {
            if self.record.ended {
                lock.note_closed_books().await;
            }
            // The last attempt at a delete has ended. While the lock is held nobody else begins.
            if let Some(Err(error)) = self.restore_read_write(&lock).await {
                self.progress.say(&error.to_string());
                if let Ok(ended) = &mut result {
                    ended.status = ended.status.at_best_partly();
                }
            }
            lock.give_back().await;
        }
        if self.record.deletes_begun() {
            return result.map_err(|error| RunError::AfterDeletes(Box::new(error)));
        }
        result
    }

    async fn epoch(
        &mut self,
        epoch: &Epoch,
        lock: Option<&RegistryLock>,
        began: Instant,
    ) -> Result<Ended, RunError> {
        self.record.save(&self.state).await?;
        let mut found = Found::default();
        let (transport, result) = match self.begin(epoch, lock, &mut found).await {
            Ok(transport) => {
                let result = self.stages(epoch, lock, &transport, &mut found).await;
                (Some(transport), result)
            }
            Err(error) => (None, Err(error)),
        };
        found.seconds.total = clock::since(began).as_secs_f64();
        let ended = self.finish(found, result).await;
        let outcome = ended
            .as_ref()
            .map_or(Outcome::Failed, |ended| ended.report.outcome);
        if let Some(transport) = transport {
            transport
                .end(outcome, self.progress.board(), self.stop.clone())
                .await;
        }
        ended
    }

    /// Settles what is left of earlier epochs and runs, and opens the queue.
    async fn begin(
        &self,
        epoch: &Epoch,
        lock: Option<&RegistryLock>,
        found: &mut Found,
    ) -> Result<Transport, RunError> {
        if epoch.number > 1 {
            // R5: with the lock in hand no request of an earlier epoch is under way any more.
            let settled = books::settle_open_batches(&*self.registry, &self.state, &self.record).await?;
            info!(settled.batches, "open batches of earlier epochs are settled");
            if let Some(line) = settled.describe_unattributed() {
                self.progress.say(&line);
            }
            let accounts = accounts::add_up(&self.state, &self.record, &|_| {}).await?;
            self.progress.set_deleted(&accounts);
            found.gone_before = Amount {
                blobs: accounts.deleted_blobs,
                bytes: accounts.freed_bytes,
            };
        }
        if let Some(lock) = lock {
            // As long as what it left open is there, or gone by it: after this run nobody could tell.
            settle::settle_last_delete(&self.registry, &self.state, self.record.run, lock.last_delete())
                .await;
        }
        Transport::open(self, epoch).await
    }

    /// The stages, in the order of the data.
    async fn stages(
        &mut self,
        epoch: &Epoch,
        lock: Option<&RegistryLock>,
        transport: &Transport,
        found: &mut Found,
    ) -> Result<(), RunError> {
        let stores = (
            self.registry.identity().to_owned(),
            self.state.identity().to_owned(),
        );
        let dispatcher = Dispatcher::new(
            transport.publisher(),
            epoch.clone(),
            stores,
            self.stop.clone(),
            self.progress.metrics().clone(),
        );
        let result = match self.record.options.purges {
            Some(purged) => self.purge(purged, epoch, lock, &dispatcher, found).await,
            None => self.stages_of(epoch, lock, &dispatcher, found).await,
        };
        if let Some(lock) = lock
            && dispatcher.may_be_at_work()
        {
            wait_for_silence(lock, self.lease, &self.state, epoch).await;
        }
        let result = match result {
            Ok(()) if self.record.options.online && !found.stopped => {
                self.review(epoch, &dispatcher, found).await
            }
            result => result,
        };
        found.tally = dispatcher.tally();
        result
    }

    async fn stages_of(
        &mut self,
        epoch: &Epoch,
        lock: Option<&RegistryLock>,
        dispatcher: &Dispatcher<'_>,
        found: &mut Found,
    ) -> Result<(), RunError> {
        self.begin_to_read(epoch, lock, found).await?;
        if self.record.options.online && epoch.number > 1 {
            // What an epoch moved that died may be needed: it goes back before anything else goes.
            self.review_once(epoch, dispatcher, found).await?;
        }
        let (mark, plan) = self.mark_and_plan(epoch, dispatcher, found).await?;
        self.outputs
            .write_candidates(&self.state, plan.document())
            .await?;
        let multipart = self.guard(&mark, &plan, found).await?;
        let Some(lock) = lock else {
            found.multipart_uploads = multipart;
            self.outputs
                .write_planned_removals(&self.state, plan.document())
                .await?;
            return Ok(());
        };
        self.carry_out(epoch, lock, dispatcher, &plan, found).await
    }

    /// R4: the epoch's start is the store's time.
    fn started(&self) -> Timestamp {
        let latest = self.record.epochs.last();
        latest.map_or(self.record.started, |epoch| epoch.started)
    }

    fn abort_multipart_before(&self) -> Option<Timestamp> {
        let age = self.record.options.abort_multipart_older_than_seconds?;
        Some(clock::earlier(self.started(), Duration::from_secs(age)))
    }
}
