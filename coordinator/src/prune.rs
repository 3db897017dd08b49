//! `check` and `delete`: from the command line to a run, and from its report to standard output.

use std::sync::Arc;
use std::time::Duration;

use hardprune_common::lock::{delete_timeout, look_again_after};
use hardprune_common::nats::{self, Nats, without_credentials};
use hardprune_common::run::RunId;
use hardprune_common::state::{StateError, StateStore};
use hardprune_common::store::Store;
use hardprune_common::store::location::StorageLocation;
use hardprune_worker::process::{place, stop_on_signal};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cli::{DeleteArgs, OutputFormat, Resume, RunArgs};
use crate::deadline::zoned_now;
use crate::descriptor_cache::{Cache, CacheArgs};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::open_stores::{NamedRegistry, named_state, note_where, user_state};
use crate::outputs::Outputs;
use crate::preflight::preflight;
use crate::progress::Progress;
use crate::read_only::ReadOnly;
use crate::reference_source::{References, SourceName};
use crate::registry_config::RegistryStorage;
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

/// What only `delete` is told.
#[derive(Debug)]
pub struct DeleteChoices {
    /// How it is known that nothing writes to the registry.
    pub read_only: ReadOnly,
    /// The check whose plan is carried out.
    pub plan: Option<RunId>,
    /// The run to continue.
    pub resume: Option<Resume>,
    /// The registry's cache.
    pub cache: CacheArgs,
}

impl DeleteChoices {
    /// Takes them from the command line.
    ///
    /// # Errors
    ///
    /// A delete that insists on read-only mode, and options that cannot be used.
    pub fn of(args: &DeleteArgs) -> Result<Self, RunError> {
        Ok(Self {
            read_only: ReadOnly::of(&args.read_only, &args.cache)?,
            plan: args.plan,
            resume: args.resume,
            cache: args.cache.clone(),
        })
    }
}

/// Checks, or deletes where it is told what only that is told. `arguments` are those of the command line, for the command that a check proposes.
///
/// # Errors
///
/// What ended the run before it deleted anything.
pub async fn prune(
    args: RunArgs,
    choices: Option<DeleteChoices>,
    arguments: &[String],
) -> Result<ExitStatus, RunError> {
    let mode = if choices.is_some() {
        Mode::Delete
    } else {
        Mode::Check
    };
    let outputs = Outputs {
        candidates: args.candidates.clone(),
        removals: args.removals.clone(),
        metrics: args.metrics_file.clone(),
    };
    let guards = args.guards.guards()?;
    outputs.prepare()?;
    let metrics = Metrics::register()?;
    let readiness = metrics.serve(args.health_addr).await?;
    let stop = stop_on_signal(|| {
        eprintln!("stopping: batches in flight end first; a second signal ends at once");
    })
    .map_err(|error| RunError::Usage(format!("signals cannot be listened for: {error}")))?;
    let named = NamedRegistry::of(&args.registry)?;
    refuse_harbor(&args, named.config.as_ref())?;
    if let Some(config) = &named.config
        && !args.references.references.contains(&SourceName::Openshift)
    {
        config.refuse_openshift()?;
    }
    let concurrency = args.registry.concurrency;
    let cache = match &choices {
        None => Cache::None,
        Some(choices) => Cache::of(&choices.cache, named.config.as_ref())?,
    };
    cache.refuse_unreachable().await?;
    let elsewhere = elsewhere(mode, &args).await?;
    let registry = named.open()?;
    abort_multipart::check_supported(&*registry, args.abort_multipart_older_than.is_some())?;
    preflight(&*registry).await?;
    let state = match (&args.registry.state, mode) {
        (Some(name), _) => named_state(name, &named.options)?,
        (None, Mode::Check) => user_state()?,
        (None, Mode::Delete) => named.open_state()?,
    };

    let (resume, plan, read_only) = match choices {
        Some(choices) => (choices.resume, choices.plan, Some(choices.read_only)),
        None => (None, None, None),
    };
    let mut record = match resume {
        Some(resume) => resumed_record(&state, &*registry, resume).await?,
        None => new_record(mode, &args, plan, &*registry).await?,
    };
    match &args.registry.state {
        Some(name) => note_where(record.run, &StorageLocation::parse(name)?.display()).await,
        None if mode == Mode::Delete => note_where(record.run, &named.location.display()).await,
        None => {}
    }
    metrics.coordinator.count_requests_of(&registry);
    let progress = Progress::on_standard_error(metrics.coordinator.clone());
    progress.say(&format!("run {} on {}", record.run, registry.identity()));
    let deadline = watch_deadline(&args, &progress, &stop)?;
    let reviewed = ReviewedPlan::of_run(&state, &*registry, &mut record).await?;
    let references = References::of(&record.options.references, &args.references.cluster).await?;
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
        read_only,
        lease: args.lease,
        deadline,
        reviewed,
        guards,
        cache: cache.redis(),
        spool_dir: args.spool_dir.clone().unwrap_or_else(std::env::temp_dir),
        outputs: outputs.clone(),
        keep_runs: args.keep_runs,
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
        if args.output == OutputFormat::Json
            && let Err(unprinted) = print_report(&report, args.output, &delete_command(arguments))
        {
            eprintln!("hardprune: {unprinted}");
        }
        return Err(error);
    }
    if let Cache::Manual(reminder) = &cache {
        eprintln!("{reminder}");
    }
    let printed = print_report(&report, args.output, &delete_command(arguments));
    match printed.and(written) {
        // What was done is done, and `runs show` prints it again.
        Err(error) if mode == Mode::Delete => {
            eprintln!("hardprune: {error}");
            Ok(status.at_best_partly())
        }
        result => result.map(|()| status),
    }
}

