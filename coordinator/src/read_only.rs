//! Read-only mode: brought about, proved, held, and ended again (R11).
//!
//! It is in force before the first listing of a mark, and until the last attempt at a delete has ended. What a run was told
//! about that comes in as [`ReadOnlyArgs`]; what is known goes out as a [`Basis`], into the report.

mod answer;
pub mod args;
mod basis;
mod credentials;
mod drain;
pub mod error;
mod hold;
mod probe;
pub mod read_write;
mod record;
mod restart;
mod switch;

use std::sync::Arc;
use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::failpoint;
use hardprune_common::run::Epoch;
use hardprune_common::store::Store;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use self::args::ReadOnlyArgs;
pub use self::basis::{Basis, How};
pub use self::error::ReadOnlyError;
pub use self::record::READ_ONLY_KEY;

use self::hold::Hold;
use self::probe::Probe;
use self::switch::{Cluster, Switch, SwitchError};
use crate::descriptor_cache::CacheArgs;
use crate::error::RunError;
use crate::lock_registry::RegistryLock;
use crate::open_stores::storage_of;
use crate::progress::Progress;

/// Uploads are looked at as often, unless read-only mode is proved more often.
const LOOK_AT_UPLOADS_EVERY: Duration = Duration::from_secs(5);

/// What a run was told about read-only mode, and how far that is.
#[derive(Debug)]
pub struct ReadOnly {
    is_assumed: bool,
    probe: Option<Arc<Probe>>,
    probe_every: Duration,
    switch: Option<Switch>,
    /// What is restarted before the registry takes writes again.
    restart: Option<Cluster>,
    switch_timeout: Duration,
    drain_uploads: Duration,
    hold: Option<Hold>,
    /// Whether the registry was switched, or may have been, and is to be switched back.
    is_switched: bool,
    /// Why it is not to be switched back by this run.
    stays: Option<String>,
    basis: Basis,
}

impl ReadOnly {
    /// Takes what a `delete` was told, of the registry's cache, too: it may go with a restart.
    ///
    /// # Errors
    ///
    /// Nothing that was told, and options that cannot be used.
    pub fn of(args: &ReadOnlyArgs, cache: &CacheArgs) -> Result<Self, RunError> {
        let probe = Probe::of(&args.probe)?.map(Arc::new);
        let switch = Switch::of(&args.switch, args.read_only_command.as_deref())?;
        let switched = switch.as_ref().and_then(Switch::target);
        let restart = restart::restarted(cache, &args.restart, switched, &args.switch)?;
        if !args.assume_read_only && probe.is_none() && switch.is_none() {
            return Err(RunError::Refused(
                "a blob that is pushed while orphans are deleted can be lost, so nothing may write to the registry meanwhile. \
                 Put it in read-only mode (REGISTRY_STORAGE_MAINTENANCE_READONLY={\"enabled\":true}, then restart it) and have \
                 that proved with --registry-url; or have it switched with --read-only-via or --read-only-command; or stop it, \
                 and say so with --assume-read-only"
                    .to_owned(),
            ));
        }
        let is_only_assumed = probe.is_none() && switch.is_none();
        Ok(Self {
            is_assumed: args.assume_read_only,
            probe,
            probe_every: args.probe.probe_every,
            switch,
            restart,
            switch_timeout: args.switch.read_only_timeout,
            drain_uploads: args.drain_uploads,
            hold: None,
            is_switched: false,
            stays: None,
            basis: if is_only_assumed {
                Basis::assumed()
            } else {
                Basis::unproved()
            },
        })
    }

    /// Takes that the registry goes on taking writes.
    ///
    /// # Errors
    ///
    /// Options that say otherwise.
    pub fn online(args: &ReadOnlyArgs) -> Result<Self, RunError> {
        let is_told =
            args.assume_read_only || args.read_only_command.is_some() || !args.probe.registry_urls.is_empty();
        if is_told || Switch::of(&args.switch, None)?.is_some() {
            return Err(RunError::Usage(
                "--online is for a registry that takes writes meanwhile: it cannot be read-only as well. Say one or the other"
                    .to_owned(),
            ));
        }
        Ok(Self {
            is_assumed: false,
            probe: None,
            probe_every: args.probe.probe_every,
            switch: None,
            restart: None,
            switch_timeout: args.switch.read_only_timeout,
            drain_uploads: args.drain_uploads,
            hold: None,
            is_switched: false,
            stays: None,
            basis: Basis::online(),
        })
    }

