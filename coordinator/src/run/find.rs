//! What a run finds, and what stands between that and the first delete: mark, seal, plan, guards.

use std::sync::Arc;

use hardprune_common::clock;
use hardprune_common::failpoint;
use hardprune_common::filter::FilterSeed;
use hardprune_common::problem::ProblemKind;
use hardprune_common::quarantine::Undo;
use hardprune_common::run::Epoch;
use hardprune_common::seal::{MarkedRange, SealedMark, SealedPlan};
use hardprune_common::state::epoch_folder;
use hardprune_common::store::Versioning;
use hardprune_common::task::MarkRules;
use tracing::info;

use super::{Found, Run};
use crate::dispatch::Dispatcher;
use crate::error::RunError;
use crate::garbage::MultipartCounts;
use crate::guards;
use crate::lock_registry::RegistryLock;
use crate::metrics::Stage;
use crate::planned::Planned;
use crate::quarantine::sort_copies::SortCopies;
use crate::reviewed::ReviewedPlan;
use crate::run_record::Mode;
use crate::seal::{BlobSpace, SealOptions, seal, survey_blob_space};
use crate::{abort_multipart, mark, plan};

/// One look at all references.
pub(super) struct Look<'c> {
    /// What the ids of its tasks begin with.
    pub tasks: String,
    /// Where its files go.
    pub folder: String,
    /// By what rules.
    pub rules: MarkRules,
    /// The copies in quarantine that it is for, and for nothing else. `None`: it is for a plan.
    pub copies: Option<&'c mut SortCopies>,
}

impl Run {
    /// Makes sure that the registry may be read for this, and has it read-only (R11).
    pub(super) async fn begin_to_read(
        &mut self,
        epoch: &Epoch,
        lock: Option<&RegistryLock>,
        found: &mut Found,
    ) -> Result<(), RunError> {
        // The lock was written: where versions are kept, its answer has said so, hours before a mark would end.
        self.refuse_versioned()?;
        found
            .guards
            .extend(guards::compare_clocks(&*self.registry, &self.guards.limits).await?);
        guards::heed(self.record.mode, &found.guards, "", &self.progress)?;
        self.establish_read_only(epoch, lock).await
    }

    /// Marks all repositories, and seals the mark that a plan is made from.
    pub(super) async fn mark_and_seal(
        &mut self,
        epoch: &Epoch,
        dispatcher: &Dispatcher<'_>,
        found: &mut Found,
    ) -> Result<Arc<SealedMark>, RunError> {
        let look = Look {
            tasks: "mark".to_owned(),
            folder: epoch_folder(epoch),
            rules: self.mark_rules(),
            copies: None,
        };
        let sealed_mark = self.look(epoch, dispatcher, look, found).await?;
        self.record.shard_digits = Some(sealed_mark.document().shard_digits);
        let sealed_mark = Arc::new(sealed_mark);
        found.mark = Some(Arc::clone(&sealed_mark));
        Ok(sealed_mark)
    }

    /// Marks all repositories and seals what was found.
    pub(super) async fn look(
        &mut self,
        epoch: &Epoch,
        dispatcher: &Dispatcher<'_>,
        look: Look<'_>,
        found: &mut Found,
    ) -> Result<SealedMark, RunError> {
        let stage = clock::monotonic_now();
        let ranges = mark::cut_ranges(&*self.registry, self.workers).await?;
        let marked = mark::mark(dispatcher, &look.tasks, ranges, &look.rules, &self.progress).await?;
        let seconds = clock::since(stage).as_secs_f64();
        found.seconds.mark += seconds;
        info!(ranges = marked.len(), seconds, "repositories are marked");
        failpoint::here("after-mark").await;
        self.prove_read_only_again().await?;
        self.refuse_untagged(&marked)?;
        self.refuse_versioned()?;

        let stage = clock::monotonic_now();
        self.progress.enter(Stage::Seal);
        // Where only copies are looked at, no shard of the registry's blobs is planned.
        let space = match look.copies {
            Some(_) => BlobSpace::default(),
            None => survey_blob_space(&*self.registry).await?,
        };
        let options = SealOptions {
            epoch: epoch.clone(),
            cutoff: look.rules.cutoff,
            false_positive_rate: self.record.options.false_positive_rate,
            seed: self
                .record
                .options
                .filter_seed
                .map_or_else(FilterSeed::random, FilterSeed::of_number),
            shard_digits: self.record.shard_digits,
            reviewed: self.reviewed.as_ref().map(ReviewedPlan::document),
            spool_dir: &self.spool_dir,
            folder: look.folder,
            copies: look.copies,
        };
        let sealed_mark = seal(&self.state, &*self.registry, marked, &space, options).await?;
        let seconds = clock::since(stage).as_secs_f64();
        found.seconds.seal += seconds;
        let document = sealed_mark.document();
        info!(references = document.references, cutoff = %document.cutoff, seconds, "the mark is sealed");
        failpoint::here("after-seal").await;
        self.prove_read_only_again().await?;
        Ok(sealed_mark)
    }

