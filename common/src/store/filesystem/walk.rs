//! Walking a folder in the order of its keys.
//!
//! A key's order is that of its bytes, so a folder `a` sorts as `a/`: after `a-b`, before `a0`. One folder's names are
//! held in memory at a time for each level, never the tree's.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, open, openat, statat};
use rustix::io::Errno;

use super::read_entries::{Entry, NamesBuffer, folder_flags, names_buffer, read_entries};
use super::{FilesystemStore, PAGE, kind, link_content};
use crate::digest::Algorithm;
use crate::layout::{self, RepositoryEntry};
use crate::store::{FolderPage, Glimpse, ListRange, ListedObject, RequestKind, StoreError, Wanted};

type Send<'s, T> = &'s mut dyn FnMut(Result<Vec<T>, StoreError>) -> bool;

/// Why a walk ends before its end.
enum Stop {
    /// Nobody wants more, or the range is over.
    Enough,
    Failed(StoreError),
}

/// Lists a range, page by page, until `send` says that nobody listens.
pub(super) fn list(store: &FilesystemStore, range: &ListRange, send: Send<'_, ListedObject>) {
    walk(store, range, None, &mut |page| {
        send(page.map(|page| page.into_iter().filter_map(Glimpse::listed).collect()))
    });
}

/// Lists a range as [`list`] does, most layer links and what is not wanted by their keys only.
pub(super) fn glance(store: &FilesystemStore, range: &ListRange, wanted: Wanted, send: Send<'_, Glimpse>) {
    walk(store, range, Some(wanted), send);
}

/// Lists what stands at keys that [`glance`] only named.
pub(super) fn look_at(store: &FilesystemStore, keys: &[String]) -> Result<Vec<ListedObject>, StoreError> {
    let mut objects = Vec::with_capacity(keys.len());
    let mut failed = None;
    for key in keys {
        match statat(CWD, store.path(key), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                objects.push(listed(key.clone(), &stat, true));
            }
            _ => {
                let folder = key.rfind('/').map_or("", |end| &key[..=end]);
                let range = ListRange {
                    follow_symbolic_links: true,
                    ..ListRange::prefix(folder)
                };
                list(store, &range, &mut |page| {
                    match page {
                        Ok(page) => objects.extend(page),
                        Err(error) => failed = Some(error),
                    }
                    true
                });
            }
        }
    }
    failed.map_or(Ok(objects), Err)
}

fn walk(store: &FilesystemStore, range: &ListRange, glance: Option<Wanted>, send: Send<'_, Glimpse>) {
    let mut walk = Walk {
        store,
        range,
        glance,
        reads_links: glance.is_some() && kind::is_local(&store.root),
        send,
        page: Vec::with_capacity(PAGE),
        names: names_buffer(),
        ancestors: Vec::new(),
    };
    match walk.run() {
        Ok(()) | Err(Stop::Enough) => {
            if !walk.page.is_empty() {
                let page = std::mem::take(&mut walk.page);
                (walk.send)(Ok(page));
            }
        }
        Err(Stop::Failed(error)) => {
            (walk.send)(Err(error));
        }
    }
}

struct Walk<'w> {
    store: &'w FilesystemStore,
    range: &'w ListRange,
    /// What must be looked at, where keys will do for the rest.
    glance: Option<Wanted>,
    /// Whether links of revisions are listed with the MD5 of their content: who marks reads each of them, and from here, with its
    /// folder open, it costs least. On a network such reads should not wait for each other.
    reads_links: bool,
    send: Send<'w, Glimpse>,
    page: Vec<Glimpse>,
    names: NamesBuffer,
    /// The folders being read, so that a symbolic link to one of them ends there.
    ancestors: Vec<Rc<OwnedFd>>,
}

