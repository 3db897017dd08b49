//! Plan, the coordinator's part: one task for each shard of the sealed mark, and the sealed plan of what they found.

use std::collections::HashMap;

use hardprune_common::quarantine::Undo;
use hardprune_common::seal::{SealError, SealedMark, SealedPlan, ShardFilter, ShardPlan};
use hardprune_common::shard::Shard;
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::task::{Findings, PlanWork, Scope, Work};

use crate::dispatch::{DispatchError, Dispatcher};
use crate::metrics::Stage;
use crate::progress::Progress;
use crate::reviewed::ReviewedPlan;

/// Why there is no sealed plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A shard could not be planned.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// What a task is to go by could not be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The plan could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What planning came to.
#[derive(Debug)]
pub enum Planning {
    /// There is a plan.
    Sealed {
        /// It.
        plan: SealedPlan,
        /// Manifests that were read and not listed as they were: segments of their digests.
        unconfirmed: Vec<FileRef>,
    },
    /// Manifests were remembered and not listed as they were: segments of their digests. Their repositories must be marked again (R8).
    Doubted(Vec<FileRef>),
}

/// Plans of shards that may serve again, where nothing has changed that they go by.
#[derive(Debug, Default)]
pub struct EarlierPlans(HashMap<Shard, (ShardFilter, ShardPlan)>);

impl EarlierPlans {
    fn take(&mut self, filter: &ShardFilter) -> Option<ShardPlan> {
        let (of, plan) = self.0.remove(&filter.shard)?;
        (of == *filter && plan.findings.doubted.is_none()).then_some(plan)
    }
}

/// Plans every shard, once in each `round` of an epoch, and seals the plan, unless the listing does not show what was remembered.
///
/// # Errors
///
/// A shard that could not be planned: without it there is no seal (R2).
pub async fn plan(
    dispatcher: &Dispatcher<'_>,
    state: &StateStore,
    mark: &SealedMark,
    reviewed: Option<&ReviewedPlan>,
    (round, earlier): (usize, &mut EarlierPlans),
    undo: Undo,
    progress: &Progress,
) -> Result<Planning, PlanError> {
    let document = mark.document();
    if !document.doubted.is_empty() {
        return Ok(Planning::Doubted(document.doubted.clone()));
    }
    let again = match round {
        1 => String::new(),
        round => format!("-{round}"),
    };
    let mut tasks: Vec<(String, Work)> = Vec::new();
    let mut shards = Vec::new();
    for filter in &document.filters {
        if let Some(plan) = earlier.take(filter) {
            shards.push(plan);
            continue;
        }
        let scope = Scope::Shard(filter.shard.clone());
        let id = format!("plan-{}{again}", filter.shard);
        let reviewed = match reviewed {
            Some(plan) => Some(plan.list_parts(state, &id, &scope).await?),
            None => None,
        };
        let work = PlanWork {
            scope,
            filter: Some(filter.filter.clone()),
            cutoff: document.cutoff,
            may_be_absent: filter.may_be_absent.clone(),
            reviewed,
            manifests: filter.manifests.clone(),
        };
        tasks.push((id, Work::Plan(work)));
    }
    for (number, folder) in document.stray_folders.iter().enumerate() {
        let work = PlanWork {
            scope: Scope::Stray(folder.clone()),
            filter: None,
            cutoff: document.cutoff,
            may_be_absent: None,
            reviewed: None,
            manifests: None,
        };
        tasks.push((format!("plan-stray-{number}{again}"), Work::Plan(work)));
    }
    let stage = progress.stage(Stage::Plan, tasks.len() as u64, "shards");
    dispatcher
        .finish_all(tasks, |task, findings| {
            if let (Work::Plan(work), Findings::Plan(findings)) = (&task.work, findings) {
                stage.done(1, findings.totals.scanned, 0);
                shards.push(ShardPlan {
                    scope: work.scope.clone(),
                    findings,
                });
            }
            Vec::new()
        })
        .await?;
    stage.finish();
    // In the order of the shards, so that a plan reads the same however its tasks were shared out.
    shards.sort_by_key(|plan| match &plan.scope {
        Scope::Shard(shard) => (0, shard.to_string()),
        Scope::Stray(folder) => (1, folder.clone()),
    });
    let doubted: Vec<FileRef> = shards
        .iter()
        .filter_map(|plan| plan.findings.doubted.clone())
        .collect();
    if !doubted.is_empty() {
        let filters = document.filters.iter().cloned();
        let by_shard: HashMap<Shard, ShardFilter> =
            filters.map(|filter| (filter.shard.clone(), filter)).collect();
        for plan in shards {
            if let Scope::Shard(shard) = &plan.scope
                && let Some(filter) = by_shard.get(shard)
            {
                earlier.0.insert(shard.clone(), (filter.clone(), plan));
            }
        }
        return Ok(Planning::Doubted(doubted));
    }
    let unconfirmed = shards
        .iter()
        .filter_map(|plan| plan.findings.unconfirmed.clone())
        .collect();
    let plan = SealedPlan::seal(mark, shards, undo, state).await?;
    Ok(Planning::Sealed { plan, unconfirmed })
}
