//! From what was ordered to a run, and from its report to standard output, whichever command ordered it.

use std::path::PathBuf;
use std::sync::Arc;

use hardprune_common::lock::{delete_timeout, look_again_after};
use hardprune_common::nats::{self, Nats};
use hardprune_common::run::RunId;
use hardprune_common::state::{StateError, StateStore};
use hardprune_common::store::Store;
use hardprune_common::store::location::StorageLocation;
use hardprune_worker::process::{place, stop_on_signal};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::ceiling::Ceiling;
use crate::cli::{ExecutionArgs, OutputFormat, RegistryArgs, Resume};
use crate::deadline::zoned_now;
use crate::descriptor_cache::{Cache, CacheArgs};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::open_stores::{NamedRegistry, named_state, note_where, user_state};
use crate::openshift::cluster::ClusterArgs;
use crate::outputs::Outputs;
use crate::preflight::preflight;
use crate::progress::Progress;
use crate::read_only::ReadOnly;
use crate::reference_source::{References, SourceName};
use crate::report::Report;
use crate::reviewed::ReviewedPlan;
use crate::run::{Ended, Run};
use crate::run_record::{Mode, RunOptions, RunRecord, list_runs};
use crate::serve_metrics::Metrics;
use crate::transport::Elsewhere;
use crate::{abort_multipart, metrics_file, print};

/// Tasks done at once: enough to keep a cloud store's requests in flight busy, and a disk with a cold cache, which serves many
/// walks faster than one however few processors there are.
const WORKERS: usize = 32;
const CLOUD_READS_IN_FLIGHT: usize = 32;
const FOLDER_READS_IN_FLIGHT: usize = 8;

/// What a run is to do, and with what.
#[derive(Debug)]
pub struct Order {
    /// What.
    pub mode: Mode,
    /// By what options. A resumed run has its own.
    pub options: RunOptions,
    /// The registry, as it was named.
    pub registry: RegistryArgs,
    /// The registry.
    pub named: NamedRegistry,
    /// The cluster that references may come from.
    pub cluster: ClusterArgs,
    /// How it is carried out.
    pub execution: ExecutionArgs,
    /// Where every orphan is written to.
    pub candidates: Option<PathBuf>,
    /// How it is known that nothing writes to the registry. `None`: a check.
    pub read_only: Option<ReadOnly>,
    /// The run to continue.
    pub resume: Option<Resume>,
    /// The registry's cache. `None`: nothing is deleted that it could remember.
    pub cache: Option<CacheArgs>,
}

/// Has a run carried out, and prints its report. `command` is what would do what a check only says.
///
/// # Errors
///
/// What ended the run before it deleted anything.
pub async fn start_run(order: Order, command: &str) -> Result<ExitStatus, RunError> {
    let outputs = Outputs {
        candidates: order.candidates.clone(),
        removals: order.execution.removals.clone(),
        metrics: order.execution.metrics_file.clone(),
    };
    let guards = order.execution.guards.guards()?;
    outputs.prepare()?;
    let metrics = Metrics::register()?;
    let readiness = metrics.serve(order.execution.health_addr).await?;
    let stop = stop_on_signal(|| {
        eprintln!("stopping: batches in flight end first; a second signal ends at once");
    })
    .map_err(|error| RunError::Usage(format!("signals cannot be listened for: {error}")))?;
    let named = &order.named;
    if let Some(config) = &named.config
        && !order.options.references.contains(&SourceName::Openshift)
    {
        config.refuse_openshift()?;
    }
    let concurrency = order.registry.concurrency;
    let cache = match &order.cache {
        None => Cache::None,
        Some(cache) => Cache::of(cache, named.config.as_ref())?,
    };
    cache.refuse_unreachable().await?;
    let elsewhere = elsewhere(&order).await?;
    let ceiling = Ceiling::of(order.execution.ceiling, named)?;
    let registry = named.open()?;
    ceiling.share(&*registry, 0);
    abort_multipart::check_supported(
        &*registry,
        order.options.abort_multipart_older_than_seconds.is_some(),
    )?;
    preflight(&*registry).await?;
    let state = match (&order.registry.state, order.mode) {
        (Some(name), _) => named_state(name, &named.options)?,
        (None, Mode::Check) => user_state()?,
        (None, Mode::Delete | Mode::Purge) => named.open_state()?,
    };
    let mut record = match order.resume {
        Some(resume) => resumed_record(&state, &*registry, order.mode, resume).await?,
        None => new_record(&order, &*registry).await?,
    };
    match &order.registry.state {
        Some(name) => note_where(record.run, &StorageLocation::parse(name)?.display()).await,
        None if order.mode.deletes() => note_where(record.run, &named.location.display()).await,
        None => {}
    }
    metrics.coordinator.count_requests_of(&registry);
    let progress = Progress::on_standard_error(metrics.coordinator.clone());
    progress.say(&format!("run {} on {}", record.run, registry.identity()));
    let deadline = watch_deadline(&order.execution, &progress, &stop)?;
    let reviewed = ReviewedPlan::of_run(&state, &*registry, &mut record).await?;
    let references = References::of(&record.options.references, &order.cluster).await?;
    let run = Run {
        references,
        workers: WORKERS.min(concurrency.into()),
        reads_in_flight: if named.is_folder() {
            FOLDER_READS_IN_FLIGHT
        } else {
            CLOUD_READS_IN_FLIGHT
        },
        registry: Arc::clone(&registry),
        state,
        record,
        elsewhere,
        read_only: order.read_only,
        ceiling,
        lease: order.execution.lease,
        deadline,
        reviewed,
        guards,
        cache: cache.redis(),
        uses_mark_cache: order.execution.mark_cache.is_used(&*registry),
        spool_dir: order
            .execution
            .spool_dir
            .clone()
            .unwrap_or_else(std::env::temp_dir),
        outputs: outputs.clone(),
        keep_runs: order.execution.keep_runs,
        progress,
        worker_metrics: metrics.worker.clone(),
        stop,
    };
    readiness.set_ready();
    let Ended {
        report,
        status,
        error,
    } = run.execute().await?;
    metrics.coordinator.run_ended(report.finished, status);
    let written = match &outputs.metrics {
        Some(path) => metrics_file::write(path, &report),
        None => Ok(()),
    };
    if let Some(error) = error {
        if let Err(unwritten) = written {
            eprintln!("hardprune: {unwritten}");
        }
        // Who reads JSON reads it of every run that there was.
        if order.execution.output == OutputFormat::Json
            && let Err(unprinted) = print_report(&report, order.execution.output, command)
        {
            eprintln!("hardprune: {unprinted}");
        }
        return Err(error);
    }
    if let Cache::Manual(reminder) = &cache {
        eprintln!("{reminder}");
    }
    let printed = print_report(&report, order.execution.output, command);
    match printed.and(written) {
        // What was done is done, and `runs show` prints it again.
        Err(error) if order.mode.deletes() => {
            eprintln!("hardprune: {error}");
            Ok(status.at_best_partly())
        }
        result => result.map(|()| status),
    }
}

