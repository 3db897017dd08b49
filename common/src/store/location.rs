//! Names of stores: what a user wrote, what it means, and how it is opened. Besides the command line this is the only
//! place that reads the environment, for credentials and endpoints as the provider's own tools take them. Secrets
//! are kept in [`Settings`] and [`Environment`], which never show them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

mod settings;

pub use settings::{Environment, Settings};

pub(crate) use settings::is_true;

use super::cloud::{AzureConfig, GcsConfig, Paces, RetryPolicy, S3Config, open_azure, open_gcs, open_s3};
use super::filesystem::FilesystemStore;
use crate::store::{Store, StoreError};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The most requests in flight.
    pub concurrency: usize,
    /// How reads are retried.
    pub retry: RetryPolicy,
    /// How fast buckets are asked. Stores that are opened with clones of it share what they find out, and a ceiling.
    pub paces: Paces,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            retry: RetryPolicy::default(),
            paces: Paces::default(),
        }
    }
}

/// What kind of store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A folder of this machine's file system.
    Folder,
    /// Amazon S3, or what speaks its language.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl StoreKind {
    fn scheme(self) -> &'static str {
        match self {
            Self::Folder => "file",
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// The folder without a name in which Distribution 2.x keeps a registry on Azure: its keys there begin with a `/`.
pub const NAMELESS_FOLDER: &str = "/";

/// A store that was named, and can be opened.
#[derive(Debug, Clone)]
pub struct StorageLocation {
    kind: StoreKind,
    /// The bucket or container. Empty for a folder.
    container: String,
    /// The folder in it, without slashes at its ends, or [`NAMELESS_FOLDER`]; for a folder the whole path.
    folder: String,
    settings: Settings,
    environment: Environment,
    identity: String,
}

impl StorageLocation {
    /// Reads `s3://bucket/folder`, `gs://bucket/folder`, `az://container/folder`, `file:///folder` or a path, with
    /// the environment of this process. `az://container//` names the [`NAMELESS_FOLDER`].
    ///
    /// # Errors
    ///
    /// A text that names no store, or settings in the environment that cannot be used.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        Self::parse_in(text, Settings::default(), Environment::of_process())
    }

    /// As [`StorageLocation::parse`], with settings of its own and an environment of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`StorageLocation::parse`].
    pub fn parse_in(text: &str, settings: Settings, environment: Environment) -> Result<Self, StoreError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self::folder(Path::new(text));
        };
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "s3" => StoreKind::S3,
            "gs" => StoreKind::Gcs,
            "az" => StoreKind::Azure,
            "file" => return Self::file_url(text),
            _ => {
                return Err(configuration(
                    &format!("{scheme}://…"),
                    "this kind of address is not known; write a folder, s3://bucket/folder, gs://bucket/folder or \
                     az://container/folder (an endpoint is set apart, as AWS_ENDPOINT_URL)",
                ));
            }
        };
        let (container, folder) = rest.split_once('/').unwrap_or((rest, ""));
        Self::cloud_in(kind, container, folder, settings, environment)
    }

    /// Names a folder of this machine.
    ///
    /// # Errors
    ///
    /// A path that is empty or not UTF-8.
    pub fn folder(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        if path.as_os_str().is_empty() {
            return Err(configuration("\"\"", "an empty path names no folder"));
        }
        let absolute =
            canonical(path).map_err(|error| configuration(&shown, &format!("no such path ({error})")))?;
        let Some(folder) = absolute.to_str().map(str::to_owned) else {
            return Err(configuration(&shown, "the path of a store must be UTF-8"));
        };
        Ok(Self {
            kind: StoreKind::Folder,
            container: String::new(),
            identity: folder.clone(),
            folder,
            settings: Settings::default(),
            environment: Environment::default(),
        })
    }

    /// Names a bucket or container, with the environment of this process for what `settings` leave open.
    ///
    /// # Errors
    ///
    /// Names that no bucket can have, and settings that cannot be used.
    pub fn cloud(
        kind: StoreKind,
        container: &str,
        folder: &str,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        Self::cloud_in(kind, container, folder, settings, Environment::of_process())
    }

    fn cloud_in(
        kind: StoreKind,
        container: &str,
        folder: &str,
        settings: Settings,
        environment: Environment,
    ) -> Result<Self, StoreError> {
        let folder = match (kind, folder) {
            (StoreKind::Azure, NAMELESS_FOLDER) => folder,
            _ => folder.trim_matches('/'),
        };
        // What is no name may be a password that went astray, so it is not shown.
        let unnamed = format!("{}://…", kind.scheme());
        check_container(container).map_err(|problem| configuration(&unnamed, problem))?;
        check_folder(folder).map_err(|problem| configuration(&unnamed, problem))?;
        let display = display(kind, container, folder);
        let server = match kind {
            StoreKind::Folder => Err("a folder has no bucket".to_owned()),
            StoreKind::S3 => {
                S3Config::resolve(&settings, &environment).map(|config| config.foreign_endpoint(container))
            }
            StoreKind::Gcs => {
                GcsConfig::resolve(&settings, &environment).map(|config| config.foreign_endpoint())
            }
            StoreKind::Azure => {
                AzureConfig::resolve(&settings, &environment).map(|config| Some(config.endpoint()))
            }
        };
        let server = server.map_err(|problem| configuration(&display, &problem))?;
        let identity = match server {
            Some(server) => format!("{display} at {server}"),
            None => display,
        };
        Ok(Self {
            kind,
            container: container.to_owned(),
            folder: folder.to_owned(),
            settings,
            environment,
            identity,
        })
    }

    fn file_url(text: &str) -> Result<Self, StoreError> {
        let path = Url::parse(text)
            .ok()
            .filter(|url| url.query().is_none() && url.fragment().is_none())
            .and_then(|url| url.to_file_path().ok());
        match path {
            Some(path) => Self::folder(&path),
            None => Err(configuration(
                text,
                "write file:///absolute/path, or just the path",
            )),
        }
    }

    /// What kind of store it is.
    #[must_use]
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Names the store without secrets, one name for all spellings. A server that is not the provider's own belongs
    /// to it: `s3://bucket/folder at http://127.0.0.1:9000`.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The store as it can be written on a command line: `s3://bucket/folder`.
    #[must_use]
    pub fn display(&self) -> String {
        match self.kind {
            StoreKind::Folder => self.folder.clone(),
            kind => display(kind, &self.container, &self.folder),
        }
    }

    /// Opens the store. Nothing is asked of it yet: whether the bucket is there shows with the first request.
    ///
    /// # Errors
    ///
    /// Settings or credentials that cannot be used; for a folder, one that is not there.
    pub fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
        let (identity, container, folder) = (self.identity.clone(), &self.container, &self.folder);
        let opened = match self.kind {
            StoreKind::Folder => {
                return Ok(Arc::new(FilesystemStore::open(Path::new(&self.folder))?));
            }
            StoreKind::S3 => S3Config::resolve(&self.settings, &self.environment)
                .and_then(|config| open_s3(identity, container, folder, &config, options)),
            StoreKind::Gcs => GcsConfig::resolve(&self.settings, &self.environment)
                .and_then(|config| open_gcs(identity, container, folder, &config, options)),
            StoreKind::Azure => AzureConfig::resolve(&self.settings, &self.environment)
                .and_then(|config| open_azure(identity, container, folder, &config, options)),
        };
        match opened {
            Ok(store) => Ok(Arc::new(store)),
            Err(problem) => Err(configuration(&self.identity, &problem)),
        }
    }
}

