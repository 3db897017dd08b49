//! The cluster's images against the storage: what it knows and the storage has not, and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use hardprune_tests::kubernetes_api::{Effect, Fault, KubernetesApi};
use hardprune_tests::openshift_fixtures::{Case, Scenery};
use hardprune_tests::program::Finished;
use hardprune_tests::scene::{Scene, report_of};
use serde_json::{Value, json};

use crate::scene::{Finding, On, findings};

/// A cluster of one stream `ns/multi`: two indexes that share a child, in the history of one tag.
pub fn case() -> Case {
    Case::load("hard-multiarch").unwrap()
}

pub const INDEX: &str = "sha256:16d1151708de2fa231aa4ff0e468fd20adfba7cb7413d8132025d585b1d08bc5";
pub const OLDER_INDEX: &str = "sha256:47f6b8a6e76644fe0dc18ed67b3b197e4598453ed5c52e72d27c771c07f7b80f";
/// Of both.
pub const CHILD: &str = "sha256:4ea38232a8792d62285c804aedf80c2b8597a672f98c643386c806c4331a4449";
pub const LAYER: &str = "sha256:5a8d0a824b20b411fbd9b9f2e7c50fcae461af0d68e63f69483680c02a6df008";
/// Of the index.
pub const SECOND: &str = "sha256:e825ed932b8826f9abd261ec0dee7f941264bfe129ca91a3b6edd288074f6e98";
/// Of the older one; the cluster has no such image.
pub const GHOST: &str = "sha256:71720508a8505dbae2d0f6a456c89e1bbac57bb5fa98bde87cd4dc84e3073e96";
pub const GHOST_CONFIG: &str = "sha256:23a8a729b203aadde79f7bed98cb70d766a7a67100ae23a4c6018b8ea1197100";

pub struct ClusterScene {
    pub scene: Scene,
    pub api: KubernetesApi,
}

impl ClusterScene {
    pub fn new(on: On) -> Self {
        Self::with(|_| {}, |_| {}, on)
    }

    /// With other objects and files.
    pub fn with(
        objects: impl Fn(&mut Vec<Value>),
        files: impl Fn(&mut BTreeMap<String, String>),
        on: On,
    ) -> Self {
        let mut all = case().objects(&Scenery::now("registry.example:5000")).unwrap();
        objects(&mut all);
        let mut storage = case().storage().unwrap();
        files(&mut storage);
        let api = KubernetesApi::start(all).unwrap();
        let scene = Scene::holding(&storage, on == On::S3).unwrap();
        let config = api.kubeconfig(scene.folder()).unwrap();
        let scene = scene.with("KUBECONFIG", config.to_str().unwrap());
        Self { scene, api }
    }

    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    pub fn api(&self) -> &KubernetesApi {
        &self.api
    }

    pub fn run(&self, others: &[&str]) -> Finished {
        let before = self.scene().inventory().unwrap();
        let name = self.scene().store_names().remove(0);
        let arguments = [
            &["fsck", &name, "--references", "openshift", "--output", "json"],
            others,
        ]
        .concat();
        let finished = self.scene().program.run(&arguments).unwrap();
        assert_eq!(
            before,
            self.scene().inventory().unwrap(),
            "the storage stays as it is"
        );
        finished
    }

    pub fn fsck(&self, status: i32, others: &[&str]) -> Value {
        report_of(&self.run(others), status).unwrap()
    }
}

pub fn key(path: &str) -> String {
    format!("docker/registry/v2/{path}")
}

pub fn blob(digest: &str) -> String {
    let hex = digest.trim_start_matches("sha256:");
    format!("blobs/sha256/{}/{hex}/data", &hex[..2])
}

pub fn revision(repository: &str, digest: &str) -> String {
    let hex = digest.trim_start_matches("sha256:");
    format!("repositories/{repository}/_manifests/revisions/sha256/{hex}/link")
}

/// Takes an image away, and adds a stream with tags that name nothing.
pub fn lose_the_index(objects: &mut Vec<Value>) {
    objects.retain(|object| object["metadata"]["name"] != INDEX);
    objects.push(json!({
        "apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
        "metadata": {"namespace": "ns", "name": "odd"},
        "status": {"tags": [{"tag": "a", "items": [{"image": "no digest"}, {"image": CHILD}]}]},
    }));
}