/// Connects to NATS, where its workers are to do the tasks, and sets up what that needs.
async fn elsewhere(order: &Order) -> Result<Option<Elsewhere>, RunError> {
    let Some(settings) = order
        .execution
        .nats
        .settings(&format!("hardprune, {}", place()))?
    else {
        return Ok(None);
    };
    if order.mode == Mode::Check && order.registry.state.is_none() {
        return Err(RunError::Usage(
            "a check keeps its run in your own state folder, which workers cannot reach: name a place that they can, with \
             --state URL (a bucket, or a folder that all share)"
                .to_owned(),
        ));
    }
    let nats = Nats::connect(&settings).await?;
    nats::set_up(&nats, order.execution.nats_replicas.into()).await?;
    Ok(Some(Elsewhere {
        nats,
        ack_wait: order.execution.ack_wait,
    }))
}

/// Works out when the run is to have ended, says it, and stops it in time.
fn watch_deadline(
    execution: &ExecutionArgs,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Option<Timestamp>, RunError> {
    let Some(deadline) = execution.deadline() else {
        return Ok(None);
    };
    let now = zoned_now();
    let mut longest_request = delete_timeout(execution.lease);
    if execution.nats.nats.is_some() {
        // Until workers of other processes must have seen that the lock forbids more.
        longest_request += look_again_after(execution.lease);
    }
    let due = deadline
        .due(&now, longest_request)
        .map_err(|error| RunError::Usage(format!("the deadline cannot be worked out: {error}")))?;
    progress.say(&due.describe(&now));
    due.watch(stop.clone());
    Ok(Some(due.timestamp()))
}

/// Prints a report on standard output.
///
/// # Errors
///
/// A standard output that cannot be written to.
pub fn print_report(report: &Report, format: OutputFormat, command: &str) -> Result<(), RunError> {
    match format {
        OutputFormat::Json => {
            let document = serde_json::to_string_pretty(report).map_err(|error| RunError::Output {
                path: "-".into(),
                source: error.into(),
            })?;
            print(&format!("{document}\n"))
        }
        OutputFormat::Text => print(&format!("{}{}", report.summary(), report.closing_lines(command))),
    }
}

async fn new_record(order: &Order, registry: &dyn Store) -> Result<RunRecord, RunError> {
    Ok(RunRecord {
        version: 1,
        run: RunId::generate(),
        registry: registry.identity().to_owned(),
        mode: order.mode,
        options: order.options.clone(),
        started: registry.now().await?,
        shard_digits: None,
        reviewed_plan: None,
        guard_arguments: order.execution.guards.arguments(),
        report: None,
        books: Vec::new(),
        epochs: Vec::new(),
        ended: false,
    })
}

async fn resumed_record(
    state: &StateStore,
    registry: &dyn Store,
    mode: Mode,
    resume: Resume,
) -> Result<RunRecord, RunError> {
    let usage = |detail: String| Err(RunError::Usage(detail));
    let record = match resume {
        Resume::Run(run) => load_record(state, run).await?,
        Resume::Auto => {
            let mut latest = None;
            for run in list_runs(state).await?.into_iter().rev() {
                let record = match load_record(state, run).await {
                    // It died before it had written down what it is, so before it did anything.
                    Err(RunError::NoSuchRun { .. }) => continue,
                    result => result?,
                };
                if record.mode == mode && !record.ended && record.registry == registry.identity() {
                    latest = Some(record);
                    break;
                }
            }
            match latest {
                Some(record) => record,
                None => {
                    return usage(format!(
                        "no run in {} on this registry is left to resume",
                        state.identity()
                    ));
                }
            }
        }
    };
    if record.registry != registry.identity() {
        return usage(format!(
            "run {} is on {}, not on {}",
            record.run,
            record.registry,
            registry.identity()
        ));
    }
    if record.mode != mode || record.ended {
        return usage(format!("run {} is over; there is nothing to resume", record.run));
    }
    Ok(record)
}

/// Reads a run's record.
///
/// # Errors
///
/// [`RunError::NoSuchRun`], and a state store that fails.
pub async fn load_record(state: &StateStore, run: RunId) -> Result<RunRecord, RunError> {
    match RunRecord::load(state, run).await {
        Err(StateError::Store(error)) if error.is_not_found() => Err(RunError::NoSuchRun {
            run,
            state: state.identity().to_owned(),
        }),
        result => Ok(result?),
    }
}
