//! The command line: what the user wrote, before anything is looked at. Options are also read from `HARDPRUNE_…`, except
//! those that override a guard.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use hardprune_common::health::HealthAddress;
use hardprune_common::run::RunId;
use hardprune_worker::logging::LogFormat;
use hardprune_worker::nats_args::NatsArgs;

use crate::ceiling::CeilingArgs;
use crate::deadline::Deadline;
use crate::descriptor_cache::CacheArgs;
use crate::fsck::FsckArgs;
use crate::garbage::GarbageArgs;
use crate::guards::GuardArgs;
use crate::mark_cache::MarkCacheArgs;
use crate::openshift::images::ImagesArgs;
use crate::quarantine::{PurgeArgs, QuarantineArgs, QuarantineCommand, RestoreArgs};
use crate::read_only::ReadOnlyArgs;
use crate::read_only::read_write::ReadWriteArgs;
use crate::reference_source::ReferenceArgs;
use crate::runs::clear_cache::RunsClearCacheArgs;
use crate::runs::explain::RunsExplainArgs;
use crate::runs::export::RunsExportArgs;
use crate::runs::verify::RunsVerifyArgs;

/// Prunes container registries of any size: finds the blobs that nothing references any more and deletes them, fast, in
/// parallel, and without ever deleting one that is still needed.
#[derive(Debug, Parser)]
#[command(name = "hardprune", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How logs are written, to standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "HARDPRUNE_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Logs more: -v what is done, -vv every detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  hardprune demo
      Makes a small registry in a temporary folder, prunes it, and shows what happened.
  hardprune check /var/lib/registry
      Says what would be deleted. Changes nothing.
  hardprune delete /var/lib/registry --assume-read-only
      Deletes it. The registry must be in read-only mode, or stopped.
  hardprune delete s3://bucket/prefix --registry-url https://registry.example
      The same, and proves read-only mode itself, again and again; see also --read-only-via and --read-only-command.
  hardprune check s3://bucket/prefix --candidates orphans.jsonl
      The same on S3, with the list of orphans; credentials as the AWS tools take them (AWS_…).
  hardprune fsck s3://bucket/prefix
      Says which images and tags cannot be pulled, and why. Changes nothing.
  hardprune delete --registry-config /etc/docker/registry/config.yml --plan 01J… --assume-read-only
      Deletes only what the reviewed check 01J… found, too.

Exit status: 0 done; 1 failed; 2 usage or configuration; 3 a guard refused, nothing deleted; 4 stopped after deletes had \
begun, continue with --resume; 5 done, but some deletions or tasks failed; 6 fsck found something broken; 7 the registry is locked by another run.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says what would be deleted; changes nothing.
    Check(CheckArgs),
    /// Deletes what nothing references any more.
    Delete(Box<DeleteArgs>),
    /// Checks a registry: which images and tags cannot be pulled, because something that they need is missing or damaged. Deletes
    /// nothing.
    #[command(after_long_help = "\
Exit status: 0 nothing is broken; 1 failed: nothing is known; 2 usage or configuration; 5 something could not be restored; \
6 something is broken.")]
    Fsck(FsckArgs),
    /// Prunes images and image streams of OpenShift by what the cluster uses, as `oc adm prune images` does. Changes nothing
    /// without --confirm.
    Images(ImagesArgs),
    /// Lets a registry take writes again that a run had switched to read-only, and then died.
    ReadWrite(ReadWriteArgs),
    /// Puts back what a run with --quarantine removed.
    Restore(RestoreArgs),
    /// Deletes for good what runs with --quarantine removed, if it is still not needed.
    Purge(PurgeArgs),
    /// Shows what is in quarantine.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Shows earlier runs.
    Runs(RunsArgs),
    /// Makes a small registry in a temporary folder and prunes it.
    Demo,
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints a manual page, in roff.
    Man {
        /// The command that it is about, such as `delete` or `runs list`. Default: hardprune itself.
        command: Vec<String>,
    },
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// As one JSON document.
    Json,
}