/// Of a stream that is gone: of one manifest the cluster has the image, and of one it has not.
pub fn keep_a_gone_streams_revisions(files: &mut BTreeMap<String, String>) {
    for digest in [SECOND, GHOST] {
        files.insert(revision("gone/stream", digest), digest.to_owned());
    }
}

fn found(of: &[(&str, &str, &str, &str)]) -> BTreeSet<Finding> {
    let owned = |text: &str| text.to_owned();
    of.iter()
        .map(|(repository, digest, kind, needs)| {
            (owned(repository), owned(digest), owned(kind), owned(needs))
        })
        .collect()
}

pub fn image(api: &KubernetesApi, digest: &str) -> Value {
    api.objects()[&format!("Image/{digest}")].clone()
}

#[test]
fn a_cluster_that_fits_its_storage() {
    for on in [On::Folder, On::S3] {
        let scene = ClusterScene::new(on);
        let report = scene.fsck(0, &[]);
        assert_eq!(findings(&report), BTreeSet::new(), "{report:#}");
        assert_eq!(report["sources"], json!(["openshift"]));
        assert_eq!(
            (&report["seen"]["images"], &report["seen"]["tags"]),
            (&json!(4), &json!(2))
        );
        assert_eq!(scene.api().mutations(), []);
    }
}

#[test]
fn what_images_need_and_is_gone() {
    for on in [On::Folder, On::S3] {
        let scene = ClusterScene::new(on);
        for gone in [blob(LAYER), blob(GHOST_CONFIG)] {
            scene.scene().storage().remove(&key(&gone)).unwrap();
        }
        let report = scene.fsck(6, &[]);
        let expected = found(&[
            ("ns/multi", CHILD, "layer_missing", LAYER),
            ("ns/multi", GHOST, "config_missing", GHOST_CONFIG),
            ("ns/multi", INDEX, "child_broken", CHILD),
            ("ns/multi", OLDER_INDEX, "child_broken", CHILD),
            ("ns/multi", OLDER_INDEX, "child_broken", GHOST),
        ]);
        assert_eq!(findings(&report), expected, "{report:#}");
        let tags: BTreeSet<String> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|finding| finding["tags"].as_array().unwrap())
            .map(|tag| tag.as_str().unwrap().to_owned())
            .collect();
        let expected = ["latest", "latest in position 1"].map(str::to_owned);
        assert_eq!(tags, BTreeSet::from(expected));
    }
}

#[test]
fn a_manifest_that_is_gone_is_missed_by_its_image_and_its_link() {
    let scene = ClusterScene::new(On::Folder);
    scene.scene().storage().remove(&key(&blob(INDEX))).unwrap();
    let report = scene.fsck(6, &[]);
    let expected = found(&[("ns/multi", INDEX, "manifest_missing", "")]);
    assert_eq!(findings(&report), expected, "{report:#}");
}

/// What was imported is somewhere else.
#[test]
fn images_that_were_not_pushed_here_need_not_be_here() {
    let elsewhere = format!("sha256:{}", "e".repeat(64));
    let scene = ClusterScene::with(
        |objects| {
            objects.push(json!({
                "apiVersion": "image.openshift.io/v1", "kind": "Image", "metadata": {"name": elsewhere},
                "dockerImageLayers": [{"name": format!("sha256:{}", "d".repeat(64))}],
            }));
            objects.push(json!({
                "apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
                "metadata": {"namespace": "ns", "name": "imported"},
                "status": {"tags": [{"tag": "a", "items": [{"image": elsewhere}]}]},
            }));
        },
        |_| {},
        On::Folder,
    );
    assert_eq!(findings(&scene.fsck(0, &[])), BTreeSet::new());
}

/// A tag may name an image that was pushed to another stream: its links are there.
#[test]
fn links_are_where_an_image_was_pushed() {
    let scene = ClusterScene::with(
        |objects| {
            objects.push(json!({
                "apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
                "metadata": {"namespace": "other", "name": "copy"},
                "status": {"tags": [{"tag": "a", "items": [{"image": CHILD}]}]},
            }));
        },
        |files| files.retain(|path, _| !path.contains("/_layers/")),
        On::Folder,
    );
    assert_eq!(findings(&scene.fsck(0, &[])), BTreeSet::new());
}

