//! What `delete`, `restore`, `purge` and `quarantine` are told about quarantine.

use std::time::Duration;

use clap::{Args, Subcommand};
use hardprune_common::digest::Digest;
use hardprune_common::run::RunId;

use crate::cli::{ExecutionArgs, OutputFormat, RegistryArgs, Resume, duration, resume};
use crate::error::RunError;
use crate::open_stores::storage_of;
use crate::read_only::ReadOnlyArgs;
use crate::reference_source::ReferenceArgs;
use crate::runs::find_registry_of;

/// Whether what goes can be had back.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Quarantine")]
pub struct QuarantineArgs {
    /// Moves what goes to hardprune/quarantine/RUN/ in the registry's own storage, instead of deleting it: `hardprune restore RUN` has
    /// it back, `hardprune purge RUN` frees its bytes. Uploads that are purged are deleted.
    #[arg(long, env = "HARDPRUNE_QUARANTINE")]
    pub quarantine: bool,
    /// For registries that cannot be made read-only: quarantines while the registry takes writes, and marks again until nothing that was
    /// moved is needed any more. Until then a push or pull that needs it can fail.
    #[arg(long, requires = "quarantine")]
    pub online: bool,
    /// With --online: the longest that one request to the registry may take. The last look begins so long after the last move.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m", requires = "online", env = "HARDPRUNE_REGISTRY_REQUEST_TIMEOUT")]
    pub registry_request_timeout: Duration,
}

/// The registry of a quarantined run.
#[derive(Debug, Clone, Args)]
pub struct OfRegistryArgs {
    /// The registry's storage, as for check and delete. Default: that of RUN, where this user started it.
    #[arg(
        long = "registry",
        value_name = "STORAGE",
        env = "HARDPRUNE_REGISTRY",
        conflicts_with = "registry_config"
    )]
    pub registry: Option<String>,
    /// The registry's own config.yml, instead of STORAGE; its REGISTRY_… overrides are read from the environment.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_REGISTRY_CONFIG")]
    pub registry_config: Option<std::path::PathBuf>,
    /// Requests in flight, at most.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096), env = "HARDPRUNE_CONCURRENCY")]
    pub concurrency: u16,
    /// Where runs are kept. Default: `hardprune/` beside `docker/` in the registry's own storage.
    #[arg(long, value_name = "URL", env = "HARDPRUNE_STATE")]
    pub state: Option<String>,
}

impl OfRegistryArgs {
    /// The registry: the one that is named, or that of the run.
    ///
    /// # Errors
    ///
    /// None that is named, and a run that is not known here.
    pub(crate) async fn registry(&self, run: Option<RunId>) -> Result<RegistryArgs, RunError> {
        let storage = match (&self.registry, &self.registry_config, run) {
            (None, None, Some(run)) => {
                let identity = find_registry_of(run, self.state.as_deref()).await?;
                Some(storage_of(&identity).to_owned())
            }
            (storage, _, _) => storage.clone(),
        };
        Ok(RegistryArgs {
            storage,
            registry_config: self.registry_config.clone(),
            concurrency: self.concurrency,
            state: self.state.clone(),
            request_timeout: None,
            retry_pause: None,
        })
    }
}

/// Arguments of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The run that quarantined it.
    pub run: RunId,
    /// The registry.
    #[command(flatten)]
    pub of: OfRegistryArgs,
    /// Puts back only what this repository linked.
    #[arg(long, value_name = "NAME")]
    pub repository: Option<String>,
    /// Puts back only this digest, all that it names where it is a manifest, and the links to these; can be said several times.
    #[arg(long = "digest", value_name = "DIGEST")]
    pub digests: Vec<Digest>,
    /// How what came of it is printed on standard output.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, env = "HARDPRUNE_OUTPUT")]
    pub output: OutputFormat,
}

/// Arguments of `purge`.
#[derive(Debug, Clone, Args)]
pub struct PurgeArgs {
    /// The run whose quarantine goes for good.
    #[arg(required_unless_present_any = ["older_than", "resume"], conflicts_with = "older_than")]
    pub run: Option<RunId>,
    /// Purges every run that ended longer ago than this, one after another.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Continues a purge that was stopped, or died: its own run, or `auto` for the latest.
    #[arg(long, value_name = "RUN|auto", value_parser = resume, conflicts_with = "older_than")]
    pub resume: Option<Resume>,
    /// The registry.
    #[command(flatten)]
    pub of: OfRegistryArgs,
    /// Also keeps what layer links younger than this name.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, env = "HARDPRUNE_KEEP_YOUNGER_THAN")]
    pub keep_younger_than: Duration,
    /// Where references come from.
    #[command(flatten)]
    pub references: ReferenceArgs,
    /// How it is carried out.
    #[command(flatten)]
    pub execution: ExecutionArgs,
    /// How it is known that nothing writes to the registry.
    #[command(flatten)]
    pub read_only: ReadOnlyArgs,
}

/// Arguments of `quarantine`.
#[derive(Debug, Clone, Subcommand)]
pub enum QuarantineCommand {
    /// Lists the runs of which something is in quarantine.
    List(QuarantineListArgs),
}

/// Arguments of `quarantine list`.
#[derive(Debug, Clone, Args)]
pub struct QuarantineListArgs {
    /// The registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// How it is printed on standard output.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, env = "HARDPRUNE_OUTPUT")]
    pub output: OutputFormat,
}