/// Which registry, and how its storage is reached.
#[derive(Debug, Clone, Args)]
pub struct RegistryArgs {
    /// The registry's storage: a folder that holds `docker/`, s3://bucket/prefix, gs://bucket/prefix or
    /// az://container/prefix (az://container// where Distribution 2.x keeps it). Credentials and endpoints as the provider's own tools take them (AWS_…, GOOGLE_…, AZURE_…).
    #[arg(value_name = "STORAGE", conflicts_with = "registry_config")]
    pub storage: Option<String>,
    /// The registry's own config.yml, instead of STORAGE; its REGISTRY_… overrides are read from the environment.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_REGISTRY_CONFIG")]
    pub registry_config: Option<PathBuf>,
    /// Requests in flight, at most.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096), env = "HARDPRUNE_CONCURRENCY")]
    pub concurrency: u16,
    /// Where runs are kept: a folder or a bucket. Default: for check the user's state folder, for delete `hardprune/`
    /// beside `docker/` in the registry's own storage.
    #[arg(long, value_name = "URL", env = "HARDPRUNE_STATE")]
    pub state: Option<String>,
    /// The longest that one attempt at a read of a cloud store may take.
    #[arg(long, value_name = "DURATION", value_parser = duration, hide = true)]
    pub request_timeout: Option<Duration>,
    /// The wait before a read of a cloud store is tried again for the first time.
    #[arg(long, value_name = "DURATION", value_parser = duration, hide = true)]
    pub retry_pause: Option<Duration>,
}

/// How a run is carried out, whatever it does.
#[derive(Debug, Clone, Args)]
pub struct ExecutionArgs {
    /// Where large intermediate files go. Default: the system's folder for temporary files.
    #[arg(long, value_name = "FOLDER", env = "HARDPRUNE_SPOOL_DIR")]
    pub spool_dir: Option<PathBuf>,
    /// How the report is printed on standard output. JSON is printed of runs that fail or are refused, too.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, env = "HARDPRUNE_OUTPUT")]
    pub output: OutputFormat,
    /// Writes everything that would go, or went, as a JSON line to this file: kind, key, reason.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_REMOVALS")]
    pub removals: Option<PathBuf>,
    /// Writes the run's figures to this file when it ends, in Prometheus' text format.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_METRICS_FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Keeps so many runs in the state store, this one among them. Of the older ones those stay that can be resumed.
    #[arg(long, value_name = "N", default_value_t = 20, env = "HARDPRUNE_KEEP_RUNS")]
    pub keep_runs: usize,
    /// Stops in time to have ended when clocks of this machine's zone show this, the next time: 04:00. It can be resumed.
    #[arg(long, value_name = "HH:MM", value_parser = Deadline::at, conflicts_with = "max_duration", env = "HARDPRUNE_DEADLINE")]
    pub deadline: Option<Deadline>,
    /// Stops in time to have ended so long after its start. It can be resumed.
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "HARDPRUNE_MAX_DURATION")]
    pub max_duration: Option<Duration>,
    /// Serves /healthz, /readyz and /metrics at this address while it runs.
    #[arg(long, value_name = "ADDRESS", env = "HARDPRUNE_HEALTH_ADDR")]
    pub health_addr: Option<HealthAddress>,
    /// How much the registry's store may be asked.
    #[command(flatten)]
    pub ceiling: CeilingArgs,
    /// What is too much.
    #[command(flatten)]
    pub guards: GuardArgs,
    /// NATS, where `hardprune-worker` processes do the work.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Replicas of the streams that are made in NATS.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5), env = "HARDPRUNE_NATS_REPLICAS", help_heading = "NATS")]
    pub nats_replicas: u8,
    /// A task that its worker does not speak of for so long is handed to another.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, hide = true)]
    pub ack_wait: Duration,
    /// How long the registry's lock is good for without being renewed.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, hide = true)]
    pub lease: Duration,
    /// What earlier runs read.
    #[command(flatten)]
    pub mark_cache: MarkCacheArgs,
}

