//! From the first listing to the sealed plan: mark, seal, plan, and again where the listing does not show what was remembered.
//!
//! Upholds R8: a plan is sealed only if every manifest that was remembered, and not read, was listed as it was. Where one was not,
//! the ranges that went by it are marked again, and it is read: what else was found in the epoch stays.

use std::collections::VecDeque;
use std::sync::Arc;

use hardprune_common::clock;
use hardprune_common::failpoint;
use hardprune_common::filter::FilterSeed;
use hardprune_common::layout::REPOSITORIES;
use hardprune_common::run::Epoch;
use hardprune_common::seal::{MarkedRange, SealError, SealedMark, SealedPlan};
use hardprune_common::state::{FileRef, epoch_folder};
use hardprune_common::task::{KeyRange, MarkRules, MarkWork};
use tracing::info;

use super::{Found, Run};
use crate::dispatch::Dispatcher;
use crate::error::RunError;
use crate::mark::{self, TaskNames, ToMark};
use crate::mark_cache::{CachedRange, MarkCache};
use crate::metrics::Stage;
use crate::plan::{self, EarlierPlans, PlanError, Planning};
use crate::reviewed::ReviewedPlan;
use crate::seal::{SealOptions, seal, survey_blob_space};

/// A range that is known to be smaller is not worth a listing of its own: a page of one has 1,000 keys, and this leaves it room to grow.
const KEYS_OF_A_PAGE: u64 = 800;

/// What was doubted is read the second time. If the storage still lists something else then, everything is.
const LAST_ROUND_WITH_CACHE: usize = 2;

impl Run {
    /// Marks, seals and plans.
    pub(super) async fn mark_and_plan(
        &mut self,
        epoch: &Epoch,
        dispatcher: &Dispatcher<'_>,
        found: &mut Found,
    ) -> Result<(Arc<SealedMark>, Arc<SealedPlan>), RunError> {
        let rules = self.mark_rules();
        let seed = self.record.options.filter_seed;
        let seed = seed.map_or_else(FilterSeed::random, FilterSeed::of_number);
        let stage = clock::monotonic_now();
        let mut cache = if self.uses_mark_cache {
            let registry = self.registry.identity();
            Some(MarkCache::open(&self.state, registry, epoch, self.started()).await)
        } else {
            None
        };
        let to_mark = self.cut(cache.as_ref(), &rules).await?;
        let cut: Vec<KeyRange> = to_mark.iter().map(|to_mark| to_mark.range.clone()).collect();
        let gathered = self.gather_references(epoch, &cut, &rules).await?;
        found.problems.extend(gathered.problems);
        // Range by range: what a cluster says of the repositories there.
        let by_range = gathered.works;
        let mut works = with_rules(&by_range, to_mark);
        found.seconds.mark += clock::since(stage).as_secs_f64();
        let mut marked: Vec<MarkedRange> = Vec::new();
        let mut earlier = EarlierPlans::default();
        let (mut round, mut names) = (0, TaskNames::new("mark"));
        let undo = self.undo().await?;
        loop {
            round += 1;
            let stage = clock::monotonic_now();
            let finished = mark::mark(dispatcher, &mut names, works, &self.progress, &mut marked).await;
            found.seconds.mark += clock::since(stage).as_secs_f64();
            let mut ranges = marked.clone();
            let handed_on: Vec<_> = ranges.iter_mut().map(CachedRange::take).collect();
            if let Err(error) = finished {
                if let Some(cache) = cache.as_mut().filter(|_| round == 1) {
                    cache.publish_part(&cut, handed_on).await;
                }
                return Err(error.into());
            }
            info!(
                ranges = ranges.len(),
                seconds = found.seconds.mark,
                "repositories are marked"
            );
            failpoint::here("after-mark").await;
            self.prove_read_only_again().await?;
            self.refuse_untagged(&ranges)?;
            self.refuse_versioned()?;

            let sources = gathered.references.clone();
            let mark = self.seal(epoch, (ranges, sources), seed, found).await?;
            let mark = Arc::new(mark);
            found.mark = Some(Arc::clone(&mark));
            if let Some(cache) = &mut cache {
                cache.publish(&handed_on, None).await;
            }
            failpoint::here("after-seal").await;
            self.prove_read_only_again().await?;

            let stage = clock::monotonic_now();
            let reviewed = self.reviewed.as_ref();
            let rounds = (round, &mut earlier);
            let planned = plan::plan(
                dispatcher,
                &self.state,
                &mark,
                reviewed,
                rounds,
                undo,
                &self.progress,
            )
            .await;
            found.seconds.plan += clock::since(stage).as_secs_f64();
            let doubted = match planned {
                Ok(Planning::Sealed { plan, unconfirmed }) => {
                    if let Some(cache) = &mut cache {
                        cache.publish(&handed_on, Some(unconfirmed)).await;
                        cache.tidy_up().await;
                    }
                    info!(sha256 = %plan.file().sha256, seconds = found.seconds.plan, "the plan is sealed");
                    return Ok((mark, self.take_plan(plan, found)));
                }
                Ok(Planning::Doubted(doubted)) => doubted,
                Err(error) => return Err(error.into()),
            };
            let manifests: u64 = doubted.iter().map(|file| file.items).sum();
            let Some(cache) = cache.as_mut().filter(|_| round <= LAST_ROUND_WITH_CACHE) else {
                // Nothing was remembered in this round, whatever a worker says.
                let wanted = mark.document().remembered;
                let found = wanted.saturating_sub(manifests);
                return Err(PlanError::Seal(SealError::Remembered { wanted, found }).into());
            };
            let is_last = round == LAST_ROUND_WITH_CACHE;
            let mut again = VecDeque::from(cache.doubt(doubted, &marked, is_last).await?);
            let mut to_mark = Vec::new();
            marked.retain(|range| {
                let is_kept = again.pop_front() == Some(false);
                if !is_kept {
                    to_mark.push(cache.to_mark(range.range.clone()));
                }
                is_kept
            });
            self.progress.say(&format!(
                "{manifests} manifests that an earlier run read are missing now, or were written since: {} of {} ranges of \
                 repositories are marked again",
                to_mark.len(),
                to_mark.len() + marked.len(),
            ));
            works = with_rules(&by_range, to_mark);
        }
    }

