//! `--references openshift` beyond what was recorded: what a cluster that says less than all leads to, and what the real one does wrong.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use hardprune_tests::kubernetes_api::{Effect, Fault};
use hardprune_tests::openshift_fixtures::{Case, Scenery};
use hardprune_tests::program::Hardprune;
use hardprune_tests::scene::{KILLED, report_of};
use serde_json::{Value, json};

use crate::hard_scene::{HardScene, On};

fn basic() -> Case {
    Case::load("hard-basic").unwrap()
}

fn objects(case: &Case) -> Vec<Value> {
    case.objects(&Scenery::now("registry.example:5000")).unwrap()
}

fn blob(digest: &str) -> String {
    let hex = digest.trim_start_matches("sha256:");
    format!("blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// Of every API error but an expired page: nothing is deleted, and the message says what was asked for.
#[test]
fn an_error_of_the_cluster_stops_before_anything_is_deleted() {
    for (path, effect, parts) in [
        (
            "/imagestreams",
            Effect::Status(403, "imagestreams is forbidden".to_owned()),
            ["image streams", "system:image-pruner"],
        ),
        (
            "/images",
            Effect::Status(403, "images is forbidden".to_owned()),
            ["images", "forbidden"],
        ),
        (
            "/images",
            Effect::Status(404, "not found".to_owned()),
            ["images", "not found"],
        ),
        (
            "/images",
            Effect::Status(500, "no".to_owned()),
            ["images", "nothing was deleted"],
        ),
        (
            "/imagestreams",
            Effect::Close,
            ["image streams", "nothing was deleted"],
        ),
    ] {
        let scene = HardScene::of(&basic(), On::Folder).unwrap();
        scene
            .api
            .fault(Fault::on("GET", &format!("{path}(\\?|$)"), effect));
        let finished = scene.run("delete", &[]).unwrap();
        assert_eq!(finished.status, 1, "{finished:?}");
        for part in parts {
            assert!(finished.stderr.contains(part), "{part}: {finished:?}");
        }
        assert_eq!(scene.removed().unwrap(), BTreeSet::new());
    }
}

/// More images than a page has; the token of the second expires once, and the list begins again.
#[test]
fn an_expired_page_begins_the_list_again() {
    let case = basic();
    let mut all = objects(&case);
    let other = |number: u32| {
        let digest = format!("sha256:{number:064x}");
        json!({"apiVersion": "image.openshift.io/v1", "kind": "Image", "metadata": {"name": digest}})
    };
    all.extend((0..1_200).map(other));
    let scene = HardScene::with(all, &case.storage().unwrap(), On::Folder).unwrap();
    let expired = Fault::on("GET", "/images\\?.*continue=", Effect::ExpirePages).times(1);
    scene.api.fault(expired);
    let (scene, _, deleted) = scene.prune().unwrap();
    assert_eq!(deleted["blobs"]["deleted"], 11, "{deleted:#}");
    let requests = scene.api.requests();
    assert!(
        requests.iter().any(|request| request.status == 410),
        "no page expired"
    );
}

#[test]
fn a_cluster_without_any_image_is_refused_unless_that_is_accepted() {
    let case = basic();
    let streams = objects(&case)
        .into_iter()
        .filter(|object| object["kind"] != "Image")
        .collect();
    let scene = HardScene::with(streams, &case.storage().unwrap(), On::Folder).unwrap();
    let guarded = Hardprune::new().unwrap().guarded();
    let guarded = guarded.with("KUBECONFIG", scene.api.kubeconfig(scene.scene.folder()).unwrap());
    let arguments = scene.arguments("delete", &[]).unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refused = guarded.run(&arguments).unwrap();
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("--accept-no-references"), "{refused:?}");
    assert_eq!(scene.removed().unwrap(), BTreeSet::new());
    // Every other run of these tests is told to accept that.
    let deleted = scene.report("delete", &[]).unwrap();
    let blobs = case
        .storage()
        .unwrap()
        .into_keys()
        .filter(|path| path.starts_with("blobs/"));
    assert_eq!(deleted["blobs"]["deleted"], blobs.count());
}

/// The real one loses their config.
#[test]
fn an_image_without_metadata_keeps_what_its_manifest_names() {
    let case = basic();
    let mut all = objects(&case);
    for image in &mut all {
        let fields = image.as_object_mut().unwrap();
        for field in [
            "dockerImageMetadata",
            "dockerImageLayers",
            "dockerImageManifestMediaType",
        ] {
            fields.remove(field);
        }
    }
    let scene = HardScene::with(all, &case.storage().unwrap(), On::Folder).unwrap();
    let (scene, _, deleted) = scene.prune().unwrap();
    assert_eq!(deleted["blobs"]["deleted"], 11, "{deleted:#}");
    let expected = HardScene::of(&case, On::Folder).unwrap().prune().unwrap().0;
    assert_eq!(scene.removed().unwrap(), expected.removed().unwrap());
}

/// A manifest in nobody's stream that cannot be understood may need anything that it names.
#[test]
fn an_image_whose_manifest_is_not_understood_keeps_every_digest_in_it() {
    let case = basic();
    let mut files = case.storage().unwrap();
    let orphan = "sha256:65f43ac3f2edca6477f453c341e28c93e0fff7f325f59d7398878d2008d772b7";
    let text = format!("{{\"schemaVersion\": 7, \"what\": \"{orphan}\"}}");
    let name = digest(&text);
    files.insert(blob(&name), text);
    let mut all = objects(&case);
    all.push(json!({"apiVersion": "image.openshift.io/v1", "kind": "Image", "metadata": {"name": name}}));
    let scene = HardScene::with(all, &files, On::Folder).unwrap();
    let (scene, _, deleted) = scene.prune().unwrap();
    assert_eq!(deleted["blobs"]["deleted"], 10, "{deleted:#}");
    assert!(!scene.removed().unwrap().contains(&blob(orphan)));
    assert_eq!(
        deleted["problems"]["by_kind"]["manifest_unknown_type"], 1,
        "{deleted:#}"
    );
}

fn digest(text: &str) -> String {
    use hardprune_common::digest::{Algorithm, Digest};
    Digest::of(Algorithm::Sha256, text.as_bytes()).to_string()
}

/// The real one removes a repository of one part with all below it, and stops at a name in capital letters and at an empty link.
#[test]
fn odd_repositories_take_no_others_along_and_stop_nothing() {
    let case = basic();
    let mut files = case.storage().unwrap();
    let revision = |repository: &str, hex: &str| {
        format!("repositories/{repository}/_manifests/revisions/sha256/{hex}/link")
    };
    let tagged = "0b4ac052efd8c8d5c16353d8b440ef7eb68239e20dad1188b254e4d5152eaa60";
    files.insert(revision("ns", tagged), format!("sha256:{tagged}"));
    files.insert(revision("NS/Upper", tagged), format!("sha256:{tagged}"));
    let empty = "f".repeat(64);
    files.insert(revision("ns/is", &empty), String::new());
    let scene = HardScene::with(objects(&case), &files, On::Folder).unwrap();
    let (scene, _, deleted) = scene.prune().unwrap();
    let removed = scene.removed().unwrap();
    for gone in [revision("ns", tagged), revision("NS/Upper", tagged)] {
        assert!(removed.contains(&gone), "{gone} stays");
    }
    assert!(!removed.contains(&revision("ns/is", tagged)));
    // What the registry cannot read it does not serve, and no tag names it.
    assert!(removed.contains(&revision("ns/is", &empty)));
    assert_eq!(
        deleted["problems"]["by_kind"]["link_unreadable"], 1,
        "{deleted:#}"
    );
}

/// The real one never looks at blobs then.
#[test]
fn without_any_repository_orphans_go_all_the_same() {
    let case = basic();
    let mut files: BTreeMap<String, String> = case.storage().unwrap();
    files.retain(|path, _| path.starts_with("blobs/"));
    let scene = HardScene::with(objects(&case), &files, On::Folder).unwrap();
    let (_, _, deleted) = scene.prune().unwrap();
    assert_eq!(deleted["blobs"]["deleted"], 11, "{deleted:#}");
}

/// Beside the cluster's the storage counts: what the cluster knows nothing of stays.
#[test]
fn with_the_storage_repositories_that_the_cluster_does_not_know_stay() {
    let scene = HardScene::of(&basic(), On::Folder).unwrap();
    let options = ["--references", "storage"];
    let deleted = scene.report("delete", &options).unwrap();
    assert_eq!(deleted["sources"], json!(["storage", "openshift"]));
    let removed = scene.removed().unwrap();
    for repository in ["ns/gone/", "ns2/gone2/"] {
        let of = |path: &&String| path.starts_with(&format!("repositories/{repository}"));
        assert_eq!(removed.iter().filter(of).count(), 0, "{repository} {removed:?}");
    }
    let untagged = "repositories/ns/is/_manifests/revisions/sha256/fd7398157ebe73d297ac85524318133186e463d31cbfeb6dbbce8fad18521c4f/link";
    assert!(removed.contains(untagged), "of what it knows the cluster decides");
}

/// A push may be about to tag it.
#[test]
fn what_is_young_stays() {
    let scene = HardScene::of(&basic(), On::Folder).unwrap();
    let deleted = scene.report("delete", &["--keep-younger-than", "96h"]).unwrap();
    assert_eq!(deleted["blobs"]["deleted"], 0, "{deleted:#}");
    assert_eq!(scene.removed().unwrap(), BTreeSet::new());
}

/// A configuration of OpenShift's registry is refused where the cluster is not asked.
#[test]
fn a_configuration_of_openshifts_registry_wants_the_cluster() {
    let scene = HardScene::of(&basic(), On::Folder).unwrap();
    let config = scene.scene.folder().join("config.yml");
    let root = scene.scene.state().display().to_string();
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nopenshift: {{version: 1.0}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap().to_owned();
    let check = |others: &[&str]| {
        let arguments = [
            &["check", "--registry-config", &config, "--output", "json"],
            others,
        ]
        .concat();
        scene.scene.program.run(&arguments).unwrap()
    };
    let refused = check(&[]);
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("--references openshift"), "{refused:?}");
    let checked = report_of(&check(&["--references", "openshift"]), 0).unwrap();
    assert_eq!(checked["blobs"]["orphaned"], 11);
}

/// Marked, planned and deleted in two epochs: the cluster is asked in each.
#[test]
fn a_run_that_was_killed_goes_on() -> Result<()> {
    let scene = HardScene::of(&basic(), On::Folder)?;
    let arguments = scene.arguments("delete", &[])?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let killed = scene.scene.run_with("after-unlink=return", &arguments)?;
    assert_eq!(killed.status, KILLED, "{killed:?}");
    let resumed = scene.report("delete", &["--resume", "auto"])?;
    assert_eq!(
        (&resumed["epochs"], &resumed["blobs"]["deleted"]),
        (&json!(2), &json!(11))
    );
    let again = scene.report("check", &[])?;
    assert_eq!(
        (&again["blobs"]["orphaned"], &again["links"]["revision"]),
        (&json!(0), &json!(0))
    );
    Ok(())
}

/// While the registry is read-only the cluster is not: what it has come to use since it was asked is not deleted.
#[test]
fn what_the_cluster_comes_to_use_meanwhile_is_not_deleted() {
    let untagged = "sha256:db399c72607bb5f99ef8ddb3cc37262a24ddae1183ed6af8576d79fea8ec97bb";
    let orphan = "sha256:555e2f1536249a51a267d257999573dec2bbb8a7e1a2ea99aad9eb0431949657";
    let stream = |name: &str, images: &[&str]| {
        let items: Vec<Value> = images.iter().map(|image| json!({"image": image})).collect();
        json!({
            "apiVersion": "image.openshift.io/v1", "kind": "ImageStream", "metadata": {"namespace": "ns", "name": name},
            "status": {"tags": [{"tag": "again", "items": items}]},
        })
    };
    let image = json!({
        "apiVersion": "image.openshift.io/v1", "kind": "Image",
        "metadata": {"name": format!("sha256:{}", "1".repeat(64))}, "dockerImageLayers": [{"name": orphan}],
    });
    for (comes, part) in [
        (Some(stream("is", &[untagged])), "db399c72607bb5f9"),
        (Some(stream("gone", &[])), "repositories/ns/gone/"),
        (Some(image), "555e2f1536249a51"),
        (None, ""),
    ] {
        let scene = HardScene::of(&basic(), On::Folder).unwrap();
        let arguments = scene.arguments("delete", &[]).unwrap();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let running = scene.scene.hold_at("after-seal", 0, &arguments).unwrap();
        // Another tag that goes, and one more of the same image, change nothing.
        let tagged = "sha256:0b4ac052efd8c8d5c16353d8b440ef7eb68239e20dad1188b254e4d5152eaa60";
        scene.api.put(stream("new", &[tagged])).unwrap();
        let is_refused = comes.is_some();
        if let Some(object) = comes {
            scene.api.put(object).unwrap();
        }
        running.release().unwrap();
        let finished = running.finish().unwrap();
        if is_refused {
            assert_eq!(finished.status, 3, "{part}: {finished:?}");
            assert!(finished.stderr.contains(part), "{part}: {finished:?}");
            assert_eq!(scene.removed().unwrap(), BTreeSet::new());
        } else {
            let report = report_of(&finished, 0).unwrap();
            assert_eq!(report["blobs"]["deleted"], 11, "{report:#}");
        }
    }
}

/// `runs explain` of a run that asked the cluster says which image keeps a digest, and where it is tagged.
#[test]
fn what_the_cluster_keeps_is_explained_by_it() -> Result<()> {
    let case = Case::load("history")?;
    let scene = HardScene::of(&case, On::Folder)?;
    scene.report("delete", &[])?;
    let run = scene.scene.run_id()?;
    let name = scene.scene.store_names().remove(0);
    let explain = |digest: &str| -> Result<String> {
        let finished = scene
            .scene
            .program
            .run(&["runs", "explain", &run, digest, "--registry", &name])?;
        assert_eq!(finished.status, 0, "{finished:?}");
        Ok(finished.stdout)
    };
    let image = objects(&case)
        .into_iter()
        .find(|object| object["kind"] == "Image")
        .unwrap_or_default();
    let of_image = image["metadata"]["name"].as_str().unwrap_or_default();
    let layer = image["dockerImageLayers"][0]["name"].as_str().unwrap_or_default();
    let config = image["dockerImageMetadata"]["Id"].as_str().unwrap_or_default();
    for (digest, why) in [
        (of_image, "it is this image's manifest"),
        (layer, "it is a layer of it"),
        (config, "it is its config"),
    ] {
        let told = explain(digest)?;
        let line = format!("  image {of_image}: {why}; tagged ns/is:latest at position ");
        assert!(
            told.contains("\nkept: referenced\nimages of the cluster ") && told.contains(&line),
            "{told}"
        );
        // What the storage says stands beside.
        assert!(told.contains("\n  ns/is: "), "{told}");
    }
    // An image that is gone since.
    scene.api.remove(&format!("Image/{of_image}"));
    let told = explain(of_image)?;
    assert!(
        told.contains("\nno image of the cluster ") && !told.contains("kept: referenced"),
        "{told}"
    );
    scene.api.fault(Fault::on(
        "GET",
        "/images",
        Effect::Status(403, "you may not".to_owned()),
    ));
    let told = explain(of_image)?;
    assert!(
        told.contains("cannot be asked now") && told.contains("you may not"),
        "{told}"
    );
    Ok(())
}
