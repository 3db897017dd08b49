//! What a run does to the registry: unlink, sweep, and what goes after them, in the order of R6, under the lock.

use std::sync::Arc;

use hardprune_common::clock;
use hardprune_common::failpoint;
use hardprune_common::quarantine::Undo;
use hardprune_common::removal::RemovalStage;
use hardprune_common::run::Epoch;
use hardprune_common::seal::SealedPlan;
use tracing::info;

use super::{Found, Run};
use crate::abort_multipart;
use crate::descriptor_cache::CacheClearer;
use crate::dispatch::{DispatchError, Dispatcher};
use crate::error::RunError;
use crate::lock_registry::RegistryLock;
use crate::quarantine::keeping;
use crate::sweep::sweep;
use crate::unlink::Unlink;

impl Run {
    /// Carries a sealed plan out.
    pub(super) async fn carry_out(
        &mut self,
        epoch: &Epoch,
        lock: &RegistryLock,
        dispatcher: &Dispatcher<'_>,
        plan: &SealedPlan,
        found: &mut Found,
    ) -> Result<(), RunError> {
        self.prove_read_only_again().await?;
        if self.stop.is_cancelled() {
            return Err(DispatchError::Stopped.into());
        }
        if let Some(latest) = self.record.epochs.last_mut() {
            latest.deletes_begun = true;
        }
        let undo = plan.document().undo;
        if undo != Undo::Nothing {
            keeping::note_begin(self, undo).await?;
        }
        // From here on the books must be read: first the record, then the lock, then the first delete.
        self.record.save(&self.state).await?;
        self.state.flush().await?;
        let sealed = plan.file().sha256;
        lock.allow(sealed, RemovalStage::Unlink).await?;
        failpoint::here("after-lock-allows").await;

        let clearer = self
            .cache
            .as_ref()
            .map(|cache| CacheClearer::start(Arc::clone(cache), self.state.clone()));
        let stage = clock::monotonic_now();
        let (dead, dangling) = Unlink::stages(plan.document());
        let unlinked = dead.carry_out(dispatcher, &self.progress).await?;
        found.seconds.unlink = clock::since(stage).as_secs_f64();
        found.problems.extend(unlinked.problems);
        found.held_back = !unlinked.complete;
        info!(
            complete = unlinked.complete,
            seconds = found.seconds.unlink,
            "links of dead manifests are removed"
        );
        failpoint::here("after-unlink").await;
        if unlinked.complete {
            // A link that cannot go holds no blob back: it leads nowhere then, and the next run sees it again.
            self.prove_read_only_again().await?;
            lock.allow(sealed, RemovalStage::Links).await?;
            let links = dangling.carry_out(dispatcher, &self.progress).await?;
            found.problems.extend(links.problems);
            found.seconds.unlink = clock::since(stage).as_secs_f64();
            if let Some(clearer) = &clearer {
                clearer.carried_out(&plan.document().unlink);
                clearer.carried_out(&plan.document().dangling);
            }
            failpoint::here("after-dangling").await;
            self.prove_read_only_again().await?;
            lock.allow(sealed, RemovalStage::Sweep).await?;
            let stage = clock::monotonic_now();
            let swept = sweep(dispatcher, plan, &self.progress, clearer.as_ref()).await?;
            found.seconds.sweep = clock::since(stage).as_secs_f64();
            info!(
                failed_tasks = swept.problems.len(),
                stopped = swept.stopped,
                seconds = found.seconds.sweep,
                "shards are swept"
            );
            found.problems.extend(swept.problems);
            found.stopped = swept.stopped;
            if let Some(before) = self.abort_multipart_before().filter(|_| !swept.stopped) {
                failpoint::here("before-multipart-aborts").await;
                let (aborted, problems) = abort_multipart::abort(self, epoch, before).await?;
                found.multipart_uploads = aborted;
                found.problems.extend(problems);
            }
        }
        if let Some(clearer) = clearer {
            clearer.finish().await;
        }
        failpoint::here("after-sweep").await;
        Ok(())
    }
}
