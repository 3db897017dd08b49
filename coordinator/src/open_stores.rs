//! Opens what a run works on: the registry's storage and the state store. Beside `cli.rs` and the stores themselves the
//! only place that reads the environment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hardprune_common::run::RunId;
use hardprune_common::state::StateStore;
use hardprune_common::store::Store;
use hardprune_common::store::filesystem::FilesystemStore;
use hardprune_common::store::location::{OpenOptions, StorageLocation, StoreKind};

use serde::{Deserialize, Serialize};

use crate::cli::RegistryArgs;
use crate::error::RunError;
use crate::registry_config::{self, RegistryStorage};

/// A registry that was named.
#[derive(Debug)]
pub struct NamedRegistry {
    /// Where its objects are.
    pub location: StorageLocation,
    /// What its configuration says, where it was named by that.
    pub config: Option<RegistryStorage>,
    /// How stores are opened.
    pub options: OpenOptions,
}

impl NamedRegistry {
    /// Finds out which registry is meant.
    ///
    /// # Errors
    ///
    /// A name or a configuration that cannot be used, and the refusals of `registry_config`.
    pub fn of(args: &RegistryArgs) -> Result<Self, RunError> {
        let options = options(args);
        match (&args.registry_config, &args.storage) {
            (Some(path), _) => {
                let config = registry_config::read(path, std::env::vars_os())?;
                Ok(Self {
                    location: config.location()?,
                    config: Some(config),
                    options,
                })
            }
            (None, Some(storage)) => Ok(Self {
                location: StorageLocation::parse(storage)?,
                config: None,
                options,
            }),
            (None, None) => Err(RunError::Usage(
                "which registry? Name its storage (STORAGE: a folder, s3://…), or its configuration \
                 (--registry-config FILE)"
                    .to_owned(),
            )),
        }
    }

    /// Opens its storage.
    ///
    /// # Errors
    ///
    /// A folder that is not there, credentials that cannot be used.
    pub fn open(&self) -> Result<Arc<dyn Store>, RunError> {
        Ok(self.location.open(&self.options)?)
    }

    /// Opens its own storage for state: `hardprune/` beside `docker/`.
    ///
    /// # Errors
    ///
    /// As [`NamedRegistry::open`].
    pub fn open_state(&self) -> Result<StateStore, RunError> {
        open_state(&self.location, &self.options)
    }

    /// Whether reads are served by this machine's own kernel, so that processors are what bounds them.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.location.kind() == StoreKind::Folder
    }
}

/// Opens the state store of this name.
///
/// # Errors
///
/// A name that cannot be used, a folder that cannot be made.
pub fn named_state(name: &str, options: &OpenOptions) -> Result<StateStore, RunError> {
    let location = StorageLocation::parse(name)?;
    if location.kind() == StoreKind::Folder {
        FilesystemStore::create(Path::new(&location.display()))?;
    }
    open_state(&location, options)
}

/// Opens the state store of this identity, where it is the same from here. Makes no folder.
///
/// # Errors
///
/// One that cannot be opened, or is another from here.
pub fn state_of(identity: &str) -> Result<StateStore, RunError> {
    let state = open_state(
        &StorageLocation::parse(storage_of(identity))?,
        &OpenOptions::default(),
    )?;
    if state.identity() != identity {
        let found = state.identity();
        return Err(RunError::Usage(format!("from here it is {found}")));
    }
    Ok(state)
}

/// A store as it is named on a command line: the identity of one in a bucket may also say at which server.
#[must_use]
pub fn storage_of(identity: &str) -> &str {
    match identity.split_once(" at ") {
        Some((storage, _)) if storage.contains("://") => storage,
        _ => identity,
    }
}

/// Opens the user's own state folder: `$XDG_STATE_HOME`, or `~/.local/state`.
///
/// # Errors
///
/// No home folder, or one that cannot be written to.
pub fn user_state() -> Result<StateStore, RunError> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let folder = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let folder = folder.ok_or_else(|| {
        RunError::Usage("there is no home folder to keep the run in; say where with --state".to_owned())
    })?;
    Ok(StateStore::new(Arc::new(FilesystemStore::create(&folder)?)))
}

#[derive(Serialize, Deserialize)]
struct Elsewhere {
    state: String,
}

const ELSEWHERE: &str = "hardprune/elsewhere/";

/// Notes in the user's state folder where a run is kept, so that `runs show` finds it. Where there is no such folder the
/// user has to say.
pub async fn note_where(run: RunId, state: &str) {
    let Ok(user) = user_state() else { return };
    let noted = user
        .write_json(
            &format!("{ELSEWHERE}{run}.json"),
            &Elsewhere {
                state: state.to_owned(),
            },
        )
        .await;
    if let Err(error) = noted {
        tracing::debug!(%error, "where the run is kept could not be noted");
    }
}

/// The state stores that were noted, each once.
///
/// # Errors
///
/// A user's state folder that cannot be read.
pub async fn noted_states(user: &StateStore) -> Result<BTreeSet<String>, RunError> {
    let mut states = BTreeSet::new();
    for key in user.list(ELSEWHERE).await? {
        states.insert(user.read_json::<Elsewhere>(&key).await?.state);
    }
    Ok(states)
}

fn open_state(location: &StorageLocation, options: &OpenOptions) -> Result<StateStore, RunError> {
    Ok(StateStore::new(location.open(options)?))
}

fn options(args: &RegistryArgs) -> OpenOptions {
    let mut options = OpenOptions {
        concurrency: args.concurrency.into(),
        ..OpenOptions::default()
    };
    if let Some(timeout) = args.request_timeout {
        options.retry.read_timeout = timeout;
    }
    if let Some(pause) = args.retry_pause {
        options.retry.first_pause = pause;
    }
    options
}
