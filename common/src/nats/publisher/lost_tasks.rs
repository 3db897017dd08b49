//! Tasks that nobody has any more: somebody has removed them from NATS, or their reports. They are sent again.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use futures::TryStreamExt;
use tracing::warn;

use super::reports::Inbox;
use super::{NatsPublisher, Sent};
use crate::clock;
use crate::nats::messages::{ClaimDocument, ClaimState, bytes_of, read};
use crate::nats::runs::claim_key;
use crate::nats::{NatsError, streams};

impl NatsPublisher {
    /// Sends tasks again that nobody has, nobody has reported, and that are not waiting any more: somebody has removed them, or
    /// their reports.
    pub(super) async fn send_lost_tasks_again(&self, inbox: &mut Inbox) -> Result<(), NatsError> {
        let is_halted = self.is_halted.load(Ordering::Relaxed);
        if is_halted || clock::since(inbox.last_heard) < self.options.ack_wait * 2 {
            return Ok(());
        }
        inbox.last_heard = clock::monotonic_now();
        // First, reports may be there that the consumer does not see.
        inbox.consumer = None;
        inbox.silences += 1;
        if inbox.silences == 1 {
            return Ok(());
        }
        let name = streams::consumer_name(self.epoch.run);
        match self.tasks.consumer_info(&name).await {
            Ok(_) => {}
            Err(error) if !self.nats.is_connected() => {
                return Err(NatsError::request("look at tasks", error));
            }
            Err(_) => self.make_consumer().await?,
        }
        let there = self.tasks_there().await?;
        self.runs.begin_unless_known(&self.epoch).await?;
        let mut sent = self.sent.lock().await;
        let is_lost = |task: &&mut Sent| task.is_open && !there.contains(&task.task.id);
        for task in sent.values_mut().filter(is_lost) {
            warn!(
                task = task.task.id,
                "nobody has this task any more; it is sent again"
            );
            self.reopen(&task.task.id).await?;
            task.times += 1;
            self.send(&task.task, task.times).await?;
        }
        Ok(())
    }

    /// The ids of tasks that wait, or that some worker has in hand.
    async fn tasks_there(&self) -> Result<HashSet<String>, NatsError> {
        let failed = |error| NatsError::request("look at tasks", error);
        let filter = format!("hardprune.tasks.{}.>", self.epoch.run);
        let info = self.tasks.info_builder().subjects(filter);
        let subjects = info.fetch().await.map_err(failed)?;
        let id = |(subject, _): (String, usize)| Some(subject.rsplit_once('.')?.1.to_owned());
        let ids = subjects.try_filter_map(|subject| std::future::ready(Ok(id(subject))));
        ids.try_collect().await.map_err(failed)
    }

    /// Whoever claimed a task as done has sent its report before, and sends no request any more. Where that report is gone
    /// the task has to be done again, which finds out what is left of it (R5).
    async fn reopen(&self, task: &str) -> Result<(), NatsError> {
        let key = claim_key(&self.epoch, task);
        let Some(entry) = self.runs.runs.get(&key).await? else {
            return Ok(());
        };
        match read::<ClaimDocument>("a claim", &entry.value) {
            Ok(claim) if claim.state == ClaimState::Done => {
                let released = ClaimDocument {
                    state: ClaimState::Released,
                    ..claim
                };
                // Where somebody else changes it at this moment it is not done any more.
                let written = self
                    .runs
                    .runs
                    .put_if(&key, bytes_of(&released).into(), entry.revision);
                written.await.map(|_| ())
            }
            // Whoever takes the task finds out.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
