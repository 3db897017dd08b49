//! A purge: what an earlier run has quarantined goes for good, unless it is needed again.
//!
//! R1: each look at all references sorts the copies exactly; whatever is needed goes back before anything goes, and then the look is
//! repeated, for a manifest that is back names what only it could name. What goes at last goes by a sealed plan, like any other delete.

use std::sync::Arc;

use hardprune_common::clock;
use hardprune_common::failpoint;
use hardprune_common::filter::FilterSeed;
use hardprune_common::quarantine::Undo;
use hardprune_common::removal::{Removal, RemovalKind};
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::{SealedMark, SealedPlan};
use hardprune_common::state::epoch_folder;
use hardprune_common::store::ListedObject;
use hardprune_common::task::{MarkRules, MarkWork};
use jiff::Timestamp;
use tracing::info;

use super::{Found, Run};
use crate::dispatch::Dispatcher;
use crate::error::RunError;
use crate::guards;
use crate::lock_registry::RegistryLock;
use crate::mark::{self, TaskNames, ToMark};
use crate::mark_cache::{CachedRange, MarkCache};
use crate::metrics::Stage;
use crate::planned::Planned;
use crate::quarantine::keeping;
use crate::quarantine::put_back::{Restored, put_back};
use crate::quarantine::sort_copies::{SortCopies, SortedCopies};
use crate::seal::{BlobSpace, SealOptions, seal};
use crate::spool::Spool;

/// Removals that are put back at once.
const AT_ONCE: usize = 1_000;

impl Run {
    /// Purges the quarantine of a run.
    pub(super) async fn purge(
        &mut self,
        purged: RunId,
        epoch: &Epoch,
        lock: Option<&RegistryLock>,
        dispatcher: &Dispatcher<'_>,
        found: &mut Found,
    ) -> Result<(), RunError> {
        self.begin_to_read(epoch, lock, found).await?;
        let mut look = 0;
        let (mark, sorted) = loop {
            look += 1;
            let (mark, sorted) = self
                .sort_copies(purged, epoch, dispatcher, (&format!("mark-{look}"), ""), found)
                .await?;
            if sorted.needed_keys() == 0 {
                break (Arc::new(mark), sorted);
            }
            if self.put_back_needed(&sorted, found).await?.is_some() {
                continue;
            }
            if found.put_back.failed == 0 {
                // Something else stands in the place of all that is left: it stays, and they stay.
                break (Arc::new(mark), sorted);
            }
            return Err(RunError::Refused(format!(
                "{} keys that are needed again could not be put back, so nothing is purged: {}",
                found.put_back.failed,
                found.put_back.failures.join("; ")
            )));
        };
        self.record.shard_digits = Some(mark.document().shard_digits);
        found.mark = Some(Arc::clone(&mark));
        let plan = SealedPlan::seal_purge(&mark, sorted.links, sorted.shards, &self.state)
            .await
            .map_err(crate::plan::PlanError::from)?;
        let plan = self.take_plan(plan, found);
        self.guard_purge(&mark, &plan, found).await?;
        if let Some(lock) = lock {
            self.carry_out(epoch, lock, dispatcher, &plan, found).await?;
            if !found.stopped && !keeping::has_copies(&*self.registry, purged).await? {
                keeping::forget(&self.registry, purged).await?;
            }
        }
        Ok(())
    }

    /// Looks at all references, and sorts the copies of a run by them. Names of tasks and files begin as `names` say.
    pub(super) async fn sort_copies(
        &mut self,
        of: RunId,
        epoch: &Epoch,
        dispatcher: &Dispatcher<'_>,
        (tasks, below): (&str, &str),
        found: &mut Found,
    ) -> Result<(SealedMark, SortedCopies), RunError> {
        let folder = format!("{}{below}", epoch_folder(epoch));
        let spool = Spool::new(&self.spool_dir).map_err(crate::seal::SealingError::from)?;
        let mut copies = SortCopies::new(of, &self.state, &folder, spool);
        let rules = self.widest_rules();
        let stage = clock::monotonic_now();
        let cache = match self.uses_mark_cache {
            true => Some(MarkCache::open(&self.state, self.registry.identity(), epoch, self.started()).await),
            false => None,
        };
        let to_mark = self.cut(cache.as_ref(), &rules).await?;
        let ranges: Vec<_> = to_mark.iter().map(|to_mark| to_mark.range.clone()).collect();
        // A cluster only adds to what is needed here: it decides about no revision.
        let sources = self.gather_references(epoch, &ranges, &rules).await?.references;
        let work = |ToMark { range, cache }| MarkWork {
            range,
            rules: rules.clone(),
            cache,
        };
        let works = to_mark.into_iter().map(work).collect();
        let (mut names, mut marked) = (TaskNames::new(tasks), Vec::new());
        mark::mark(dispatcher, &mut names, works, &self.progress, &mut marked).await?;
        for range in &mut marked {
            // The next prune has its own to hand on.
            CachedRange::take(range);
        }
        let seconds = clock::since(stage).as_secs_f64();
        found.seconds.mark += seconds;
        info!(ranges = marked.len(), seconds, "repositories are marked");
        failpoint::here("after-mark").await;
        self.prove_read_only_again().await?;
        self.refuse_versioned()?;

        let stage = clock::monotonic_now();
        self.progress.enter(Stage::Seal);
        let options = SealOptions {
            epoch: epoch.clone(),
            cutoff: rules.cutoff,
            false_positive_rate: self.record.options.false_positive_rate,
            seed: FilterSeed::random(),
            shard_digits: self.record.shard_digits,
            reviewed: None,
            sources,
            spool_dir: &self.spool_dir,
            folder,
            copies: Some(&mut copies),
        };
        // No blob of the registry is planned, so no shard needs a filter. A manifest that was remembered, and is gone, has named what it
        // needs, and is needed itself: that only keeps more (R1).
        let mark = seal(
            &self.state,
            &*self.registry,
            marked,
            &BlobSpace::default(),
            options,
        )
        .await?;
        let seconds = clock::since(stage).as_secs_f64();
        found.seconds.seal += seconds;
        info!(
            references = mark.document().references,
            seconds, "the mark is sealed"
        );
        failpoint::here("after-seal").await;
        self.prove_read_only_again().await?;
        Ok((mark, copies.finish().await?))
    }

