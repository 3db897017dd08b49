//! What `fsck` is told.

use std::path::PathBuf;

use clap::Args;

use super::namespace::Namespace;
use crate::cli::{OutputFormat, RegistryArgs};
use crate::error::RunError;
use crate::reference_source::{ReferenceArgs, SourceName};

/// Arguments of `fsck`.
#[derive(Debug, Clone, Args)]
pub struct FsckArgs {
    /// The registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Where references come from.
    #[command(flatten)]
    pub references: ReferenceArgs,
    /// Only repositories whose names begin with this part, and the cluster's image streams of this namespace. Never read from the
    /// environment: what is not looked at is not known to be intact.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<Namespace>,
    /// With --references openshift: says which images it would make known to the cluster again, from their manifests in the storage,
    /// as tags lost-found-DIGEST. Changes nothing without --confirm.
    #[arg(long)]
    pub restore: bool,
    /// With --restore: does it.
    #[arg(long, requires = "restore")]
    pub confirm: bool,
    /// Where large intermediate files go. Default: the system's folder for temporary files.
    #[arg(long, value_name = "FOLDER", env = "HARDPRUNE_SPOOL_DIR")]
    pub spool_dir: Option<PathBuf>,
    /// How the report is printed on standard output. JSON has all that is broken.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, env = "HARDPRUNE_OUTPUT")]
    pub output: OutputFormat,
}

impl FsckArgs {
    /// Whether the cluster is asked.
    pub(super) fn asks_cluster(&self) -> bool {
        self.references.references.contains(&SourceName::Openshift)
    }

    /// # Errors
    ///
    /// What cannot be done together.
    pub(super) fn validate(&self) -> Result<(), RunError> {
        if self.restore && !self.asks_cluster() {
            return Err(RunError::Usage(
                "--restore makes images known to an OpenShift cluster again: it needs --references openshift (and a kubeconfig). \
                 Nothing can be restored from plain storage alone: push again what is broken, or have it back from quarantine with \
                 `hardprune restore RUN`"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}
