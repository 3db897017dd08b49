//! Where runs are looked for, and how one is found there.

use hardprune_common::run::RunId;
use hardprune_common::state::{StateError, StateStore};
use hardprune_common::store::StoreError;
use hardprune_common::store::location::OpenOptions;

use crate::cli::{RegistryArgs, RunsPlace};
use crate::error::RunError;
use crate::open_stores::{NamedRegistry, named_state, noted_states, user_state};
use crate::run_record::RunRecord;
use crate::start_run::load_record;

const CONCURRENCY: u16 = 16;

/// Finds a run: the state store that it is kept in, and its record.
///
/// # Errors
///
/// [`RunError::NoSuchRun`], and a state store that was named and cannot be read.
pub(super) async fn find_run(place: &RunsPlace, run: RunId) -> Result<(StateStore, RunRecord), RunError> {
    let mut missing = None;
    for state in states(place).await? {
        match load_record(&state, run).await {
            Ok(record) => return Ok((state, record)),
            Err(error @ RunError::NoSuchRun { .. }) => missing = Some(error),
            Err(error) if is_only_noted(place) => cannot_be_looked_at(state.identity(), &error),
            Err(error) => return Err(error),
        }
    }
    Err(missing.unwrap_or_else(|| RunError::Usage("no state store was named".to_owned())))
}

/// The state stores to look in: the one that was named, or the user's own and those that runs were noted in.
pub(super) async fn states(place: &RunsPlace) -> Result<Vec<StateStore>, RunError> {
    if let Some(name) = &place.state {
        let options = OpenOptions {
            concurrency: CONCURRENCY.into(),
            ..OpenOptions::default()
        };
        return Ok(vec![named_state(name, &options)?]);
    }
    if let Some(storage) = &place.registry {
        return Ok(vec![user_state()?, named(storage)?.open_state()?]);
    }
    let user = user_state()?;
    let noted = noted_states(&user).await?;
    let mut states = vec![user];
    for name in noted {
        match named(&name).and_then(|named| named.open_state()) {
            Ok(state) => states.push(state),
            // A folder that is gone took its runs along.
            Err(RunError::Store(StoreError::NoSuchPlace { .. })) => {}
            Err(error) => cannot_be_looked_at(&name, &error),
        }
    }
    Ok(states)
}

/// Whether the user named no state store: one that cannot be reached must not hide what the others have.
pub(super) fn is_only_noted(place: &RunsPlace) -> bool {
    place.state.is_none() && place.registry.is_none()
}

pub(super) fn cannot_be_looked_at(state: &str, error: &RunError) {
    eprintln!("runs in {state} cannot be looked at from here: {error}");
}

/// The registry of this name, with options of no run.
pub(super) fn named(storage: &str) -> Result<NamedRegistry, RunError> {
    NamedRegistry::of(&RegistryArgs {
        storage: Some(storage.to_owned()),
        registry_config: None,
        concurrency: CONCURRENCY,
        state: None,
        request_timeout: None,
        retry_pause: None,
    })
}

/// `None` for a file that is not there.
pub(super) fn optional<T>(result: Result<T, StateError>) -> Result<Option<T>, RunError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StateError::Store(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
