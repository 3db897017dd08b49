//! `hardprune purge`: from the command line to a run that deletes for good what an earlier one quarantined.

use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::quarantine::{Keeping, Undo};
use hardprune_common::run::RunId;
use hardprune_common::store::Store;

use super::args::PurgeArgs;
use super::keeping;
use crate::descriptor_cache::CacheArgs;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::open_stores::NamedRegistry;
use crate::print;
use crate::read_only::ReadOnly;
use crate::run_record::{Mode, RunOptions};
use crate::start_run::{Order, start_run};

/// What was moved while the registry took writes stays at least so long.
const LEAST_AGE_ONLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// Purges a run's quarantine, or one after another those that are old enough.
///
/// # Errors
///
/// What ended the first run before it deleted anything: a run of which nothing is kept, a guard.
pub async fn purge(args: PurgeArgs) -> Result<ExitStatus, RunError> {
    let named = NamedRegistry::of(&args.of.registry(args.run).await?)?;
    let registry = named.open()?;
    if args.resume.is_some() {
        return start(&args, args.run, true).await;
    }
    let due = match (args.run, args.older_than) {
        (Some(run), _) => vec![the_one(&*registry, run).await?],
        (None, age) => due(&*registry, age.unwrap_or_default()).await?,
    };
    if due.is_empty() {
        print("Nothing is old enough to be purged\n")?;
    }
    let mut status = ExitStatus::Done;
    for run in due {
        status = start(&args, Some(run), false).await?;
        if status != ExitStatus::Done {
            break;
        }
    }
    Ok(status)
}

/// A run that is to be purged, by its name.
async fn the_one(registry: &dyn Store, run: RunId) -> Result<RunId, RunError> {
    let Some(keeping) = keeping::read(registry, run).await? else {
        return Err(RunError::Usage(format!(
            "nothing is kept of run {run} in {}; `hardprune quarantine list` shows what is",
            registry.identity()
        )));
    };
    let now = registry.now().await?;
    match not_yet(&keeping, now) {
        Some(why) => Err(RunError::Refused(why)),
        None => Ok(run),
    }
}

/// Runs that ended so long ago, the oldest first.
async fn due(registry: &dyn Store, age: Duration) -> Result<Vec<RunId>, RunError> {
    let now = registry.now().await?;
    let mut due = Vec::new();
    for keeping in keeping::read_all(registry).await? {
        let is_old = keeping.ended.is_some_and(|ended| clock::later(ended, age) <= now);
        if is_old && not_yet(&keeping, now).is_none() {
            due.push(keeping.run);
        }
    }
    Ok(due)
}

/// Why what is kept of a run cannot be purged now.
fn not_yet(keeping: &Keeping, now: jiff::Timestamp) -> Option<String> {
    let run = keeping.run;
    if keeping.undo == Undo::Versions {
        return Some(format!(
            "what run {run} removed is kept as versions of the bucket: they go by the bucket's own lifecycle rule"
        ));
    }
    let Some(ended) = keeping.ended else {
        return Some(format!(
            "run {run} has not ended: some of what it copied may still be in its place. Continue it with `hardprune delete --resume \
             {run}`, or have all back with `hardprune restore {run}`"
        ));
    };
    let allowed = clock::later(ended, LEAST_AGE_ONLINE);
    (keeping.online && now < allowed).then(|| {
        format!(
            "run {run} moved blobs while the registry took writes, and ended at {ended}: it may be purged from {allowed} on"
        )
    })
}

async fn start(args: &PurgeArgs, run: Option<RunId>, resumes: bool) -> Result<ExitStatus, RunError> {
    let registry = args.of.registry(run).await?;
    let order = Order {
        mode: Mode::Purge,
        options: RunOptions {
            keep_younger_than_seconds: args.keep_younger_than.as_secs(),
            references: args.references.names(),
            context: args.references.context(),
            purges: run,
            ..RunOptions::default()
        },
        named: NamedRegistry::of(&registry)?,
        registry,
        cluster: args.references.cluster.clone(),
        execution: args.execution.clone(),
        candidates: None,
        read_only: Some(ReadOnly::of(&args.read_only, &CacheArgs::default())?),
        resume: args.resume.filter(|_| resumes),
        cache: None,
    };
    start_run(order, "").await
}
