//! Unlink, the coordinator's part: the links of dead manifests go first, everywhere (R6).

use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::seal::SealedPlan;
use hardprune_common::task::{Findings, UnlinkWork, Work};

use crate::accounts::unlink_task;
use crate::dispatch::{DispatchError, Dispatcher};
use crate::progress::Progress;

/// What came of it.
#[derive(Debug)]
pub struct Unlinked {
    /// Whether every link is gone. Where not, no blob may go (R6).
    pub complete: bool,
    /// Tasks that failed.
    pub problems: Vec<Problem>,
}

/// Removes what goes before the shards.
///
/// # Errors
///
/// Workers that are gone.
pub async fn unlink(
    dispatcher: &Dispatcher<'_>,
    plan: &SealedPlan,
    progress: &Progress,
) -> Result<Unlinked, DispatchError> {
    let files = &plan.document().unlink;
    let mut unlinked = Unlinked {
        complete: true,
        problems: Vec::new(),
    };
    if files.is_empty() {
        return Ok(unlinked);
    }
    let tasks = files.iter().enumerate().map(|(number, file)| {
        (
            unlink_task(number),
            Work::Unlink(UnlinkWork {
                parts: vec![file.clone()],
            }),
        )
    });
    let stage = progress.stage("unlink", files.len() as u64, "files");
    let failed = dispatcher
        .wait_for_all(tasks.collect(), |findings| {
            if let Findings::Removed(findings) = findings {
                stage.done(1, findings.removed, 0);
                unlinked.complete &= findings.failed == 0 && !findings.stopped;
            }
        })
        .await?;
    stage.finish();
    unlinked.complete &= failed.is_empty();
    unlinked.problems = failed.into_iter().map(task_problem).collect();
    Ok(unlinked)
}

/// A task that was given up, as the report shows it.
pub(crate) fn task_problem(failed: crate::dispatch::FailedTask) -> Problem {
    Problem {
        repository: None,
        digest: None,
        kind: ProblemKind::TaskFailed,
        message: format!("task {}: {}", failed.task, failed.error),
    }
}