    /// Plans every shard, and seals the plan.
    pub(super) async fn plan(
        &mut self,
        dispatcher: &Dispatcher<'_>,
        mark: &SealedMark,
        found: &mut Found,
    ) -> Result<Arc<SealedPlan>, RunError> {
        let stage = clock::monotonic_now();
        let reviewed = self.reviewed.as_ref();
        let undo = self.undo().await?;
        let sealed_plan = plan::plan(dispatcher, &self.state, mark, reviewed, undo, &self.progress).await?;
        found.seconds.plan = clock::since(stage).as_secs_f64();
        if let Some(latest) = self.record.epochs.last_mut() {
            latest.sealed_plan = Some(sealed_plan.file().sha256);
        }
        let sealed_plan = Arc::new(sealed_plan);
        found.plan = Some(Arc::clone(&sealed_plan));
        let orphaned = sealed_plan.document().totals.orphaned;
        info!(sha256 = %sealed_plan.file().sha256, orphaned, seconds = found.seconds.plan, "the plan is sealed");
        self.outputs
            .write_candidates(&self.state, sealed_plan.document())
            .await?;
        Ok(sealed_plan)
    }

    /// Has the guards look at what would go, and says what will. Returns the multipart uploads that would be aborted.
    pub(super) async fn guard(
        &mut self,
        mark: &SealedMark,
        plan: &SealedPlan,
        found: &mut Found,
    ) -> Result<MultipartCounts, RunError> {
        let planned = Planned::read(&self.state, plan.document()).await?;
        let (mark, plan) = (mark.document(), plan.document());
        let (refusals, in_all) = guards::examine(self, mark, plan, planned, found.gone_before).await?;
        found.guards.extend(refusals.iter().cloned());
        guards::heed(self.record.mode, &refusals, &in_all, &self.progress)?;
        let old_multipart = self.abort_multipart_before();
        let multipart = match old_multipart {
            Some(before) => abort_multipart::count(&*self.registry, before).await?,
            None => MultipartCounts::default(),
        };
        if self.record.mode == Mode::Check {
            return Ok(multipart);
        }
        // R7: `delete` says what it will do before it does it.
        self.progress
            .say(&format!("will {} {}", verb(plan.undo), planned.describe(plan)));
        if old_multipart.is_some() {
            self.progress.say(&format!("will abort {}", multipart.describe()));
        }
        Ok(multipart)
    }

    pub(super) fn mark_rules(&self) -> MarkRules {
        let options = &self.record.options;
        let started = self.started();
        let purge = options
            .purge_uploads_older_than_seconds
            .map(std::time::Duration::from_secs);
        MarkRules {
            cutoff: clock::earlier(started, options.keep_younger_than()),
            delete_untagged: options.delete_untagged,
            accept_untagged_repositories: options.accept_untagged_repositories,
            prune_broken: options.prune_broken,
            delete_empty_repositories: options.delete_empty_repositories,
            purge_uploads_before: purge.map(|age| clock::earlier(started, age)),
            reviewed: self.reviewed.as_ref().map(|plan| plan.unlink().clone()),
        }
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
}

/// What becomes of what goes.
fn verb(undo: Undo) -> &'static str {
    match undo {
        Undo::Nothing => "delete",
        Undo::Copies => "move into quarantine",
        Undo::Versions => "hide, in a bucket that keeps versions,",
    }
}