    /// What is known by now.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// Has the registry read-only, as far as that is its part, and holds the epoch to it from then on.
    ///
    /// # Errors
    ///
    /// A registry that is not read-only, or could not be switched: [`ReadOnly::restore`] puts back what was done.
    pub async fn establish(
        &mut self,
        registry: &dyn Store,
        epoch: &Epoch,
        lock: &RegistryLock,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ReadOnlyError> {
        self.switch(registry, epoch, stop, progress).await?;
        if self.probe.is_none() && self.switch.is_none() {
            return Ok(());
        }
        self.wait_until_proved(stop).await?;
        let since = registry.now().await?;
        self.drain(registry, since, stop, progress).await?;
        self.basis = self.reached();
        progress.say(&format!("read-only mode: {}", self.basis));
        if let Some(probe) = &self.probe {
            // What was drained took its time.
            probe.prove().await?;
            let revoker = lock.revoker();
            self.hold = Some(Hold::begin(
                Arc::clone(probe),
                self.probe_every,
                revoker,
                stop.clone(),
            ));
        }
        Ok(())
    }

    async fn switch(
        &mut self,
        registry: &dyn Store,
        epoch: &Epoch,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ReadOnlyError> {
        let before = record::read(registry).await?;
        let Some(switch) = &mut self.switch else {
            if let Some(before) = before {
                progress.say(&format!(
                    "the registry was switched to read-only by {} at {} and not switched back; when it may take writes again: \
                     hardprune read-write {}",
                    before.by,
                    before.since,
                    storage_of(registry.identity())
                ));
            }
            return Ok(());
        };
        match before {
            Some(before) if before.by != switch.name() => {
                return Err(ReadOnlyError::SwitchedBefore {
                    registry: registry.identity().to_owned(),
                    by: before.by,
                    since: before.since,
                    storage: storage_of(registry.identity()).to_owned(),
                });
            }
            // A run that died has switched it, or was about to.
            Some(before) if before.image_pruner => switch.suspend_image_pruner(),
            Some(before) if switch.suspends_image_pruner() => {
                record::add_image_pruner(registry, before).await?
            }
            Some(_) => {}
            None => record::write(registry, epoch, switch).await?,
        }
        failpoint::here("read-only-noted").await;
        self.is_switched = true;
        progress.say(&format!("switches the registry to read-only: {}", switch.name()));
        let switched = switch.to_read_only(stop).await;
        failpoint::here("read-only-switched").await;
        switched.map_err(stopped)
    }

    /// A registry that was switched a moment ago may take a while until all replicas show it.
    async fn wait_until_proved(&self, stop: &CancellationToken) -> Result<(), ReadOnlyError> {
        let Some(probe) = &self.probe else {
            return Ok(());
        };
        let until = clock::monotonic_now() + self.switch_timeout;
        loop {
            let Err(error) = probe.prove().await else {
                return Ok(());
            };
            if self.switch.is_none() || clock::monotonic_now() >= until {
                return Err(error);
            }
            info!(%error, "read-only mode does not hold yet");
            tokio::select! {
                () = tokio::time::sleep(self.look_every()) => {}
                () = stop.cancelled() => return Err(ReadOnlyError::Stopped),
            }
        }
    }

    async fn drain(
        &self,
        registry: &dyn Store,
        since: Timestamp,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ReadOnlyError> {
        progress.say("waits for uploads in flight");
        drain::drain(registry, since, self.drain_uploads, self.look_every(), stop).await
    }

    fn look_every(&self) -> Duration {
        LOOK_AT_UPLOADS_EVERY.min(self.probe_every)
    }

    fn reached(&self) -> Basis {
        let how = match (&self.probe, &self.switch) {
            (Some(_), _) => How::Proved,
            (None, Some(Switch::Cluster(_))) => How::Managed,
            (None, Some(Switch::Commands(_))) => How::Commanded,
            (None, None) if self.is_assumed => How::Assumed,
            (None, None) => How::Unproved,
        };
        let replicas = self.probe.iter().flat_map(|probe| probe.replicas());
        let by = replicas
            .map(str::to_owned)
            .chain(self.switch.as_ref().map(Switch::name))
            .collect();
        Basis { how, by }
    }

    /// Proves read-only mode once more, where it can be proved: between stages, and at the end.
    ///
    /// # Errors
    ///
    /// [`ReadOnlyError::Lost`]: the epoch is over.
    pub async fn prove_again(&mut self) -> Result<(), ReadOnlyError> {
        let (Some(hold), Some(probe)) = (&self.hold, &self.probe) else {
            return Ok(());
        };
        let lost = match hold.take_lost() {
            Some(lost) => Some(lost),
            None => probe.prove().await.err(),
        };
        match lost {
            None => Ok(()),
            Some(lost) => {
                self.basis.how = How::Lost;
                Err(ReadOnlyError::Lost(Box::new(lost)))
            }
        }
    }

    /// What was seen when read-only mode was lost meanwhile, where it was.
    pub fn take_lost(&mut self) -> Option<ReadOnlyError> {
        let lost = self.hold.as_ref()?.take_lost()?;
        self.basis.how = How::Lost;
        Some(ReadOnlyError::Lost(Box::new(lost)))
    }

    /// Has the registry stay read-only at the end, where it was switched: its cache still remembers blobs that are gone, and a push of
    /// one of them would succeed without its data.
    pub fn stay(&mut self, why: String) {
        self.stays = Some(why);
    }

    /// Restarts the registry where its cache must go and the run `has_deleted`, and lets it take writes again, where it was
    /// switched. The caller has made sure that every attempt at a delete has ended; the lock must still be held, or another may
    /// be deleting.
    ///
    /// # Errors
    ///
    /// A registry that is still read-only, or may be; one that still remembers what is gone.
    pub async fn restore(
        &mut self,
        registry: &dyn Store,
        lock: &RegistryLock,
        has_deleted: bool,
        progress: &Progress,
    ) -> Result<(), RunError> {
        self.hold = None;
        let restart = self.restart.as_ref().filter(|_| has_deleted);
        if let Some(restart) = restart {
            progress.say(&format!(
                "restarts the registry, for its cache: {}",
                restart.target()
            ));
        }
        let Some(switch) = self.switch.as_ref().filter(|_| self.is_switched) else {
            let Some(restart) = restart else { return Ok(()) };
            lock.make_sure().await.map_err(|error| not_restarted(&error))?;
            return restart.restart().await.map_err(|error| not_restarted(&error));
        };
        let how = restart.map_or_else(String::new, |restart| {
            format!(" --cache restart --restart-via {}", restart.target())
        });
        let still = |problem: String| RunError::ReadOnlyLeft {
            problem,
            storage: format!("{}{how}", storage_of(registry.identity())),
        };
        if let Some(why) = &self.stays {
            return Err(still(why.clone()));
        }
        lock.make_sure().await.map_err(|error| still(error.to_string()))?;
        to_read_write(registry, switch, restart).await.map_err(still)?;
        self.is_switched = false;
        Ok(())
    }
}

/// Switches a registry back. Whoever calls owns its lock, and has cleared its cache of what is gone, unless that goes with a restart.
async fn to_read_write(
    registry: &dyn Store,
    switch: &Switch,
    restart: Option<&Cluster>,
) -> Result<(), String> {
    failpoint::here("before-read-write").await;
    let switched = switch.to_read_write(restart).await;
    switched.map_err(|error| error.to_string())?;
    failpoint::here("read-write-switched").await;
    record::remove(registry).await
}

fn not_restarted(error: &dyn std::error::Error) -> RunError {
    RunError::NotRestarted {
        problem: error.to_string(),
    }
}

fn stopped(error: SwitchError) -> ReadOnlyError {
    match error {
        SwitchError::Stopped => ReadOnlyError::Stopped,
        error => error.into(),
    }
}
