//! What `hardprune images` lists: in pages, what may be missing, and of old clusters.

use anyhow::Result;
use hardprune_tests::kubernetes_api::{Effect, Fault};
use serde_json::json;

use crate::images_scene::{Scene, refused};

#[test]
fn lists_come_in_pages_and_begin_again_when_one_expires() -> Result<()> {
    let scene = Scene::history()?;
    for number in 0..1200 {
        let name = format!("sha256:{number:064x}");
        let image = json!({
            "apiVersion": "image.openshift.io/v1", "kind": "Image", "dockerImageMetadata": {},
            "metadata": {"name": name, "creationTimestamp": "2020-01-01T00:00:00Z"},
        });
        scene.api.put(image)?;
    }
    for times in [1, 2, 60] {
        scene
            .api
            .fault(Fault::on("GET", "/images\\?.*continue=", Effect::ExpirePages).times(times));
        let finished = scene.run(&[])?;
        assert_eq!(finished.status, 0, "{finished:?}");
        assert!(
            finished.stdout.contains("deleted 1203 image object(s)"),
            "{finished:?}"
        );
    }
    let pages = scene.api.requests();
    let first = pages
        .iter()
        .filter(|asked| asked.path.contains("/images?"))
        .count();
    assert!(first > 3 * 3, "{first}");
    Ok(())
}

#[test]
fn lists_that_may_be_missing_and_lists_that_may_not() -> Result<()> {
    let scene = Scene::history()?;
    for kind in ["builds", "buildconfigs", "deploymentconfigs"] {
        scene
            .api
            .fault(Fault::on("GET", &format!("/v1/{kind}"), refused("what?", 404)));
    }
    for kind in ["daemonsets", "deployments", "replicasets"] {
        scene.api.fault(Fault::on(
            "GET",
            &format!("/v1/{kind}"),
            refused("you may not", 403),
        ));
    }
    let finished = scene.run(&[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    let said = "Failed to list daemonsets: you may not\n - * Make sure to update clusterRoleBindings.";
    assert!(finished.stderr.contains(said), "{finished:?}");
    for (kind, status) in [
        ("pods", 403),
        ("jobs", 404),
        ("images", 403),
        ("imagestreams", 500),
        ("builds", 403),
    ] {
        let scene = Scene::history()?;
        let objects = scene.api.objects();
        scene.api.fault(Fault::on(
            "GET",
            &format!("/v1/{kind}"),
            refused("you may not", status),
        ));
        let finished = scene.prune(&[])?;
        assert_eq!(finished.status, 1, "{kind}: {finished:?}");
        assert!(
            finished.stderr.contains("): you may not\n"),
            "{kind}: {finished:?}"
        );
        assert_eq!(scene.api.objects(), objects);
        assert!(scene.registry.asked().is_empty());
    }
    Ok(())
}

/// OpenShift before 4.8 has cron jobs in their beta version only.
#[test]
fn cron_jobs_of_an_old_cluster_keep_what_they_use() -> Result<()> {
    let scene = Scene::history()?;
    let unknown = |version: &str| {
        let path = format!("/batch/{version}/cronjobs");
        Fault::on(
            "GET",
            &path,
            refused("could not find the requested resource", 404),
        )
    };
    scene.api.fault(unknown("v1"));
    let oldest = scene.tagged("ns/is")?["latest"].last().unwrap().clone();
    let image = format!("{}/ns/is@{oldest}", scene.registry.host());
    let pods = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
    scene.api.put(json!({
        "apiVersion": "batch/v1beta1", "kind": "CronJob", "metadata": {"namespace": "ns", "name": "nightly"},
        "spec": {"jobTemplate": {"spec": {"template": pods}}},
    }))?;
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(scene.tagged("ns/is")?["latest"].contains(&oldest));

    scene.api.fault(unknown("v1beta1"));
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 1, "{finished:?}");
    assert!(
        finished.stderr.contains("could not find the requested resource"),
        "{finished:?}"
    );
    Ok(())
}
