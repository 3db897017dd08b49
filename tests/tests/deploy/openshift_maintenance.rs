//! The maintenance procedure, with the very arguments of its Job: from its first step to its last, and after a kill in each.

use anyhow::{Result, ensure};
use hardprune_tests::docker_registry::{DockerRegistry, RegistryConfig};
use hardprune_tests::pull::Puller;
use serde_json::json;

use crate::openshift_cluster::{Cluster, NAMESPACE};

/// The procedure is over: it did what it is for, all is put back, and a real registry on the storage serves what is left.
fn ensure_done(cluster: &Cluster) -> Result<()> {
    cluster.ensure_put_back()?;
    let storage = cluster.scene.storage();
    for key in &cluster.garbage {
        ensure!(storage.get(key)?.is_none(), "{key} is left");
    }
    let tagged = cluster.tagged()?;
    ensure!(tagged.len() == 5, "five revisions are to stay: {tagged:?}");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let folder = cluster.scene.store_names().remove(0);
        let registry = DockerRegistry::start(RegistryConfig::filesystem(folder).read_only()).await?;
        let mut puller = Puller::new(&registry);
        for digest in &tagged {
            puller.digest("ns/is", digest).await?;
        }
        ensure!(
            puller.manifests.len() == 5 && puller.blobs.len() > 5,
            "{puller:?}"
        );
        Ok(())
    })
}

fn run_whole_pod(cluster: &Cluster) -> Result<()> {
    let steps = cluster.run_pod()?;
    let names: Vec<_> = steps.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["put-back", "images", "check", "delete"], "{steps:?}");
    for (name, finished) in &steps {
        ensure!(finished.status == 0, "{name}: {finished:?}");
    }
    Ok(())
}

#[test]
fn from_the_first_step_to_the_last() -> Result<()> {
    let cluster = Cluster::start(Vec::new())?;
    run_whole_pod(&cluster)?;
    ensure_done(&cluster)?;
    // Twice suspended and put back: for `images`, and for `delete`.
    let mutations = cluster.api.mutations();
    let of = |name: &str| {
        let of_it = mutations.iter().filter(|request| request.path.contains(name));
        of_it
            .map(|request| request.body["spec"].clone())
            .collect::<Vec<_>>()
    };
    let suspended: Vec<_> = of("/imagepruners/")
        .iter()
        .map(|spec| spec["suspend"].clone())
        .collect();
    assert_eq!(suspended, [true, false, true, false].map(|is| json!(is)));
    let read_only: Vec<_> = of("/configs/")
        .iter()
        .map(|spec| spec["readOnly"].clone())
        .collect();
    assert_eq!(read_only, [json!(true), json!(null)]);
    assert_eq!(of("/deployments/").len(), 1, "one restart");
    Ok(())
}

/// A kill in the midst leaves things as they were; the next pod puts them back with its first step, and goes on to the end.
fn killed_at(step: &str, failpoint: &str, left: (bool, bool)) -> Result<()> {
    let cluster = Cluster::start(Vec::new())?;
    for (before, _) in crate::openshift::maintenance_steps("")? {
        if before == step {
            break;
        }
        let finished = cluster.run(&before)?;
        ensure!(finished.status == 0, "{finished:?}");
    }
    let arguments = cluster.arguments(step)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    cluster.scene.hold_at(failpoint, 0, &arguments)?.kill()?;
    cluster.follow_registry()?;
    ensure!(cluster.state()? == left, "{failpoint}: {:?}", cluster.state());

    let put_back = cluster.run("put-back")?;
    ensure!(put_back.status == 0, "{put_back:?}");
    cluster.ensure_put_back()?;
    run_whole_pod(&cluster)?;
    ensure_done(&cluster)
}

#[test]
fn killed_while_images_are_pruned() -> Result<()> {
    killed_at("images", "image-pruner-suspended", (true, false))
}

#[test]
fn killed_when_the_registry_has_become_read_only() -> Result<()> {
    killed_at("delete", "read-only-switched", (true, true))
}

#[test]
fn killed_in_the_midst_of_deleting() -> Result<()> {
    killed_at("delete", "after-sweep", (true, true))
}

#[test]
fn killed_when_all_but_the_note_is_put_back() -> Result<()> {
    killed_at("delete", "read-write-switched", (false, false))
}

#[test]
fn a_step_that_fails_puts_back() -> Result<()> {
    let cluster = Cluster::start(Vec::new())?;
    let mut arguments = cluster.arguments("delete")?;
    // A guard refuses, with the registry read-only.
    arguments.push("--max-delete-blobs=0".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let finished = cluster.scene.program.run(&arguments)?;
    assert_eq!(finished.status, 3, "{finished:?}");
    assert_eq!(
        cluster.api.mutations().len(),
        4,
        "suspended, read-only, and both back"
    );
    cluster.ensure_put_back()
}

/// A suspended pruner begins nothing; a job that it had begun is waited for, and named.
#[test]
fn a_job_of_the_operators_that_runs_is_waited_for() -> Result<()> {
    let cluster = Cluster::start(Vec::new())?;
    let job = |status: serde_json::Value| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "image-pruner-1", "namespace": NAMESPACE, "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "CronJob", "name": "image-pruner", "uid": "u"},
            ]},
            "status": status,
        })
    };
    cluster.api.put(job(json!({"active": 1})))?;
    let mut arguments = cluster.arguments("delete")?;
    arguments.extend(["--read-only-timeout=1s", "--rollout-pause=20ms"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let finished = cluster.scene.program.run(&arguments)?;
    assert_eq!(finished.status, 3, "{finished:?}");
    assert!(finished.stderr.contains("image-pruner-1"), "{finished:?}");
    cluster.ensure_put_back()?;

    cluster.api.put(job(
        json!({"conditions": [{"type": "Complete", "status": "True"}]}),
    ))?;
    run_whole_pod(&cluster)?;
    ensure_done(&cluster)
}
