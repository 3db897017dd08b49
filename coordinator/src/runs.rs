//! `runs`: earlier runs, from the state store; and those that go on, over NATS.

mod ask_cluster;
pub(crate) mod clear_cache;
pub(crate) mod explain;
pub(crate) mod export;
mod list;
mod places;
mod scan_registry;
mod show;
pub(crate) mod verify;

use hardprune_common::run::RunId;
use hardprune_worker::nats_args::NatsArgs;

use crate::cli::{RunsArgs, RunsCommand, RunsListArgs, RunsPlace};
use crate::control;
use crate::error::RunError;
use crate::exit_status::ExitStatus;

/// The identity of the registry that a run was on, as its record says.
///
/// # Errors
///
/// [`RunError::NoSuchRun`], and a state store that was named and cannot be read.
pub(crate) async fn find_registry_of(run: RunId, state: Option<&str>) -> Result<String, RunError> {
    let place = RunsPlace {
        registry: None,
        state: state.map(str::to_owned),
    };
    let (_, record) = places::find_run(&place, run).await?;
    Ok(record.registry)
}

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
        RunsCommand::List(args) => list::list(&args).await,
        RunsCommand::Show(args) if args.watch => control::watch(args.run, &args.nats).await,
        RunsCommand::Show(args) => show::show(&args).await,
        RunsCommand::Verify(args) => verify::verify(&args).await,
        RunsCommand::Explain(args) => explain::explain(&args).await,
        RunsCommand::Export(args) => export::export(&args).await,
        RunsCommand::ClearCache(args) => clear_cache::clear_cache(&args).await,
        RunsCommand::Pause(args) => control::pause(args.run, &args.nats).await,
        RunsCommand::Unpause(args) => control::unpause(args.run, &args.nats).await,
        RunsCommand::Abort(args) => control::abort(args.run, &args.nats).await,
    }
}
