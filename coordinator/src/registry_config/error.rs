//! What can be wrong with a registry's configuration.
//!
//! No message quotes anything from the file or from a variable's value but words known beforehand: whatever is
//! misspelled or wrongly indented may be a credential. A message has the line instead.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// The file.
        path: Arc<str>,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In an environment variable.
    Variable(Arc<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// What is wrong with a registry's configuration, or why its storage is not one to prune.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryConfigError {
    /// The file cannot be read.
    #[error("cannot read the registry configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is far larger than a configuration.
    #[error("{} is larger than {limit_bytes} bytes: that is no registry configuration", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit_bytes: usize,
    },
    /// Not UTF-8.
    #[error("{place}: not UTF-8 text; a registry configuration is YAML")]
    NotText {
        /// The first byte that does not fit.
        place: Place,
    },
    /// Not YAML.
    #[error("{place}: not valid YAML: {problem}")]
    NotYaml {
        /// Where the parser stopped.
        place: Place,
        /// What it missed there.
        problem: String,
    },
    /// Valid YAML, but nested or repeated beyond all need.
    #[error("{place}: {problem}")]
    TooComplex {
        /// Where the bound was passed.
        place: Place,
        /// Which bound.
        problem: &'static str,
    },
    /// The file has no `version: 0.1`.
    #[error("{place}: a registry configuration begins with `version: 0.1`, as the registry itself demands")]
    Version {
        /// The version, or the file's beginning.
        place: Place,
    },
    /// A setting of the wrong kind.
    #[error("{place}: {setting} must be {expected}")]
    WrongKind {
        /// Where it stands.
        place: Place,
        /// Its full name.
        setting: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A plain number or word that YAML does not read as the text it looks like.
    #[error(
        "{place}: {setting} is not in quotes, and the registry's YAML reads it as a number or boolean that it may \
         spell differently; write it in quotes"
    )]
    NeedsQuotes {
        /// Where it stands.
        place: Place,
        /// Its full name.
        setting: String,
    },
    /// A setting that the driver cannot do without.
    #[error("{place}: {setting} is missing or empty{hint}")]
    Missing {
        /// The section that should have it.
        place: Place,
        /// Its full name.
        setting: String,
        /// What to do, with its separator; may be empty.
        hint: &'static str,
    },
    /// No storage driver.
    #[error(
        "{place}: no storage driver: under `storage:` there must be one of filesystem, s3, gcs, azure (or set \
         REGISTRY_STORAGE)"
    )]
    NoDriver {
        /// The storage section, or the file's beginning.
        place: Place,
    },
    /// More than one storage driver; the registry does not start with that either.
    #[error(
        "{place}: more than one storage driver ({}); to replace the file's driver from the environment, set \
         REGISTRY_STORAGE too", drivers.join(", ")
    )]
    SeveralDrivers {
        /// The storage section.
        place: Place,
        /// Their names, where they are known ones.
        drivers: Vec<&'static str>,
    },
    /// A storage driver that hardprune has no store for.
    #[error("{place}: the storage driver is {driver}; hardprune can prune filesystem, s3, gcs and azure")]
    UnsupportedDriver {
        /// Its section.
        place: Place,
        /// Its name, where it is a known one.
        driver: &'static str,
    },
    /// A combination of settings that hardprune cannot follow.
    #[error("{place}: {setting} {problem}")]
    Unsupported {
        /// Where it stands.
        place: Place,
        /// Its full name.
        setting: String,
        /// Why not, and what to do.
        problem: &'static str,
    },
    /// Refused: a pull-through cache.
    #[error(
        "{place}: this registry is a pull-through cache (`proxy: remoteurl`): it writes whenever someone pulls, \
         read-only mode or not, and expires its content itself; hardprune does not prune it"
    )]
    PullThroughCache {
        /// The setting.
        place: Place,
    },
    /// Refused: OpenShift's integrated registry.
    #[error(
        "{place}: this is OpenShift's integrated registry: what is in use is written in the cluster's images and \
         image streams, not in the storage; say `--references openshift`"
    )]
    OpenShift {
        /// What shows it.
        place: Place,
    },
    /// Refused: GitLab's metadata database.
    #[error(
        "{place}: this registry keeps its metadata in a database (`database: enabled`): the links in the storage \
         are stale, and a mark from them would be wrong; use that registry's own online garbage collection"
    )]
    MetadataDatabase {
        /// The setting.
        place: Place,
    },
}

impl RegistryConfigError {
    /// Whether a guard refused, as opposed to a file that is wrong.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::PullThroughCache { .. } | Self::OpenShift { .. } | Self::MetadataDatabase { .. }
        )
    }
}
