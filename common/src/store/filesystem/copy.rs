//! Copying a file to another name: a second name for the same file where there can be one, else its bytes. Never through a symbolic
//! link, on either side.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, linkat, mkdirat, open, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::FilesystemStore;
use crate::store::{RequestKind, StoreError};

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// A folder that is open, and a name in it.
struct Place<'k> {
    folder: OwnedFd,
    name: &'k str,
}

pub(super) fn copy(store: &FilesystemStore, from: &str, to: &str) -> Result<(), StoreError> {
    store.requests.add(RequestKind::Copy, 1);
    let failed = |problem: Problem| problem.into_error(store, from, to);
    let root =
        open(&store.root, FOLDER, Mode::empty()).map_err(|errno| failed(Problem::System(errno.into())))?;
    let source = find(&root, from, false).map_err(failed)?;
    let stat = source.stat().map_err(|errno| failed(Problem::at_source(errno)))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(failed(Problem::NoFile));
    }
    let target = find(&root, to, true).map_err(failed)?;
    put_in_place(&source, &stat, &target).map_err(failed)
}

/// Why there is no copy.
enum Problem {
    /// Nothing is at the source.
    NoSource,
    /// What is at the source is no regular file.
    NoFile,
    /// It is no path below the root.
    NoPath,
    /// A symbolic link, or a file, is where a folder should be.
    Link(String),
    System(io::Error),
}

impl Problem {
    fn at_source(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::NoSource,
            errno => Self::System(errno.into()),
        }
    }

    fn into_error(self, store: &FilesystemStore, from: &str, to: &str) -> StoreError {
        let unavailable = |detail: String| StoreError::Unavailable {
            store: store.identity.clone(),
            action: "copy",
            key: from.to_owned(),
            detail: format!("to {to:?}: {detail}"),
            source: None,
        };
        match self {
            Self::NoSource => StoreError::NotFound {
                store: store.identity.clone(),
                key: from.to_owned(),
            },
            Self::NoFile => unavailable("it is no regular file".to_owned()),
            Self::NoPath => StoreError::Denied {
                store: store.identity.clone(),
                action: "copy",
                key: from.to_owned(),
                detail: format!("to {to:?}: one of them is no path below the store"),
            },
            Self::Link(part) => unavailable(format!(
                "{part:?} is a symbolic link or no folder, and no copy goes through one: mount it there instead"
            )),
            Self::System(error) => store.error("copy", from, error),
        }
    }
}

impl Place<'_> {
    fn stat(&self) -> Result<Stat, Errno> {
        statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Opens the folder of `key`, part by part, each without following a symbolic link; makes what is missing if `make`.
fn find<'k>(root: &OwnedFd, key: &'k str, make: bool) -> Result<Place<'k>, Problem> {
    let parts: Vec<&str> = key.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(Problem::NoPath);
    }
    let (name, folders) = parts.split_last().ok_or(Problem::NoPath)?;
    let mut folder = root.try_clone().map_err(Problem::System)?;
    for part in folders {
        if make {
            match mkdirat(&folder, *part, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Problem::System(errno.into())),
            }
        }
        folder = openat(&folder, *part, FOLDER, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => Problem::Link((*part).to_owned()),
            Errno::NOENT if !make => Problem::NoSource,
            errno => Problem::System(errno.into()),
        })?;
    }
    Ok(Place { folder, name })
}

fn put_in_place(source: &Place<'_>, stat: &Stat, target: &Place<'_>) -> Result<(), Problem> {
    match target.stat() {
        Ok(there) if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) => return Ok(()),
        Ok(_) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(Problem::System(errno.into())),
    }
    let link = |name: &str| {
        let (from, to) = (&source.folder, &target.folder);
        linkat(from, source.name, to, name, AtFlags::empty())
    };
    // Whole at once, and a process that is killed leaves nothing beside it: a second name there would keep a blob's bytes for ever.
    let linked = link(target.name);
    if linked.is_ok() {
        return Ok(());
    }
    // Readers see what was there or the whole copy: made beside it, then put in its place.
    let beside = format!(".{}.tmp", ulid::Ulid::generate());
    let linked = match linked {
        Err(Errno::EXIST) => link(&beside),
        other => other,
    };
    let made = match linked {
        Ok(()) => Ok(()),
        // Another filesystem is mounted between them, or this one has no second names, or no more of them.
        Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {
            copy_bytes(source, target, &beside)
        }
        Err(errno) => Err(Problem::at_source(errno)),
    };
    let placed = made.and_then(|()| {
        renameat(&target.folder, &beside, &target.folder, target.name)
            .map_err(|errno| Problem::System(errno.into()))
    });
    if placed.is_err() {
        // It has no other name; if even this fails, it is an unrecognized file.
        let _ = unlinkat(&target.folder, &beside, AtFlags::empty());
    }
    placed
}

