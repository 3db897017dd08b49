//! A cluster and its registry as a recorded case has them, and `hardprune images` run on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use hardprune_tests::cluster::Cluster;
use hardprune_tests::kubernetes_api::{Effect, KubernetesApi};
use hardprune_tests::openshift_fixtures::{Case, Scenery};
use hardprune_tests::openshift_registry::{OpenshiftRegistry, RegistryFault};
use hardprune_tests::program::{Finished, Hardprune};
use serde_json::Value;
use tempfile::TempDir;

pub struct Scene<C = KubernetesApi> {
    pub api: Arc<C>,
    pub registry: OpenshiftRegistry,
    pub scenery: Scenery,
    pub home: TempDir,
}

impl<C: Cluster> Scene<C> {
    pub fn on(api: Arc<C>, case: &Case, faults: Vec<RegistryFault>) -> Result<Self> {
        // The registry's address stands in the objects, and the API's token opens the registry.
        let registry = OpenshiftRegistry::start(case.storage()?, &api, faults)?;
        let scenery = Scenery::now(&registry.host());
        api.load(case.objects(&scenery)?)?;
        Ok(Self {
            api,
            registry,
            scenery,
            home: tempfile::tempdir()?,
        })
    }
}

impl Scene {
    pub fn of(case: &Case, faults: Vec<RegistryFault>) -> Result<Self> {
        Self::on(Arc::new(KubernetesApi::start(Vec::new())?), case, faults)
    }

    /// One stream with one tag of six revisions; by default three go.
    pub fn history() -> Result<Self> {
        Self::of(&Case::load("history")?, Vec::new())
    }

    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let config = self.api.kubeconfig(self.home.path())?;
        let program = Hardprune::new()?.with("KUBECONFIG", &config);
        program.run(&[&["images"], arguments].concat())
    }

    /// Really prunes.
    pub fn prune(&self, arguments: &[&str]) -> Result<Finished> {
        let registry = format!("--registry-url=http://{}", self.registry.host());
        self.run(&[arguments, &["--confirm", &registry]].concat())
    }

    pub fn object(&self, id: &str) -> Result<Value> {
        let mut objects = self.api.objects();
        objects.remove(id).with_context(|| format!("no {id}"))
    }

    /// The images that a stream's tags name, one list a tag.
    pub fn tagged(&self, stream: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let stream = self.object(&format!("ImageStream/{stream}"))?;
        let tags = stream["status"]["tags"].as_array().cloned().unwrap_or_default();
        let tags = tags.iter().map(|tag| {
            let items = tag["items"].as_array().into_iter().flatten();
            let images = items.filter_map(|item| Some(item["image"].as_str()?.to_owned()));
            (
                tag["tag"].as_str().unwrap_or_default().to_owned(),
                images.collect(),
            )
        });
        Ok(tags.collect())
    }

    pub fn has_blob(&self, digest: &str) -> bool {
        let hex = digest.trim_start_matches("sha256:");
        let path = format!("blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.registry.files().contains_key(&path)
    }
}

/// An answer that refuses.
pub fn refused(message: &str, status: u16) -> Effect {
    Effect::Status(status, message.to_owned())
}
