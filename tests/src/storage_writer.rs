//! A registry's storage as the tests see it: keys with bytes, written, read and listed directly, past the
//! registry. [`Folder`] is the filesystem kind; other stores of the tests implement [`Storage`] beside themselves.

mod memory;

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

pub use memory::Memory;

/// Keys and bytes, no more: what the generator writes, the checker walks and tests tamper with.
///
/// Keys have no leading slash and no store prefix of their own (`docker/registry/v2/blobs/…`).
pub trait Storage: Send + Sync {
    /// Writes one object whole, with the time that the store is to report as its last modification.
    fn put(&self, key: &str, bytes: &[u8], modified: SystemTime) -> Result<()>;

    /// Removes one object; an object that is not there is an error, because a test meant to remove something.
    fn remove(&self, key: &str) -> Result<()>;

    /// Reads one object whole; `None` where there is none.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// Lists every key with its size in bytes.
    fn keys(&self) -> Result<BTreeMap<String, u64>>;
}

/// A registry's root directory on a filesystem.
///
/// Folders are no keys. Names that are no UTF-8 are listed with replacement characters, so that they count in an
/// inventory but cannot be read back.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    follow_symlinks: bool,
}

impl Folder {
    /// Opens a folder whose symbolic links are listed as themselves: right for inventories, every byte counts once.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            follow_symlinks: false,
        }
    }

    /// Opens a folder whose symbolic links to folders are walked, as the registry serves them.
    pub fn following_symlinks(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            follow_symlinks: true,
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that holds a key.
    pub fn path_of(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Sets the modification time of every file, as if all had been pushed then.
    pub fn set_all_modified(&self, modified: SystemTime) -> Result<()> {
        for key in self.keys()?.keys() {
            let path = self.path_of(key);
            if path.is_symlink() {
                continue;
            }
            set_modified(&path, modified)?;
        }
        Ok(())
    }

    fn walk(&self, folder: &Path, prefix: &str, above: &mut Vec<PathBuf>, found: &mut Found) -> Result<()> {
        let tried = || format!("listing {}", folder.display());
        for entry in fs::read_dir(folder).with_context(tried)? {
            let entry = entry.with_context(tried)?;
            let (path, kind) = (entry.path(), entry.file_type().with_context(tried)?);
            let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                self.walk(&path, &format!("{key}/"), above, found)?;
            } else if kind.is_symlink() && self.follow_symlinks {
                self.walk_symlink(&path, key, above, found)?;
            } else {
                let size = entry
                    .metadata()
                    .with_context(|| format!("looking at {}", path.display()))?
                    .len();
                found.insert(key, size);
            }
        }
        Ok(())
    }

    fn walk_symlink(
        &self,
        path: &Path,
        key: String,
        above: &mut Vec<PathBuf>,
        found: &mut Found,
    ) -> Result<()> {
        let Ok(target) = fs::canonicalize(path) else {
            return Ok(()); // it points nowhere, and the registry sees nothing there either
        };
        let metadata = fs::metadata(&target).with_context(|| format!("looking at {}", target.display()))?;
        if !metadata.is_dir() {
            found.insert(key, metadata.len());
            return Ok(());
        }
        // A link to a folder that we are inside of would never end.
        let inside_target = path
            .parent()
            .and_then(|p| fs::canonicalize(p).ok())
            .is_some_and(|p| p.starts_with(&target));
        if inside_target || above.contains(&target) {
            return Ok(());
        }
        above.push(target);
        let walked = self.walk(path, &format!("{key}/"), above, found);
        above.pop();
        walked
    }
}

type Found = BTreeMap<String, u64>;