    /// Takes what is to be carried out for the epoch's plan.
    pub(super) fn take_plan(&mut self, plan: SealedPlan, found: &mut Found) -> Arc<SealedPlan> {
        if let Some(latest) = self.record.epochs.last_mut() {
            latest.sealed_plan = Some(plan.file().sha256);
        }
        let plan = Arc::new(plan);
        found.plan = Some(Arc::clone(&plan));
        plan
    }

    /// Cuts the key space into ranges: as they were marked before, or as folders show.
    pub(super) async fn cut(
        &self,
        cache: Option<&MarkCache>,
        rules: &MarkRules,
    ) -> Result<Vec<ToMark>, RunError> {
        let anywhere = self.registry.starts_listings_anywhere();
        let mut wanted = mark::ranges_wanted(self.workers, anywhere);
        if let Some(keys) = cache.and_then(MarkCache::known_keys) {
            let pages = usize::try_from(keys.div_ceil(KEYS_OF_A_PAGE)).unwrap_or(usize::MAX);
            wanted = wanted.min(pages.max(1));
        }
        let known = cache.and_then(|cache| cache.ranges(wanted, anywhere, rules.judge_whole_repositories()));
        let ranges = match known {
            Some(ranges) => ranges,
            None => mark::cut_ranges(&*self.registry, REPOSITORIES, self.workers).await?,
        };
        let to_mark = |range| match cache {
            Some(cache) => cache.to_mark(range),
            None => ToMark::without_cache(range),
        };
        Ok(ranges.into_iter().map(to_mark).collect())
    }

    async fn seal(
        &mut self,
        epoch: &Epoch,
        (ranges, sources): (Vec<MarkedRange>, (Vec<FileRef>, Vec<FileRef>)),
        seed: FilterSeed,
        found: &mut Found,
    ) -> Result<SealedMark, RunError> {
        let stage = clock::monotonic_now();
        self.progress.enter(Stage::Seal);
        let options = SealOptions {
            epoch: epoch.clone(),
            cutoff: self.mark_rules().cutoff,
            false_positive_rate: self.record.options.false_positive_rate,
            // One for all rounds of an epoch: equal references give equal filters then, and equal plans.
            seed,
            shard_digits: self.record.shard_digits,
            reviewed: self.reviewed.as_ref().map(ReviewedPlan::document),
            sources,
            spool_dir: &self.spool_dir,
            folder: epoch_folder(epoch),
            copies: None,
        };
        let space = survey_blob_space(&*self.registry).await?;
        let sealed = seal(&self.state, &*self.registry, ranges, &space, options).await?;
        self.record.shard_digits = Some(sealed.document().shard_digits);
        found.seconds.seal += clock::since(stage).as_secs_f64();
        let document = sealed.document();
        info!(references = document.references, cutoff = %document.cutoff, seconds = found.seconds.seal, "the mark is sealed");
        Ok(sealed)
    }
}

/// The work of marking ranges, each by the rules of the range that it is a part of. Those tile the key space.
fn with_rules(by_range: &[MarkWork], to_mark: Vec<ToMark>) -> Vec<MarkWork> {
    let rules_of = |range: &KeyRange| {
        let ends_before = |work: &MarkWork| match (&work.range.to, &range.after) {
            (Some(to), Some(after)) => to <= after,
            _ => false,
        };
        let place = by_range.partition_point(ends_before);
        by_range.get(place).map(|work| work.rules.clone())
    };
    to_mark
        .into_iter()
        .filter_map(|ToMark { range, cache }| {
            let rules = rules_of(&range)?;
            Some(MarkWork { range, rules, cache })
        })
        .collect()
}
