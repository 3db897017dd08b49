//! The recorded runs of the registry's own hard prune: what it removed, and what we do, except where
//! `docs/openshift-differences.md` says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hardprune_tests::cluster::Cluster;
use hardprune_tests::kubernetes_api::KubernetesApi;
use hardprune_tests::openshift_fixtures::{Case, Scenery};
use hardprune_tests::real_cluster::RealCluster;
use hardprune_tests::scene::number;
use regex::Regex;
use serde_json::Value;

use crate::hard_scene::{EVERYWHERE, HardScene, On};

/// Every digest that an image of the cluster needs, by reading: what image objects and their manifests in the storage name.
fn needed(objects: &[Value], files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let digests = Regex::new("sha256:[0-9a-f]{64}").unwrap();
    let find = |text: &str| -> Vec<String> {
        digests
            .find_iter(text)
            .map(|found| found.as_str().to_owned())
            .collect()
    };
    let images = objects.iter().filter(|object| object["kind"] == "Image");
    let mut open: Vec<String> = images.flat_map(|image| find(&image.to_string())).collect();
    let mut needed = BTreeSet::new();
    while let Some(digest) = open.pop() {
        let hex = digest.trim_start_matches("sha256:");
        let text = files.get(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
        if let Some(text) =
            text.filter(|text| text.contains("\"schemaVersion\"") && !needed.contains(&digest))
        {
            open.extend(find(text));
        }
        needed.insert(digest);
    }
    needed
}

/// The manifests that an image stream's tags lead to: the images that they name, and what those list as indexes.
fn in_stream(objects: &[Value], files: &BTreeMap<String, String>, stream: &str) -> BTreeSet<String> {
    let has_name = |object: &&Value| {
        let name = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        object["kind"] == "ImageStream" && format!("{}/{}", name("namespace"), name("name")) == stream
    };
    let tags = objects
        .iter()
        .find(has_name)
        .and_then(|stream| stream["status"]["tags"].as_array());
    let items = tags
        .into_iter()
        .flatten()
        .filter_map(|tag| tag["items"].as_array());
    let mut open: Vec<String> = items
        .flatten()
        .filter_map(|item| Some(item["image"].as_str()?.to_owned()))
        .collect();
    let mut found = BTreeSet::new();
    while let Some(digest) = open.pop() {
        let hex = digest.trim_start_matches("sha256:");
        let text = files.get(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
        let manifest: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
        let children = manifest
            .iter()
            .filter_map(|manifest| manifest["manifests"].as_array())
            .flatten();
        let children = children.filter_map(|child| Some(child["digest"].as_str()?.to_owned()));
        if found.insert(digest) {
            open.extend(children);
        }
    }
    found
}

fn digest_of(path: &str) -> String {
    let hex = path.split('/').rev().nth(1).unwrap_or_default();
    format!("sha256:{hex}")
}

struct Compared {
    on: On,
    /// What the real one removed and we keep.
    kept: BTreeSet<String>,
    /// What we remove and the real one left.
    more: BTreeSet<String>,
    deleted: Value,
}

/// Everywhere, by the in-memory API always, and by a real cluster where the environment wants it.
fn compare(name: &str) -> Result<Vec<Compared>> {
    let case = Case::load(name)?;
    let mut compared = compare_in(KubernetesApi::start(Vec::new())?, &case)?;
    if let Some(cluster) = RealCluster::of_environment()? {
        compared.extend(compare_in(cluster, &case).context("in the real cluster")?);
    }
    Ok(compared)
}

fn compare_in(cluster: impl Cluster, case: &Case) -> Result<Vec<Compared>> {
    let cluster = Arc::new(cluster);
    let everywhere = EVERYWHERE.into_iter();
    let compared = everywhere.map(|on| compare_on(on, &cluster, case).with_context(|| format!("{on:?}")));
    compared.collect()
}

fn compare_on<C: Cluster>(on: On, cluster: &Arc<C>, case: &Case) -> Result<Compared> {
    let (scene, checked, deleted) = HardScene::in_cluster(Arc::clone(cluster), case, on)?.prune()?;
    let ours = scene.removed()?;
    let recorded = case.recorded("delete")?;
    let theirs = recorded.after["storage"]["removed"]
        .as_array()
        .into_iter()
        .flatten();
    let theirs: BTreeSet<String> = theirs
        .filter_map(|path| Some(path.as_str()?.to_owned()))
        .collect();
    ensure!(recorded.status == 0 && !theirs.is_empty());

    let objects = case.objects(&Scenery::now("registry.example:5000"))?;
    let needed = needed(&objects, &case.storage()?);
    let blobs: Vec<_> = ours.iter().filter(|path| path.starts_with("blobs/")).collect();
    for blob in &blobs {
        ensure!(!needed.contains(&digest_of(blob)), "{blob} is needed");
    }
    // R5, and a check says what a delete does.
    let figures = (
        number(&deleted, "/blobs/deleted")?,
        number(&deleted, "/bytes/freed")?,
    );
    let really = scene.scene.difference()?;
    ensure!(
        figures == (blobs.len() as u64, really.freed_blob_bytes()),
        "{deleted:#}"
    );
    ensure!(
        (
            number(&checked, "/blobs/orphaned")?,
            number(&checked, "/bytes/orphaned")?
        ) == figures
    );
    ensure!(checked["links"] == deleted["links"], "{checked:#} {deleted:#}");
    ensure!(deleted["sources"] == serde_json::json!(["openshift"]));
    ensure!(scene.api.mutations().is_empty(), "the cluster was changed");
    // What stays that did not: blobs of images that are needed, and children of indexes that are tagged.
    let kept: BTreeSet<String> = theirs.difference(&ours).cloned().collect();
    for path in &kept {
        let digest = digest_of(path);
        let is_right = match path
            .strip_prefix("repositories/")
            .and_then(|path| path.split_once("/_manifests/revisions/"))
        {
            Some((stream, _)) => in_stream(&objects, &case.storage()?, stream).contains(&digest),
            None => path.starts_with("blobs/") && needed.contains(&digest),
        };
        ensure!(is_right, "{path} was removed, and stays");
    }
    // Layer links that nothing answers are what we remove beside.
    let more: BTreeSet<String> = ours.difference(&theirs).cloned().collect();
    for path in &more {
        ensure!(
            path.contains("/_layers/") && !needed.contains(&digest_of(path)),
            "{path} is removed, and was not"
        );
    }
    Ok(Compared {
        on,
        kept,
        more,
        deleted,
    })
}

#[test]
fn used_and_orphan_blobs_streams_that_are_gone_and_links_of_images_no_longer_tagged() {
    for compared in compare("hard-basic").unwrap() {
        assert_eq!(compared.kept, BTreeSet::new(), "{:?}", compared.on);
        assert_eq!(compared.deleted["blobs"]["deleted"], 11);
        assert_eq!(compared.deleted["bytes"]["freed"], 2302);
        assert!(!compared.more.is_empty());
    }
}

/// The children of an index that is tagged stay: the real one removes their links, and all of one that is no image of its own.
#[test]
fn children_of_indexes() {
    for compared in compare("hard-multiarch").unwrap() {
        let (blobs, links): (Vec<_>, Vec<_>) =
            compared.kept.iter().partition(|path| path.starts_with("blobs/"));
        assert_eq!(
            (blobs.len(), links.len()),
            (3, 3),
            "{:?}: {:?}",
            compared.on,
            compared.kept
        );
        assert!(
            links
                .iter()
                .all(|link| link.contains("/ns/multi/_manifests/revisions/"))
        );
        assert_eq!(compared.deleted["blobs"]["deleted"], 0);
    }
}

#[test]
fn shapes_of_repositories() {
    for compared in compare("hard-repos").unwrap() {
        assert_eq!(compared.kept, BTreeSet::new(), "{:?}", compared.on);
        assert_eq!(compared.deleted["blobs"]["deleted"], 15);
    }
}

#[test]
fn a_random_cluster() {
    for compared in compare("hard-random").unwrap() {
        let blobs = compared
            .kept
            .iter()
            .filter(|path| path.starts_with("blobs/"))
            .count();
        // Of children that are no images of their own.
        assert_eq!(blobs, 7, "{:?}: {:?}", compared.on, compared.kept);
        assert_eq!(compared.deleted["blobs"]["deleted"], 65 - 7);
    }
}
