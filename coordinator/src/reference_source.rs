//! Where references come from: the registry's own storage, a cluster. What several of them name is united; what a cluster says of a
//! repository's revisions decides over what the storage says (decision 0020).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use clap::{Args, ValueEnum};
use hardprune_common::problem::Problem;
use hardprune_common::run::Epoch;
use hardprune_common::state::{FileRef, StateStore};
use hardprune_common::store::Store;
use hardprune_common::task::{ClusterSays, KeyRange, MarkRules, MarkWork};
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::openshift::cluster::ClusterArgs;
use crate::openshift::references::OpenShift;

/// A source of references, as it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceName {
    /// The registry's own storage: its revision links and tags.
    Storage,
    /// The images and image streams of an OpenShift cluster.
    Openshift,
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Storage => "storage",
            Self::Openshift => "openshift",
        })
    }
}

/// Where references come from, on the command line.
#[derive(Debug, Clone, Args)]
pub struct ReferenceArgs {
    /// Where references come from. openshift: the images and image streams of the cluster, for its integrated registry;
    /// repositories without an image stream go, unless storage is named as well.
    #[arg(
        long,
        value_name = "SOURCE",
        value_enum,
        value_delimiter = ',',
        default_value = "storage",
        env = "HARDPRUNE_REFERENCES"
    )]
    pub references: Vec<SourceName>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

impl ReferenceArgs {
    /// The sources, each once.
    #[must_use]
    pub fn names(&self) -> Vec<SourceName> {
        let mut names = self.references.clone();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The context of the kubeconfig, where one was given for a cluster that is asked.
    #[must_use]
    pub fn context(&self) -> Option<String> {
        let asks = self.references.contains(&SourceName::Openshift);
        self.cluster.context.clone().filter(|_| asks)
    }
}

/// What a source is asked.
pub struct Asking<'a> {
    /// The registry's storage.
    pub registry: &'a Arc<dyn Store>,
    /// Where what it says is kept.
    pub state: &'a StateStore,
    /// The epoch.
    pub epoch: &'a Epoch,
    /// The ranges that repositories are marked in. When it is asked again, those of the first time count.
    pub ranges: &'a [KeyRange],
    /// Whether it may be that nothing is referenced.
    pub accept_no_references: bool,
    /// Reads in flight.
    pub reads_in_flight: usize,
}

/// What a source says beside what marking finds in the storage.
#[derive(Debug, Default)]
pub struct Said {
    /// Segments of references.
    pub references: Vec<FileRef>,
    /// Segments of those of them that may well have no blob.
    pub may_be_absent: Vec<FileRef>,
    /// Segments of the repositories that it knows, and of the revisions that it names there, for each range. `None`: it does not
    /// decide about revisions.
    pub revisions: Option<Vec<Vec<FileRef>>>,
    /// What is wrong with what it names.
    pub problems: Vec<Problem>,
}

/// What a source names and did not name when it was asked.
#[derive(Debug, Default)]
pub struct News {
    /// Keys of the registry's storage that are needed for it.
    pub keys: BTreeSet<String>,
    /// Repositories that it did not know.
    pub repositories: BTreeSet<String>,
}

/// A source of references.
#[async_trait]
pub trait ReferenceSource: fmt::Debug + Send + Sync {
    /// Asks it. Nothing of the registry is changed.
    ///
    /// # Errors
    ///
    /// A source that does not say all that it knows: nothing may be deleted then (R1).
    async fn ask(&self, asking: &Asking<'_>) -> Result<Said, RunError>;

    /// Asks it again, what it has come to name since.
    ///
    /// # Errors
    ///
    /// As [`ReferenceSource::ask`].
    async fn ask_again(&self, asking: &Asking<'_>) -> Result<News, RunError>;
}

/// The storage. All that it knows is found by marking.
#[derive(Debug)]
struct Storage;

#[async_trait]
impl ReferenceSource for Storage {
    async fn ask(&self, _: &Asking<'_>) -> Result<Said, RunError> {
        Ok(Said::default())
    }

    /// It is read-only.
    async fn ask_again(&self, _: &Asking<'_>) -> Result<News, RunError> {
        Ok(News::default())
    }
}

/// The sources of a run.
#[derive(Debug)]
pub struct References {
    sources: Vec<Box<dyn ReferenceSource>>,
    has_storage: bool,
}

/// What all sources say.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What is to be marked, range by range.
    pub works: Vec<MarkWork>,
    /// Segments of references, and of those of them that may well have no blob.
    pub references: (Vec<FileRef>, Vec<FileRef>),
    /// What is wrong with what they name.
    pub problems: Vec<Problem>,
}

impl References {
    /// Finds the sources. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// A cluster that cannot be found.
    pub async fn of(names: &[SourceName], cluster: &ClusterArgs) -> Result<Self, RunError> {
        let mut sources: Vec<Box<dyn ReferenceSource>> = Vec::new();
        for name in names {
            sources.push(match name {
                SourceName::Storage => Box::new(Storage),
                SourceName::Openshift => Box::new(OpenShift::find(cluster).await?),
            });
        }
        Ok(Self {
            sources,
            has_storage: names.contains(&SourceName::Storage),
        })
    }

    /// Asks all of them, one after another.
    ///
    /// # Errors
    ///
    /// A source that does not say all that it knows.
    pub async fn gather(&self, asking: &Asking<'_>, rules: &MarkRules) -> Result<Gathered, RunError> {
        let work = |range: &KeyRange| MarkWork {
            range: range.clone(),
            rules: rules.clone(),
            cache: None,
        };
        let mut gathered = Gathered {
            works: asking.ranges.iter().map(work).collect(),
            ..Gathered::default()
        };
        for source in &self.sources {
            let said = source.ask(asking).await?;
            gathered.references.0.extend(said.references);
            gathered.references.1.extend(said.may_be_absent);
            gathered.problems.extend(said.problems);
            for (work, revisions) in gathered
                .works
                .iter_mut()
                .zip(said.revisions.into_iter().flatten())
            {
                work.rules.cluster = Some(ClusterSays {
                    revisions,
                    unknown_repositories_go: !self.has_storage,
                });
            }
        }
        Ok(gathered)
    }

    /// Asks all of them again.
    ///
    /// # Errors
    ///
    /// A source that does not say all that it knows.
    pub async fn news(&self, asking: &Asking<'_>) -> Result<News, RunError> {
        let mut all = News::default();
        for source in &self.sources {
            let News { keys, repositories } = source.ask_again(asking).await?;
            all.keys.extend(keys);
            all.repositories.extend(repositories);
        }
        Ok(all)
    }
}
