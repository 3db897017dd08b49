//! `hardprune read-write`: lets a registry take writes again that a run had switched to read-only and then died.
//!
//! It takes the registry's lock to know that nobody deletes any more: either nobody holds it, or its lease and the requests
//! that were sent under it have passed (R11).

use clap::Args;
use hardprune_worker::process::stop_on_signal;

use super::args::{RestartArgs, SwitchArgs};
use super::error::ReadOnlyError;
use super::switch::Switch;
use super::{record, restart, to_read_write};
use crate::cli::RegistryArgs;
use crate::descriptor_cache::{Cache, CacheArgs};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::lock_registry::lock_without_plan;
use crate::open_stores::{NamedRegistry, named_state, storage_of};
use crate::print;
use crate::settle::clear_cache_after_last_delete;

/// Arguments of `read-write`.
#[derive(Debug, Clone, Args)]
pub struct ReadWriteArgs {
    /// The registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// How it is switched back, where its record does not say.
    #[command(flatten)]
    pub switch: SwitchArgs,
    /// The registry's cache, which must have forgotten what is gone.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// What is restarted for it.
    #[command(flatten)]
    pub restart: RestartArgs,
}

/// Switches a registry back, if a run has left it switched.
///
/// # Errors
///
/// A run that may still be deleting, and what cannot be switched back.
pub async fn read_write(args: ReadWriteArgs) -> Result<ExitStatus, RunError> {
    let named = NamedRegistry::of(&args.registry)?;
    let registry = named.open()?;
    let Some(record) = record::read(&*registry).await? else {
        let_operator_prune(&args.switch).await?;
        print(&format!(
            "{} is not noted as switched to read-only by hardprune; there is nothing to switch back\n",
            registry.identity()
        ))?;
        return Ok(ExitStatus::Done);
    };
    let switch = Switch::back(&record, &args.switch)?;
    let cache = Cache::of(&args.cache, named.config.as_ref())?;
    let switched = switch.target().or(args.switch.read_only_via.as_ref());
    let restart = restart::restarted(&args.cache, &args.restart, switched, &args.switch)?;
    let state = match &args.registry.state {
        Some(name) => named_state(name, &named.options)?,
        None => named.open_state()?,
    };
    let stop = stop_on_signal(|| eprintln!("switches back first; a second signal ends at once"))
        .map_err(|error| RunError::Usage(format!("signals cannot be listened for: {error}")))?;
    let lock = lock_without_plan(&registry, &state, stop).await?;
    let cleared = match &cache {
        Cache::Redis(redis) => {
            clear_cache_after_last_delete(redis, &registry, &state, lock.last_delete()).await
        }
        Cache::Manual(reminder) => {
            eprintln!("{reminder}");
            Ok(())
        }
        // It goes with a restart, once nobody deletes any more.
        Cache::None | Cache::Restart => Ok(()),
    };
    // Only now: another may have switched it back meanwhile.
    let result = match record::read(&*registry).await {
        Ok(Some(_)) => match cleared {
            Ok(()) => to_read_write(&*registry, &switch, restart.as_ref()).await,
            Err(problem) => Err(problem),
        }
        .map_err(|problem| RunError::ReadOnlyLeft {
            problem,
            storage: storage_of(registry.identity()).to_owned(),
        }),
        Ok(None) => Ok(()),
        Err(error) => Err(error.into()),
    };
    lock.give_back().await;
    result?;
    let_operator_prune(&args.switch).await?;
    print(&format!(
        "{} takes writes again ({}, switched to read-only at {})\n",
        registry.identity(),
        record.by,
        record.since
    ))?;
    Ok(ExitStatus::Done)
}

/// Whoever suspended the operator's own pruning and died may have noted nothing in this registry: `images`.
async fn let_operator_prune(args: &SwitchArgs) -> Result<(), ReadOnlyError> {
    if args.suspend_image_pruner {
        Switch::operator(args).to_pruning_again().await?;
    }
    Ok(())
}
