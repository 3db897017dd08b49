//! What holds of a cluster, whichever it is: of the scripted one always, and of a real one as well where `KUBECONFIG` and
//! `HARDPRUNE_TEST_KUBERNETES=1` are set. There `kubectl` must be at hand, and somebody who may make namespaces; the registry's image
//! is `HARDPRUNE_TEST_KUBERNETES_IMAGE`, else `registry:2`.

use std::env;
use std::process::{Command, Stdio};

use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{KILLED, Scene};
use serde_json::{Value, json};

use crate::cluster::{Cluster, VARIABLE};
use crate::scripted::delete;

const RECORD: &str = "hardprune/read-only.json";
const READ_ONLY: &str = "{\"enabled\":true}";

/// A cluster with a registry in a workload.
trait AnyCluster {
    /// How the workload is named for `--read-only-via`.
    fn target(&self) -> &str;
    /// The scene's program finds this cluster.
    fn found_by(&self, scene: Scene) -> Scene;
    /// The workload as it is now.
    fn workload(&self) -> Value;
    /// The pods that are there now: their uids, sorted.
    fn pods(&self) -> Vec<String>;
}

impl AnyCluster for Cluster {
    fn target(&self) -> &str {
        &self.target
    }

    fn found_by(&self, scene: Scene) -> Scene {
        Cluster::found_by(self, scene)
    }

    fn workload(&self) -> Value {
        self.state().workload.clone()
    }

    fn pods(&self) -> Vec<String> {
        uids(&json!({"items": self.state().pods()}))
    }
}

/// A namespace of a real cluster, removed with this value.
struct Real {
    namespace: String,
    kind: String,
    target: String,
}

impl Real {
    /// Makes a registry, and waits until it runs. `None` where no real cluster is to be used, or it has no such kind.
    fn of(kind: &str) -> Option<Self> {
        if env::var("HARDPRUNE_TEST_KUBERNETES").ok()? != "1" {
            return None;
        }
        assert!(
            env::var_os("KUBECONFIG").is_some(),
            "HARDPRUNE_TEST_KUBERNETES wants KUBECONFIG"
        );
        if kind == "deploymentconfig"
            && !kubectl(&["api-resources", "-o", "name"], None).contains("deploymentconfigs")
        {
            return None;
        }
        let namespace = format!("hardprune-test-{:016x}", rand::random::<u64>());
        kubectl(&["create", "namespace", &namespace], None);
        let real = Self {
            target: format!("kubernetes://{namespace}/{kind}/registry"),
            kind: kind.to_owned(),
            namespace,
        };
        real.kubectl(&["apply", "-f", "-"], Some(&real.manifest().to_string()));
        let of = format!("{kind}/registry");
        if kind == "deploymentconfig" {
            real.kubectl(&["wait", &of, "--for=condition=Available", "--timeout=5m"], None);
        } else {
            real.kubectl(&["rollout", "status", &of, "--timeout=5m"], None);
        }
        Some(real)
    }

    fn manifest(&self) -> Value {
        let image = env::var("HARDPRUNE_TEST_KUBERNETES_IMAGE").unwrap_or_else(|_| "registry:2".to_owned());
        let (version, kind) = match self.kind.as_str() {
            "statefulset" => ("apps/v1", "StatefulSet"),
            "deploymentconfig" => ("apps.openshift.io/v1", "DeploymentConfig"),
            _ => ("apps/v1", "Deployment"),
        };
        let labels = json!({"app": "registry"});
        let selector = match kind {
            "DeploymentConfig" => labels.clone(),
            _ => json!({"matchLabels": labels}),
        };
        let container = json!({"name": "registry", "image": image, "env": [{"name": "A", "value": "b"}]});
        let mut spec = json!({
            "replicas": 2, "selector": selector,
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        });
        if kind == "StatefulSet" {
            spec["serviceName"] = "registry".into();
            spec["podManagementPolicy"] = "Parallel".into();
        }
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "registry"}, "spec": spec})
    }

    fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> String {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat(), input)
    }
}

impl AnyCluster for Real {
    fn target(&self) -> &str {
        &self.target
    }

    fn found_by(&self, scene: Scene) -> Scene {
        scene.with("KUBECONFIG", &env::var("KUBECONFIG").unwrap())
    }

    fn workload(&self) -> Value {
        serde_json::from_str(&self.kubectl(&["get", &self.kind, "registry", "-o", "json"], None)).unwrap()
    }

