//! Looks at a registry before anything else: whether it is one, and whether its storage can tell what is live.

use futures::TryStreamExt;
use hardprune_common::layout::{BLOBS, LOCKFILES, REPOSITORIES, ROOT};
use hardprune_common::store::location::NAMELESS_FOLDER;
use hardprune_common::store::{ListRange, Store, StoreError};

/// Why a registry is not touched.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// It is no registry.
    #[error(
        "{registry} holds no registry: neither {BLOBS:?} nor {REPOSITORIES:?} is there. \
         Name the folder or prefix that holds `docker/`{hint}"
    )]
    NoRegistry {
        /// Where was looked.
        registry: String,
        /// What may be meant.
        hint: String,
    },
    /// Its metadata are in a database (GitLab).
    #[error(
        "{registry}: {LOCKFILES}database-in-use says that a database holds this registry's metadata (GitLab). The links in \
         its storage are stale, and a mark of them would delete live images: use GitLab's own online garbage collection"
    )]
    DatabaseInUse {
        /// The registry.
        registry: String,
    },
    /// The storage failed.
    #[error("registry: {0}")]
    Store(#[from] StoreError),
}

/// Looks at a registry's storage, and asks whether it keeps what is deleted.
///
/// # Errors
///
/// A storage that is no registry's, or whose links do not say what is live.
pub async fn preflight(registry: &dyn Store) -> Result<(), PreflightError> {
    let folders = folders(registry, ROOT).await?;
    let is_there = |wanted: &str| folders.iter().any(|folder| folder == wanted);
    if !is_there(BLOBS) && !is_there(REPOSITORIES) {
        let top = self::folders(registry, "").await?;
        let hint = if top
            .iter()
            .any(|folder| folder == "registry/" || folder == "v2/" || folder == "blobs/")
        {
            ": this looks like a folder inside one, go up".to_owned()
        } else if top.iter().any(|folder| folder == NAMELESS_FOLDER) {
            ". Distribution 2.x on Azure begins its keys with a `/`: name such storage with two slashes at its end, \
             az://CONTAINER//"
                .to_owned()
        } else {
            String::new()
        };
        return Err(PreflightError::NoRegistry {
            registry: registry.identity().to_owned(),
            hint,
        });
    }
    let mut lockfiles = registry.list(ListRange::prefix(LOCKFILES));
    while let Some(page) = lockfiles.try_next().await? {
        if page.iter().any(|object| object.key.ends_with("/database-in-use")) {
            return Err(PreflightError::DatabaseInUse {
                registry: registry.identity().to_owned(),
            });
        }
    }
    registry.ask_versioning().await;
    Ok(())
}

async fn folders(registry: &dyn Store, folder: &str) -> Result<Vec<String>, StoreError> {
    let mut folders = Vec::new();
    let mut pages = registry.list_folder(folder);
    while let Some(page) = pages.try_next().await? {
        folders.extend(page.folders);
    }
    Ok(folders)
}
