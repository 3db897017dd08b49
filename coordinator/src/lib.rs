//! hardprune's coordinator: plans a run, gathers what the workers found, seals it, guards it, accounts for it and
//! reports it.

pub mod abort_multipart;
pub mod accounts;
pub mod book_index;
pub mod books;
pub mod ceiling;
pub mod cli;
mod control;
mod dangling;
pub mod deadline;
mod demo;
pub mod descriptor_cache;
pub mod dispatch;
pub mod error;
pub mod exit_status;
pub mod failed_removals;
pub mod fsck;
pub mod garbage;
mod gone;
pub mod guards;
pub mod human;
pub mod lock_registry;
mod manual_page;
pub mod mark;
pub mod mark_cache;
pub mod metrics;
pub mod metrics_file;
pub mod open_stores;
pub mod openshift;
pub mod outputs;
pub mod plan;
pub mod planned;
pub mod preflight;
pub mod problems;
pub mod progress;
pub mod prune;
pub mod quarantine;
pub mod read_only;
pub mod reference_source;
pub mod registry_config;
pub mod report;
pub mod retention;
pub mod reviewed;
pub mod run;
pub mod run_record;
mod runs;
pub mod seal;
mod serve_metrics;
pub mod settle;
mod shard_files;
mod silence;
pub mod spool;
pub mod start_run;
pub mod sweep;
pub mod tenants;
pub mod transport;
pub mod unlink;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use hardprune_worker::logging;

use crate::cli::{Cli, Command};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::quarantine::QuarantineCommand;
use crate::read_only::read_write;

/// Threads for work that blocks: reads of files, walks of folders.
const BLOCKING_THREADS: usize = 64;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    logging::start(cli.log_format, cli.verbose);
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            // A walk that nobody waits for must not hold the program up.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(RunError::Usage(format!("no threads can be started: {error}"))),
    };
    let status = result.unwrap_or_else(|error| {
        eprintln!("hardprune: {}", human::printable_lines(&with_sources(&error)));
        error.exit_status()
    });
    status.into()
}

/// A command line that cannot be read. Of `images` this is said as `oc adm prune images` does, with its exit status.
fn usage_error(error: &clap::Error) -> ExitCode {
    let is_images = std::env::args().nth(1).is_some_and(|command| command == "images");
    match openshift::images::usage_message(error) {
        Some(message) if is_images => {
            eprintln!("{}", human::printable_lines(&message));
            ExitStatus::Failed.into()
        }
        _ => error.exit(),
    }
}

async fn run(cli: Cli) -> Result<ExitStatus, RunError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match cli.command {
        Command::Check(args) => prune::prune(args.run, None, &arguments).await,
        Command::Delete(args) => {
            let choices = prune::DeleteChoices::of(&args)?;
            prune::prune(args.run, Some(choices), &arguments).await
        }
        Command::Fsck(args) => fsck::fsck(args).await,
        Command::Images(args) => openshift::images::images(args).await,
        Command::ReadWrite(args) => read_write::read_write(args).await,
        Command::Restore(args) => quarantine::restore::restore(args).await,
        Command::Purge(args) => quarantine::purge::purge(args).await,
        Command::Quarantine(QuarantineCommand::List(args)) => quarantine::list::list(&args).await,
        Command::Runs(args) => runs::runs(args).await,
        Command::Demo => demo::demo().await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut cli::command(), "hardprune", &mut io::stdout());
            Ok(ExitStatus::Done)
        }
        Command::Man { command } => {
            manual_page::print_manual_page(&command)?;
            Ok(ExitStatus::Done)
        }
    }
}

/// An error with what lies below it, each said once.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let below = error.to_string();
        if !text.contains(&below) {
            text = format!("{text}: {below}");
        }
        source = error.source();
    }
    text
}

/// Writes to standard output. A reader that has gone is no failure of the run.
fn print(text: &str) -> Result<(), RunError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(RunError::Output {
            path: "-".into(),
            source: error,
        }),
        _ => Ok(()),
    }
}
