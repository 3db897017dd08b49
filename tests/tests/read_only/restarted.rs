//! `--cache restart`: once the last delete has ended, every process of the registry is replaced, and its cache with it.

use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::scene::{KILLED, Running, Scene};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Faults, VARIABLE};
use crate::scripted::delete;

const RECORD: &str = "hardprune/read-only.json";

fn scene(cluster: &Cluster) -> Scene {
    cluster.found_by(Scene::on_folder(&Shape::small(33)).unwrap())
}

/// When each update asked for a restart, in their order.
fn restarts(cluster: &Cluster) -> Vec<Value> {
    let of = |update: &Value| {
        let annotations = &update["spec"]["template"]["metadata"]["annotations"];
        annotations["kubectl.kubernetes.io/restartedAt"].clone()
    };
    cluster.updates().iter().map(of).collect()
}

/// Holds a delete between its last delete and its end.
fn swept(scene: &Scene, others: &[&str]) -> Running {
    let mut arguments = delete(scene, &["--cache", "restart"]);
    arguments.extend(others);
    let running = scene.hold_at("after-sweep", 0, &arguments).unwrap();
    let gone = scene.difference().unwrap().removed;
    assert!(gone.keys().any(|key| key.ends_with("/data")), "nothing went yet");
    running
}

fn ends(running: Running, status: i32) -> Finished {
    running.release().unwrap();
    let finished = running.finish().unwrap();
    assert_eq!(finished.status, status, "{finished:?}");
    assert!(
        !finished.stderr.contains("Clear the registry's cache"),
        "{finished:?}"
    );
    finished
}

fn goes_with_the_switch(kind: &str, updates: usize) {
    let cluster = Cluster::of(kind);
    let scene = scene(&cluster);
    let running = swept(&scene, &["--read-only-via", &cluster.target]);
    assert_eq!(restarts(&cluster), [Value::Null], "it is too early for a restart");
    ends(running, 0);
    let restarts = restarts(&cluster);
    assert_eq!(restarts.len(), 1 + updates, "{restarts:?}");
    assert!(restarts[1].is_string(), "{restarts:?}");
    let state = cluster.state();
    assert!(state.is_rolled_out(), "its old pods were not waited for");
    let container = &state.workload["spec"]["template"]["spec"]["containers"][0];
    assert!(!container.to_string().contains(VARIABLE), "{container}");
    assert_ne!(state.config["spec"]["readOnly"], true);
    assert_eq!(scene.storage().get(RECORD).unwrap(), None);
}

#[test]
fn a_deployment() {
    goes_with_the_switch("deployment", 1);
}

#[test]
fn a_stateful_set() {
    goes_with_the_switch("statefulset", 1);
}

#[test]
fn a_deployment_config() {
    goes_with_the_switch("deploymentconfig", 1);
}

/// Two objects: the operator's configuration, and the Deployment that it would leave as it is if it was read-only before.
#[test]
fn openshifts_operator() {
    goes_with_the_switch("openshift-operator", 2);
}

/// Switching back changes nothing then, and would restart nothing.
#[test]
fn what_was_read_only_before_is_restarted_all_the_same() {
    let variable = json!({"name": VARIABLE, "value": "{\"enabled\":true}"});
    let cluster = Cluster::with("deployment", &json!([{"name": "registry", "env": [variable]}]));
    let scene = scene(&cluster);
    ends(swept(&scene, &["--read-only-via", &cluster.target]), 0);
    assert!(restarts(&cluster)[1].is_string());
    let state = cluster.state();
    assert!(state.is_rolled_out(), "its old pods were not waited for");
    let container = &state.workload["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"], json!([variable]));
}