fn display(kind: StoreKind, container: &str, folder: &str) -> String {
    let scheme = kind.scheme();
    if folder.is_empty() {
        format!("{scheme}://{container}")
    } else {
        format!("{scheme}://{container}/{folder}")
    }
}

fn check_container(container: &str) -> Result<(), &'static str> {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || "-._$".contains(character);
    if container.is_empty() {
        return Err("it has no name of a bucket or container; write s3://bucket/folder");
    }
    if !container.chars().all(is_allowed) || container.contains("..") {
        return Err(
            "the name of a bucket or container has letters, digits, dots, dashes and underscores only",
        );
    }
    Ok(())
}

fn check_folder(folder: &str) -> Result<(), &'static str> {
    if folder == NAMELESS_FOLDER {
        return Ok(());
    }
    let strange = folder
        .split('/')
        .any(|part| part == "." || part == ".." || part.is_empty() && !folder.is_empty());
    if strange {
        return Err("the folder in a bucket must be without //, /./ and /../");
    }
    if folder.contains(['?', '#']) || folder.chars().any(char::is_control) {
        return Err("options cannot be given in the address; set them as the provider's own tools take them");
    }
    Ok(())
}

/// The path without symbolic links; of one that is not there yet, as much as is.
fn canonical(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut missing = Vec::new();
    for ancestor in absolute.ancestors() {
        match ancestor.canonicalize() {
            Ok(found) => {
                return Ok(missing.iter().rev().fold(found, |path, name| path.join(name)));
            }
            Err(error) => match ancestor.file_name() {
                Some(name) => missing.push(name.to_owned()),
                None => return Err(error),
            },
        }
    }
    Ok(absolute)
}

