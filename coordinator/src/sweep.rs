//! Sweep, the coordinator's part: every shard's plan is carried out, layer links before blobs (R6).

use hardprune_common::problem::Problem;
use hardprune_common::seal::SealedPlan;
use hardprune_common::task::{Findings, Scope, SweepWork, Work};

use crate::books::sweep_task;
use crate::dispatch::{DispatchError, Dispatcher};
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

/// Carries out every shard's plan.
///
/// # Errors
///
/// Workers that are gone.
pub async fn sweep(
    dispatcher: &Dispatcher<'_>,
    plan: &SealedPlan,
    progress: &Progress,
) -> Result<Swept, DispatchError> {
    let mut tasks = Vec::new();
    for planned in &plan.document().shards {
        if let (Scope::Shard(shard), false) = (&planned.scope, planned.findings.parts.is_empty()) {
            let work = SweepWork {
                shard: shard.clone(),
                parts: planned.findings.parts.clone(),
            };
            tasks.push((sweep_task(&planned.scope), Work::Sweep(work)));
        }
    }
    let stage = progress.stage("sweep", tasks.len() as u64, "shards");
    let mut stopped = false;
    let failed = dispatcher
        .wait_for_all(tasks, |findings| {
            if let Findings::Removed(findings) = findings {
                stage.done(1, findings.removed, findings.freed_bytes);
                stopped |= findings.stopped;
            }
        })
        .await?;
    stage.finish();
    Ok(Swept {
        stopped,
        problems: failed.into_iter().map(task_problem).collect(),
    })
}
