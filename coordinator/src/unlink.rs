//! Unlink, the coordinator's part: the links of dead manifests go first, everywhere, then dangling layer links (R6).

use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::seal::{PlanDocument, unlink_task};
use hardprune_common::state::FileRef;
use hardprune_common::task::Work;

use crate::dispatch::{DispatchError, Dispatcher};
use crate::metrics::Stage;
use crate::progress::Progress;

/// What came of it.
#[derive(Debug)]
pub struct Unlinked {
    /// Whether every link is gone. While one of a dead manifest is left, no blob may go (R6).
    pub complete: bool,
    /// Tasks that failed.
    pub problems: Vec<Problem>,
}

/// Files of removals that go before any shard.
#[derive(Debug)]
pub struct Unlink<'p> {
    stage: Stage,
    /// The number of the first file's task.
    first: usize,
    files: &'p [FileRef],
}

impl<'p> Unlink<'p> {
    /// What goes before the shards, in its order (R6): links of dead manifests everywhere, then dangling layer links.
    #[must_use]
    pub fn stages(plan: &'p PlanDocument) -> (Self, Self) {
        let dead = Self {
            stage: Stage::Unlink,
            first: 0,
            files: &plan.unlink,
        };
        let dangling = Self {
            stage: Stage::Links,
            first: plan.unlink.len(),
            files: &plan.dangling,
        };
        (dead, dangling)
    }

    /// Removes them.
    ///
    /// # Errors
    ///
    /// Workers that are gone.
    pub async fn carry_out(
        &self,
        dispatcher: &Dispatcher<'_>,
        progress: &Progress,
    ) -> Result<Unlinked, DispatchError> {
        let mut unlinked = Unlinked {
            complete: true,
            problems: Vec::new(),
        };
        if self.files.is_empty() {
            return Ok(unlinked);
        }
        let places = self.first..self.first + self.files.len();
        let tasks = places.map(|place| (unlink_task(place), Work::Unlink)).collect();
        let stage = progress.stage(self.stage, self.files.len() as u64, "files");
        let failed = dispatcher
            .wait_for_all(tasks, |_, findings| {
                stage.done(1, findings.removed, 0);
                unlinked.complete &= findings.failed == 0 && !findings.stopped;
            })
            .await?;
        stage.finish();
        unlinked.complete &= failed.is_empty();
        unlinked.problems = failed.into_iter().map(task_problem).collect();
        Ok(unlinked)
    }
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