#[test]
fn tags_without_an_image_and_manifests_that_no_image_knows() {
    let scene = ClusterScene::with(lose_the_index, keep_a_gone_streams_revisions, On::Folder);
    let report = scene.fsck(6, &[]);
    let expected = found(&[
        ("ns/multi", INDEX, "image_missing", ""),
        ("ns/multi", INDEX, "metadata_lost", ""),
        ("gone/stream", GHOST, "metadata_lost", ""),
        ("ns/odd", "a", "tag_image_invalid", ""),
    ]);
    assert_eq!(findings(&report), expected, "{report:#}");
    // That of the stream that is gone, and of the index whose image is: a child that the cluster knows.
    assert_eq!(report["seen"]["not_in_stream"], 2, "{report:#}");
    let broken = &report["broken"];
    assert_eq!(
        (&broken["images"], &broken["tags"], &broken["lost"]),
        (&json!(1), &json!(2), &json!(2))
    );
    assert_eq!(scene.api().mutations(), []);
}

/// The registry takes an index without all of its children. Whoever pulls such a child does not get it.
#[test]
fn the_child_that_is_not_there_is_said_of_its_index() {
    let scene = ClusterScene::with(
        |objects| objects.retain(|object| object["metadata"]["name"] != CHILD),
        |files| {
            files.remove(&blob(GHOST));
            files.remove(&revision("ns/multi", GHOST));
        },
        On::Folder,
    );
    let report = scene.fsck(6, &[]);
    let expected = found(&[("ns/multi", OLDER_INDEX, "child_missing", GHOST)]);
    assert_eq!(findings(&report), expected, "{report:#}");
}

/// A push writes the manifest, and then tells the cluster.
#[test]
fn what_is_young_is_not_lost() {
    let scene = ClusterScene::new(On::Folder);
    let path = key(&revision("ns/new", GHOST));
    let storage = scene.scene().storage();
    storage
        .put(&path, GHOST.as_bytes(), std::time::SystemTime::now())
        .unwrap();
    assert_eq!(findings(&scene.fsck(0, &[])), BTreeSet::new());
}

/// What comes, or goes, between a list and the end.
#[test]
fn the_cluster_is_asked_again_before_anything_is_said() -> Result<()> {
    let scene = ClusterScene::with(
        |objects| objects.retain(|object| object["metadata"]["name"] != INDEX),
        |_| {},
        On::Folder,
    );
    let image = case()
        .objects(&Scenery::now("registry.example:5000"))?
        .into_iter()
        .find(|object| object["metadata"]["name"] == INDEX)
        .unwrap();
    let name = scene.scene().store_names().remove(0);
    let arguments = ["fsck", &name, "--references", "openshift", "--output", "json"];
    let held = scene.scene().hold_at("fsck-blobs-looked-for", 0, &arguments)?;
    scene.api().put(image)?;
    held.release()?;
    let report = report_of(&held.finish()?, 0)?;
    assert_eq!(findings(&report), BTreeSet::new(), "{report:#}");
    Ok(())
}

#[test]
fn a_cluster_that_does_not_answer_is_no_broken_registry() {
    for (path, status) in [("/images", 403), ("/imagestreams", 500), ("/images", 401)] {
        let scene = ClusterScene::new(On::Folder);
        scene.api().fault(Fault::on(
            "GET",
            path,
            Effect::Status(status, "not today".to_owned()),
        ));
        let finished = scene.run(&[]);
        assert_eq!(finished.status, 1, "{finished:?}");
        assert!(finished.stderr.contains("not today"), "{finished:?}");
        assert_eq!(finished.stdout, "");
    }
    let scene = ClusterScene::new(On::Folder);
    let finished = scene.run(&["--context", "nowhere"]);
    assert_eq!(finished.status, 2, "{finished:?}");
    // A list whose pages expire begins again.
    let scene = ClusterScene::new(On::Folder);
    scene.api().fault(Fault::on("GET", "images", Effect::ExpirePages));
    scene.fsck(0, &[]);
}
