//! Online mode: the registry takes writes while a run moves blobs into quarantine, so what was needed again meanwhile goes back.
//!
//! Each look marks all repositories anew. What it finds needed is back at once; the last look begins one request of the registry's
//! after the last move, when nobody can rely any more on what it saw before that, and finds nothing.

use std::collections::HashMap;
use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::failpoint;
use hardprune_common::run::Epoch;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Found, Run};
use crate::books::EpochBooks;
use crate::dispatch::{DispatchError, Dispatcher};
use crate::error::RunError;
use crate::gone::{Detail, GoneParts};
use crate::quarantine::put_back::Restored;

/// Keys put back that the report names.
const FIRST_RESTORED: usize = 100;
/// Times that nothing of what is needed could be put back, after which the run stops.
const MOST_ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A key that was away for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// What was put back.
    #[serde(flatten)]
    pub restored: Restored,
    /// Seconds from its move, as the journal says, to its return. `None`: the journal does not say when it was moved.
    pub away_seconds: Option<u64>,
}

/// What came of looking again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewed {
    /// Looks at all references after the sweep.
    pub looks: u64,
    /// Whether the last of them began late enough, and found nothing that is needed.
    pub complete: bool,
    /// The longest that anything was away, in seconds.
    pub longest_away_seconds: u64,
    /// The first keys that were put back.
    pub restored: Vec<Away>,
}

impl Run {
    /// Looks again until nothing that was moved is needed.
    pub(super) async fn review(
        &mut self,
        epoch: &Epoch,
        dispatcher: &Dispatcher<'_>,
        found: &mut Found,
    ) -> Result<(), RunError> {
        let last_move = clock::monotonic_now();
        let timeout = self.record.options.registry_request_timeout_seconds;
        let quiet = last_move + Duration::from_secs(timeout.unwrap_or_default());
        let mut reviewed = Reviewed::default();
        let mut restored = Vec::new();
        let mut attempts = 0;
        loop {
            let began = clock::monotonic_now();
            reviewed.looks += 1;
            let (tasks, below) = (
                format!("review-{}", reviewed.looks),
                format!("review-{}/", reviewed.looks),
            );
            failpoint::here("before-review").await;
            let run = self.record.run;
            let (_, sorted) = self
                .sort_copies(run, epoch, dispatcher, (&tasks, &below), found)
                .await?;
            if sorted.needed_keys() > 0 {
                let failed = found.put_back.failed;
                if let Some(back) = self.put_back_needed(&sorted, found).await? {
                    restored.extend(back);
                    continue;
                }
                if found.put_back.failed > failed {
                    attempts += 1;
                    if attempts == MOST_ATTEMPTS {
                        return Err(RunError::NotPutBack {
                            failures: found.put_back.failures.join("; "),
                        });
                    }
                    tokio::time::sleep(FIRST_PAUSE * attempts).await;
                    continue;
                }
                // Something else stands in the place of all that is left.
            }
            if began >= quiet {
                reviewed.complete = true;
                break;
            }
            self.progress.say(&format!(
                "nothing that was moved is needed; looks for the last time in {} s",
                quiet.saturating_duration_since(clock::monotonic_now()).as_secs()
            ));
            tokio::select! {
                () = tokio::time::sleep_until(quiet.into()) => {}
                () = self.stop.cancelled() => return Err(DispatchError::Stopped.into()),
            }
        }
        self.note_away(restored, &mut reviewed).await?;
        found.reviewed = Some(reviewed);
        Ok(())
    }

    /// Looks once, and puts back what is needed.
    pub(super) async fn review_once(
        &mut self,
        epoch: &Epoch,
        dispatcher: &Dispatcher<'_>,
        found: &mut Found,
    ) -> Result<(), RunError> {
        let run = self.record.run;
        let (_, sorted) = self
            .sort_copies(run, epoch, dispatcher, ("review-0", "review-0/"), found)
            .await?;
        if sorted.needed_keys() > 0 {
            self.put_back_needed(&sorted, found).await?;
        }
        Ok(())
    }

    /// How long what was put back had been away: by the journal, which says when the batch had gone that moved it.
    async fn note_away(&self, restored: Vec<Restored>, reviewed: &mut Reviewed) -> Result<(), RunError> {
        if restored.is_empty() {
            return Ok(());
        }
        let mut moved: HashMap<String, Option<Timestamp>> = restored
            .iter()
            .map(|restored| (restored.key.clone(), None))
            .collect();
        let books = EpochBooks::open_all(&self.state, &self.record).await?;
        let mut parts = GoneParts::of(&self.state, &books, Detail::Witnesses);
        while let Some(part) = parts.next().await? {
            for gone in part {
                if let Some(at) = moved.get_mut(&gone.removal.key) {
                    *at = gone.witness.ended;
                }
            }
        }
        for restored in restored {
            let since = moved.get(&restored.key).copied().flatten();
            let away = since.map(|since| restored.at.duration_since(since));
            let away_seconds = away.map(|away| u64::try_from(away.as_secs()).unwrap_or_default());
            reviewed.longest_away_seconds = reviewed
                .longest_away_seconds
                .max(away_seconds.unwrap_or_default());
            if reviewed.restored.len() < FIRST_RESTORED {
                reviewed.restored.push(Away {
                    restored,
                    away_seconds,
                });
            }
        }
        Ok(())
    }
}
