//! Switches a registry to read-only mode and back: through its cluster, or by the operator's own commands.
//!
//! Both ways may be gone more than once, after a crash: switching what is switched changes nothing.

mod command;
mod kubernetes;
mod operator;
mod rollout;
mod target;
mod workload;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::target::SwitchTarget;

use self::command::Commands;
pub(super) use self::kubernetes::Cluster;
use super::args::SwitchArgs;
use super::record::SwitchRecord;
use crate::error::RunError;

/// How a record names the operator's own commands.
pub(super) const BY_COMMAND: &str = "command";

/// Why a registry could not be switched.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// A command.
    #[error("{option} failed: {problem}")]
    Command {
        /// The option that gave it.
        option: &'static str,
        /// What happened.
        problem: String,
    },
    /// The cluster refused, or could not be asked.
    #[error("{target}: {problem}")]
    Cluster {
        /// What was to be switched.
        target: String,
        /// What happened, and what to do.
        problem: String,
    },
    /// The rollout did not end.
    #[error(
        "{target}: the rollout has not ended in {} s ({seen}). Look at its pods; with more time: --read-only-timeout",
        .waited.as_secs()
    )]
    RolloutUnfinished {
        /// What was switched.
        target: String,
        /// What was seen last.
        seen: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The run is to stop.
    #[error("the run was stopped")]
    Stopped,
}

/// A way to switch a registry.
#[derive(Debug)]
pub(super) enum Switch {
    /// Commands of the operator's.
    Commands(Commands),
    /// A workload of a cluster, or its operator.
    Cluster(Cluster),
}

impl Switch {
    /// The way that a delete was told. `None` where it was told none.
    ///
    /// # Errors
    ///
    /// Options that cannot be meant.
    pub fn of(args: &SwitchArgs, read_only_command: Option<&str>) -> Result<Option<Self>, RunError> {
        if args.suspend_image_pruner && args.read_only_via != Some(SwitchTarget::OpenshiftOperator) {
            return Err(RunError::Usage(
                "--suspend-image-pruner goes with --read-only-via openshift-operator: the operator's own pruning is put back with \
                 its configuration"
                    .to_owned(),
            ));
        }
        match (&args.read_only_via, read_only_command, &args.read_write_command) {
            (Some(_), _, Some(_)) => Err(RunError::Usage(
                "--read-write-command goes with --read-only-command; what --read-only-via switches it switches back itself"
                    .to_owned(),
            )),
            (Some(target), _, None) => {
                let container = args.read_only_container.clone();
                Ok(Some(Self::Cluster(cluster(target.clone(), container, args))))
            }
            (None, Some(read_only), Some(read_write)) => Ok(Some(Self::Commands(Commands {
                read_only: Some(read_only.to_owned()),
                read_write: read_write.clone(),
                timeout: args.read_only_timeout,
            }))),
            (None, None, Some(_)) => Err(RunError::Usage(
                "--read-write-command needs --read-only-command: what was not switched is not switched back".to_owned(),
            )),
            // The command line wants both or none.
            (None, _, None) => Ok(None),
        }
    }

    /// The way back that a record names.
    ///
    /// # Errors
    ///
    /// A command that must be given again, a target that is not known.
    pub fn back(record: &SwitchRecord, args: &SwitchArgs) -> Result<Self, RunError> {
        if record.by == BY_COMMAND {
            let Some(read_write) = &args.read_write_command else {
                return Err(RunError::Usage(format!(
                    "{} switched the registry to read-only by a command, which is not kept: say what switches it back with \
                     --read-write-command",
                    record.owner
                )));
            };
            return Ok(Self::Commands(Commands {
                read_only: None,
                read_write: read_write.clone(),
                timeout: args.read_only_timeout,
            }));
        }
        let target = SwitchTarget::parse(&record.by)
            .map_err(|problem| RunError::Usage(format!("{:?}: {problem}", record.by)))?;
        let mut cluster = cluster(target, record.container.clone(), args);
        if record.image_pruner {
            cluster.suspend_image_pruner();
        }
        Ok(Self::Cluster(cluster))
    }

    /// OpenShift's operator.
    pub fn operator(args: &SwitchArgs) -> Cluster {
        cluster(SwitchTarget::OpenshiftOperator, None, args)
    }

    /// How a record and a report name it.
    pub fn name(&self) -> String {
        match self {
            Self::Commands(_) => BY_COMMAND.to_owned(),
            Self::Cluster(cluster) => cluster.target().to_string(),
        }
    }

    /// What of a cluster it switches.
    pub fn target(&self) -> Option<&SwitchTarget> {
        match self {
            Self::Commands(_) => None,
            Self::Cluster(cluster) => Some(cluster.target()),
        }
    }

    /// The container that was named for it.
    pub fn container(&self) -> Option<String> {
        match self {
            Self::Commands(_) => None,
            Self::Cluster(cluster) => cluster.container().map(str::to_owned),
        }
    }

    /// Whether it also suspends the operator's own pruning of images.
    pub fn suspends_image_pruner(&self) -> bool {
        match self {
            Self::Commands(_) => false,
            Self::Cluster(cluster) => cluster.suspends_image_pruner(),
        }
    }

    /// Has it put that back as well, which a run that died has suspended.
    pub fn suspend_image_pruner(&mut self) {
        if let Self::Cluster(cluster) = self {
            cluster.suspend_image_pruner();
        }
    }

    /// Switches the registry to read-only mode, and waits until nothing of it is left that writes.
    ///
    /// # Errors
    ///
    /// [`SwitchError`]. The registry may have been switched, or partly.
    pub async fn to_read_only(&self, stop: &CancellationToken) -> Result<(), SwitchError> {
        match self {
            Self::Commands(commands) => commands.to_read_only().await,
            Self::Cluster(cluster) => cluster.to_read_only(stop).await,
        }
    }

    /// Lets the registry take writes again. With `restart`, no process of it is left then that was there before.
    ///
    /// # Errors
    ///
    /// [`SwitchError`].
    pub async fn to_read_write(&self, restart: Option<&Cluster>) -> Result<(), SwitchError> {
        let goes_with_it = |restart: &Cluster| self.target() == Some(restart.target());
        if let Some(restart) = restart.filter(|restart| !goes_with_it(restart)) {
            restart.restart().await?;
        }
        match self {
            Self::Commands(commands) => commands.to_read_write().await,
            Self::Cluster(cluster) => cluster.to_read_write(restart.is_some_and(goes_with_it)).await,
        }
    }
}

fn cluster(target: SwitchTarget, container: Option<String>, args: &SwitchArgs) -> Cluster {
    let is_operator = target == SwitchTarget::OpenshiftOperator;
    let mut cluster = Cluster::new(target, container, (args.read_only_timeout, args.rollout_pause));
    if args.suspend_image_pruner && is_operator {
        cluster.suspend_image_pruner();
    }
    cluster
}
