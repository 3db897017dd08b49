//! Repositories of which only folders are left.
//!
//! Removes nothing but empty folders, by `rmdir`, which fails on any other: a file that appears meanwhile stays.

use std::fs;
use std::io;
use std::path::Path;

use super::FilesystemStore;
use crate::layout::REPOSITORIES;
use crate::store::StoreError;

/// Removes the folders of every repository that holds no file; returns how many repositories went.
pub(super) fn remove_empty_repositories(store: &FilesystemStore) -> Result<u64, StoreError> {
    let mut removed = 0;
    let root = store.path(REPOSITORIES);
    if root.is_dir() {
        visit(&root, true, &mut removed)
            .map_err(|error| store.error("remove empty folders of", REPOSITORIES, error))?;
    }
    Ok(removed)
}

/// Visits a folder outside any repository's own; returns whether it is gone.
fn visit(folder: &Path, is_root: bool, removed: &mut u64) -> io::Result<bool> {
    let mut own = Vec::new();
    let mut holds_something = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            holds_something = true;
        } else if entry.file_name().as_encoded_bytes().starts_with(b"_") {
            own.push(entry.path());
        } else {
            holds_something |= !visit(&entry.path(), false, removed)?;
        }
    }
    let is_repository = !own.is_empty();
    for path in &own {
        if !is_empty(path)? {
            return Ok(false);
        }
    }
    for path in &own {
        remove_tree_of_folders(path)?;
    }
    *removed += u64::from(is_repository);
    if is_root || holds_something {
        return Ok(false);
    }
    fs::remove_dir(folder)?;
    Ok(true)
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || !is_empty(&entry.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove_tree_of_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        remove_tree_of_folders(&entry?.path())?;
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_repositories_without_files_go() {
        let root = tempfile::tempdir().unwrap();
        let repositories = root.path().join(REPOSITORIES);
        for folder in [
            "gone/_layers/sha256",
            "live/_layers/sha256",
            "live/_uploads",
            "team/gone/_manifests/tags",
            "team/live/_layers",
        ] {
            fs::create_dir_all(repositories.join(folder)).unwrap();
        }
        fs::write(repositories.join("live/_layers/sha256/link"), b"").unwrap();
        fs::write(repositories.join("team/live/_layers/link"), b"").unwrap();
        let store = FilesystemStore::open(root.path()).unwrap();
        assert_eq!(remove_empty_repositories(&store).unwrap(), 2);
        for (folder, there) in [
            ("gone", false),
            ("live/_uploads", true),
            ("team/gone", false),
            ("team/live", true),
        ] {
            assert_eq!(repositories.join(folder).exists(), there, "{folder}");
        }
        assert_eq!(remove_empty_repositories(&store).unwrap(), 0);
    }
}
