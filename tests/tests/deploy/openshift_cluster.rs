//! An OpenShift cluster as the procedure meets it: its API, its registry, the registry's storage in a folder, and what its operator
//! makes of its configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::digest_of;
use hardprune_tests::generate::Shape;
use hardprune_tests::kubernetes_api::KubernetesApi;
use hardprune_tests::openshift_fixtures::{Case, Scenery};
use hardprune_tests::openshift_registry::{OpenshiftRegistry, RegistryFault};
use hardprune_tests::program::Finished;
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::revision_link_key;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::openshift::{SERVICE_CA, maintenance_steps};

pub const NAMESPACE: &str = "openshift-image-registry";
const ROOT: &str = "docker/registry/v2/";
const RECORD: &str = "hardprune/read-only.json";
/// Nothing of it is young, for images or for blobs.
const AGO: SignedDuration = SignedDuration::from_hours(30 * 24);
const OLD: Duration = Duration::from_secs(30 * 86_400);

/// The registry's Deployment and its pods after so many changes. Those of before are over.
fn rolled_out(generation: u64, read_only: bool) -> Vec<Value> {
    let variables = match read_only {
        true => json!([{"name": "REGISTRY_STORAGE_MAINTENANCE_READONLY", "value": "{enabled: true}"}]),
        false => json!([]),
    };
    let labels = json!({"docker-registry": "default"});
    let containers = json!([{"name": "registry", "image": "registry", "env": variables}]);
    let pod = |generation: u64, phase: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("image-registry-{generation}"), "namespace": NAMESPACE, "labels": labels},
            "spec": {"containers": containers}, "status": {"phase": phase},
        })
    };
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "image-registry", "namespace": NAMESPACE, "generation": generation},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": containers},
        }},
        "status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
    });
    let mut objects = vec![deployment, pod(generation, "Running")];
    if let Some(before) = generation.checked_sub(1).filter(|before| *before > 0) {
        objects.push(pod(before, "Succeeded"));
    }
    objects
}

pub struct Cluster {
    pub api: Arc<KubernetesApi>,
    pub registry: OpenshiftRegistry,
    pub scene: Scene,
    /// What goes from the storage: a blob that nothing names, and what is left of a stream that is gone.
    pub garbage: Vec<String>,
}

impl Cluster {
    /// A registry with a stream of six revisions, and garbage in its storage.
    pub fn start(faults: Vec<RegistryFault>) -> Result<Self> {
        let case = Case::load("history")?;
        let orphan = digest_of(b"nothing names it");
        let hex = orphan.trim_start_matches("sha256:");
        let mut files = case.storage()?;
        let garbage = [
            (
                format!("blobs/sha256/{}/{hex}/data", &hex[..2]),
                "nothing names it",
            ),
            (
                format!("repositories/ns/gone/_manifests/revisions/sha256/{hex}/link"),
                &*orphan,
            ),
        ];
        files.extend(
            garbage
                .iter()
                .map(|(path, text)| (path.clone(), (*text).to_owned())),
        );

        let api = Arc::new(KubernetesApi::start(Vec::new())?);
        let registry = OpenshiftRegistry::start(files.clone(), &api, faults)?;
        for object in case.objects(&Scenery::ago(&registry.host(), AGO))? {
            api.put(object)?;
        }
        for object in rolled_out(1, false) {
            api.put(object)?;
        }
        let operator = "imageregistry.operator.openshift.io/v1";
        api.put(json!({
            "apiVersion": operator, "kind": "Config", "metadata": {"name": "cluster"},
            "spec": {"managementState": "Managed", "replicas": 1},
        }))?;
        api.put(json!({
            "apiVersion": operator, "kind": "ImagePruner", "metadata": {"name": "cluster"},
            "spec": {"schedule": "", "suspend": false},
        }))?;
        let (generations, is_read_only) = (AtomicU64::new(1), AtomicU64::new(0));
        api.controller(move |written| {
            match written["kind"].as_str() {
                Some("Config") => {
                    is_read_only.store(u64::from(written["spec"]["readOnly"] == true), Ordering::SeqCst)
                }
                Some("Deployment") => {}
                _ => return Vec::new(),
            }
            let generation = generations.fetch_add(1, Ordering::SeqCst) + 1;
            rolled_out(generation, is_read_only.load(Ordering::SeqCst) == 1)
        });

        let scene = Scene::on_folder(&Shape::small(1))?;
        let storage = scene.storage();
        for key in storage.keys()?.into_keys() {
            storage.remove(&key)?;
        }
        for (path, text) in files.iter().filter(|(path, _)| !path.ends_with('/')) {
            storage.put(&format!("{ROOT}{path}"), text.as_bytes(), SystemTime::now() - OLD)?;
        }
        let config = api.kubeconfig(scene.folder())?;
        let scene = scene.with("KUBECONFIG", config.to_str().context("a plain name")?);
        Ok(Self {
            api,
            registry,
            scene,
            garbage: garbage.map(|(path, _)| format!("{ROOT}{path}")).to_vec(),
        })
    }

