//! The end of a run: its books are closed, its report is made and kept.

use hardprune_common::problem::Problem;
use hardprune_common::state::{StateError, epoch_folder};

use super::{Ended, Found, Run};
use crate::accounts::Accounts;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::failed_removals::write_failed_removals;
use crate::metrics::Stage;
use crate::quarantine::keeping;
use crate::report::{Outcome, QuarantineFigures, Report};
use crate::retention;
use crate::settle::{self, Settled};

impl Run {
    pub(super) async fn finish(
        &mut self,
        found: Found,
        result: Result<(), RunError>,
    ) -> Result<Ended, RunError> {
        if let Some(latest) = self.record.epochs.last_mut() {
            latest.requests = self.registry.requests().plus(found.tally.requests);
            latest.workers = found.tally.workers.len() as u64;
        }
        let begun = self.record.deletes_begun();
        self.progress.enter(Stage::Settle);
        let settled = if begun {
            Some(settle::settle(self).await?)
        } else {
            None
        };
        let result = self.held_throughout(result).await;
        let (mut outcome, mut status) = match (&result, &settled) {
            (Ok(()), None) => (Outcome::Completed, ExitStatus::Done),
            (Ok(()), Some(settled)) => judge(settled, &found, self.stop.is_cancelled()),
            (Err(_), Some(_)) => (Outcome::Stopped, ExitStatus::Stopped),
            (Err(error), None) => {
                let status = error.exit_status();
                let outcome = match status {
                    ExitStatus::Refused => Outcome::Refused,
                    // A task that is withdrawn because the run stops may be heard of before the stop is.
                    _ if error.is_stop() || self.stop.is_cancelled() => Outcome::Stopped,
                    _ => Outcome::Failed,
                };
                (outcome, status)
            }
        };
        let books_are_closed = settled.as_ref().is_some_and(|settled| settled.complete);
        let accounts = settled.map(|settled| {
            if let Some(uncleared) = settled.uncleared {
                self.progress.say(&uncleared);
                if let Some(read_only) = &mut self.read_only {
                    read_only.stay(uncleared);
                }
                status = status.at_best_partly();
            }
            if let Some(error) = settled.unwritten {
                self.progress.say(&error.to_string());
                status = status.at_best_partly();
            }
            self.progress.set_deleted(&settled.accounts);
            settled.accounts
        });
        if let Some(accounts) = accounts.as_ref().filter(|_| self.record.options.quarantine)
            && outcome != Outcome::Stopped
            && let Err(error) = keeping::note_end(self, accounts).await
        {
            // Until it is noted, nobody may purge what it kept.
            self.progress
                .say(&format!("what was quarantined could not be noted: {error}"));
            (outcome, status) = (Outcome::Stopped, ExitStatus::Stopped);
        }
        let refused = accounts
            .as_ref()
            .is_some_and(|accounts| accounts.problems.total > 0);
        if let Err(error) = self.write_problems(refused, &found.problems).await {
            self.progress
                .say(&format!("not every problem could be written down: {error}"));
        }
        self.record.ended = !matches!(outcome, Outcome::Stopped);
        let error = result.err();
        let report = self.report(&found, outcome, accounts, error.as_ref()).await;
        let saved = match &report {
            Ok(report) => settle::save(self, report, books_are_closed).await,
            Err(_) => Ok(()),
        };
        retention::tidy_up(&self.state, &self.record, self.keep_runs).await;
        match (error, report) {
            // What ended the run is what the user must hear, whether or not it could be written down.
            (Some(error), Err(_)) if !begun => Err(error),
            (error @ Some(_), Ok(report)) if !begun => Ok(Ended {
                report,
                status,
                error,
            }),
            (error, report) => {
                if let Some(error) = error {
                    self.progress.say(&format!("stopped: {error}"));
                }
                saved?;
                Ok(Ended {
                    report: report?,
                    status,
                    error: None,
                })
            }
        }
    }

    /// Writes what no mark has written down: removals that the store refused, where there are any, and tasks that failed.
    async fn write_problems(&self, refused: bool, of_tasks: &[Problem]) -> Result<(), StateError> {
        if refused {
            write_failed_removals(&self.state, &self.record).await?;
        }
        if !of_tasks.is_empty() {
            let key = format!(
                "{}problems/tasks.problems.jsonl",
                epoch_folder(&self.record.epoch())
            );
            self.state.write_lines(&key, of_tasks).await?;
        }
        Ok(())
    }

    /// Makes the report.
    async fn report(
        &self,
        found: &Found,
        outcome: Outcome,
        accounts: Option<Accounts>,
        error: Option<&RunError>,
    ) -> Result<Report, RunError> {
        let mut report = settle::report(
            self,
            outcome,
            found.mark.as_deref(),
            found.plan.as_deref(),
            accounts,
        )
        .await?;
        report.seconds = found.seconds;
        report.add_problems(&found.problems);
        report.guards.clone_from(&found.guards);
        report.guard_limits = Some(self.guards.limits);
        report.garbage.multipart_uploads = found.multipart_uploads;
        let options = &self.record.options;
        if options.quarantine || options.purges.is_some() {
            report.quarantine = Some(QuarantineFigures {
                purges: options.purges,
                put_back: found.put_back.clone(),
                online: found.reviewed.clone(),
            });
        }
        report.error = error.map(ToString::to_string);
        Ok(report)
    }
}

fn judge(settled: &Settled, found: &Found, stopping: bool) -> (Outcome, ExitStatus) {
    let accounts = &settled.accounts;
    let left = accounts.not_attempted_blobs
        + accounts.links_left
        + accounts.unreadable
        + found.multipart_uploads.failed;
    let cut_short = stopping || found.held_back || found.stopped;
    // R5: a run is not over while its books are not.
    if !settled.complete || left > 0 && cut_short {
        return (Outcome::Stopped, ExitStatus::Stopped);
    }
    if left + accounts.failed_blobs > 0 {
        return (Outcome::Completed, ExitStatus::Partly);
    }
    (Outcome::Completed, ExitStatus::Done)
}
