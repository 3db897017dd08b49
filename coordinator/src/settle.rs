//! Settle: the books of a run are closed and its report is made, from the state store alone, so that it can be made again
//! of a run that was killed.

use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use hardprune_common::failpoint;
use hardprune_common::last_delete::{LAST_DELETE_KEY, LastDelete, Noted};
use hardprune_common::problem::Problem;
use hardprune_common::run::RunId;
use hardprune_common::seal::{MarkDocument, SealedMark, SealedPlan};
use hardprune_common::state::{StateError, StateStore, run_folder};
use hardprune_common::store::Store;
use tracing::{info, warn};

use crate::accounts::{self, Accounts};
use crate::book_index::write_book_index;
use crate::books::settle_open_batches;
use crate::descriptor_cache::{RedisCache, clear_begun};
use crate::error::RunError;
use crate::garbage::Garbage;
use crate::open_stores::{state_of, storage_of};
use crate::planned::Planned;
use crate::problems::FIRST_PROBLEMS;
use crate::prune::quoted;
use crate::report::{Outcome, Report};
use crate::run::Run;
use crate::run_record::{Mode, RunRecord};
use crate::start_run::load_record;
use crate::tenants::{TenantError, TenantShare, freed_by_tenant, largest, planned_by_tenant, tenants_key};

/// The books of a run, closed as far as they could be.
#[derive(Debug)]
pub struct Settled {
    /// What they add up to.
    pub accounts: Accounts,
    /// Whether the end of every request is in them.
    pub complete: bool,
    /// That the registry's cache is not clear, and which command clears it.
    pub uncleared: Option<String>,
    /// Why the removals could not be written to the file that was asked for.
    pub unwritten: Option<RunError>,
}

/// Closes the books of all epochs: open batches are looked at, accounts added up (R5).
///
/// # Errors
///
/// Books that cannot be read.
pub async fn settle(run: &Run) -> Result<Settled, RunError> {
    let settled = settle_open_batches(&*run.registry, &run.state, &run.record).await;
    match &settled {
        Ok(settled) => {
            if let Some(line) = settled.describe_unattributed() {
                run.progress.say(&line);
            }
        }
        // What cannot be looked at, or written down, now stays open until the run is resumed.
        Err(error) => run.progress.say(&format!(
            "some batches are not settled yet, so less is counted than went: {error}; --resume {} settles them",
            run.record.run
        )),
    }
    let sink = run.outputs.removals_sink()?;
    let accounts = accounts::add_up(&run.state, &run.record, &|removal| sink.write(removal)).await?;
    let unwritten = sink.finish().err();
    // R11: a run that is to stop may have lost the lock.
    if run.record.options.delete_empty_repositories && !run.stop.is_cancelled() {
        let removed = run.registry.remove_empty_repositories().await?;
        if removed > 0 {
            run.progress
                .say(&format!("removed the empty folders of {removed} repositories"));
        }
    }
    let uncleared = clear_cache(run).await;
    Ok(Settled {
        accounts,
        uncleared,
        complete: settled.is_ok(),
        unwritten,
    })
}

/// Clears the registry's cache again of all that is gone (R6): what was served meanwhile may have been remembered again, and what
/// earlier epochs deleted may never have been cleared. A failure keeps no run from closing its books.
async fn clear_cache(run: &Run) -> Option<String> {
    let cache = run.cache.as_ref()?;
    let error = clear_begun(cache, &run.state, &run.record).await.err()?;
    let state = quoted(storage_of(run.state.identity()));
    Some(format!(
        "{error}. It remembers blobs that are gone: before the registry takes writes again, clear it with `hardprune runs \
         clear-cache {} --state {state} --cache {cache}`",
        run.record.run
    ))
}

/// Settles what the run left open that was last allowed to delete, unless it is this `run`, wherever its books are (`state` is
/// looked at first), with the lock in hand, unless its books are closed: what is absent it has freed (R5). It has done so for the run before it, so there is no other. A failure is no failure of this run.
pub async fn settle_last_delete(
    registry: &Arc<dyn Store>,
    state: &StateStore,
    run: RunId,
    noted: Option<&Noted>,
) {
    let Some(noted) = noted else { return };
    let Some(last) = &noted.last else {
        warn!(
            "{LAST_DELETE_KEY} cannot be read: if the run that deleted last died, what of its open batches is gone counts for nobody"
        );
        return;
    };
    if last.epoch.run == run || last.closed {
        return;
    }
    if let Err(error) = try_to_settle_last_delete(registry, state, last).await {
        warn!(
            run = %last.epoch.run, state = last.state, %error,
            "the books of the run that deleted last cannot be closed: if it died, what of its open batches is gone counts for nobody"
        );
    }
}

async fn try_to_settle_last_delete(
    registry: &Arc<dyn Store>,
    state: &StateStore,
    last: &LastDelete,
) -> Result<(), RunError> {
    let (state, record) = books_of(registry, state, last).await?;
    if record.ended {
        return Ok(());
    }
    let settled = settle_open_batches(&**registry, &state, &record).await?;
    info!(run = %record.run, settled.batches, "open batches of the run that deleted last are settled");
    Ok(())
}

