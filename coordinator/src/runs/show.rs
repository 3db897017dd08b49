//! `runs show`: a run's report again; of a run that was killed, what its books say.

use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::{MarkDocument, PlanDocument, plan_key};
use hardprune_common::state::{StateStore, epoch_folder, run_folder};
use hardprune_common::store::Versioning;

use crate::accounts;
use crate::books::settle_open_batches;
use crate::cli::RunsShowArgs;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::lock_registry::NobodyAtWork;
use crate::open_stores::storage_of;
use crate::planned::Planned;
use crate::prune::quoted;
use crate::reference_source::SourceName;
use crate::report::{Outcome, Report};
use crate::run_record::{RunOptions, RunRecord};
use crate::runs::places::{find_run, named, optional};
use crate::settle::first_problems;
use crate::start_run::print_report;
use crate::tenants::{freed_by_tenant, largest};

pub(super) async fn show(args: &RunsShowArgs) -> Result<ExitStatus, RunError> {
    let (state, record) = find_run(&args.place, args.run).await?;
    let report = match saved_report(&state, args.run).await? {
        // A run that went on after its last report is told by its books.
        Some(report) if report.epochs == record.epoch().number => report,
        _ => rebuilt_report(&state, &record).await?,
    };
    let command = delete_command(&record, args.place.state.as_deref());
    print_report(&report, args.output, &command)?;
    Ok(ExitStatus::Done)
}

/// The command that deletes what a check found, by its record: the options that decide what goes, and its plan.
fn delete_command(record: &RunRecord, state: Option<&str>) -> String {
    // Destructured, so that a new option cannot be forgotten.
    let RunOptions {
        references,
        context,
        keep_younger_than_seconds,
        delete_untagged,
        accept_untagged_repositories,
        purge_uploads_older_than_seconds,
        abort_multipart_older_than_seconds,
        prune_broken,
        delete_empty_repositories,
        empty_repositories_older_than_seconds,
        purge_tag_history_older_than_seconds,
        false_positive_rate: _, // only of this check's filters
        accept_versioned,
        filter_seed: _,
        plan: _,
        quarantine: _, // options of a delete, not of a check
        online: _,
        registry_request_timeout_seconds: _,
        purges: _,
    } = &record.options;
    let mut command = format!("hardprune delete {}", quoted(storage_of(&record.registry)));
    if let Some(state) = state {
        command += &format!(" --state {}", quoted(state));
    }
    if *references != [SourceName::Storage] {
        let names: Vec<String> = references.iter().map(ToString::to_string).collect();
        command += &format!(" --references {}", names.join(","));
        if let Some(context) = context {
            command += &format!(" --context {}", quoted(context));
        }
    }
    command += &format!(" --keep-younger-than {keep_younger_than_seconds}s");
    for (seconds, option) in [
        (purge_uploads_older_than_seconds, "--purge-uploads-older-than"),
        (abort_multipart_older_than_seconds, "--abort-multipart-older-than"),
        (
            empty_repositories_older_than_seconds,
            "--empty-repositories-older-than",
        ),
        (
            purge_tag_history_older_than_seconds,
            "--purge-tag-history-older-than",
        ),
    ] {
        if let Some(seconds) = seconds {
            command += &format!(" {option} {seconds}s");
        }
    }
    for word in &record.guard_arguments {
        command += &format!(" {}", quoted(word));
    }
    for (is_on, flag) in [
        (*delete_untagged, "--delete-untagged"),
        (*accept_untagged_repositories, "--accept-untagged-repositories"),
        (*prune_broken, "--prune-broken"),
        (*delete_empty_repositories, "--delete-empty-repositories"),
        (*accept_versioned, "--accept-versioned"),
    ] {
        if is_on {
            command += &format!(" {flag}");
        }
    }
    command + &format!(" --plan {} --assume-read-only", record.run)
}

/// The report that a run saved, where it came to one.
pub(super) async fn saved_report(state: &StateStore, run: RunId) -> Result<Option<Report>, RunError> {
    optional(state.read_json(&format!("{}report.json", run_folder(run))).await)
}

/// Makes the report of a run that did not come to make its own, from its plan and its journal.
async fn rebuilt_report(state: &StateStore, record: &RunRecord) -> Result<Report, RunError> {
    let epoch = record.epoch();
    let outcome = if record.ended {
        Outcome::Failed
    } else {
        Outcome::Stopped
    };
    let mut report = Report::new(record, outcome, record.started);
    let mark: Option<MarkDocument> = optional(
        state
            .read_json(&format!("{}mark.json", epoch_folder(&epoch)))
            .await,
    )?;
    if let Some(mark) = &mark {
        report.add_mark(mark);
        report.add_first(&first_problems(state, mark).await?);
    }
    if let Some(plan) = latest_plan(state, &epoch).await? {
        report.add_plan(&plan);
        let planned = Planned::read(state, &plan).await?;
        report.links = planned.links;
        report.garbage.add_planned(&planned);
    }
    if record.deletes_begun() {
        report.versioning = settle_if_reachable(state, record).await;
        let hidden = report.versioning.only_hides();
        let shares = freed_by_tenant(state, record, &std::env::temp_dir()).await;
        report.tenants = largest(shares.unwrap_or_else(|error| {
            eprintln!("it cannot be said who freed what: {error}");
            Vec::new()
        }));
        report.add_accounts(&accounts::add_up(state, record, &|_| {}).await?, hidden);
    }
    Ok(report)
}

async fn latest_plan(state: &StateStore, epoch: &Epoch) -> Result<Option<PlanDocument>, RunError> {
    optional(state.read_json(&plan_key(epoch)).await)
}

/// Looks what became of open batches, where the registry can be reached and nobody is at work on it. Returns whether
/// its bucket keeps what is deleted.
async fn settle_if_reachable(state: &StateStore, record: &RunRecord) -> Versioning {
    let registry = match named(storage_of(&record.registry)).and_then(|named| named.open()) {
        Ok(registry) if registry.identity() == record.registry => registry,
        _ => {
            eprintln!(
                "{} cannot be reached from here: open batches count as still to do",
                record.registry
            );
            return Versioning::Unknown;
        }
    };
    let versioning = registry.ask_versioning().await;
    // Held until all is settled: what another run deletes meanwhile would look as if this one had.
    let _nobody = match NobodyAtWork::on(&*registry).await {
        Ok(nobody) => nobody,
        Err(error) => {
            eprintln!("open batches count as still to do: {error}");
            return versioning.max(registry.versioning());
        }
    };
    match settle_open_batches(&*registry, state, record).await {
        Ok(settled) => {
            if let Some(line) = settled.describe_unattributed() {
                eprintln!("{line}");
            }
        }
        Err(error) => eprintln!("some batches are not settled: {error}"),
    }
    registry.versioning()
}
