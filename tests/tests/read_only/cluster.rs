//! A Kubernetes API server that a test scripts: one workload with its pods, and OpenShift's configuration of its registry.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hardprune_tests::scene::Scene;
use hardprune_tests::scripted_http::{Asked, Reply, ScriptedHttp};
use serde_json::{Value, json};

pub const VARIABLE: &str = "REGISTRY_STORAGE_MAINTENANCE_READONLY";
const CONFIG: &str = "/apis/imageregistry.operator.openshift.io/v1/configs/cluster";
const REPLICAS: usize = 2;
/// Looks at a rollout until it has ended, and until its old pods are gone.
const ROLLED_OUT: usize = 3;
const OLD_PODS_GONE: usize = 6;

/// What the cluster does that it should not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// So many updates meet somebody else's.
    pub conflicts: u32,
    /// A rollout to read-only mode never ends.
    pub never_rolls_out: bool,
    /// An old pod stays.
    pub old_pod_stays: bool,
    /// This may not be done: a method, and what the path ends with.
    pub forbidden: Option<(&'static str, &'static str)>,
}

pub struct State {
    /// The workload, without its status.
    pub workload: Value,
    pub config: Value,
    path: String,
    /// The generation and the containers of the pods before the changes that are not rolled out yet.
    before: (u64, Value),
    /// Looks since the last change.
    looks: usize,
    version: u64,
    pub faults: Faults,
}

pub struct Cluster {
    pub server: ScriptedHttp,
    state: Arc<Mutex<State>>,
    /// How its workload is named for `--read-only-via`.
    pub target: String,
}

impl Cluster {
    /// A cluster with a registry in a workload of this kind, with these containers.
    pub fn with(kind: &str, containers: &Value) -> Self {
        let (group, kind_name, plural) = match kind {
            "statefulset" => ("apps", "StatefulSet", "statefulsets"),
            "deploymentconfig" => ("apps.openshift.io", "DeploymentConfig", "deploymentconfigs"),
            _ => ("apps", "Deployment", "deployments"),
        };
        let (namespace, name) = match kind {
            "openshift-operator" => ("openshift-image-registry", "image-registry"),
            _ => ("shop", "registry"),
        };
        let selector = match kind {
            "deploymentconfig" => json!({"app": "registry"}),
            _ => json!({"matchLabels": {"app": "registry"}}),
        };
        let workload = json!({
            "apiVersion": format!("{group}/v1"), "kind": kind_name,
            "metadata": {"name": name, "namespace": namespace, "generation": 1, "resourceVersion": "1"},
            "spec": {"replicas": REPLICAS, "selector": selector, "template": {"spec": {"containers": containers}}},
        });
        let config = json!({
            "apiVersion": "imageregistry.operator.openshift.io/v1", "kind": "Config",
            "metadata": {"name": "cluster", "generation": 1, "resourceVersion": "1"},
            "spec": {"managementState": "Managed", "replicas": REPLICAS},
        });
        let state = Arc::new(Mutex::new(State {
            before: (0, Value::Null),
            workload,
            config,
            path: format!("/apis/{group}/v1/namespaces/{namespace}/{plural}/{name}"),
            looks: OLD_PODS_GONE,
            version: 1,
            faults: Faults::default(),
        }));
        let serving = Arc::clone(&state);
        let server = ScriptedHttp::start(move |asked| lock(&serving).answer(asked)).unwrap();
        let target = match kind {
            "openshift-operator" => kind.to_owned(),
            kind => format!("kubernetes://{namespace}/{kind}/{name}"),
        };
        Self {
            server,
            state,
            target,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A registry's workload without anything else.
    pub fn of(kind: &str) -> Self {
        Self::with(
            kind,
            &json!([{"name": "registry", "image": "registry:2", "env": [{"name": "A", "value": "b"}]}]),
        )
    }

    /// The scene's program finds this cluster.
    pub fn found_by(&self, scene: Scene) -> Scene {
        let path: PathBuf = scene.folder().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.server.url()}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {}}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        scene.with("KUBECONFIG", path.to_str().unwrap())
    }

