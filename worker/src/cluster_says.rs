//! What a cluster says of the repositories of a mark task, in memory: no more than its range's.

use std::collections::{HashMap, HashSet};

use hardprune_common::digest::Digest;
use hardprune_common::segment::{ClusterRevision, read_segment};
use hardprune_common::state::{StateError, StateStore};
use hardprune_common::task::ClusterSays;

/// What a cluster says of repositories.
#[derive(Debug)]
pub(crate) struct KnownRepositories {
    revisions: HashMap<String, HashSet<Digest>>,
    unknown_go: bool,
}

/// Who decides what becomes of a repository's revisions.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict<'c> {
    /// The storage: the cluster was not asked, or does not know the repository, and leaves it to the storage.
    Storage,
    /// The cluster, which names these.
    Cluster(&'c HashSet<Digest>),
    /// The cluster, which does not know the repository.
    Unknown,
}

impl KnownRepositories {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// A segment that cannot be read: nothing may be decided then.
    pub async fn read(state: &StateStore, says: &ClusterSays) -> Result<Self, StateError> {
        let mut revisions: HashMap<String, HashSet<Digest>> = HashMap::new();
        for file in &says.revisions {
            for ClusterRevision { repository, manifest } in read_segment(state, file).await? {
                revisions.entry(repository).or_default().extend(manifest);
            }
        }
        Ok(Self {
            revisions,
            unknown_go: says.unknown_repositories_go,
        })
    }

    /// Who decides about a repository.
    pub fn verdict(&self, repository: &str) -> Verdict<'_> {
        match self.revisions.get(repository) {
            Some(revisions) => Verdict::Cluster(revisions),
            None if self.unknown_go => Verdict::Unknown,
            None => Verdict::Storage,
        }
    }
}