/// A folder being read.
struct Folder<'f> {
    fd: &'f OwnedFd,
    /// With a `/` at its end.
    key: &'f str,
    exact: bool,
    only_file: Option<&'static str>,
    only_names: bool,
    /// Its folders are tags, of which the names will do.
    names_tags: bool,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        // What the prefix says beyond its last `/` is the beginning of names.
        let folder = self
            .range
            .prefix
            .rfind('/')
            .map_or("", |end| &self.range.prefix[..=end]);
        // A name that is no UTF-8 cannot be opened by its readable form: it is met on the way down.
        let folder = match folder.find(char::REPLACEMENT_CHARACTER) {
            Some(at) => &folder[..folder[..at].rfind('/').map_or(0, |end| end + 1)],
            None => folder,
        };
        let Some(fd) = self.open_base(folder)? else {
            return Ok(());
        };
        self.folder(fd, folder, true)
    }

    /// Opens the folder that the prefix names, one part at a time, so that a symbolic link on the way is seen.
    fn open_base(&self, folder: &str) -> Result<Option<OwnedFd>, Stop> {
        let follow = if self.range.follow_symbolic_links {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        let mut fd = open(&self.store.root, folder_flags(), Mode::empty())
            .map_err(|error| self.failed("list", "", error.into()))?;
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            fd = match openat(&fd, part, folder_flags() | follow, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let error = StoreError::behind_a_link(&self.store.identity, folder, part);
                    return Err(Stop::Failed(error));
                }
                Err(error) => return Err(self.failed("list", folder, error.into())),
            };
        }
        Ok(Some(fd))
    }

    fn folder(&mut self, fd: OwnedFd, key: &str, exact: bool) -> Result<(), Stop> {
        let entries = read_entries(self.store, &fd, key, &mut self.names).map_err(Stop::Failed)?;
        // Without a symbolic link on the way there is no way back to where the walk has been.
        if !exact
            && self
                .is_ancestor(&fd)
                .map_err(|error| self.failed("list", key, error.into()))?
        {
            return Ok(());
        }
        let fd = Rc::new(fd);
        self.ancestors.push(Rc::clone(&fd));
        let folder = Folder {
            fd: &fd,
            key,
            exact,
            only_file: layout::only_file_below(key),
            only_names: exact && self.is_only_named(key),
            names_tags: exact && self.glance == Some(Wanted::LayersAndManifests) && layout::holds_tags(key),
        };
        for entry in entries {
            if !self.only_tag(&folder, &entry)? && !self.only_file(&folder, &entry)? {
                self.entry(&folder, &entry)?;
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    /// Whether a folder is one of those being read.
    fn is_ancestor(&self, folder: &OwnedFd) -> Result<bool, Errno> {
        let folder = fstat(folder)?;
        for ancestor in &self.ancestors {
            let ancestor = fstat(ancestor)?;
            if (ancestor.st_dev, ancestor.st_ino) == (folder.st_dev, folder.st_ino) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether of what is directly in a folder the keys will do.
    fn is_only_named(&self, folder: &str) -> bool {
        match self.glance {
            None => false,
            Some(Wanted::Everything) => layout::holds_canonical_layer_links(folder),
            Some(Wanted::LayersAndManifests) => {
                layout::holds_canonical_layer_links(folder) || layout::is_of_tags_or_uploads(folder)
            }
        }
    }

    fn entry(&mut self, folder: &Folder<'_>, entry: &Entry) -> Result<(), Stop> {
        let (name, utf8) = match entry.name.to_str() {
            Ok(name) => (name.into(), true),
            Err(_) => (entry.name.to_string_lossy(), false),
        };
        let Folder {
            fd, key: folder_key, ..
        } = folder;
        let exact = folder.exact && utf8 && !entry.is_link;
        if entry.is_folder {
            let key = format!("{folder_key}{name}/");
            if !self.may_hold_keys(&key)? {
                return Ok(());
            }
            let follow = if entry.is_link {
                OFlags::empty()
            } else {
                OFlags::NOFOLLOW
            };
            return match openat(fd, &entry.name, folder_flags() | follow, Mode::empty()) {
                Ok(fd) => self.folder(fd, &key, exact),
                // Gone since its name was read.
                Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(self.failed("list", &key, error.into())),
            };
        }
        let key = format!("{folder_key}{name}");
        if self.range.before.as_ref().is_some_and(|before| key >= *before) {
            return Err(Stop::Enough);
        }
        if !self.range.contains(&key) {
            return Ok(());
        }
        if folder.only_names && exact {
            return self.push(Glimpse::Named(key));
        }
        let is_file = exact && entry.kind == FileType::RegularFile;
        if self.reads_links
            && is_file
            && is_revision_link(&key)
            && let Some((stat, md5)) = link_content::look_inside(fd, &entry.name)
        {
            self.store.requests.add(RequestKind::Get, 1);
            return self.push(Glimpse::Listed(ListedObject {
                etag: Some(md5),
                ..listed(key, &stat, true)
            }));
        }
        let flags = if self.range.follow_symbolic_links {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let stat = match statat(fd, &entry.name, flags) {
            Ok(stat) => stat,
            // A link to nothing is something that is there; anything else is gone since its name was read.
            Err(Errno::NOENT | Errno::LOOP) if entry.is_link => {
                match statat(fd, &entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(_) => return Ok(()),
                }
            }
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.failed("list", &key, error.into())),
        };
        self.push(Glimpse::Listed(listed(key, &stat, is_file)))
    }

    /// Names a tag's link without a look into the tag's folders: they are a fifth of a registry's, and where tags are not wanted
    /// nothing in them is. Returns false where it is no tag.
    fn only_tag(&mut self, folder: &Folder<'_>, entry: &Entry) -> Result<bool, Stop> {
        let name = match entry.name.to_str() {
            Ok(name) if folder.names_tags && entry.is_folder && !entry.is_link => name,
            _ => return Ok(false),
        };
        let key = layout::tag_link_in(folder.key, name);
        if !self.range.contains(&key) {
            // A range that begins behind a tag's link goes on where another ended: that one took the whole tag for it.
            return Ok(self.range.after.as_ref() == Some(&key));
        }
        self.push(Glimpse::Named(key))?;
        Ok(true)
    }

    /// Takes the one file that a registry keeps in a digest's folder, without a look into the folder: that costs one call
    /// to the system instead of five, and nine of ten folders are of this kind. Returns false where it is not quite what
    /// it should be, and the folder must be read.
    ///
    /// What else lies there is not seen, and so not counted as unrecognized; it is left alone like everything else.
    fn only_file(&mut self, folder: &Folder<'_>, entry: &Entry) -> Result<bool, Stop> {
        let Some(file) = folder.only_file else {
            return Ok(false);
        };
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let name = match entry.name.to_str() {
            Ok(name) if entry.is_folder && !entry.is_link && name.as_bytes().iter().all(is_hex) => name,
            _ => return Ok(false),
        };
        let key = [folder.key, name, "/", file].concat();
        if !self.range.contains(&key) {
            return Ok(false);
        }
        if folder.only_names && name.len() == 2 * Algorithm::Sha256.hash_len() {
            self.push(Glimpse::Named(key))?;
            return Ok(true);
        }
        let stat = match statat(folder.fd, &key[folder.key.len()..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat,
            _ => return Ok(false),
        };
        self.push(Glimpse::Listed(listed(key, &stat, folder.exact)))?;
        Ok(true)
    }

    fn push(&mut self, glimpse: Glimpse) -> Result<(), Stop> {
        self.page.push(glimpse);
        if self.page.len() == PAGE {
            let page = std::mem::replace(&mut self.page, Vec::with_capacity(PAGE));
            if !(self.send)(Ok(page)) {
                return Err(Stop::Enough);
            }
        }
        Ok(())
    }

    /// Whether any key that begins with a folder's may lie in the range.
    fn may_hold_keys(&self, folder: &str) -> Result<bool, Stop> {
        let ListRange {
            prefix,
            after,
            before,
            ..
        } = self.range;
        if before.as_deref().is_some_and(|before| folder >= before) {
            return Err(Stop::Enough);
        }
        let under_prefix = folder.starts_with(prefix.as_str()) || prefix.starts_with(folder);
        let not_before = after
            .as_deref()
            .is_none_or(|after| folder > after || after.starts_with(folder));
        Ok(under_prefix && not_before)
    }

    fn failed(&self, action: &'static str, key: &str, error: io::Error) -> Stop {
        Stop::Failed(self.store.error(action, key, error))
    }
}

fn is_revision_link(key: &str) -> bool {
    let entry = layout::parse_repository_key(key).and_then(|key| key.entry);
    matches!(entry, Some(RepositoryEntry::RevisionLink(_)))
}

fn listed(key: String, stat: &Stat, exact: bool) -> ListedObject {
    ListedObject {
        key,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        last_modified: modified(stat),
        etag: None,
        exact,
    }
}

fn modified(stat: &Stat) -> Timestamp {
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    // A time that cannot be expressed is taken for a late one: what has it is young, and kept (R1).
    Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or(Timestamp::MAX)
}

/// Lists what lies directly under a folder, whole.
pub(super) fn read_folder(store: &FilesystemStore, folder: &str) -> Result<FolderPage, StoreError> {
    let error = |error: io::Error| store.error("list", folder, error);
    let fd = match open(store.path(folder), folder_flags(), Mode::empty()) {
        Ok(fd) => fd,
        Err(errno) if io::Error::from(errno).kind() == ErrorKind::NotFound => {
            return Ok(FolderPage::default());
        }
        Err(errno) => return Err(error(errno.into())),
    };
    let mut page = FolderPage::default();
    for entry in read_entries(store, &fd, folder, &mut names_buffer())? {
        let key = format!("{folder}{}", entry.name.to_string_lossy());
        if entry.is_folder {
            page.folders.push(format!("{key}/"));
            if entry.is_link {
                page.links.push(format!("{key}/"));
            }
            continue;
        }
        let Ok(stat) = statat(&fd, &entry.name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let exact = !entry.is_link && entry.name.to_str().is_ok();
        page.objects.push(listed(key, &stat, exact));
    }
    Ok(page)
}