/// Read-only mode is somebody else's matter: what is restarted is said.
#[test]
fn what_is_named_for_it() {
    for read_only in [
        &["--assume-read-only"][..],
        &["--read-only-command", "true", "--read-write-command", "true"],
    ] {
        let cluster = Cluster::of("deployment");
        let before = cluster.state().workload.clone();
        let scene = scene(&cluster);
        let others = [read_only, &["--restart-via", &cluster.target]].concat();
        let running = swept(&scene, &others);
        assert!(restarts(&cluster).is_empty(), "it is too early for a restart");
        ends(running, 0);
        assert_eq!(restarts(&cluster).len(), 1);
        let state = cluster.state();
        assert!(state.is_rolled_out(), "its old pods were not waited for");
        let (now, before) = (
            &state.workload["spec"]["template"]["spec"],
            &before["spec"]["template"]["spec"],
        );
        assert_eq!(now, before, "a restart changed more than it had to");
    }
}

/// A pod that remembers what is gone is left: the registry counts as read-only until it is not.
#[test]
fn a_restart_that_does_not_end_is_said_and_done_by_read_write() {
    let cluster = Cluster::of("deployment");
    let scene = scene(&cluster);
    let others = ["--read-only-via", &cluster.target, "--read-only-timeout", "1s"];
    let running = swept(&scene, &others);
    cluster.state().faults = Faults {
        old_pod_stays: true,
        ..Faults::default()
    };
    let finished = ends(running, 5);
    for part in [
        "registry-old-1",
        "pods of before",
        "hardprune read-write",
        "--cache restart",
    ] {
        assert!(finished.stderr.contains(part), "{part}: {finished:?}");
    }
    assert!(scene.storage().get(RECORD).unwrap().is_some());

    cluster.state().faults = Faults::default();
    read_write(&scene, &cluster);
}

#[test]
fn after_a_crash_read_write_restarts() {
    for failpoint in ["after-sweep", "before-read-write"] {
        let cluster = Cluster::of("statefulset");
        let scene = scene(&cluster);
        let others = ["--cache", "restart", "--read-only-via", &cluster.target];
        let killed = scene
            .run_with(&format!("{failpoint}=return"), &delete(&scene, &others))
            .unwrap();
        assert_eq!(killed.status, KILLED, "{killed:?}");
        assert_eq!(restarts(&cluster), [Value::Null]);
        read_write(&scene, &cluster);
    }
}

fn read_write(scene: &Scene, cluster: &Cluster) {
    let before = restarts(cluster).len();
    let name = scene.store_names().remove(0);
    let arguments = [
        "read-write",
        &name,
        "--cache",
        "restart",
        "--rollout-pause",
        "20ms",
    ];
    let back = scene.program.run(&arguments).unwrap();
    assert_eq!(back.status, 0, "{back:?}");
    assert!(restarts(cluster)[before].is_string());
    assert!(
        cluster.state().is_rolled_out(),
        "its old pods were not waited for"
    );
    assert_eq!(scene.storage().get(RECORD).unwrap(), None);
}

#[test]
fn where_nothing_was_deleted_nothing_is_restarted() {
    let cluster = Cluster::of("deployment");
    let scene = scene(&cluster);
    let others = ["--cache", "restart", "--max-delete-blobs", "0"];
    let arguments = delete(
        &scene,
        &[&others[..], &["--read-only-via", &cluster.target]].concat(),
    );
    let finished = scene.program.run(&arguments).unwrap();
    assert_eq!(finished.status, 3, "{finished:?}");
    assert_eq!(restarts(&cluster), [Value::Null, Value::Null]);
}

#[test]
fn a_restart_of_nobody_knows_what_is_refused() {
    let cluster = Cluster::of("deployment");
    let scene = scene(&cluster);
    for (others, part) in [
        (&["--cache", "restart"][..], "--restart-via kubernetes://"),
        (&["--restart-via", &cluster.target], "goes with --cache restart"),
        (
            &["--cache", "restart", "--restart-via", "kubernetes://a/pod/b"],
            "kubernetes://NAMESPACE/deployment/NAME",
        ),
    ] {
        let mut arguments = delete(&scene, others);
        arguments.push("--assume-read-only");
        let finished = scene.program.run(&arguments).unwrap();
        assert_eq!(finished.status, 2, "{finished:?}");
        assert!(finished.stderr.contains(part), "{finished:?}");
    }
    assert!(cluster.server.asked().is_empty());
}