fn configuration(store: &str, problem: &str) -> StoreError {
    StoreError::Configuration {
        store: store.to_owned(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<StorageLocation, StoreError> {
        StorageLocation::parse_in(text, Settings::default(), variables.iter().copied().collect())
    }

    #[test]
    fn spellings_of_one_store_have_one_identity() {
        for text in ["s3://b/p", "s3://b/p/", "S3://b//p//"] {
            let location = parse(text, &[]).unwrap();
            assert_eq!(location.identity(), "s3://b/p", "{text}");
            assert_eq!(location.display(), "s3://b/p");
        }
        assert_eq!(parse("s3://b/", &[]).unwrap().identity(), "s3://b");
    }

    #[test]
    fn a_folder_without_a_name_is_one_on_azure_only() {
        let account = [("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_KEY", "a2V5")];
        for (text, display) in [
            ("az://c", "az://c"),
            ("az://c/", "az://c"),
            ("az://c//", "az://c//"),
            ("az://c//x/", "az://c/x"),
            ("s3://b//", "s3://b"),
        ] {
            let location = parse(text, &account).unwrap();
            assert_eq!(location.display(), display, "{text}");
            assert_eq!(parse(display, &account).unwrap().identity(), location.identity());
        }
    }

    #[test]
    fn a_server_belongs_to_the_identity_and_not_to_the_command() {
        let one = parse("s3://b/p", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/")]).unwrap();
        let two = parse("s3://b/p", &[("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")]).unwrap();
        assert_eq!(one.identity(), "s3://b/p at http://127.0.0.1:9000");
        assert_eq!(one.identity(), two.identity());
        assert_eq!(one.display(), "s3://b/p");
    }

    #[test]
    fn texts_that_name_no_store_are_refused() {
        for text in [
            "",
            "s3://",
            "s3:///p",
            "s3://b/a//c",
            "s3://b/../c",
            "s3://b?x=1",
            "s3://user:SECRET@b/p",
            "s3://b/p?key=SECRET",
            "http://user:SECRET@h/b",
            "file://relative",
        ] {
            let error = parse(text, &[]).unwrap_err();
            assert!(matches!(error, StoreError::Configuration { .. }), "{text}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn folders_are_canonical() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        let real = root.join("real");
        for path in [root.join("link"), root.join("link/../real/"), real.clone()] {
            let text = path.to_str().unwrap();
            assert_eq!(
                parse(text, &[]).unwrap().identity(),
                real.to_str().unwrap(),
                "{text}"
            );
        }
        let url = format!("file://{}", real.display());
        assert_eq!(parse(&url, &[]).unwrap().identity(), real.to_str().unwrap());
        let missing = real.join("state/new");
        let location = StorageLocation::folder(&missing).unwrap();
        assert_eq!(location.identity(), missing.to_str().unwrap());
    }

    #[test]
    fn nothing_shows_a_secret() {
        let mut settings = Settings::default();
        settings.set("access_key_id", "AK");
        settings.set("secret_access_key", "SECRET");
        let variables: Environment = [("AWS_SESSION_TOKEN", "SECRET")].into_iter().collect();
        let location = StorageLocation::parse_in("s3://b/p", settings, variables).unwrap();
        let store = location.open(&OpenOptions::default()).unwrap();
        for shown in [format!("{location:?}"), format!("{store:?}")] {
            assert!(!shown.contains("SECRET"), "{shown}");
        }
    }
}
