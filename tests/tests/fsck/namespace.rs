//! `--namespace`: what is in it is judged as ever, and nothing else is looked at.

use std::collections::BTreeSet;

use hardprune_tests::scene::{Scene, report_of};
use hardprune_tests::storage_writer::{blob_key, revision_link_key};
use serde_json::{Value, json};

use crate::openshift::{ClusterScene, GHOST, SECOND, key, revision};
use crate::scene::{EVERYWHERE, Finding, On, findings, fsck, images, indexes, put, scene};

/// Neighbours of `team-0` in the order of keys, with and without a `/` before and behind it.
const NEIGHBOURS: [&str; 5] = ["team-", "team-0-b", "team-0.c/app", "team-00", "team-0x/app"];

fn of_namespace(scene: &Scene, namespace: &str, status: i32) -> Value {
    let name = scene.store_names().remove(0);
    let arguments = ["fsck", &name, "--output", "json", "--namespace", namespace];
    report_of(&scene.program.run(&arguments).unwrap(), status).unwrap()
}

fn namespace_of(finding: &Finding) -> &str {
    finding.0.split('/').next().unwrap()
}

/// Each namespace has of the whole registry's findings those that are its own, and each is in one.
#[test]
fn namespaces_together_are_the_registry() {
    for on in EVERYWHERE {
        let scene = scene(on, 61).unwrap();
        let missing = format!("sha256:{}", "7".repeat(64));
        for name in NEIGHBOURS {
            put(&scene, &revision_link_key(name, &missing), missing.as_bytes()).unwrap();
        }
        for image in images(&scene).unwrap().iter().step_by(3) {
            scene.storage().remove(&blob_key(image.layer())).unwrap();
        }
        let index = &indexes(&scene).unwrap()[0];
        let child = index.manifest["manifests"][0]["digest"].as_str().unwrap();
        scene.storage().remove(&blob_key(child)).unwrap();
        let whole = fsck(&scene, 6).unwrap();
        let all = findings(&whole);
        let mut seen = [0; 4];
        for namespace in ["team-0", "team-1", "team-3", "team-4", "team-6"]
            .iter()
            .chain(&NEIGHBOURS)
        {
            let namespace = namespace.split('/').next().unwrap();
            let expected: BTreeSet<Finding> = all
                .iter()
                .filter(|finding| namespace_of(finding) == namespace)
                .cloned()
                .collect();
            let status = if expected.is_empty() { 0 } else { 6 };
            let report = of_namespace(&scene, namespace, status);
            assert_eq!(findings(&report), expected, "{namespace} on {on:?}");
            assert_eq!(report["namespace"], *namespace);
            for (sum, field) in seen
                .iter_mut()
                .zip(["repositories", "tags", "revisions", "layer_links"])
            {
                *sum += report["seen"][field].as_u64().unwrap();
            }
        }
        let of_all = ["repositories", "tags", "revisions", "layer_links"]
            .map(|field| whole["seen"][field].as_u64().unwrap());
        assert_eq!(seen, of_all, "on {on:?}");
        assert_eq!(whole["namespace"], Value::Null);
    }
}

#[test]
fn a_namespace_that_is_not_there_is_no_intact_one() {
    let scene = scene(On::Folder, 62).unwrap();
    let name = scene.store_names().remove(0);
    for (namespace, said) in [
        ("team-9", "the registry has no repository team-9/…"),
        ("team", "the registry has no repository team/…"),
        ("team-0/app-2", "the first part of repositories' names"),
        ("..", "the first part of repositories' names"),
        ("", "the first part of repositories' names"),
    ] {
        let arguments = ["fsck", &name, "--namespace", namespace];
        let finished = scene.program.run(&arguments).unwrap();
        assert_eq!(finished.status, 2, "{namespace:?}: {finished:?}");
        assert!(
            finished.stderr.contains(said),
            "{namespace:?}: {}",
            finished.stderr
        );
        assert_eq!(finished.stdout, "");
    }
    let text = scene.program.run(&["fsck", &name, "-n", "team-0"]).unwrap();
    assert!(
        text.stdout
            .starts_with("Looked at 2 repositories of namespace team-0, "),
        "{}",
        text.stdout
    );
}