/// Clears the registry's cache of what the run removed that was last allowed to delete, wherever its books are; nothing where nobody ever
/// was.
///
/// # Errors
///
/// Books that cannot be had, a cache that does not answer.
pub async fn clear_cache_after_last_delete(
    cache: &RedisCache,
    registry: &Arc<dyn Store>,
    state: &StateStore,
    noted: Option<&Noted>,
) -> Result<(), String> {
    let Some(noted) = noted else { return Ok(()) };
    let last = noted.last.as_ref().ok_or_else(|| {
        format!(
            "{LAST_DELETE_KEY} cannot be read: clear the registry's cache yourself, and say --cache manual"
        )
    })?;
    let (state, record) = books_of(registry, state, last)
        .await
        .map_err(|error| error.to_string())?;
    clear_begun(cache, &state, &record)
        .await
        .map_err(|error| error.to_string())
}

/// The state store and the record of the run that was last allowed to delete.
async fn books_of(
    registry: &Arc<dyn Store>,
    state: &StateStore,
    last: &LastDelete,
) -> Result<(StateStore, RunRecord), RunError> {
    let state = if last.state == state.identity() {
        state.clone()
    } else if last.state == registry.identity() {
        StateStore::new(Arc::clone(registry))
    } else {
        state_of(&last.state)?
    };
    let record = load_record(&state, last.epoch.run).await?;
    if record.registry != registry.identity() {
        // A copy of a registry names who deleted on the original.
        return Err(RunError::Usage(format!("it is on {}", record.registry)));
    }
    Ok((state, record))
}

/// Makes the report.
///
/// # Errors
///
/// A state store that fails.
pub async fn report(
    run: &Run,
    outcome: Outcome,
    mark: Option<&SealedMark>,
    plan: Option<&SealedPlan>,
    accounts: Option<Accounts>,
) -> Result<Report, RunError> {
    let finished = run
        .registry
        .now()
        .await
        .unwrap_or_else(|_| hardprune_common::clock::machine_now());
    let mut report = Report::new(&run.record, outcome, finished);
    if let Some(mark) = mark {
        report.add_mark(mark.document());
        report.add_first(&first_problems(&run.state, mark.document()).await?);
    }
    if let Some(plan) = plan {
        report.add_plan(plan.document());
        if accounts.is_none() {
            let planned = Planned::read(&run.state, plan.document()).await?;
            report.links = planned.links;
            report.garbage.add_planned(&planned);
        }
    }
    report.tenants = tenants(run, plan, accounts.is_some()).await;
    report.versioning = run.registry.versioning();
    let hidden = report.versioning.only_hides();
    if run.record.mode == Mode::Check && hidden {
        report.bytes.hidden = report.bytes.orphaned;
    }
    if let Some(accounts) = accounts {
        report.add_accounts(&accounts, hidden);
    } else if run.record.mode.deletes() {
        report.links = crate::accounts::LinkCounts::default();
        report.bytes.uploads = 0;
        report.garbage = Garbage::default();
    }
    Ok(report)
}

/// Who freed what, or, in a check, whose blobs would go. All of it is written to the state store, too. That it is not known is no
/// failure of the run.
async fn tenants(run: &Run, plan: Option<&SealedPlan>, has_deleted: bool) -> Vec<TenantShare> {
    let shares = match plan {
        _ if has_deleted => freed_by_tenant(&run.state, &run.record, &run.spool_dir).await,
        Some(plan) if run.record.mode == Mode::Check => {
            planned_by_tenant(&run.state, plan.document(), &run.spool_dir).await
        }
        _ => return Vec::new(),
    };
    let written = match shares {
        Ok(shares) if shares.is_empty() => Ok(shares),
        Ok(shares) => {
            let key = tenants_key(run.record.run);
            let written = run.state.write_lines(&key, &shares).await;
            written.map(|_| shares).map_err(TenantError::from)
        }
        Err(error) => Err(error),
    };
    match written {
        Ok(shares) => largest(shares),
        Err(error) => {
            run.progress
                .say(&format!("it cannot be said who freed what: {error}"));
            Vec::new()
        }
    }
}

/// The first problems that a mark found, in the order of its ranges.
///
/// # Errors
///
/// A state store that fails.
pub async fn first_problems(state: &StateStore, mark: &MarkDocument) -> Result<Vec<Problem>, StateError> {
    let mut first = Vec::new();
    let files: Vec<_> = mark
        .ranges
        .iter()
        .filter_map(|range| range.findings.problems.clone())
        .collect();
    let mut reads = stream::iter(files)
        .map(|file| async move { state.read_lines::<Problem>(&file).await })
        .buffered(4);
    while first.len() < FIRST_PROBLEMS
        && let Some(problems) = reads.try_next().await?
    {
        first.extend(problems);
    }
    first.truncate(FIRST_PROBLEMS);
    Ok(first)
}

/// Writes report, index of the books and record. A record that says that the run is over stands beside its report, whenever it is
/// killed: so the record comes last. Books that are not closed have no index: whoever closes them writes to them.
///
/// # Errors
///
/// A state store that fails.
pub async fn save(run: &mut Run, report: &Report, books_are_closed: bool) -> Result<(), StateError> {
    let key = format!("{}report.json", run_folder(run.record.run));
    run.record.report = Some(run.state.write_json(&key, report).await?);
    failpoint::here("after-report").await;
    if books_are_closed {
        run.record.books = write_book_index(&run.state, &run.record).await?;
    }
    run.record.save(&run.state).await
}
