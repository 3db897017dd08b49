//! A random cluster and its storage, of which any blobs are gone.

use std::collections::{BTreeMap, BTreeSet};

use hardprune_tests::content::Seeded;
use hardprune_tests::kubernetes_api::KubernetesApi;
use hardprune_tests::openshift_fixtures::{Case, Scenery};
use hardprune_tests::scene::Scene;
use serde_json::Value;

use crate::openshift::{ClusterScene, blob};
use crate::scene::findings;

/// Any blobs are gone: exactly the images are named that need one of them, by the cluster or by their manifest in the storage.
#[test]
fn exactly_the_images_are_named_that_need_what_is_gone() {
    let case = Case::load("hard-random").unwrap();
    let objects = case.objects(&Scenery::now("registry.example:5000")).unwrap();
    for seed in 0..8u64 {
        let mut files = case.storage().unwrap();
        let mut seeded = Seeded::new(seed);
        for _ in 0..=seed * 2 {
            let blobs: Vec<String> = files
                .keys()
                .filter(|path| path.starts_with("blobs/"))
                .cloned()
                .collect();
            let place = usize::try_from(seeded.number()).unwrap_or_default() % blobs.len();
            files.remove(&blobs[place]);
        }
        let expected = not_whole(&objects, &files);
        let api = KubernetesApi::start(objects.clone()).unwrap();
        let scene = Scene::holding(&files, seed % 2 == 0).unwrap();
        let config = api.kubeconfig(scene.folder()).unwrap();
        let scene = ClusterScene {
            scene: scene.with("KUBECONFIG", config.to_str().unwrap()),
            api,
        };
        let finished = scene.run(&[]);
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        let named: BTreeSet<String> = findings(&report)
            .into_iter()
            .filter(|(_, _, kind, _)| !["metadata_lost", "image_missing"].contains(&kind.as_str()))
            .map(|(_, digest, _, _)| digest)
            .collect();
        assert_eq!(named, expected, "{seed} {report:#}");
    }
}

/// By the objects and files alone: manifests that must be whole and are not.
fn not_whole(objects: &[Value], files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = |list: &Value, field: &str| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.map(|one| text(&one[field])).collect()
    };
    // What each needs: blobs, and children.
    let mut needs: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for image in objects.iter().filter(|object| object["kind"] == "Image") {
        if image["metadata"]["annotations"]["openshift.io/image.managed"] != "true" {
            continue;
        }
        let (blobs, children) = needs.entry(text(&image["metadata"]["name"])).or_default();
        blobs.extend(named(&image["dockerImageLayers"], "name"));
        children.extend(named(&image["dockerImageManifests"], "digest"));
        let media_type = text(&image["dockerImageManifestMediaType"]);
        let id = text(&image["dockerImageMetadata"]["Id"]);
        if !id.is_empty() && (media_type.contains("manifest.v2") || media_type.contains("image.manifest")) {
            blobs.insert(id);
        }
    }
    for path in files
        .keys()
        .filter(|path| path.contains("/_manifests/revisions/"))
    {
        needs.entry(files[path].clone()).or_default();
    }
    let mut pending: Vec<String> = needs.keys().cloned().collect();
    let mut seen = BTreeSet::new();
    while let Some(digest) = pending.pop() {
        if !seen.insert(digest.clone()) {
            continue;
        }
        let Some(manifest) = files.get(&blob(&digest)) else {
            continue;
        };
        let manifest: Value = serde_json::from_str(manifest).unwrap();
        let (blobs, children) = needs.entry(digest).or_default();
        blobs.extend(named(&manifest["layers"], "digest"));
        blobs.extend(manifest["config"]["digest"].as_str().map(str::to_owned));
        children.extend(named(&manifest["manifests"], "digest"));
        pending.extend(children.iter().cloned());
    }
    let is_there = |digest: &String| files.contains_key(&blob(digest));
    let mut broken: BTreeSet<String> = needs
        .iter()
        .filter(|(digest, (blobs, _))| !is_there(digest) || !blobs.iter().all(is_there))
        .map(|(digest, _)| digest.clone())
        .collect();
    loop {
        let with_broken_child = needs.iter().filter(|(_, (_, children))| {
            let mut children = children.iter();
            children.any(|child| broken.contains(child) || !is_there(child))
        });
        let more: BTreeSet<String> = with_broken_child
            .map(|(digest, _)| digest.clone())
            .filter(|digest| !broken.contains(digest))
            .collect();
        if more.is_empty() {
            return broken;
        }
        broken.extend(more);
    }
}
