//! Sweep, the coordinator's part: every shard's plan is carried out, layer links before blobs (R6).

use hardprune_common::problem::Problem;
use hardprune_common::seal::{SealedPlan, sweep_task};
use hardprune_common::task::{Scope, Work};

use crate::descriptor_cache::CacheClearer;
use crate::dispatch::{DispatchError, Dispatcher};
use crate::metrics::Stage;
use crate::progress::Progress;
use crate::unlink::task_problem;

/// What came of sweeping.
#[derive(Debug, Default)]
pub struct Swept {
    /// Whether a task stopped before its end.
    pub stopped: bool,
    /// The tasks that failed.
    pub problems: Vec<Problem>,
}

/// Carries out every shard's plan, and has the registry's cache cleared of each shard that is done.
///
/// # Errors
///
/// Workers that are gone.
pub async fn sweep(
    dispatcher: &Dispatcher<'_>,
    plan: &SealedPlan,
    progress: &Progress,
    cache: Option<&CacheClearer>,
) -> Result<Swept, DispatchError> {
    let mut tasks = Vec::new();
    for planned in &plan.document().shards {
        if let (Scope::Shard(_), false) = (&planned.scope, planned.findings.parts.is_empty()) {
            tasks.push((sweep_task(&planned.scope), Work::Sweep));
        }
    }
    // Providers bound the deletes in a prefix: shards that are worked on at once are to lie in different ones, so their last digits
    // come first.
    tasks.sort_by_cached_key(|(task, _)| task.chars().rev().collect::<String>());
    let stage = progress.stage(Stage::Sweep, tasks.len() as u64, "shards");
    let mut stopped = false;
    let failed = dispatcher
        .wait_for_all(tasks, |task, findings| {
            if let Some(cache) = cache
                && let Some((_, parts)) = task.and_then(|task| plan.document().parts_of(task))
            {
                // R6: the cache's entries after the blobs.
                cache.carried_out(parts);
            }
            stage.done(1, findings.removed, findings.freed_bytes);
            stopped |= findings.stopped;
        })
        .await?;
    stage.finish();
    Ok(Swept {
        stopped,
        problems: failed.into_iter().map(task_problem).collect(),
    })
}