/// Connects to NATS, where its workers are to do the tasks, and sets up what that needs.
async fn elsewhere(mode: Mode, args: &RunArgs) -> Result<Option<Elsewhere>, RunError> {
    let Some(settings) = args.nats.settings(&format!("hardprune, {}", place()))? else {
        return Ok(None);
    };
    if mode == Mode::Check && args.registry.state.is_none() {
        return Err(RunError::Usage(
            "a check keeps its run in your own state folder, which workers cannot reach: name a place that they can, with \
             --state URL (a bucket, or a folder that all share)"
                .to_owned(),
        ));
    }
    let nats = Nats::connect(&settings).await?;
    nats::set_up(&nats, args.nats_replicas.into()).await?;
    Ok(Some(Elsewhere {
        nats,
        ack_wait: args.ack_wait,
    }))
}

/// Works out when the run is to have ended, says it, and stops it in time.
fn watch_deadline(
    args: &RunArgs,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Option<Timestamp>, RunError> {
    let Some(deadline) = args.deadline() else {
        return Ok(None);
    };
    let now = zoned_now();
    let mut longest_request = delete_timeout(args.lease);
    if args.nats.nats.is_some() {
        // Until workers of other processes must have seen that the lock forbids more.
        longest_request += look_again_after(args.lease);
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

fn refuse_harbor(args: &RunArgs, config: Option<&RegistryStorage>) -> Result<(), RunError> {
    if args.delete_untagged && config.is_some_and(|config| config.looks_like_harbor) {
        return Err(RunError::Refused(
            "the configuration is Harbor's, which keeps tags in its database: --delete-untagged would delete live images. \
             Let Harbor's own retention remove them, and prune without --delete-untagged"
                .to_owned(),
        ));
    }
    Ok(())
}

async fn new_record(
    mode: Mode,
    args: &RunArgs,
    plan: Option<RunId>,
    registry: &dyn Store,
) -> Result<RunRecord, RunError> {
    let seconds = |age: Option<Duration>| age.map(|age| age.as_secs());
    let options = RunOptions {
        references: args.references.names(),
        keep_younger_than_seconds: args.keep_younger_than.as_secs(),
        delete_untagged: args.delete_untagged,
        accept_untagged_repositories: args.accept_untagged_repositories,
        purge_uploads_older_than_seconds: seconds(args.purge_uploads_older_than),
        abort_multipart_older_than_seconds: seconds(args.abort_multipart_older_than),
        prune_broken: args.prune_broken,
        delete_empty_repositories: args.delete_empty_repositories,
        empty_repositories_older_than_seconds: seconds(args.garbage.empty_repositories_older_than),
        purge_tag_history_older_than_seconds: seconds(args.garbage.purge_tag_history_older_than),
        false_positive_rate: args.false_positive_rate,
        accept_versioned: args.accept_versioned,
        filter_seed: args.filter_seed,
        plan,
    };
    Ok(RunRecord {
        version: 1,
        run: RunId::generate(),
        registry: registry.identity().to_owned(),
        mode,
        options,
        started: registry.now().await?,
        shard_digits: None,
        reviewed_plan: None,
        guard_arguments: args.guards.arguments(),
        report: None,
        books: Vec::new(),
        epochs: Vec::new(),
        ended: false,
    })
}

async fn resumed_record(
    state: &StateStore,
    registry: &dyn Store,
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
                if record.mode == Mode::Delete && !record.ended && record.registry == registry.identity() {
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
    if record.mode != Mode::Delete || record.ended {
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

/// The command that deletes what a check found: this one, with `delete`, and without the secrets that may stand in it.
fn delete_command(arguments: &[String]) -> String {
    let mut words = vec!["hardprune".to_owned()];
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        // The check's own files would be written over.
        if matches!(
            argument.as_str(),
            "--candidates" | "--removals" | "--metrics-file"
        ) {
            arguments.next();
        } else if argument == "--nats" {
            words.push(argument.clone());
            words.extend(
                arguments
                    .next()
                    .map(|servers| quoted(&without_credentials(servers))),
            );
        } else if let Some(servers) = argument.strip_prefix("--nats=") {
            words.push(quoted(&format!("--nats={}", without_credentials(servers))));
        } else if argument == "check" && !words.iter().any(|word| word == "delete") {
            words.push("delete".to_owned());
        } else if !["--candidates=", "--removals=", "--metrics-file="]
            .iter()
            .any(|name| argument.starts_with(name))
        {
            words.push(quoted(argument));
        }
    }
    words.push("--assume-read-only".to_owned());
    words.join(" ")
}

/// Quotes a word for a shell, where it needs that.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quoted("s3://bucket/prefix"), "s3://bucket/prefix");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
