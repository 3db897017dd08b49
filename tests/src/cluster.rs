//! A cluster that a recorded case is played on: the tests' own Kubernetes API, or a real one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use crate::kubernetes_api::{self, KubernetesApi, Request};

/// What a test needs of a cluster. The bearer token is the same everywhere.
pub trait Cluster: Send + Sync + 'static {
    /// Where `hardprune` finds its API.
    fn url(&self) -> String;

    /// Makes it hold these objects instead of those of an earlier time, and forgets the requests since then.
    ///
    /// # Errors
    ///
    /// Objects that it does not take.
    fn load(&self, objects: Vec<Value>) -> Result<()>;

    /// Its objects, by `Kind/namespace/name` or `Kind/name`.
    ///
    /// # Errors
    ///
    /// A cluster that does not answer.
    fn objects(&self) -> Result<BTreeMap<String, Value>>;

    /// An image stream, by `namespace/name`.
    ///
    /// # Errors
    ///
    /// A cluster that does not answer.
    fn image_stream(&self, name: &str) -> Result<Option<Value>>;

    /// The requests that could change something, in the order in which they were answered.
    fn mutations(&self) -> Vec<Request>;

    /// Writes a kubeconfig for it into a folder.
    ///
    /// # Errors
    ///
    /// A folder that cannot be written to.
    fn kubeconfig(&self, folder: &Path) -> Result<PathBuf> {
        kubernetes_api::kubeconfig(folder, &self.url(), Some(kubernetes_api::TOKEN))
    }
}

impl Cluster for KubernetesApi {
    fn url(&self) -> String {
        self.url()
    }

    fn load(&self, objects: Vec<Value>) -> Result<()> {
        self.clear();
        objects.into_iter().try_for_each(|object| self.put(object))
    }

    fn objects(&self) -> Result<BTreeMap<String, Value>> {
        Ok(self.objects())
    }

    fn image_stream(&self, name: &str) -> Result<Option<Value>> {
        Ok(self.objects().remove(&format!("ImageStream/{name}")))
    }

    fn mutations(&self) -> Vec<Request> {
        self.mutations()
    }
}