/// Writes the source's bytes to a new file beside the target, down to the disk.
fn copy_bytes(source: &Place<'_>, target: &Place<'_>, beside: &str) -> Result<(), Problem> {
    let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let from = openat(&source.folder, source.name, read, Mode::empty()).map_err(Problem::at_source)?;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut from = File::from(from);
    let copied = (|| {
        let mut to = File::from(openat(&target.folder, beside, write, Mode::from_raw_mode(0o600))?);
        io::copy(&mut from, &mut to)?;
        // Who may read the one may read the other.
        to.set_permissions(from.metadata()?.permissions())?;
        to.sync_all()
    })();
    copied.map_err(Problem::System)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn store() -> (tempfile::TempDir, FilesystemStore) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/file"), b"bytes").unwrap();
        let store = FilesystemStore::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn a_copy_is_a_second_name_of_the_file() {
        let (folder, store) = store();
        fs::create_dir_all(folder.path().join("q/r")).unwrap();
        fs::write(folder.path().join("q/r/file"), b"what was there").unwrap();
        for _ in 0..2 {
            copy(&store, "a/file", "q/r/file").unwrap();
        }
        let inode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().ino();
        assert_eq!(inode("a/file"), inode("q/r/file"));
        assert_eq!(
            names(&folder.path().join("q/r")),
            ["file"],
            "nothing is left beside it"
        );
    }

    #[test]
    fn bytes_are_copied_where_there_can_be_no_second_name() {
        let (folder, store) = store();
        let path = folder.path().join("a/file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let root = open(&store.root, FOLDER, Mode::empty()).unwrap();
        let (source, target) = (find(&root, "a/file", false), find(&root, "b/file", true));
        let (Ok(source), Ok(target)) = (source, target) else {
            panic!("the folders are there");
        };
        assert!(copy_bytes(&source, &target, "beside").is_ok());
        let copied = folder.path().join("b/beside");
        assert_eq!(fs::read(&copied).unwrap(), b"bytes");
        let metadata = fs::metadata(&copied).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o644);
        assert_ne!(metadata.ino(), fs::metadata(path).unwrap().ino());
        assert!(
            copy_bytes(&source, &target, "beside").is_err(),
            "what is there stays"
        );
    }

    #[test]
    fn no_copy_goes_through_a_symbolic_link() {
        let (folder, store) = store();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), b"precious").unwrap();
        symlink(outside.path(), folder.path().join("link")).unwrap();
        symlink("file", folder.path().join("a/link")).unwrap();
        for (from, to) in [
            ("link/file", "b/file"),
            ("a/link", "b/file"),
            ("a/file", "link/file"),
            ("a/file", "link/new/file"),
            ("a", "b/file"),
            ("a/file/x", "b/file"),
            ("a/file", "a/file/x"),
            ("a/../a/file", "b/file"),
            ("a/file", "../b"),
            ("a/file", "/b"),
            ("a/file", "b/"),
        ] {
            let error = copy(&store, from, to).unwrap_err();
            assert!(
                !error.is_not_found() && error.to_string().contains(from),
                "{error}"
            );
        }
        assert_eq!(names(outside.path()), ["file"]);
        assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"precious");
        assert!(!folder.path().join("b/file").exists());
        // A link at the target's own place is replaced, not followed.
        copy(&store, "a/file", "a/link").unwrap();
        assert!(
            fs::symlink_metadata(folder.path().join("a/link"))
                .unwrap()
                .is_file()
        );
    }
}
