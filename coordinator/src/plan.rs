//! Plan, the coordinator's part: one task for each shard of the sealed mark, and the sealed plan of what they found.

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::removal::Removal;
use hardprune_common::run::Epoch;
use hardprune_common::seal::{PlanDocument, SealError, SealedMark, SealedPlan, ShardPlan};
use hardprune_common::state::{FileRef, StateError, StateStore, epoch_folder};
use hardprune_common::task::{Findings, PlanWork, Scope, Work};

use crate::dispatch::{DispatchError, Dispatcher};
use crate::progress::Progress;

/// Files read at once.
const FILES_AT_ONCE: usize = 32;
/// Removals that one file holds.
const FILE_LINES: usize = 10_000;

/// Why there is no sealed plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A shard could not be planned.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// The plan's files could not be read or written.
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
    stray: &[String],
    reviewed: Option<&PlanDocument>,
    progress: &Progress,
) -> Result<SealedPlan, PlanError> {
    let document = mark.document();
    let mut tasks: Vec<(String, Work)> = Vec::new();
    for filter in &document.filters {
        let scope = Scope::Shard(filter.shard.clone());
        let work = PlanWork {
            reviewed: reviewed.map(|plan| reviewed_parts(plan, &scope)),
            scope,
            filter: Some(filter.filter.clone()),
            dangling: filter.dangling.clone(),
            cutoff: document.cutoff,
        };
        tasks.push((format!("plan-{}", filter.shard), Work::Plan(work)));
    }
    for (number, folder) in stray.iter().enumerate() {
        let work = PlanWork {
            scope: Scope::Stray(folder.clone()),
            filter: None,
            dangling: Vec::new(),
            cutoff: document.cutoff,
            reviewed: None,
        };
        tasks.push((format!("plan-stray-{number}"), Work::Plan(work)));
    }
    let stage = progress.stage("plan", tasks.len() as u64, "shards");
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
    let dangling = gather_dangling(state, &document.epoch, &shards).await?;
    Ok(SealedPlan::seal(mark, shards, dangling, state).await?)
}

/// Gathers the dangling links of all shards into few files: most shards have a handful, and each file is a request
/// when they go.
async fn gather_dangling(
    state: &StateStore,
    epoch: &Epoch,
    shards: &[ShardPlan],
) -> Result<Vec<FileRef>, StateError> {
    let files: Vec<FileRef> = shards
        .iter()
        .flat_map(|plan| plan.findings.dangling.clone())
        .collect();
    let mut reads = stream::iter(files)
        .map(|file| async move { state.read_lines::<Removal>(&file).await })
        .buffered(FILES_AT_ONCE);
    let (mut gathered, mut removals) = (Vec::new(), Vec::new());
    loop {
        let more = reads.try_next().await?;
        let is_last = more.is_none();
        removals.extend(more.into_iter().flatten());
        while removals.len() >= FILE_LINES || (is_last && !removals.is_empty()) {
            let rest = removals.split_off(removals.len().min(FILE_LINES));
            let key = format!("{}plans/dangling-{}.jsonl", epoch_folder(epoch), gathered.len());
            gathered.push(state.write_lines(&key, &removals).await?);
            removals = rest;
        }
        if is_last {
            return Ok(gathered);
        }
    }
}

fn reviewed_parts(plan: &PlanDocument, scope: &Scope) -> Vec<FileRef> {
    let of_scope = plan.shards.iter().filter(|shard| shard.scope == *scope);
    let files = |shard: &ShardPlan| {
        shard
            .findings
            .dangling
            .iter()
            .chain(&shard.findings.parts)
            .cloned()
            .collect::<Vec<_>>()
    };
    of_scope.flat_map(files).collect()
}