/// What counts as no longer needed, and how it is found.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Keeps what is younger than this, by the store's clock: blobs, layer links and untagged manifests.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, env = "HARDPRUNE_KEEP_YOUNGER_THAN")]
    pub keep_younger_than: Duration,
    /// Where references come from.
    #[command(flatten)]
    pub references: ReferenceArgs,
    /// Also removes manifests that no tag needs. Keeps children of tagged indexes, and signatures and other referrers
    /// of live images.
    #[arg(long, env = "HARDPRUNE_DELETE_UNTAGGED")]
    pub delete_untagged: bool,
    /// With --delete-untagged: takes repositories that have revisions and no tag at all for what they seem. Without it
    /// they are refused, because Harbor (2.15 and later) looks exactly like that.
    #[arg(long, requires = "delete_untagged")]
    pub accept_untagged_repositories: bool,
    /// Also removes uploads all of whose files are older than this.
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "HARDPRUNE_PURGE_UPLOADS_OLDER_THAN")]
    pub purge_uploads_older_than: Option<Duration>,
    /// Also aborts multipart uploads of the registry's of which nothing is younger than this: on S3 their parts are kept, and
    /// paid for, until somebody does.
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "HARDPRUNE_ABORT_MULTIPART_OLDER_THAN")]
    pub abort_multipart_older_than: Option<Duration>,
    /// Takes revisions whose manifest is missing for dead, instead of freezing their repository.
    #[arg(long, env = "HARDPRUNE_PRUNE_BROKEN")]
    pub prune_broken: bool,
    /// Also removes repositories of which nothing but old links is left: older than --keep-younger-than, and than
    /// --empty-repositories-older-than.
    #[arg(long, env = "HARDPRUNE_DELETE_EMPTY_REPOSITORIES")]
    pub delete_empty_repositories: bool,
    /// Other garbage.
    #[command(flatten)]
    pub garbage: GarbageArgs,
    /// The share of orphans that may be kept by chance until the next run. Smaller costs memory: 29 bits a reference at
    /// 1e-6.
    #[arg(long, value_name = "RATE", default_value_t = 1e-6, value_parser = rate, env = "HARDPRUNE_FALSE_POSITIVE_RATE")]
    pub false_positive_rate: f64,
    /// Goes on although the bucket keeps versions: deletes then hide, and free nothing.
    #[arg(long)]
    pub accept_versioned: bool,
    /// Writes every orphan as a JSON line to this file.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_CANDIDATES")]
    pub candidates: Option<PathBuf>,
    /// How it is carried out.
    #[command(flatten)]
    pub execution: ExecutionArgs,
    /// Fixes the filters' seed, so that a run can be repeated exactly.
    #[arg(long, value_name = "NUMBER", hide = true)]
    pub filter_seed: Option<u64>,
}

impl ExecutionArgs {
    /// When it is to have ended.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.deadline.or(self.max_duration.map(Deadline::In))
    }
}

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// What every run takes.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `delete`.
#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    /// What every run takes.
    #[command(flatten)]
    pub run: RunArgs,
    /// Deletes only what the check RUN found, too.
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    pub plan: Option<RunId>,
    /// The registry's cache.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Whether what goes can be had back.
    #[command(flatten)]
    pub quarantine: QuarantineArgs,
    /// Continues a run that was stopped, or died: RUN, or `auto` for the latest. Marks and plans again, with the run's
    /// own options.
    #[arg(long, value_name = "RUN|auto", value_parser = resume)]
    pub resume: Option<Resume>,
    /// How it is known that nothing writes to the registry.
    #[command(flatten)]
    pub read_only: ReadOnlyArgs,
}

/// Which run to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The latest that is not over.
    Auto,
    /// This one.
    Run(RunId),
}

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// What to show.
    #[command(subcommand)]
    pub command: Option<RunsCommand>,
}

