//! The names in a folder, in the order of the keys below them.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, statat};
use rustix::io::Errno;

use super::FilesystemStore;
use crate::store::{RequestKind, StoreError};

/// Names of a folder are read through a buffer of this many bytes.
const NAMES_BUFFER: usize = 32 * 1024;

/// One name in a folder.
pub(super) struct Entry {
    pub name: CString,
    pub is_folder: bool,
    pub is_link: bool,
    pub kind: FileType,
}

pub(super) fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// Where the kernel writes the names of a folder.
pub(super) type NamesBuffer = Box<[MaybeUninit<u8>]>;

pub(super) fn names_buffer() -> NamesBuffer {
    Box::new_uninit_slice(NAMES_BUFFER)
}

/// Reads a folder's names, in the order of the keys below them.
pub(super) fn read_entries(
    store: &FilesystemStore,
    fd: &OwnedFd,
    key: &str,
    names: &mut NamesBuffer,
) -> Result<Vec<Entry>, StoreError> {
    store.requests.add(RequestKind::List, 1);
    let error = |error: Errno| store.error("list", key, error.into());
    let mut entries = Vec::new();
    // Read straight from the folder at hand: opening it a second time would cost as much as reading it.
    let mut folder = RawDir::new(fd, names);
    while let Some(entry) = folder.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::INTR) => continue,
            // Removed since it was opened.
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(error(errno)),
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => kind = FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(error(errno)),
            }
        }
        let is_link = kind == FileType::Symlink;
        let is_folder = match statat_if(is_link, fd, name) {
            Some(target) => target == FileType::Directory,
            None => kind == FileType::Directory,
        };
        entries.push(Entry {
            name: name.to_owned(),
            is_folder,
            is_link,
            kind,
        });
    }
    entries.sort_unstable_by(|a, b| sort_key(a).cmp(sort_key(b)));
    Ok(entries)
}

/// What a symbolic link leads to. `None` where it is none, or leads nowhere.
fn statat_if(is_link: bool, fd: &OwnedFd, name: &CStr) -> Option<FileType> {
    let stat = is_link
        .then(|| statat(fd, name, AtFlags::empty()).ok())
        .flatten()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

fn sort_key(entry: &Entry) -> impl Iterator<Item = &u8> {
    let end: &[u8] = if entry.is_folder { b"/" } else { b"" };
    entry.name.to_bytes().iter().chain(end)
}
