//! What stands between the recorded runs and a real cluster, tried on the in-memory API: nothing changes by it, only an empty
//! cluster is taken, and whatever becomes of a test, the cluster is empty again.

use anyhow::{Context, Result, ensure};
use hardprune_tests::cluster::Cluster;
use hardprune_tests::kubernetes_api::{Effect, Fault, KubernetesApi};
use hardprune_tests::openshift_fixtures::{Case, Scenery};
use hardprune_tests::real_cluster::RealCluster;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use crate::images_recorded::all_runs_on;

fn before(api: &KubernetesApi) -> Result<RealCluster> {
    let home = tempfile::tempdir()?;
    let kubeconfig = Kubeconfig::read_from(api.kubeconfig(home.path())?)?;
    RealCluster::of_nobody_else(kubeconfig)
}

fn objects(case: &str) -> Result<Vec<Value>> {
    Case::load(case)?.objects(&Scenery::now("registry.example:5000"))
}

#[test]
fn recorded_runs_behind_it() -> Result<()> {
    let api = KubernetesApi::start(Vec::new())?;
    all_runs_on(before(&api)?, "random-a")?;
    ensure!(api.objects().is_empty(), "left there: {:?}", api.objects().keys());
    Ok(())
}

#[test]
fn a_cluster_that_somebody_needs_is_refused() -> Result<()> {
    for mut object in objects("history")? {
        let kind = object["kind"].as_str().context("a kind")?.to_lowercase();
        object["metadata"]["annotations"] = json!({"somebody": "needs it"});
        let api = KubernetesApi::start(vec![object])?;
        let refused = before(&api).err().context("it was taken")?.to_string();
        assert_eq!(
            refused,
            format!("the cluster has {kind}s: it is not for tests, or one that was killed has left them")
        );
        assert_eq!((api.objects().len(), api.mutations().len()), (1, 0));
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}});
    let api = KubernetesApi::start(vec![namespace])?;
    let refused = before(&api)?.load(objects("history")?);
    let refused = format!("{:#}", refused.err().context("it was taken")?);
    assert!(refused.contains("not for tests"), "{refused}");
    assert!(refused.contains("already exists"), "{refused}");
    assert_eq!(api.objects().into_keys().collect::<Vec<_>>(), ["Namespace/ns"]);
    Ok(())
}

#[test]
fn what_was_made_goes_when_the_rest_fails() -> Result<()> {
    let api = KubernetesApi::start(Vec::new())?;
    let refusal = Effect::Status(403, "you may not".to_owned());
    api.fault(Fault::on("PUT", "/imagestreams/.*/status$", refusal));
    let cluster = before(&api)?;
    let refused = cluster.load(objects("history")?).err().context("it was taken")?;
    assert!(refused.to_string().contains("you may not"), "{refused}");
    assert!(api.objects().len() > 1);
    drop(cluster);
    assert!(api.objects().is_empty(), "left there: {:?}", api.objects().keys());
    Ok(())
}
