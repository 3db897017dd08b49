//! What stands before the first listing and before the first delete: refusals and guards; and by what rules a run marks.

use hardprune_common::problem::ProblemKind;
use hardprune_common::quarantine::Undo;
use hardprune_common::run::Epoch;
use hardprune_common::seal::{MarkedRange, SealedMark, SealedPlan};
use hardprune_common::store::Versioning;
use hardprune_common::task::MarkRules;

use super::{Found, Run};
use crate::error::RunError;
use crate::garbage::MultipartCounts;
use crate::guards;
use crate::lock_registry::RegistryLock;
use crate::planned::Planned;
use crate::run_record::Mode;
use crate::{abort_multipart, mark};

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
        let reviewed = self.reviewed.as_ref().map(|plan| plan.unlink().clone());
        mark::rules(&self.record.options, self.started(), reviewed)
    }

    /// A registry without tag links looks untagged as a whole, and is Harbor's (2.15 and later).
    pub(super) fn refuse_untagged(&self, marked: &[MarkedRange]) -> Result<(), RunError> {
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

    pub(super) fn refuse_versioned(&self) -> Result<(), RunError> {
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