    /// The objects that updates wrote, in their order.
    pub fn updates(&self) -> Vec<Value> {
        let asked = self
            .server
            .asked()
            .into_iter()
            .filter(|asked| asked.method == "PUT");
        asked
            .map(|asked| serde_json::from_slice(&asked.body).unwrap())
            .collect()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::new(status, &[("Content-Type", "application/json")], body.to_string())
}

fn failure(code: u16, reason: &str, message: &str) -> Reply {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    json_reply(code, &status)
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let path = asked.path.split('?').next().unwrap_or_default().to_owned();
        if let Some((method, end)) = self.faults.forbidden
            && asked.method == method
            && path.ends_with(end)
        {
            return failure(
                403,
                "Forbidden",
                &format!("{end} is forbidden: User \"pruner\" cannot do that"),
            );
        }
        match asked.method.as_str() {
            "GET" if path == self.path => {
                self.looks += 1;
                let mut workload = self.workload.clone();
                workload["status"] = self.status();
                json_reply(200, &workload)
            }
            "GET" if path == CONFIG => json_reply(200, &self.config),
            "GET" if path.ends_with("/pods") => {
                self.looks += 1;
                assert!(
                    asked.path.contains("labelSelector=app%3Dregistry"),
                    "{}",
                    asked.path
                );
                json_reply(
                    200,
                    &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.pods()}),
                )
            }
            "PUT" if path == self.path => self.update(asked, false),
            "PUT" if path == CONFIG => self.update(asked, true),
            _ => failure(404, "NotFound", &format!("{path} not found")),
        }
    }

    fn update(&mut self, asked: &Asked, is_config: bool) -> Reply {
        let mut new: Value = serde_json::from_slice(&asked.body).unwrap();
        let object = if is_config {
            &mut self.config
        } else {
            &mut self.workload
        };
        self.version += 1;
        if self.faults.conflicts > 0 {
            self.faults.conflicts -= 1;
            object["metadata"]["annotations"]["somebody/else"] = self.version.to_string().into();
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
        }
        if new["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return failure(409, "Conflict", "the object has been modified");
        }
        new["metadata"]["resourceVersion"] = self.version.to_string().into();
        if new["spec"] != object["spec"] {
            let generation = object["metadata"]["generation"].as_u64().unwrap();
            new["metadata"]["generation"] = (generation + 1).into();
            if self.is_rolled_out() {
                let containers = &self.workload["spec"]["template"]["spec"]["containers"];
                let generation = self.workload["metadata"]["generation"].as_u64().unwrap();
                self.before = (generation, containers.clone());
            }
            self.looks = 0;
        }
        if is_config {
            self.config = new;
            self.operate();
            return json_reply(200, &self.config);
        }
        self.workload = new;
        json_reply(200, &self.workload)
    }

    /// What OpenShift's operator makes of its configuration.
    fn operate(&mut self) {
        let variables = match self.config["spec"]["readOnly"].as_bool() {
            Some(true) => json!([{"name": VARIABLE, "value": "{enabled: true}"}]),
            _ => json!([]),
        };
        self.workload["spec"]["template"]["spec"]["containers"][0]["env"] = variables;
        let generation = self.workload["metadata"]["generation"].as_u64().unwrap();
        self.workload["metadata"]["generation"] = (generation + 1).into();
    }

    /// Whether the pods that are there now were all made after the last change.
    pub fn is_rolled_out(&self) -> bool {
        self.looks >= OLD_PODS_GONE
    }

    fn is_read_only(&self) -> bool {
        self.workload["spec"]["template"].to_string().contains("true")
    }

    fn status(&self) -> Value {
        let generation = self.workload["metadata"]["generation"].as_u64().unwrap();
        if self.looks == 1 {
            return json!({"observedGeneration": generation - 1, "updatedReplicas": 2, "replicas": 2, "readyReplicas": 2});
        }
        if self.looks < ROLLED_OUT || self.faults.never_rolls_out && self.is_read_only() {
            return json!({"observedGeneration": generation, "updatedReplicas": 1, "replicas": 3, "readyReplicas": 2});
        }
        json!({"observedGeneration": generation, "updatedReplicas": 2, "replicas": 2, "readyReplicas": 2})
    }

    /// The pods that are there.
    pub fn pods(&self) -> Vec<Value> {
        let generation = self.workload["metadata"]["generation"].as_u64().unwrap();
        let pod = |name: &str, generation: u64, containers: &Value| {
            let uid = format!("{generation}-{}", name.rsplit('-').next().unwrap());
            json!({
                "metadata": {"name": name, "uid": uid, "labels": {"app": "registry"}},
                "spec": {"containers": containers}, "status": {"phase": "Running"},
            })
        };
        let containers = &self.workload["spec"]["template"]["spec"]["containers"];
        let mut pods = vec![
            pod("registry-new-1", generation, containers),
            pod("registry-new-2", generation, containers),
        ];
        if self.looks < OLD_PODS_GONE || self.faults.old_pod_stays {
            pods.push(pod("registry-old-1", self.before.0, &self.before.1));
        }
        pods
    }
}
