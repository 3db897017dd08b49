//! A cluster and its registry's storage as a recorded case of the hard prune has them, and `hardprune --references openshift` run on
//! them: in a folder, on S3, over NATS.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use hardprune_tests::cluster::Cluster;
use hardprune_tests::fleet::{Fleet, QUICK};
use hardprune_tests::kubernetes_api::KubernetesApi;
use hardprune_tests::openshift_fixtures::{Case, Scenery};
use hardprune_tests::program::Finished;
use hardprune_tests::scene::{Scene, report_of};
use serde_json::Value;

pub const ROOT: &str = "docker/registry/v2/";

/// Where the registry is, and who does the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Folder,
    S3,
    Nats,
}

pub const EVERYWHERE: [On; 3] = [On::Folder, On::S3, On::Nats];

pub struct HardScene<C = KubernetesApi> {
    pub api: Arc<C>,
    pub scene: Scene,
    on: On,
}

impl HardScene {
    pub fn of(case: &Case, on: On) -> Result<Self> {
        Self::in_cluster(Arc::new(KubernetesApi::start(Vec::new())?), case, on)
    }

    pub fn with(objects: Vec<Value>, files: &BTreeMap<String, String>, on: On) -> Result<Self> {
        Self::holding(Arc::new(KubernetesApi::start(objects)?), files, on)
    }
}

impl<C: Cluster> HardScene<C> {
    pub fn in_cluster(api: Arc<C>, case: &Case, on: On) -> Result<Self> {
        api.load(case.objects(&Scenery::now("registry.example:5000"))?)?;
        Self::holding(api, &case.storage()?, on)
    }

    fn holding(api: Arc<C>, files: &BTreeMap<String, String>, on: On) -> Result<Self> {
        let scene = Scene::holding(files, on != On::Folder)?;
        let config = api.kubeconfig(scene.folder())?;
        let scene = scene.with("KUBECONFIG", path(&config)?);
        Ok(Self { api, scene, on })
    }

    /// The arguments of a `check` or `delete` by what the cluster says.
    pub fn arguments(&self, mode: &str, others: &[&str]) -> Result<Vec<String>> {
        let name = self.scene.store_names().remove(0);
        let mut arguments = vec![mode, &name, "--references", "openshift", "--output", "json"];
        if mode == "delete" {
            arguments.push("--assume-read-only");
        }
        if self.on != On::Folder {
            arguments.extend(["--state", path(self.scene.state())?]);
        }
        arguments.extend(others);
        Ok(arguments.into_iter().map(str::to_owned).collect())
    }

    /// Runs it to its end.
    pub fn run(&self, mode: &str, others: &[&str]) -> Result<Finished> {
        let arguments = self.arguments(mode, others)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.scene.program.run(&arguments)
    }

    /// The report of a run that must have ended well.
    pub fn report(&self, mode: &str, others: &[&str]) -> Result<Value> {
        report_of(&self.run(mode, others)?, 0)
    }

    /// Checks, then deletes. Returns both reports.
    pub fn prune(self) -> Result<(Self, Value, Value)> {
        if self.on != On::Nats {
            let checked = self.report("check", &[])?;
            let deleted = self.report("delete", &[])?;
            return Ok((self, checked, deleted));
        }
        let Self { api, scene, on } = self;
        let fleet = Fleet::of(scene)?;
        let workers = fleet.workers(2)?;
        let url = fleet.nats.url();
        let this = Self {
            api,
            scene: fleet.scene,
            on,
        };
        let options = [&["--nats", &url][..], &QUICK].concat();
        let checked = this.report("check", &options)?;
        let deleted = this.report("delete", &options)?;
        drop(workers);
        Ok((this, checked, deleted))
    }

    /// What is gone, below `docker/registry/v2`.
    pub fn removed(&self) -> Result<BTreeSet<String>> {
        let removed = self.scene.difference()?.removed.into_keys();
        Ok(removed
            .filter_map(|key| Some(key.strip_prefix(ROOT)?.to_owned()))
            .collect())
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a plain name")
}