fn other_stream(image: &str) -> Value {
    json!({
        "apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
        "metadata": {"namespace": "other", "name": "app"},
        "status": {"tags": [{"tag": "a", "items": [{"image": image}]}, {"tag": "b", "items": [{"image": "no digest"}]}]},
    })
}

/// Images, tags and streams of other namespaces are not judged, nor are images in no stream; and no more is restored.
#[test]
fn a_cluster_is_judged_by_the_streams_of_the_namespace() {
    let no_image = format!("sha256:{}", "b".repeat(64));
    let alone = format!("sha256:{}", "c".repeat(64));
    for on in EVERYWHERE {
        let scene = ClusterScene::with(
            |objects| {
                objects.push(other_stream(&no_image));
                objects.push(json!({
                    "apiVersion": "image.openshift.io/v1", "kind": "Image",
                    "metadata": {"name": alone, "annotations": {"openshift.io/image.managed": "true"}},
                    "dockerImageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
                }));
            },
            |files| {
                for (repository, digest) in
                    [("ns/lost", GHOST), ("other/lost", SECOND), ("other/lost", GHOST)]
                {
                    files.insert(revision(repository, digest), digest.to_owned());
                }
            },
            on,
        );
        let kinds = |report: &Value| -> BTreeSet<(String, String)> {
            let all = findings(report).into_iter();
            all.map(|(repository, _, kind, _)| (repository, kind)).collect()
        };
        let said = |all: &[(&str, &str)]| -> BTreeSet<(String, String)> {
            all.iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect()
        };
        let whole = scene.fsck(6, &[]);
        let expected = said(&[
            ("", "manifest_missing"),
            ("ns/lost", "metadata_lost"),
            ("other/app", "image_missing"),
            ("other/app", "tag_image_invalid"),
            ("other/lost", "metadata_lost"),
        ]);
        assert_eq!(kinds(&whole), expected, "{whole:#}");

        let asked_before = scene.api().requests().len();
        let report = scene.fsck(6, &["--namespace", "ns"]);
        assert_eq!(
            kinds(&report),
            said(&[("ns/lost", "metadata_lost")]),
            "{report:#}"
        );
        assert_eq!(
            (&report["seen"]["images"], &report["seen"]["tags"]),
            (&json!(2), &json!(2)),
            "{report:#}"
        );
        let asked = scene.api().requests().split_off(asked_before);
        assert!(
            asked
                .iter()
                .any(|request| request.path.contains("/namespaces/ns/imagestreams"))
        );
        for request in asked {
            let of_streams = request.path.contains("imagestreams");
            assert!(
                !of_streams || request.path.contains("/namespaces/ns/"),
                "{}",
                request.path
            );
        }

        let restored = scene.fsck(0, &["--namespace", "ns", "--restore", "--confirm"]);
        assert_eq!(restored["restore"]["restored"], 1, "{restored:#}");
        let changed: BTreeSet<String> = scene
            .api()
            .mutations()
            .into_iter()
            .map(|request| request.path)
            .collect();
        assert!(!changed.is_empty());
        for path in changed {
            assert!(path.contains("/namespaces/ns/"), "{path}");
        }
    }
}

/// A namespace of which the cluster has no stream may have repositories, and the other way round.
#[test]
fn a_namespace_that_only_one_side_has() {
    let image = format!("sha256:{}", "b".repeat(64));
    let scene = ClusterScene::with(|objects| objects.push(other_stream(&image)), |_| {}, On::Folder);
    let report = scene.fsck(6, &["--namespace", "other"]);
    assert_eq!(report["seen"]["repositories"], 0, "{report:#}");
    let path = key(&revision("alone/app", GHOST));
    put(scene.scene(), &path, GHOST.as_bytes()).unwrap();
    let report = scene.fsck(6, &["--namespace", "alone"]);
    assert_eq!(report["broken"]["lost"], 1, "{report:#}");
    let neither = scene.run(&["--namespace", "nobody"]);
    assert_eq!(neither.status, 2, "{neither:?}");
    assert!(
        neither.stderr.contains("no image stream in that namespace"),
        "{}",
        neither.stderr
    );
}