/// What to show of earlier runs.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// Lists runs.
    List(RunsListArgs),
    /// Prints a run's report again; of a run that was killed, what its journal says.
    Show(RunsShowArgs),
    /// Checks that every file of a run is the one that was written, by its sha256.
    Verify(RunsVerifyArgs),
    /// Says why a run deleted a digest, or kept it.
    Explain(RunsExplainArgs),
    /// Writes what a run removed, or a check would, a line for each key.
    Export(RunsExportArgs),
    /// Removes the entries of what a run deleted from the registry's cache in Redis.
    ClearCache(RunsClearCacheArgs),
    /// Lets workers delete nothing more until it is unpaused. The registry stays locked, and must stay read-only.
    Pause(RunsControlArgs),
    /// Lets a paused run go on.
    Unpause(RunsControlArgs),
    /// Stops a run: batches in flight end, it reports, and can be resumed.
    Abort(RunsControlArgs),
}

/// Arguments of `runs pause|unpause|abort`.
#[derive(Debug, Args)]
pub struct RunsControlArgs {
    /// The run.
    pub run: RunId,
    /// NATS, where the run's workers are.
    #[command(flatten)]
    pub nats: NatsArgs,
}

/// Where runs are looked for.
#[derive(Debug, Clone, Args)]
pub struct RunsPlace {
    /// A registry whose own storage holds runs (those of `delete`): as for check and delete.
    #[arg(long = "registry", value_name = "STORAGE", env = "HARDPRUNE_REGISTRY")]
    pub registry: Option<String>,
    /// The state store. Default: the user's state folder, and where else runs of this user are kept.
    #[arg(long, value_name = "URL", env = "HARDPRUNE_STATE")]
    pub state: Option<String>,
}

/// Arguments of `runs list`.
#[derive(Debug, Args)]
pub struct RunsListArgs {
    /// Where to look.
    #[command(flatten)]
    pub place: RunsPlace,
    /// NATS: lists the runs that are known there, and the workers.
    #[command(flatten)]
    pub nats: NatsArgs,
}

/// Arguments of `runs show`.
#[derive(Debug, Args)]
pub struct RunsShowArgs {
    /// The run.
    pub run: RunId,
    /// Where to look.
    #[command(flatten)]
    pub place: RunsPlace,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Shows how far a run is that goes on over NATS, until it ends.
    #[arg(long, requires = "nats")]
    pub watch: bool,
    /// NATS, for --watch.
    #[command(flatten)]
    pub nats: NatsArgs,
}

/// The command, for completion scripts and the manual page.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads a duration: 24h, 90m, 36h30m, 7d.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |problem: &dyn std::fmt::Display| format!("{problem}; write it as 24h, 90m, 36h30m or 7d");
    if text.trim().is_empty() {
        return Err(wrong(&"it is empty"));
    }
    // A day is 24 hours here, whatever clocks do.
    let (days, rest) = text.split_once('d').unwrap_or(("0", text));
    let days: u32 = days.trim().parse().map_err(|error| wrong(&error))?;
    let span = match rest.trim() {
        "" => jiff::SignedDuration::ZERO,
        rest => rest.parse().map_err(|error| wrong(&error))?,
    };
    let rest = Duration::try_from(span).map_err(|_| "a duration cannot be negative".to_owned())?;
    Ok(Duration::from_secs(u64::from(days) * 24 * 60 * 60) + rest)
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (1e-12..=0.1).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number from 1e-12 to 0.1".to_owned()),
    }
}

pub(crate) fn resume(text: &str) -> Result<Resume, String> {
    if text == "auto" {
        return Ok(Resume::Auto);
    }
    text.parse()
        .map(Resume::Run)
        .map_err(|error| format!("{error}; give a run's id, or auto"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn durations_and_rates() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(duration("1d12h"), Ok(Duration::from_secs(129_600)));
        assert!(duration("").is_err() && duration("d").is_err() && duration("-1d").is_err());
        assert!(duration("99999999999d").is_err());
        assert!(duration("-1h").is_err());
        assert!(duration("24").is_err());
        assert!(rate("0").is_err() && rate("1").is_err() && rate("x").is_err() && rate("1e-6").is_ok());
    }
}
