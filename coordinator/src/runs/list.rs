//! `runs list`: what runs there are.

use std::fmt::Write as _;

use crate::cli::RunsListArgs;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::report::Report;
use crate::run_record::{Mode, RunRecord, list_runs};
use crate::runs::places::{cannot_be_looked_at, is_only_noted, states};
use crate::runs::show::saved_report;
use crate::{human, print};

pub(super) async fn list(args: &RunsListArgs) -> Result<ExitStatus, RunError> {
    let mut text = String::new();
    for state in states(&args.place).await? {
        let runs = match list_runs(&state).await {
            Err(error) if is_only_noted(&args.place) => {
                cannot_be_looked_at(state.identity(), &error.into());
                continue;
            }
            result => result?,
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} runs in {}", runs.len(), state.identity());
        for run in runs {
            let line = match RunRecord::load(&state, run).await {
                Ok(record) => line(&record, saved_report(&state, run).await?.as_ref()),
                Err(error) => format!("{run}  cannot be read: {error}"),
            };
            let _ = writeln!(text, "{line}");
        }
    }
    print(&text)?;
    Ok(ExitStatus::Done)
}

fn line(record: &RunRecord, report: Option<&Report>) -> String {
    let mode = record.mode.as_str();
    let what = match report {
        Some(report) if record.mode == Mode::Check => {
            format!(
                "{} orphans, {}",
                report.blobs.orphaned,
                human::bytes(report.bytes.orphaned)
            )
        }
        Some(report) if report.bytes.quarantined > 0 => format!(
            "{} quarantined, {}",
            report.blobs.quarantined,
            human::bytes(report.bytes.quarantined)
        ),
        Some(report) => format!(
            "{} deleted, {}",
            report.blobs.deleted,
            human::bytes(report.bytes.freed)
        ),
        None => "no report".to_owned(),
    };
    let left = if record.ended { "" } else { "  (can be resumed)" };
    let left = if record.mode.deletes() { left } else { "" };
    let started = record.started.strftime("%Y-%m-%d %H:%M:%S UTC");
    format!(
        "{}  {started}  {mode:<6}  {}  {what}{left}",
        record.run, record.registry
    )
}
