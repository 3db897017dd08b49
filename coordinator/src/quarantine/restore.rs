//! `hardprune restore`: puts back what a run quarantined: blobs first, then layer links, revision links, and tags.
//!
//! It works from the listing of the quarantine alone, so it needs no state store that may be gone. It takes the registry's lock: nobody
//! deletes meanwhile. The registry may take writes: nothing that was pushed is overwritten.

use std::sync::Arc;

use futures::TryStreamExt;
use hardprune_common::quarantine::{Keeping, Undo};
use hardprune_common::run::RunId;
use hardprune_common::store::Store;
use hardprune_worker::process::stop_on_signal;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::args::RestoreArgs;
use super::copies::{Class, copies};
use super::keeping;
use super::put_back::{PutBackCounts, put_back};
use super::select::Selection;
use super::undelete::undelete;
use crate::cli::OutputFormat;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::lock_registry::lock_without_plan;
use crate::open_stores::{NamedRegistry, named_state};
use crate::print;

/// What came of a restore, as it is printed in JSON.
#[derive(Debug, Serialize)]
struct Restoration {
    version: u32,
    run: RunId,
    registry: String,
    /// Whether nothing is kept of the run any more.
    all: bool,
    #[serde(flatten)]
    counts: PutBackCounts,
}

/// Puts back what a run quarantined.
///
/// # Errors
///
/// A run of which nothing is kept, a registry that is locked, stores that fail.
pub async fn restore(args: RestoreArgs) -> Result<ExitStatus, RunError> {
    let named = NamedRegistry::of(&args.of.registry(Some(args.run)).await?)?;
    let registry = named.open()?;
    let state = match &args.of.state {
        Some(name) => named_state(name, &named.options)?,
        None => named.open_state()?,
    };
    let keeping = keeping::read(&*registry, args.run).await?;
    if keeping.is_none() && !keeping::has_copies(&*registry, args.run).await? {
        return Err(RunError::Usage(format!(
            "nothing is kept of run {} in {}; `hardprune quarantine list` shows what is",
            args.run,
            registry.identity()
        )));
    }
    let stop = stop_on_signal(|| eprintln!("stopping; a second signal ends at once"))
        .map_err(|error| RunError::Usage(format!("signals cannot be listened for: {error}")))?;
    let lock = lock_without_plan(&registry, &state, stop.clone()).await?;
    let restored = restore_with_lock(&registry, keeping.as_ref(), &args, &stop).await;
    lock.give_back().await;
    let (counts, all) = restored?;
    print_restoration(&args, registry.identity(), counts, all, stop.is_cancelled())
}

async fn restore_with_lock(
    registry: &Arc<dyn Store>,
    keeping: Option<&Keeping>,
    args: &RestoreArgs,
    stop: &CancellationToken,
) -> Result<(PutBackCounts, bool), RunError> {
    let store = &**registry;
    let mut counts = PutBackCounts::default();
    if let Some(keeping) = keeping.filter(|keeping| keeping.undo == Undo::Versions) {
        undelete(registry, keeping, args, stop, &mut counts).await?;
        return Ok((counts, false));
    }
    let repository = args.repository.as_deref();
    let selection = Selection::of(store, args.run, repository, &args.digests).await?;
    for class in Class::ALL {
        let mut pages = copies(store, args.run, class, selection.repository.as_deref());
        while let Some(page) = pages.try_next().await? {
            let failed = counts.failed;
            if stop.is_cancelled() {
                return Ok((counts, false));
            }
            let chosen = selection.choose(store, page).await?;
            put_back(registry, chosen, &mut counts).await?;
            // A link must not lead to what is not there.
            if counts.failed > failed && class == Class::Blob {
                return Ok((counts, false));
            }
        }
    }
    let all = !keeping::has_copies(store, args.run).await?;
    if all {
        keeping::forget(registry, args.run).await?;
    }
    Ok((counts, all))
}

fn print_restoration(
    args: &RestoreArgs,
    registry: &str,
    counts: PutBackCounts,
    all: bool,
    stopped: bool,
) -> Result<ExitStatus, RunError> {
    let status = match (stopped, counts.failed) {
        (true, _) => ExitStatus::Stopped,
        (false, 0) => ExitStatus::Done,
        (false, _) => ExitStatus::Partly,
    };
    for failure in &counts.failures {
        eprintln!("hardprune: {}", crate::human::printable(failure));
    }
    match args.output {
        OutputFormat::Json => {
            let restoration = Restoration {
                version: 1,
                run: args.run,
                registry: registry.to_owned(),
                all,
                counts,
            };
            let document = serde_json::to_string_pretty(&restoration).map_err(|error| RunError::Output {
                path: "-".into(),
                source: error.into(),
            })?;
            print(&format!("{document}\n"))?;
        }
        OutputFormat::Text => {
            let mut text = format!("Restored {}\n", counts.describe());
            if counts.already_there > 0 {
                text += &format!("{} keys were in their place already\n", counts.already_there);
            }
            if counts.left > 0 {
                text += &format!(
                    "{} keys were not restored: something else was pushed there since, and it stays\n",
                    counts.left
                );
            }
            if counts.failed > 0 {
                text += &format!(
                    "{} keys could not be restored: run the same command again\n",
                    counts.failed
                );
            }
            if all {
                text += &format!("Nothing of run {} is in quarantine any more\n", args.run);
            }
            print(&text)?;
        }
    }
    Ok(status)
}
