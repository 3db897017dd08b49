//! A registry in a cluster is switched and put back, against a scripted API server.

use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::scene::{KILLED, Scene};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Faults, VARIABLE};
use crate::scripted::{delete, refused};

const ANNOTATION: &str = "hardprune.io/read-only";
const RECORD: &str = "hardprune/read-only.json";

fn scene(cluster: &Cluster) -> Scene {
    cluster.found_by(Scene::on_folder(&Shape::small(28)).unwrap())
}

fn run(scene: &Scene, cluster: &Cluster, others: &[&str]) -> Finished {
    let arguments = delete(scene, &[&["--read-only-via", &cluster.target], others].concat());
    scene.program.run(&arguments).unwrap()
}

/// Where nothing was switched, or all was put back.
fn is_as_before(scene: &Scene, now: &Value, before: &Value) {
    assert_eq!(now["spec"], before["spec"]);
    assert!(now["metadata"]["annotations"][ANNOTATION].is_null(), "{now}");
    assert_eq!(scene.storage().get(RECORD).unwrap(), None);
}

fn switched_and_put_back(kind: &str) {
    let cluster = Cluster::of(kind);
    let before = cluster.state().workload.clone();
    let scene = scene(&cluster);
    let finished = run(&scene, &cluster, &[]);
    assert_eq!(finished.status, 0, "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (&report["read_only"], &report["read_only_by"]),
        (&json!("managed"), &json!([cluster.target]))
    );
    scene.check_finished(&report, &scene.orphans()).unwrap();
    let updates = cluster.updates();
    assert_eq!(updates.len(), 2, "{updates:?}");
    let variables = &updates[0]["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(
        *variables,
        json!([{"name": "A", "value": "b"}, {"name": VARIABLE, "value": "{\"enabled\":true}"}])
    );
    is_as_before(&scene, &cluster.state().workload, &before);
}

#[test]
fn a_deployment() {
    switched_and_put_back("deployment");
}

#[test]
fn a_stateful_set() {
    switched_and_put_back("statefulset");
}

#[test]
fn a_deployment_config() {
    switched_and_put_back("deploymentconfig");
}

#[test]
fn openshifts_operator() {
    let cluster = Cluster::of("openshift-operator");
    let before = cluster.state().config.clone();
    let scene = scene(&cluster);
    let finished = run(&scene, &cluster, &[]);
    assert_eq!(finished.status, 0, "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["read_only_by"], json!(["openshift-operator"]));
    assert_eq!(cluster.updates()[0]["spec"]["readOnly"], true);
    is_as_before(&scene, &cluster.state().config, &before);
}

#[test]
fn a_conflict_is_read_again_and_what_others_wrote_stays() {
    let cluster = Cluster::of("deployment");
    let before = cluster.state().workload.clone();
    cluster.state().faults = Faults {
        conflicts: 3,
        ..Faults::default()
    };
    let scene = scene(&cluster);
    let finished = run(&scene, &cluster, &[]);
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(cluster.updates().len(), 5);
    let now = cluster.state().workload.clone();
    assert_eq!(now["metadata"]["annotations"]["somebody/else"], "4");
    is_as_before(&scene, &now, &before);
}

#[test]
fn conflicts_without_end_change_nothing() {
    let cluster = Cluster::of("deployment");
    let before = cluster.state().workload.clone();
    cluster.state().faults = Faults {
        // The first switch gives in; that there is nothing to put back needs no update.
        conflicts: 8,
        ..Faults::default()
    };
    let scene = scene(&cluster);
    refused(
        &scene,
        &run(&scene, &cluster, &[]),
        &["conflicts", &cluster.target],
    )
    .unwrap();
    is_as_before(&scene, &cluster.state().workload, &before);
}

#[test]
fn a_rollout_that_never_ends_is_put_back() {
    let cluster = Cluster::of("deployment");
    let before = cluster.state().workload.clone();
    cluster.state().faults = Faults {
        never_rolls_out: true,
        ..Faults::default()
    };
    let scene = scene(&cluster);
    let finished = run(&scene, &cluster, &["--read-only-timeout", "1s"]);
    refused(
        &scene,
        &finished,
        &["rollout has not ended", "--read-only-timeout", "of 2 replicas 1"],
    )
    .unwrap();
    is_as_before(&scene, &cluster.state().workload, &before);
}

/// A pod that is about to end may still be writing.
#[test]
fn a_pod_of_before_that_stays_is_named() {
    let cluster = Cluster::of("deployment");
    let before = cluster.state().workload.clone();
    cluster.state().faults = Faults {
        old_pod_stays: true,
        ..Faults::default()
    };
    let scene = scene(&cluster);
    let finished = run(&scene, &cluster, &["--read-only-timeout", "1s"]);
    refused(&scene, &finished, &["registry-old-1", "without read-only mode"]).unwrap();
    is_as_before(&scene, &cluster.state().workload, &before);
}

#[test]
fn a_missing_permission_is_named_with_what_it_takes() {
    for (forbidden, parts) in [
        (
            ("GET", "deployments/registry"),
            ["get deployments.apps \"registry\"", "`get` and `update`"],
        ),
        (
            ("PUT", "deployments/registry"),
            ["update deployments.apps \"registry\"", "`get` and `update`"],
        ),
        (("GET", "pods"), ["list pods in namespace shop", "`list` on pods"]),
    ] {
        let cluster = Cluster::of("deployment");
        let before = cluster.state().workload.clone();
        cluster.state().faults = Faults {
            forbidden: Some(forbidden),
            ..Faults::default()
        };
        let scene = scene(&cluster);
        let finished = run(&scene, &cluster, &[]);
        refused(&scene, &finished, &parts).unwrap();
        refused(&scene, &finished, &["permission is missing", "registry-role"]).unwrap();
        // Who may not even read it cannot know that there is nothing to put back, and says so.
        if forbidden.0 == "PUT" || forbidden.1 == "pods" {
            is_as_before(&scene, &cluster.state().workload, &before);
        }
    }
}

#[test]
fn a_crash_is_undone_by_read_write() {
    for (failpoint, kind) in [
        ("read-only-noted", "deployment"),
        ("read-only-switched", "deployment"),
        ("after-mark", "statefulset"),
        ("before-read-write", "openshift-operator"),
        ("read-write-switched", "deployment"),
    ] {
        let cluster = Cluster::of(kind);
        let workload = cluster.state().workload.clone();
        let config = cluster.state().config.clone();
        let scene = scene(&cluster);
        let arguments = delete(&scene, &["--read-only-via", &cluster.target]);
        let killed = scene
            .run_with(&format!("{failpoint}=return"), &arguments)
            .unwrap();
        assert_eq!(killed.status, KILLED, "{killed:?}");
        let record = scene.storage().get(RECORD).unwrap().unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["by"], *cluster.target);
        let name = scene.store_names().remove(0);
        let back = scene
            .program
            .run(&["read-write", &name, "--rollout-pause", "20ms"])
            .unwrap();
        assert_eq!(back.status, 0, "{failpoint}: {back:?}");
        is_as_before(&scene, &cluster.state().config, &config);
        if kind != "openshift-operator" {
            is_as_before(&scene, &cluster.state().workload, &workload);
        }
    }
}