    /// The arguments of a step, as they stand in the Job. The certificate of the pod's account is not on this machine, and the registry
    /// of the tests speaks http on the loopback.
    pub fn arguments(&self, step: &str) -> Result<Vec<String>> {
        let storage = self.scene.store_names().remove(0);
        let mut steps = maintenance_steps(&storage)?.into_iter();
        let (_, mut arguments) = steps.find(|(name, _)| name == step).context("no such step")?;
        arguments.retain(|argument| argument != SERVICE_CA);
        // A pod has a `/tmp` of its own, and so has each of these clusters.
        let pod = format!("={}/pod/", self.scene.folder().display());
        Ok(arguments
            .iter()
            .map(|argument| argument.replace("=/tmp/", &pod))
            .collect())
    }

    /// Runs a step to its end.
    pub fn run(&self, step: &str) -> Result<Finished> {
        let arguments = self.arguments(step)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let finished = self.scene.program.run(&arguments)?;
        if step == "images" {
            self.follow_registry()?;
        }
        Ok(finished)
    }

    /// Runs a pod: its steps one after another, until one fails.
    pub fn run_pod(&self) -> Result<Vec<(String, Finished)>> {
        let mut all = Vec::new();
        for (step, _) in maintenance_steps("")? {
            let finished = self.run(&step)?;
            let status = finished.status;
            all.push((step, finished));
            if status != 0 {
                break;
            }
        }
        Ok(all)
    }

    /// The registry of the tests has its files in memory: what it removed goes from the folder.
    pub fn follow_registry(&self) -> Result<()> {
        let files: BTreeMap<_, _> = self.registry.files();
        let storage = self.scene.storage();
        for key in storage.keys()?.into_keys() {
            let path = key.strip_prefix(ROOT);
            if path.is_some_and(|path| !files.contains_key(path)) {
                storage.remove(&key)?;
            }
        }
        Ok(())
    }

    /// Writes the link of a manifest into a repository, as a push did long ago.
    pub fn push(&self, repository: &str, digest: &str) -> Result<()> {
        self.scene.storage().put(
            &revision_link_key(repository, digest),
            digest.as_bytes(),
            SystemTime::now() - OLD,
        )
    }

    fn operator(&self, kind: &str) -> Result<Value> {
        let mut objects = self.api.objects();
        objects
            .remove(&format!("{kind}/cluster"))
            .with_context(|| format!("no {kind}"))
    }

    /// Whether the operator's own pruning is suspended, and whether the registry is read-only.
    pub fn state(&self) -> Result<(bool, bool)> {
        let suspended = &self.operator("ImagePruner")?["spec"]["suspend"];
        let read_only = &self.operator("Config")?["spec"]["readOnly"];
        Ok((*suspended == true, *read_only == true))
    }

    /// Fails where not all is as it was before the procedure.
    pub fn ensure_put_back(&self) -> Result<()> {
        let specs = json!([
            self.operator("ImagePruner")?["spec"],
            self.operator("Config")?["spec"]
        ]);
        let expected = json!([
            {"schedule": "", "suspend": false}, {"managementState": "Managed", "replicas": 1},
        ]);
        ensure!(specs == expected, "{specs}");
        for kind in ["ImagePruner", "Config"] {
            let annotations = &self.operator(kind)?["metadata"]["annotations"];
            ensure!(!annotations.to_string().contains("hardprune"), "{annotations}");
        }
        ensure!(self.scene.storage().get(RECORD)?.is_none(), "the record is left");
        Ok(())
    }

    /// The images that the stream's tag names.
    pub fn tagged(&self) -> Result<Vec<String>> {
        let objects = self.api.objects();
        let stream = objects.get("ImageStream/ns/is").context("no stream")?;
        let items = stream["status"]["tags"][0]["items"]
            .as_array()
            .context("no items")?;
        Ok(items
            .iter()
            .filter_map(|item| Some(item["image"].as_str()?.to_owned()))
            .collect())
    }
}
