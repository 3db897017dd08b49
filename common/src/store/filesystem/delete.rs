//! Deleting files: exact paths, never through a symbolic link (R3), and the folders that this emptied.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, unlinkat};
use rustix::io::Errno;

use super::FilesystemStore;
use crate::clock;
use crate::store::{DeleteBatch, KeyOutcome, RequestKind};

pub(super) fn delete(store: &FilesystemStore, batch: &DeleteBatch) -> Vec<KeyOutcome> {
    store.requests.add(RequestKind::Delete, 1);
    let root = match open(&store.root, FOLDER, Mode::empty()) {
        Ok(root) => root,
        Err(error) => return vec![KeyOutcome::Failed(format!("the root: {error}")); batch.keys().len()],
    };
    let mut path = OpenPath {
        root,
        folders: Vec::new(),
    };
    batch
        .keys()
        .iter()
        .map(|key| {
            // R10: who was suspended on the way here must not delete late.
            if clock::monotonic_now() >= batch.deadline() {
                return KeyOutcome::Throttled;
            }
            delete_key(&mut path, key)
        })
        .collect()
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// The folders from the root down to the last key's, open. Keys of a batch are neighbours: most are shared.
struct OpenPath {
    root: OwnedFd,
    folders: Vec<(String, OwnedFd)>,
}

impl OpenPath {
    fn at(&self, depth: usize) -> &OwnedFd {
        match depth.checked_sub(1).and_then(|last| self.folders.get(last)) {
            Some((_, fd)) => fd,
            None => &self.root,
        }
    }

    /// Opens a folder, part by part, each without following a symbolic link.
    fn open(&mut self, parts: &[&str]) -> Result<(), Errno> {
        let shared = self
            .folders
            .iter()
            .zip(parts)
            .take_while(|((name, _), part)| name == *part)
            .count();
        self.folders.truncate(shared);
        for part in &parts[shared..] {
            let fd = openat(self.at(self.folders.len()), *part, FOLDER, Mode::empty())?;
            self.folders.push(((*part).to_owned(), fd));
        }
        Ok(())
    }
}

fn delete_key(path: &mut OpenPath, key: &str) -> KeyOutcome {
    let parts: Vec<&str> = key.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return KeyOutcome::Failed("it is no path".to_owned());
    }
    let Some((name, folders)) = parts.split_last() else {
        return KeyOutcome::Deleted;
    };
    let removed = path
        .open(folders)
        .and_then(|()| unlinkat(path.at(folders.len()), *name, AtFlags::empty()));
    match removed {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return KeyOutcome::Failed("a symbolic link stands in its path".to_owned());
        }
        Err(error) => return KeyOutcome::Failed(error.to_string()),
    }
    remove_emptied(path, folders);
    KeyOutcome::Deleted
}

/// Removes the folders that a delete emptied, up to those that a registry, or hardprune, makes once and keeps.
fn remove_emptied(path: &mut OpenPath, folders: &[&str]) {
    for depth in (1..=folders.len()).rev() {
        if is_kept(&folders[..depth]) || path.folders.len() < depth {
            return;
        }
        path.folders.truncate(depth - 1);
        // Not empty, or not ours to remove: it stays.
        if unlinkat(path.at(depth - 1), folders[depth - 1], AtFlags::REMOVEDIR).is_err() {
            return;
        }
    }
}

fn is_kept(folders: &[&str]) -> bool {
    match folders {
        ["docker", "registry", "v2", "blobs", below @ ..] => below.len() <= 1,
        ["docker", "registry", "v2", "repositories", below @ ..] => {
            let Some(inside) = below.iter().position(|part| part.starts_with('_')) else {
                return true;
            };
            matches!(
                below[inside..],
                ["_layers" | "_uploads" | "_manifests"]
                    | ["_layers", _]
                    | ["_manifests", "tags" | "revisions"]
                    | ["_manifests", "revisions", _]
            )
        }
        ["hardprune", below @ ..] => below.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn kept(folder: &str) -> bool {
        is_kept(&folder.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn folders_that_a_registry_makes_once_are_kept() {
        let root = "docker/registry/v2";
        for folder in [
            "blobs",
            "blobs/sha256",
            "repositories",
            "repositories/a/b",
            "repositories/a/_layers/sha256",
        ] {
            assert!(kept(&format!("{root}/{folder}")), "{folder}");
        }
        for folder in [
            format!("blobs/sha256/e3/{HEX}"),
            "blobs/sha256/e3".to_owned(),
            format!("repositories/a/_layers/sha256/{HEX}"),
            format!("repositories/a/_manifests/revisions/sha256/{HEX}"),
            "repositories/a/_manifests/tags/latest".to_owned(),
            "repositories/a/_uploads/1".to_owned(),
        ] {
            assert!(!kept(&format!("{root}/{folder}")), "{folder}");
        }
    }

    #[test]
    fn nothing_behind_a_symbolic_link_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let (real, root) = (folder.path().join("real"), folder.path().join("root"));
        fs::create_dir_all(&real).unwrap();
        fs::create_dir_all(root.join("hardprune")).unwrap();
        fs::write(real.join("file"), b"precious").unwrap();
        symlink(&real, root.join("hardprune/link")).unwrap();
        let store = FilesystemStore::open(&root).unwrap();
        let keys = [
            "hardprune/link/file",
            "hardprune/../hardprune/link/file",
            "hardprune//x",
            "hardprune/absent/x",
        ];
        let keys = keys
            .map(String::from)
            .into_iter()
            .filter(|key| !key.contains("/../"))
            .collect();
        let outcomes = delete(
            &store,
            &DeleteBatch::own_files(keys, Duration::from_secs(1)).unwrap(),
        );
        assert!(matches!(
            outcomes[..],
            [KeyOutcome::Failed(_), KeyOutcome::Failed(_), KeyOutcome::Deleted]
        ));
        assert_eq!(fs::read(real.join("file")).unwrap(), b"precious");
    }
}