    fn pods(&self) -> Vec<String> {
        let pods = self.kubectl(&["get", "pods", "--selector", "app=registry", "-o", "json"], None);
        uids(&serde_json::from_str(&pods).unwrap())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let arguments = ["delete", "namespace", &self.namespace, "--wait=false"];
        // What is left of a test that failed is seen by its name.
        let _ = Command::new("kubectl").args(arguments).status();
    }
}

fn kubectl(arguments: &[&str], input: Option<&str>) -> String {
    use std::io::Write;
    let mut command = Command::new("kubectl");
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .expect("kubectl is needed: install kubernetes-client");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "kubectl {arguments:?}: {}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

fn uids(pods: &Value) -> Vec<String> {
    let pods = pods["items"].as_array().unwrap();
    let mut uids: Vec<String> = pods
        .iter()
        .map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned())
        .collect();
    uids.sort();
    uids
}

/// Every cluster that is to be tried.
fn clusters(kind: &str) -> Vec<Box<dyn AnyCluster>> {
    let mut clusters: Vec<Box<dyn AnyCluster>> = vec![Box::new(Cluster::of(kind))];
    if let Some(real) = Real::of(kind) {
        clusters.push(Box::new(real));
    }
    clusters
}

/// The registry's containers, and what is noted of a switch on its workload.
fn containers(workload: &Value) -> (Value, Value) {
    let containers = &workload["spec"]["template"]["spec"]["containers"];
    let noted = &workload["metadata"]["annotations"]["hardprune.io/read-only"];
    (containers[0]["env"].clone(), noted.clone())
}

fn is_as_before(scene: &Scene, cluster: &dyn AnyCluster) {
    let expected = (json!([{"name": "A", "value": "b"}]), Value::Null);
    assert_eq!(containers(&cluster.workload()), expected);
    assert_eq!(scene.storage().get(RECORD).unwrap(), None);
}

fn is_read_only(cluster: &dyn AnyCluster) {
    let (variables, noted) = containers(&cluster.workload());
    let expected = json!([{"name": "A", "value": "b"}, {"name": VARIABLE, "value": READ_ONLY}]);
    assert_eq!(variables, expected);
    assert!(noted.is_string());
}

fn read_only_throughout(kind: &str) {
    for cluster in clusters(kind) {
        let scene = cluster.found_by(Scene::on_folder(&Shape::small(34)).unwrap());
        let arguments = delete(
            &scene,
            &["--cache", "restart", "--read-only-via", cluster.target()],
        );
        let running = scene.hold_at("after-sweep", 0, &arguments).unwrap();
        is_read_only(&*cluster);
        let swept = cluster.pods();
        running.release().unwrap();
        let finished = running.finish().unwrap();
        assert_eq!(finished.status, 0, "{finished:?}");
        is_as_before(&scene, &*cluster);
        let pods = cluster.pods();
        assert!(
            pods.len() == 2 && pods.iter().all(|pod| !swept.contains(pod)),
            "{swept:?} {pods:?}"
        );
        scene
            .check_finished(&serde_json::from_str(&finished.stdout).unwrap(), &scene.orphans())
            .unwrap();
    }
}

#[test]
fn a_deployment_is_read_only_until_all_is_swept_and_restarted_then() {
    read_only_throughout("deployment");
}

#[test]
fn a_stateful_set_is_read_only_until_all_is_swept_and_restarted_then() {
    read_only_throughout("statefulset");
}

#[test]
fn a_deployment_config_is_read_only_until_all_is_swept_and_restarted_then() {
    read_only_throughout("deploymentconfig");
}

#[test]
fn what_a_crash_left_read_only_is_put_back() {
    for cluster in clusters("deployment") {
        let scene = cluster.found_by(Scene::on_folder(&Shape::small(34)).unwrap());
        let arguments = delete(&scene, &["--read-only-via", cluster.target()]);
        let killed = scene.run_with("after-mark=return", &arguments).unwrap();
        assert_eq!(killed.status, KILLED, "{killed:?}");
        is_read_only(&*cluster);
        let name = scene.store_names().remove(0);
        let back = scene
            .program
            .run(&["read-write", &name, "--rollout-pause", "20ms"])
            .unwrap();
        assert_eq!(back.status, 0, "{back:?}");
        is_as_before(&scene, &*cluster);
    }
}