impl Storage for Folder {
    fn put(&self, key: &str, bytes: &[u8], modified: SystemTime) -> Result<()> {
        let path = self.path_of(key);
        let mut file = match File::create(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let folder = path.parent().context("a key has a folder")?;
                fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
                File::create(&path)
            }
            outcome => outcome,
        }
        .with_context(|| format!("creating {}", path.display()))?;
        file.write_all(bytes)
            .and_then(|()| file.set_modified(modified))
            .with_context(|| format!("writing {}", path.display()))
    }

    fn remove(&self, key: &str) -> Result<()> {
        let path = self.path_of(key);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path_of(key);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn keys(&self) -> Result<BTreeMap<String, u64>> {
        if !self.root.is_dir() {
            bail!("{} is no folder", self.root.display());
        }
        let mut found = BTreeMap::new();
        self.walk(&self.root, "", &mut Vec::new(), &mut found)?;
        Ok(found)
    }
}

fn set_modified(path: &Path, modified: SystemTime) -> Result<()> {
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(modified)))
        .with_context(|| format!("setting the time of {}", path.display()))
}

/// The root of the Distribution layout inside a storage.
pub const REGISTRY_ROOT: &str = "docker/registry/v2/";

/// The key of a blob's bytes.
pub fn blob_key(digest: &str) -> String {
    let (algorithm, hex) = split(digest);
    format!("{REGISTRY_ROOT}blobs/{algorithm}/{}/{hex}/data", &hex[..2])
}

/// The key of a repository's layer link.
pub fn layer_link_key(repository: &str, digest: &str) -> String {
    let (algorithm, hex) = split(digest);
    format!("{REGISTRY_ROOT}repositories/{repository}/_layers/{algorithm}/{hex}/link")
}

/// The key of a repository's revision link.
pub fn revision_link_key(repository: &str, digest: &str) -> String {
    let (algorithm, hex) = split(digest);
    format!("{REGISTRY_ROOT}repositories/{repository}/_manifests/revisions/{algorithm}/{hex}/link")
}

/// The key of what a tag names now.
pub fn tag_link_key(repository: &str, tag: &str) -> String {
    format!("{REGISTRY_ROOT}repositories/{repository}/_manifests/tags/{tag}/current/link")
}

/// The key of an entry in a tag's history.
pub fn tag_index_key(repository: &str, tag: &str, digest: &str) -> String {
    let (algorithm, hex) = split(digest);
    format!("{REGISTRY_ROOT}repositories/{repository}/_manifests/tags/{tag}/index/{algorithm}/{hex}/link")
}

fn split(digest: &str) -> (&str, &str) {
    digest
        .split_once(':')
        .expect("digests of fixtures are made by content::digest_of")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_folder_gives_back_what_was_put_with_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Folder::new(folder.path());
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        storage.put("a/b/c", b"three", then).unwrap();
        assert_eq!(storage.get("a/b/c").unwrap().unwrap(), b"three");
        let modified = || storage.path_of("a/b/c").metadata().unwrap().modified().unwrap();
        assert_eq!(modified(), then);
        storage.set_all_modified(then - Duration::from_secs(9)).unwrap();
        assert_eq!(modified(), then - Duration::from_secs(9));
        assert_eq!(
            storage.keys().unwrap(),
            BTreeMap::from([("a/b/c".to_string(), 5)])
        );
        storage.remove("a/b/c").unwrap();
        assert!(storage.remove("a/b/c").is_err());
        assert_eq!(storage.get("a/b/c").unwrap(), None);
    }

    #[test]
    fn symbolic_links_are_walked_only_on_request_and_never_in_circles() {
        let folder = tempfile::tempdir().unwrap();
        let plain = Folder::new(folder.path());
        plain.put("real/link", b"x", SystemTime::now()).unwrap();
        std::os::unix::fs::symlink(folder.path().join("real"), folder.path().join("alias")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("real/up")).unwrap();
        let keys = |storage: &Folder| storage.keys().unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(keys(&plain), ["alias", "real/link", "real/up"]);
        assert_eq!(
            keys(&Folder::following_symlinks(folder.path())),
            ["alias/link", "real/link"]
        );
    }
}
