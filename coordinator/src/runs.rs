//! `runs list|show`: earlier runs, from the state store.

use std::fmt::Write as _;

use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::{MarkDocument, PlanDocument, plan_key};
use hardprune_common::state::{StateError, StateStore, epoch_folder, run_folder};
use hardprune_common::store::location::OpenOptions;
use hardprune_common::store::{StoreError, Versioning};
use hardprune_worker::nats_args::NatsArgs;

use crate::books::settle_open_batches;
use crate::cli::{RegistryArgs, RunsArgs, RunsCommand, RunsListArgs, RunsPlace, RunsShowArgs};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::lock_registry::NobodyAtWork;
use crate::open_stores::{NamedRegistry, named_state, noted_states, storage_of, user_state};
use crate::planned::Planned;
use crate::prune::{load_record, print_report, quoted};
use crate::report::{Outcome, Report};
use crate::run_record::{Mode, RunOptions, RunRecord, list_runs};
use crate::settle::first_problems;
use crate::{accounts, control, human, print};

const CONCURRENCY: u16 = 16;

/// Shows earlier runs.
///
/// # Errors
///
/// A state store that cannot be read, a run that is not there.
pub async fn runs(args: RunsArgs) -> Result<ExitStatus, RunError> {
    let place = RunsPlace {
        registry: None,
        state: None,
    };
    let nats = NatsArgs::default();
    match args
        .command
        .unwrap_or(RunsCommand::List(RunsListArgs { place, nats }))
    {
        RunsCommand::List(args) if args.nats.nats.is_some() => control::list(&args.nats).await,
        RunsCommand::List(args) => list(&args).await,
        RunsCommand::Show(args) if args.watch => control::watch(args.run, &args.nats).await,
        RunsCommand::Show(args) => show(&args).await,
        RunsCommand::Pause(args) => control::pause(args.run, &args.nats).await,
        RunsCommand::Unpause(args) => control::unpause(args.run, &args.nats).await,
        RunsCommand::Abort(args) => control::abort(args.run, &args.nats).await,
    }
}

async fn list(args: &RunsListArgs) -> Result<ExitStatus, RunError> {
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
    let mode = match record.mode {
        Mode::Check => "check",
        Mode::Delete => "delete",
    };
    let what = match report {
        Some(report) if record.mode == Mode::Check => {
            format!(
                "{} orphans, {}",
                report.blobs.orphaned,
                human::bytes(report.bytes.orphaned)
            )
        }
        Some(report) => format!(
            "{} deleted, {}",
            report.blobs.deleted,
            human::bytes(report.bytes.freed)
        ),
        None => "no report".to_owned(),
    };
    let left = if record.ended { "" } else { "  (can be resumed)" };
    let left = if record.mode == Mode::Delete { left } else { "" };
    let started = record.started.strftime("%Y-%m-%d %H:%M:%S UTC");
    format!(
        "{}  {started}  {mode:<6}  {}  {what}{left}",
        record.run, record.registry
    )
}

async fn show(args: &RunsShowArgs) -> Result<ExitStatus, RunError> {
    let mut missing = None;
    for state in states(&args.place).await? {
        match load_record(&state, args.run).await {
            Ok(record) => {
                let report = match saved_report(&state, args.run).await? {
                    // A run that went on after its last report is told by its books.
                    Some(report) if report.epochs == record.epoch().number => report,
                    _ => rebuilt_report(&state, &record).await?,
                };
                let command = delete_command(&record, args.place.state.as_deref());
                print_report(&report, args.output, &command)?;
                return Ok(ExitStatus::Done);
            }
            Err(error @ RunError::NoSuchRun { .. }) => missing = Some(error),
            Err(error) if is_only_noted(&args.place) => cannot_be_looked_at(state.identity(), &error),
            Err(error) => return Err(error),
        }
    }
    Err(missing.unwrap_or_else(|| RunError::Usage("no state store was named".to_owned())))
}

/// The command that deletes what a check found, by its record: the options that decide what goes, and its plan.
fn delete_command(record: &RunRecord, state: Option<&str>) -> String {
    // Destructured, so that a new option cannot be forgotten.
    let RunOptions {
        keep_younger_than_seconds,
        delete_untagged,
        accept_untagged_repositories,
        purge_uploads_older_than_seconds,
        abort_multipart_older_than_seconds,
        prune_broken,
        delete_empty_repositories,
        false_positive_rate: _, // only of this check's filters
        accept_versioned,
        filter_seed: _,
        plan: _,
    } = record.options;
    let mut command = format!("hardprune delete {}", quoted(storage_of(&record.registry)));
    if let Some(state) = state {
        command += &format!(" --state {}", quoted(state));
    }
    command += &format!(" --keep-younger-than {keep_younger_than_seconds}s");
    if let Some(seconds) = purge_uploads_older_than_seconds {
        command += &format!(" --purge-uploads-older-than {seconds}s");
    }
    if let Some(seconds) = abort_multipart_older_than_seconds {
        command += &format!(" --abort-multipart-older-than {seconds}s");
    }
    for word in &record.guard_arguments {
        command += &format!(" {}", quoted(word));
    }
    for (is_on, flag) in [
        (delete_untagged, "--delete-untagged"),
        (accept_untagged_repositories, "--accept-untagged-repositories"),
        (prune_broken, "--prune-broken"),
        (delete_empty_repositories, "--delete-empty-repositories"),
        (accept_versioned, "--accept-versioned"),
    ] {
        if is_on {
            command += &format!(" {flag}");
        }
    }
    command + &format!(" --plan {} --assume-read-only", record.run)
}

/// The state stores to look in: the one that was named, or the user's own and those that runs were noted in.
async fn states(place: &RunsPlace) -> Result<Vec<StateStore>, RunError> {
    if let Some(name) = &place.state {
        let options = OpenOptions {
            concurrency: CONCURRENCY.into(),
            ..OpenOptions::default()
        };
        return Ok(vec![named_state(name, &options)?]);
    }
    if let Some(storage) = &place.registry {
        return Ok(vec![user_state()?, named(storage)?.open_state()?]);
    }
    let user = user_state()?;
    let noted = noted_states(&user).await?;
    let mut states = vec![user];
    for name in noted {
        match named(&name).and_then(|named| named.open_state()) {
            Ok(state) => states.push(state),
            // A folder that is gone took its runs along.
            Err(RunError::Store(StoreError::NoSuchPlace { .. })) => {}
            Err(error) => cannot_be_looked_at(&name, &error),
        }
    }
    Ok(states)
}

/// Whether the user named no state store: one that cannot be reached must not hide what the others have.
fn is_only_noted(place: &RunsPlace) -> bool {
    place.state.is_none() && place.registry.is_none()
}

fn cannot_be_looked_at(state: &str, error: &RunError) {
    eprintln!("runs in {state} cannot be looked at from here: {error}");
}

fn named(storage: &str) -> Result<NamedRegistry, RunError> {
    NamedRegistry::of(&RegistryArgs {
        storage: Some(storage.to_owned()),
        registry_config: None,
        concurrency: CONCURRENCY,
        state: None,
        request_timeout: None,
        retry_pause: None,
    })
}

async fn saved_report(state: &StateStore, run: RunId) -> Result<Option<Report>, RunError> {
    optional(state.read_json(&format!("{}report.json", run_folder(run))).await)
}

fn optional<T>(result: Result<T, StateError>) -> Result<Option<T>, RunError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StateError::Store(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
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