#[test]
fn the_registry_among_several_containers_is_named() {
    let containers = json!([{"name": "one", "image": "x/one:1"}, {"name": "two", "image": "x/two:1"}]);
    let cluster = Cluster::with("deployment", &containers);
    let before = cluster.state().workload.clone();
    let scene = scene(&cluster);
    refused(
        &scene,
        &run(&scene, &cluster, &[]),
        &["--read-only-container", "one, two"],
    )
    .unwrap();
    is_as_before(&scene, &cluster.state().workload, &before);
    let finished = run(&scene, &cluster, &["--read-only-container", "two"]);
    assert_eq!(finished.status, 0, "{finished:?}");
    let containers = &cluster.updates()[0]["spec"]["template"]["spec"]["containers"];
    assert!(
        containers[0]["env"].is_null() && containers[1]["env"].is_array(),
        "{containers}"
    );
    is_as_before(&scene, &cluster.state().workload, &before);
}

#[test]
fn a_signal_in_a_rollout_puts_back() {
    let cluster = Cluster::of("deployment");
    let before = cluster.state().workload.clone();
    cluster.state().faults = Faults {
        never_rolls_out: true,
        ..Faults::default()
    };
    let scene = scene(&cluster);
    let arguments = delete(&scene, &["--read-only-via", &cluster.target]);
    let child = scene.start_with("", &arguments).unwrap();
    let hold = scene.folder().join("hold");
    let mut running = hardprune_tests::scene::Running::of(child, hold).unwrap();
    running
        .wait_until("it is switched", |_| Ok(!cluster.updates().is_empty()))
        .unwrap();
    running.signal("TERM").unwrap();
    let finished = running.finish().unwrap();
    assert_eq!(finished.status, 1, "{finished:?}");
    is_as_before(&scene, &cluster.state().workload, &before);
}

#[test]
fn no_cluster() {
    let scene = Scene::on_folder(&Shape::small(28)).unwrap();
    let others = ["--read-only-via", "kubernetes://a/deployment/b"];
    let finished = scene.program.run(&delete(&scene, &others)).unwrap();
    refused(&scene, &finished, &["no cluster can be reached", "KUBECONFIG"]).unwrap();
}