    /// Everything that a registry has counts as needed, whatever the run that quarantined it went by.
    fn widest_rules(&self) -> MarkRules {
        MarkRules {
            delete_untagged: false,
            accept_untagged_repositories: false,
            prune_broken: false,
            delete_empty_repositories: false,
            empty_before: None,
            purge_tag_history_before: None,
            purge_uploads_before: None,
            reviewed: None,
            ..self.mark_rules()
        }
    }

    /// Puts back what a look has shown to be needed: blobs first, then links. `None`: that changed nothing, because something else stands
    /// in the place of all of it, or it failed.
    pub(super) async fn put_back_needed(
        &mut self,
        sorted: &SortedCopies,
        found: &mut Found,
    ) -> Result<Option<Vec<Restored>>, RunError> {
        let mut restored = Vec::new();
        let before = found.put_back.in_place();
        for kind in [RemovalKind::QuarantinedBlob, RemovalKind::QuarantinedLink] {
            for file in &sorted.needed {
                let removals: Vec<Removal> = self.state.read_lines(file).await?;
                let of_kind: Vec<ListedObject> = removals
                    .iter()
                    .filter(|removal| removal.kind == kind)
                    .map(copy_of)
                    .collect();
                for copies in of_kind.chunks(AT_ONCE) {
                    restored.extend(put_back(&self.registry, copies.to_vec(), &mut found.put_back).await?);
                }
            }
        }
        failpoint::here("after-put-back").await;
        info!(keys = restored.len(), "what is needed again was put back");
        self.progress.say(&format!(
            "needed again and put back: {}",
            found.put_back.describe()
        ));
        Ok((found.put_back.in_place() > before).then_some(restored))
    }

    async fn guard_purge(
        &mut self,
        mark: &SealedMark,
        plan: &SealedPlan,
        found: &mut Found,
    ) -> Result<(), RunError> {
        let planned = Planned::read(&self.state, plan.document()).await?;
        let (mark, plan) = (mark.document(), plan.document());
        let refusals = guards::examine_purge(self, mark, plan, planned, found.gone_before).await?;
        found.guards.extend(refusals.iter().cloned());
        guards::heed(self.record.mode, &refusals, "", &self.progress)?;
        // R7: it says what it will do before it does it.
        self.progress
            .say(&format!("will purge {}", planned.describe(plan)));
        Ok(())
    }

    /// How what this run removes can be had back.
    pub(super) async fn undo(&self) -> Result<Undo, RunError> {
        if !self.record.options.quarantine || !self.record.mode.deletes() {
            return Ok(Undo::Nothing);
        }
        match keeping::read(&*self.registry, self.record.run).await? {
            // Once it has begun to move, it goes on as it began.
            Some(keeping) => Ok(keeping.undo),
            // Looking again finds copies, not versions: what is needed could not be put back.
            None if self.record.options.online => Ok(Undo::Copies),
            None if keeping::proves_versions(&*self.registry, self.record.run).await? => Ok(Undo::Versions),
            None => Ok(Undo::Copies),
        }
    }
}

/// A copy as its listing showed it.
fn copy_of(removal: &Removal) -> ListedObject {
    ListedObject {
        key: removal.key.clone(),
        size: removal.size,
        last_modified: removal.last_modified.unwrap_or(Timestamp::UNIX_EPOCH),
        etag: None,
        exact: true,
    }
}
