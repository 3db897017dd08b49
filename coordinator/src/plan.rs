//! Plan, the coordinator's part: one task for each shard of the sealed mark, and the sealed plan of what they found.

use hardprune_common::quarantine::Undo;
use hardprune_common::seal::{SealError, SealedMark, SealedPlan, ShardPlan};
use hardprune_common::state::{StateError, StateStore};
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

/// Plans every shard and seals the plan.
///
/// # Errors
///
/// A shard that could not be planned: without it there is no seal (R2).
pub async fn plan(
    dispatcher: &Dispatcher<'_>,
    state: &StateStore,
    mark: &SealedMark,
    reviewed: Option<&ReviewedPlan>,
    undo: Undo,
    progress: &Progress,
) -> Result<SealedPlan, PlanError> {
    let document = mark.document();
    let mut tasks: Vec<(String, Work)> = Vec::new();
    for filter in &document.filters {
        let scope = Scope::Shard(filter.shard.clone());
        let id = format!("plan-{}", filter.shard);
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
        };
        tasks.push((format!("plan-stray-{number}"), Work::Plan(work)));
    }
    let stage = progress.stage(Stage::Plan, tasks.len() as u64, "shards");
    let mut shards = Vec::new();
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
    Ok(SealedPlan::seal(mark, shards, undo, state).await?)
}
