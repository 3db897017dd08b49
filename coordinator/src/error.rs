//! What can end a run, and the exit status that belongs to it.

use hardprune_common::authority::AuthorityError;
use hardprune_common::nats::NatsError;
use hardprune_common::run::RunId;
use hardprune_common::state::StateError;
use hardprune_common::store::StoreError;
use hardprune_worker::settle_batches::SettleError;

use crate::descriptor_cache::ClearError;
use crate::dispatch::DispatchError;
use crate::exit_status::ExitStatus;
use crate::lock_registry::LockError;
use crate::openshift::list_objects::ApiError;
use crate::plan::PlanError;
use crate::preflight::PreflightError;
use crate::read_only::ReadOnlyError;
use crate::registry_config::RegistryConfigError;
use crate::seal::SealingError;
use crate::spool::SpoolError;

/// What can end a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What the user asked for cannot be done as asked.
    #[error("{0}")]
    Usage(String),
    /// A guard refused.
    #[error("refused: {0}")]
    Refused(String),
    /// The registry's configuration.
    #[error(transparent)]
    RegistryConfig(#[from] RegistryConfigError),
    /// A store cannot be opened or reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
    /// The registry is none, or not to be touched.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The registry cannot be owned.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The registry is not read-only.
    #[error(transparent)]
    ReadOnly(ReadOnlyError),
    /// It could not be made to take writes again.
    #[error(
        "the registry is still read-only, or may be: {problem}. To switch it back, once that is repaired: hardprune read-write {storage}"
    )]
    ReadOnlyLeft {
        /// Why.
        problem: String,
        /// The registry on a command line.
        storage: String,
    },
    /// The registry's cache still remembers what is gone.
    #[error(
        "the registry was not restarted: {problem}. Its cache remembers blobs that are gone: restart every replica before it takes \
         writes again"
    )]
    NotRestarted {
        /// Why.
        problem: String,
    },
    /// A stage.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// A spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The mark could not be sealed.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// There is no sealed plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// NATS.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// A run's books could not be settled.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The registry's cache could not be cleared.
    #[error(transparent)]
    Cache(#[from] ClearError),
    /// Something that failed after deletes had begun.
    #[error(
        "deletes had begun: {0}. Nothing is lost: `hardprune runs show` tells what went, --resume goes on"
    )]
    AfterDeletes(Box<RunError>),
    /// What is needed again could not be put back.
    #[error(
        "blobs that are needed again are still in quarantine: {failures}. Have them back with `hardprune restore`, or --resume"
    )]
    NotPutBack {
        /// What became of the first.
        failures: String,
    },
    /// There is no right to abort, or no longer.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A cluster did not say what it knows.
    #[error(
        "the cluster {server} does not list its {what}: {source}. Without them nobody knows what is needed, and nothing was deleted. It \
         takes `list` on images and imagestreams of image.openshift.io, as the cluster role system:image-pruner has"
    )]
    Cluster {
        /// Its address.
        server: String,
        /// What it was asked for.
        what: &'static str,
        /// Why.
        source: ApiError,
    },
    /// There is no such run.
    #[error("there is no run {run} in {state}; `hardprune runs list` shows those there are")]
    NoSuchRun {
        /// The run.
        run: RunId,
        /// The state store.
        state: String,
    },
    /// A file that was asked for cannot be written.
    #[error("cannot write {path:?}: {source}")]
    Output {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<ReadOnlyError> for RunError {
    fn from(error: ReadOnlyError) -> Self {
        match error {
            ReadOnlyError::Stopped => DispatchError::Stopped.into(),
            ReadOnlyError::Store(error) => error.into(),
            error => Self::ReadOnly(error),
        }
    }
}

impl RunError {
    /// Whether the run was only stopped.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        matches!(
            self,
            Self::Dispatch(DispatchError::Stopped) | Self::Plan(PlanError::Dispatch(DispatchError::Stopped))
        )
    }

    /// The exit status of a run that this ended before it deleted anything.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Usage(_) | Self::NoSuchRun { .. } | Self::Output { .. } => ExitStatus::Usage,
            Self::RegistryConfig(error) if error.is_refusal() => ExitStatus::Refused,
            Self::RegistryConfig(_) => ExitStatus::Usage,
            Self::Refused(_) | Self::ReadOnly(_) | Self::Preflight(PreflightError::DatabaseInUse { .. }) => {
                ExitStatus::Refused
            }
            Self::AfterDeletes(_) => ExitStatus::Stopped,
            Self::Lock(LockError::Held { .. } | LockError::Busy { .. }) => ExitStatus::Locked,
            Self::Lock(LockError::NotHonoured { .. }) => ExitStatus::Refused,
            Self::Preflight(PreflightError::NoRegistry { .. }) => ExitStatus::Usage,
            Self::Store(error) | Self::Preflight(PreflightError::Store(error)) => of_store(error),
            Self::Nats(NatsError::Request { .. }) => ExitStatus::Failed,
            Self::Nats(_) => ExitStatus::Usage,
            _ => ExitStatus::Failed,
        }
    }
}

fn of_store(error: &StoreError) -> ExitStatus {
    match error {
        StoreError::Configuration { .. }
        | StoreError::NoSuchPlace { .. }
        | StoreError::Unauthenticated { .. } => ExitStatus::Usage,
        _ => ExitStatus::Failed,
    }
}
