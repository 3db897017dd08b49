//! `runs list|show --watch|pause|unpause|abort --nats URL`: looks at runs that go on over NATS, and steps in.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::nats::{Nats, RunState, Runs, Wanted};
use hardprune_common::run::RunId;
use hardprune_worker::nats_args::NatsArgs;
use hardprune_worker::process::place;

use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::human::bytes;
use crate::print;

/// How often a watched run is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A coordinator that has not said for so long how far it is counts as silent.
const SILENT_AFTER: Duration = Duration::from_secs(15);

async fn open(args: &NatsArgs) -> Result<Runs, RunError> {
    let Some(settings) = args.settings(&format!("hardprune runs, {}", place()))? else {
        return Err(RunError::Usage(
            "which NATS server? Name it with --nats URL".to_owned(),
        ));
    };
    let nats = Nats::connect(&settings).await?;
    Ok(Runs::open(&nats).await?)
}

/// Lists the runs that NATS knows of, and the workers that are there.
pub async fn list(args: &NatsArgs) -> Result<ExitStatus, RunError> {
    let runs = open(args).await?;
    let mut text = String::new();
    for run in runs.list().await? {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{}  {}  {:<6}  {}  {}",
            run.epoch.run,
            run.started.strftime("%Y-%m-%d %H:%M:%S UTC"),
            run.mode,
            run.registry,
            how_far(&run, runs.wanted(run.epoch.run).await?.map(|(_, wanted)| wanted))
        );
    }
    for worker in runs.workers().await? {
        let _ = writeln!(
            text,
            "worker {}  {}  {}  {} tasks in hand",
            worker.id,
            worker.program,
            worker.place,
            worker.tasks.len()
        );
    }
    print(&text)?;
    Ok(ExitStatus::Done)
}

/// Shows how far a run is, until it ends.
pub async fn watch(run: RunId, args: &NatsArgs) -> Result<ExitStatus, RunError> {
    let runs = open(args).await?;
    let on_terminal = std::io::stdout().is_terminal();
    let mut last = String::new();
    loop {
        let Some(state) = runs.get(run).await? else {
            return Err(unknown(run));
        };
        let wanted = runs.wanted(run).await?.map(|(_, wanted)| wanted);
        let line = how_far(&state, wanted);
        if on_terminal {
            print(&format!("\r\x1b[2K{line}"))?;
        } else if line != last {
            print(&format!("{line}\n"))?;
        }
        last = line;
        if state.ended.is_some() {
            if on_terminal {
                print("\n")?;
            }
            return Ok(ExitStatus::Done);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Lets workers delete nothing more until it is unpaused.
pub async fn pause(run: RunId, args: &NatsArgs) -> Result<ExitStatus, RunError> {
    let is_over = |wanted| matches!(wanted, Wanted::Abort | Wanted::Halt);
    want(
        run,
        args,
        Wanted::Pause,
        is_over,
        "pauses: nothing more is deleted until it is unpaused",
    )
    .await
}

/// Lets a paused run go on.
pub async fn unpause(run: RunId, args: &NatsArgs) -> Result<ExitStatus, RunError> {
    let is_over = |wanted| matches!(wanted, Wanted::Abort | Wanted::Halt);
    want(run, args, Wanted::Go, is_over, "goes on").await
}

/// Stops a run.
pub async fn abort(run: RunId, args: &NatsArgs) -> Result<ExitStatus, RunError> {
    let is_over = |wanted| wanted == Wanted::Halt;
    want(
        run,
        args,
        Wanted::Abort,
        is_over,
        "stops: batches in flight end, and it can be resumed",
    )
    .await
}

async fn want(
    run: RunId,
    args: &NatsArgs,
    wanted: Wanted,
    is_over: impl Fn(Wanted) -> bool,
    done: &str,
) -> Result<ExitStatus, RunError> {
    let runs = open(args).await?;
    match runs.want(run, wanted, is_over).await? {
        None => Err(unknown(run)),
        Some(now) if now == wanted => {
            print(&format!("run {run} {done}\n"))?;
            Ok(ExitStatus::Done)
        }
        Some(_) => Err(RunError::Usage(format!(
            "run {run} is stopping, or over: there is nothing to change any more"
        ))),
    }
}

fn unknown(run: RunId) -> RunError {
    RunError::Usage(format!(
        "NATS knows of no run {run}; `hardprune runs list --nats …` shows those that it does"
    ))
}

/// One line on how far a run is.
fn how_far(run: &RunState, wanted: Option<Wanted>) -> String {
    let progress = &run.progress;
    let freed = format!(
        "{} blobs deleted, {} freed",
        progress.deleted_blobs,
        bytes(progress.freed_bytes)
    );
    if let Some(ended) = &run.ended {
        return format!("{ended}, {freed}");
    }
    let mut line = match wanted {
        Some(Wanted::Pause) => "paused in ".to_owned(),
        Some(Wanted::Abort | Wanted::Halt) => "stopping in ".to_owned(),
        Some(Wanted::Go) | None => String::new(),
    };
    let seconds = progress.seconds.max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
    let (items, of_bytes, done, total) = (
        progress.items as f64 / seconds,
        progress.bytes as f64 / seconds,
        progress.done as f64,
        progress.total as f64,
    );
    // Writing to a String does not fail.
    let _ = write!(
        line,
        "{}: {} of {} {}, {} ({items:.0}/s)",
        progress.stage, progress.done, progress.total, progress.unit, progress.items
    );
    if progress.bytes > 0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for reading"
        )]
        let _ = write!(line, ", {} ({}/s)", bytes(progress.bytes), bytes(of_bytes as u64));
    }
    let _ = write!(line, ", {freed}, {} workers", progress.workers);
    if progress.done > 0 && progress.done < progress.total {
        let _ = write!(
            line,
            ", {:.0} s left in this stage",
            seconds * (total / done - 1.0)
        );
    }
    let now = clock::machine_now();
    if clock::later(run.updated, SILENT_AFTER) < now {
        let _ = write!(
            line,
            "; its coordinator ({}) is silent since {}: if it died, --resume {} goes on",
            run.coordinator,
            run.updated.strftime("%H:%M:%S UTC"),
            run.epoch.run
        );
    }
    line
}
