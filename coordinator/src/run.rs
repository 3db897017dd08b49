//! A run, from its stores to its report: mark, seal, plan, and for `delete` unlink, sweep, settle.

mod read_only_mode;
mod reference_sources;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardprune_common::clock;
use hardprune_common::failpoint;
use hardprune_common::filter::FilterSeed;
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::removal::RemovalStage;
use hardprune_common::run::Epoch;
use hardprune_common::seal::{MarkedRange, SealedMark, SealedPlan};
use hardprune_common::state::{StateError, StateStore, epoch_folder};
use hardprune_common::store::{Store, Versioning};
use hardprune_common::task::MarkRules;
use hardprune_worker::metrics::WorkerMetrics;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::accounts::{self, Accounts};
use crate::books;
use crate::descriptor_cache::{CacheClearer, RedisCache};
use crate::dispatch::{Dispatcher, Tally};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::failed_removals::write_failed_removals;
use crate::garbage::MultipartCounts;
use crate::guards::{self, Amount, Guards, Refusal};
use crate::lock_registry::{LockTerms, RegistryLock};
use crate::metrics::Stage;
use crate::outputs::Outputs;
use crate::planned::Planned;
use crate::progress::Progress;
use crate::read_only::ReadOnly;
use crate::reference_source::References;
use crate::report::{Outcome, Report, Seconds};
use crate::reviewed::ReviewedPlan;
use crate::run_record::{Mode, RunRecord};
use crate::seal::{SealOptions, seal, survey_blob_space};
use crate::settle::Settled;
use crate::silence::wait_for_silence;
use crate::sweep::sweep;
use crate::transport::{Elsewhere, Transport};
use crate::unlink::Unlink;
use crate::{abort_multipart, mark, plan, retention, settle};

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
    plan: Option<SealedPlan>,
    mark: Option<SealedMark>,
    /// What earlier epochs deleted.
    gone_before: Amount,
    /// Guards that refuse, or would refuse a delete.
    guards: Vec<Refusal>,
    /// Multipart uploads that were aborted; in a check, that would be.
    multipart_uploads: MultipartCounts,
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
            Mode::Delete => {
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
        let result = self.stages_of(epoch, lock, &dispatcher, found).await;
        if let Some(lock) = lock
            && dispatcher.may_be_at_work()
        {
            wait_for_silence(lock, self.lease, &self.state, epoch).await;
        }
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
        // The lock was written: where versions are kept, its answer has said so, hours before a mark would end.
        self.refuse_versioned()?;
        found
            .guards
            .extend(guards::compare_clocks(&*self.registry, &self.guards.limits).await?);
        guards::heed(self.record.mode, &found.guards, "", &self.progress)?;
        self.establish_read_only(epoch, lock).await?;
        let stage = clock::monotonic_now();
        let rules = self.mark_rules();
        let ranges = mark::cut_ranges(&*self.registry, self.workers).await?;
        let gathered = self.gather_references(epoch, &ranges, &rules).await?;
        found.problems.extend(gathered.problems);
        let marked = mark::mark(dispatcher, gathered.works, &self.progress).await?;
        found.seconds.mark = clock::since(stage).as_secs_f64();
        info!(
            ranges = marked.len(),
            seconds = found.seconds.mark,
            "repositories are marked"
        );
        failpoint::here("after-mark").await;
        self.prove_read_only_again().await?;
        self.refuse_untagged(&marked)?;
        self.refuse_versioned()?;

        let stage = clock::monotonic_now();
        self.progress.enter(Stage::Seal);
        let options = SealOptions {
            epoch: epoch.clone(),
            cutoff: rules.cutoff,
            false_positive_rate: self.record.options.false_positive_rate,
            seed: self
                .record
                .options
                .filter_seed
                .map_or_else(FilterSeed::random, FilterSeed::of_number),
            shard_digits: self.record.shard_digits,
            reviewed: self.reviewed.as_ref().map(ReviewedPlan::document),
            sources: gathered.references,
            spool_dir: &self.spool_dir,
        };
        let space = survey_blob_space(&*self.registry).await?;
        let sealed_mark = seal(&self.state, self.registry.identity(), marked, &space, options).await?;
        self.record.shard_digits = Some(sealed_mark.document().shard_digits);
        found.seconds.seal = clock::since(stage).as_secs_f64();
        let document = sealed_mark.document();
        info!(references = document.references, cutoff = %document.cutoff, seconds = found.seconds.seal, "the mark is sealed");
        failpoint::here("after-seal").await;
        self.prove_read_only_again().await?;
        let sealed_mark = found.mark.insert(sealed_mark);

        let stage = clock::monotonic_now();
        let reviewed = self.reviewed.as_ref();
        let sealed_plan = plan::plan(dispatcher, &self.state, sealed_mark, reviewed, &self.progress).await?;
        found.seconds.plan = clock::since(stage).as_secs_f64();
        if let Some(latest) = self.record.epochs.last_mut() {
            latest.sealed_plan = Some(sealed_plan.file().sha256);
        }
        let sealed_plan = &*found.plan.insert(sealed_plan);
        let orphaned = sealed_plan.document().totals.orphaned;
        info!(sha256 = %sealed_plan.file().sha256, orphaned, seconds = found.seconds.plan, "the plan is sealed");
        self.outputs
            .write_candidates(&self.state, sealed_plan.document())
            .await?;

        let planned = Planned::read(&self.state, sealed_plan.document()).await?;
        let (mark, plan) = (sealed_mark.document(), sealed_plan.document());
        let (refusals, in_all) = guards::examine(self, mark, plan, planned, found.gone_before).await?;
        found.guards.extend(refusals.iter().cloned());
        guards::heed(self.record.mode, &refusals, &in_all, &self.progress)?;
        let old_multipart = self.abort_multipart_before();
        let multipart = match old_multipart {
            Some(before) => abort_multipart::count(&*self.registry, before).await?,
            None => MultipartCounts::default(),
        };
        let Some(lock) = lock else {
            found.multipart_uploads = multipart;
            self.outputs
                .write_planned_removals(&self.state, sealed_plan.document())
                .await?;
            return Ok(());
        };
        // R7: `delete` says what it will do before it does it.
        self.progress
            .say(&format!("will delete {}", planned.describe(plan)));
        if old_multipart.is_some() {
            self.progress.say(&format!("will abort {}", multipart.describe()));
        }
        self.prove_read_only_again().await?;
        if self.stop.is_cancelled() {
            return Err(crate::dispatch::DispatchError::Stopped.into());
        }
        if let Some(latest) = self.record.epochs.last_mut() {
            latest.deletes_begun = true;
        }
        // From here on the books must be read: first the record, then the lock, then the first delete.
        self.record.save(&self.state).await?;
        self.state.flush().await?;
        let sealed = sealed_plan.file().sha256;
        lock.allow(sealed, RemovalStage::Unlink).await?;
        failpoint::here("after-lock-allows").await;

        let clearer = self
            .cache
            .as_ref()
            .map(|cache| CacheClearer::start(Arc::clone(cache), self.state.clone()));
        let stage = clock::monotonic_now();
        let (dead, dangling) = Unlink::stages(sealed_plan.document());
        let unlinked = dead.carry_out(dispatcher, &self.progress).await?;
        found.seconds.unlink = clock::since(stage).as_secs_f64();
        found.problems.extend(unlinked.problems);
        found.held_back = !unlinked.complete;
        info!(
            complete = unlinked.complete,
            seconds = found.seconds.unlink,
            "links of dead manifests are removed"
        );
        failpoint::here("after-unlink").await;
        if unlinked.complete {
            // A link that cannot go holds no blob back: it leads nowhere then, and the next run sees it again.
            self.prove_read_only_again().await?;
            lock.allow(sealed, RemovalStage::Links).await?;
            let links = dangling.carry_out(dispatcher, &self.progress).await?;
            found.problems.extend(links.problems);
            found.seconds.unlink = clock::since(stage).as_secs_f64();
            if let Some(clearer) = &clearer {
                clearer.carried_out(&plan.unlink);
                clearer.carried_out(&plan.dangling);
            }
            failpoint::here("after-dangling").await;
            self.prove_read_only_again().await?;
            lock.allow(sealed, RemovalStage::Sweep).await?;
            let stage = clock::monotonic_now();
            let swept = sweep(dispatcher, sealed_plan, &self.progress, clearer.as_ref()).await?;
            found.seconds.sweep = clock::since(stage).as_secs_f64();
            info!(
                failed_tasks = swept.problems.len(),
                stopped = swept.stopped,
                seconds = found.seconds.sweep,
                "shards are swept"
            );
            found.problems.extend(swept.problems);
            found.stopped = swept.stopped;
            if let Some(before) = old_multipart.filter(|_| !swept.stopped) {
                failpoint::here("before-multipart-aborts").await;
                let (aborted, problems) = abort_multipart::abort(self, epoch, before).await?;
                found.multipart_uploads = aborted;
                found.problems.extend(problems);
            }
        }
        if let Some(clearer) = clearer {
            clearer.finish().await;
        }
        failpoint::here("after-sweep").await;
        Ok(())
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

    fn mark_rules(&self) -> MarkRules {
        let reviewed = self.reviewed.as_ref().map(|plan| plan.unlink().clone());
        mark::rules(&self.record.options, self.started(), reviewed)
    }

    /// A registry without tag links looks untagged as a whole, and is Harbor's (2.15 and later).
    fn refuse_untagged(&self, marked: &[MarkedRange]) -> Result<(), RunError> {
        let count = |range: &MarkedRange| {
            range
                .findings
                .problem_counts
                .get(&ProblemKind::RepositoryWithoutTags)
                .copied()
                .unwrap_or_default()
        };
        match marked.iter().map(count).sum::<u64>() {
            0 => Ok(()),
            repositories => Err(RunError::Refused(format!(
                "{repositories} repositories have revisions and no tag at all. Harbor (2.15 and later) keeps tags in its \
                 database and looks so: --delete-untagged would delete its live images. If they really are untagged, say \
                 --accept-untagged-repositories"
            ))),
        }
    }

    fn refuse_versioned(&self) -> Result<(), RunError> {
        let refused = self.record.mode == Mode::Delete
            && self.registry.versioning() == Versioning::Seen
            && !self.record.options.accept_versioned;
        if refused {
            return Err(RunError::Refused(format!(
                "{} keeps versions: deletes would only hide blobs and free nothing. Turn versioning off and remove old \
                 versions by a lifecycle rule, or say --accept-versioned",
                self.registry.identity()
            )));
        }
        Ok(())
    }

    async fn finish(&mut self, found: Found, result: Result<(), RunError>) -> Result<Ended, RunError> {
        if let Some(latest) = self.record.epochs.last_mut() {
            latest.requests = self.registry.requests().plus(found.tally.requests);
            latest.workers = found.tally.workers.len() as u64;
        }
        let begun = self.record.deletes_begun();
        self.progress.enter(Stage::Settle);
        let settled = if begun {
            Some(settle::settle(self).await?)
        } else {
            None
        };
        let result = self.held_throughout(result).await;
        let (outcome, mut status) = match (&result, &settled) {
            (Ok(()), None) => (Outcome::Completed, ExitStatus::Done),
            (Ok(()), Some(settled)) => judge(settled, &found, self.stop.is_cancelled()),
            (Err(_), Some(_)) => (Outcome::Stopped, ExitStatus::Stopped),
            (Err(error), None) => {
                let status = error.exit_status();
                let outcome = match status {
                    ExitStatus::Refused => Outcome::Refused,
                    // A task that is withdrawn because the run stops may be heard of before the stop is.
                    _ if error.is_stop() || self.stop.is_cancelled() => Outcome::Stopped,
                    _ => Outcome::Failed,
                };
                (outcome, status)
            }
        };
        let books_are_closed = settled.as_ref().is_some_and(|settled| settled.complete);
        let accounts = settled.map(|settled| {
            if let Some(uncleared) = settled.uncleared {
                self.progress.say(&uncleared);
                if let Some(read_only) = &mut self.read_only {
                    read_only.stay(uncleared);
                }
                status = status.at_best_partly();
            }
            if let Some(error) = settled.unwritten {
                self.progress.say(&error.to_string());
                status = status.at_best_partly();
            }
            self.progress.set_deleted(&settled.accounts);
            settled.accounts
        });
        let refused = accounts
            .as_ref()
            .is_some_and(|accounts| accounts.problems.total > 0);
        if let Err(error) = self.write_problems(refused, &found.problems).await {
            self.progress
                .say(&format!("not every problem could be written down: {error}"));
        }
        self.record.ended = !matches!(outcome, Outcome::Stopped);
        let error = result.err();
        let report = self.report(&found, outcome, accounts, error.as_ref()).await;
        let saved = match &report {
            Ok(report) => settle::save(self, report, books_are_closed).await,
            Err(_) => Ok(()),
        };
        retention::tidy_up(&self.state, &self.record, self.keep_runs).await;
        match (error, report) {
            // What ended the run is what the user must hear, whether or not it could be written down.
            (Some(error), Err(_)) if !begun => Err(error),
            (error @ Some(_), Ok(report)) if !begun => Ok(Ended {
                report,
                status,
                error,
            }),
            (error, report) => {
                if let Some(error) = error {
                    self.progress.say(&format!("stopped: {error}"));
                }
                saved?;
                Ok(Ended {
                    report: report?,
                    status,
                    error: None,
                })
            }
        }
    }

    /// Writes what no mark has written down: removals that the store refused, where there are any, and tasks that failed.
    async fn write_problems(&self, refused: bool, of_tasks: &[Problem]) -> Result<(), StateError> {
        if refused {
            write_failed_removals(&self.state, &self.record).await?;
        }
        if !of_tasks.is_empty() {
            let key = format!(
                "{}problems/tasks.problems.jsonl",
                epoch_folder(&self.record.epoch())
            );
            self.state.write_lines(&key, of_tasks).await?;
        }
        Ok(())
    }

    /// Makes the report.
    async fn report(
        &self,
        found: &Found,
        outcome: Outcome,
        accounts: Option<Accounts>,
        error: Option<&RunError>,
    ) -> Result<Report, RunError> {
        let mut report =
            settle::report(self, outcome, found.mark.as_ref(), found.plan.as_ref(), accounts).await?;
        report.seconds = found.seconds;
        report.add_problems(&found.problems);
        report.guards.clone_from(&found.guards);
        report.guard_limits = Some(self.guards.limits);
        report.garbage.multipart_uploads = found.multipart_uploads;
        report.error = error.map(ToString::to_string);
        Ok(report)
    }
}

fn judge(settled: &Settled, found: &Found, stopping: bool) -> (Outcome, ExitStatus) {
    let accounts = &settled.accounts;
    let left = accounts.not_attempted_blobs
        + accounts.links_left
        + accounts.unreadable
        + found.multipart_uploads.failed;
    let cut_short = stopping || found.held_back || found.stopped;
    // R5: a run is not over while its books are not.
    if !settled.complete || left > 0 && cut_short {
        return (Outcome::Stopped, ExitStatus::Stopped);
    }
    if left + accounts.failed_blobs > 0 {
        return (Outcome::Completed, ExitStatus::Partly);
    }
    (Outcome::Completed, ExitStatus::Done)
}
