//! What all steps of a run share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::graph::{Graph, GraphError};
use super::late::Late;
use super::list_cluster::list_cluster;
use super::output::Output;
use super::registry_client::{Deleted, RegistryClient};
use super::rules::{Ages, Decider, Rules};
use super::uses::Uses;
use crate::openshift::cluster::Cluster;

/// A run, once everything is listed and the registry answers.
pub(super) struct Run {
    pub cluster: Arc<Cluster>,
    /// `None` where nothing is asked of it.
    pub registry: Option<RegistryClient>,
    pub namespace: Option<String>,
    pub graph: Arc<Graph>,
    pub late: Arc<Late>,
    pub rules: Rules,
    pub ages: Ages,
    pub confirm: bool,
    pub prune_registry: bool,
    pub ignore_invalid_refs: bool,
    pub workers: usize,
    pub output: Output,
    /// A signal: what was begun is ended, and nothing else is.
    pub stop: CancellationToken,
}

impl Run {
    /// What decides, with what is used since the lists.
    pub fn decider<'a>(&'a self, late: &'a Uses) -> Decider<'a> {
        Decider {
            graph: &self.graph,
            late,
            rules: &self.rules,
            ages: &self.ages,
        }
    }

    /// Asks the registry, or in a dry run nobody.
    pub async fn registry_does<'a, F>(
        &'a self,
        what: impl FnOnce(&'a RegistryClient) -> F,
    ) -> Result<Deleted, String>
    where
        F: Future<Output = Result<Deleted, String>>,
    {
        match &self.registry {
            Some(registry) if self.confirm => what(registry).await,
            _ => Ok(Deleted::Gone),
        }
    }

    /// The cluster as it is now. `None` in a dry run: nothing has changed by it.
    ///
    /// # Errors
    ///
    /// A list that cannot be had, references that cannot be read: then no image goes.
    pub async fn fresh_graph(&self) -> Result<Option<Graph>, String> {
        if !self.confirm {
            return Ok(None);
        }
        let listed = list_cluster(&self.cluster.client, self.namespace.as_deref(), |_| ()).await;
        let (lists, _) = listed.map_err(|error| format!("no image was deleted: {error}"))?;
        let graph = Graph::of(lists, &self.ages, self.ignore_invalid_refs);
        let graph = graph.map_err(|error| match error {
            GraphError::Metadata(problem) => format!("no image was deleted: {problem}"),
            GraphError::References(bad) => {
                let bad: Vec<_> = bad.iter().map(ToString::to_string).collect();
                format!("no image was deleted: {}", bad.join("; "))
            }
        })?;
        Ok(Some(graph))
    }
}
