//! A generated registry, damaged by hand, and what `fsck` says of it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Scene, report_of};
use hardprune_tests::storage_writer::{blob_key, tag_link_key};
use serde_json::Value;

/// Where the registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Folder,
    S3,
}

pub const EVERYWHERE: [On; 2] = [On::Folder, On::S3];

pub fn scene(on: On, seed: u64) -> Result<Scene> {
    match on {
        On::Folder => Scene::on_folder(&Shape::small(seed)),
        On::S3 => Scene::on_s3(&Shape::small(seed), S3Options::default()),
    }
}

/// The report of an `fsck` that must end with this exit status, and must have changed nothing.
pub fn fsck(scene: &Scene, status: i32) -> Result<Value> {
    let before = scene.inventory()?;
    let name = scene.store_names().remove(0);
    let report = report_of(&scene.program.run(&["fsck", &name, "--output", "json"])?, status)?;
    assert_eq!(before, scene.inventory()?, "it changes nothing");
    Ok(report)
}

/// What a finding says: repository, manifest or tag, kind, what is needed.
pub type Finding = (String, String, String, String);

pub fn findings(report: &Value) -> BTreeSet<Finding> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = report["findings"].as_array().unwrap();
    let found: BTreeSet<Finding> = all
        .iter()
        .map(|finding| {
            let of = match &finding["digest"] {
                Value::Null => text(&finding["tags"][0]),
                digest => text(digest),
            };
            (
                text(&finding["repository"]),
                of,
                text(&finding["kind"]),
                text(&finding["needs"]),
            )
        })
        .collect();
    assert_eq!(found.len(), all.len(), "each is said once");
    assert_eq!(report["broken"]["findings"], all.len(), "and counted once");
    found
}

/// The manifests that are broken, by repository.
pub fn broken_images(report: &Value) -> BTreeSet<(String, String)> {
    let all = report["findings"].as_array().unwrap();
    let of_images = all.iter().filter(|finding| !finding["digest"].is_null());
    of_images
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            (text("repository"), text("digest"))
        })
        .collect()
}

/// The tags that are broken, by repository.
pub fn broken_tags(report: &Value) -> BTreeSet<(String, String)> {
    let mut tags = BTreeSet::new();
    for finding in report["findings"].as_array().unwrap() {
        let repository = finding["repository"].as_str().unwrap_or_default();
        for tag in finding["tags"].as_array().unwrap() {
            tags.insert((repository.to_owned(), tag.as_str().unwrap().to_owned()));
        }
    }
    tags
}

/// A tagged image that is no index, and the manifest itself.
pub struct Image {
    pub repository: String,
    pub tag: String,
    pub digest: String,
    pub manifest: Value,
}

impl Image {
    pub fn config(&self) -> &str {
        self.manifest["config"]["digest"].as_str().unwrap()
    }

    /// A layer that no other image has: its last.
    pub fn layer(&self) -> &str {
        let layers = self.manifest["layers"].as_array().unwrap();
        layers.last().unwrap()["digest"].as_str().unwrap()
    }
}

/// The tagged images that are no index, and have no signature.
pub fn images(scene: &Scene) -> Result<Vec<Image>> {
    manifests(scene, |tag| tag.starts_with('v'))
}

/// The tagged indexes.
pub fn indexes(scene: &Scene) -> Result<Vec<Image>> {
    manifests(scene, |tag| tag.starts_with("multi"))
}

fn manifests(scene: &Scene, is_wanted: fn(&str) -> bool) -> Result<Vec<Image>> {
    let tags = scene.truth.tags.iter().filter(|tag| is_wanted(&tag.tag));
    tags.map(|tag| {
        Ok(Image {
            repository: tag.repository.clone(),
            tag: tag.tag.clone(),
            digest: tag.digest.clone(),
            manifest: manifest(scene, &tag.digest)?,
        })
    })
    .collect()
}

pub fn manifest(scene: &Scene, digest: &str) -> Result<Value> {
    let bytes = scene
        .storage()
        .get(&blob_key(digest))?
        .context("a manifest that is there")?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Writes an object as it was written three days ago.
pub fn put(scene: &Scene, key: &str, bytes: &[u8]) -> Result<()> {
    scene
        .storage()
        .put(key, bytes, SystemTime::now() - Duration::from_secs(3 * 86_400))
}

pub fn point_tag(scene: &Scene, image: &Image, content: &[u8]) -> Result<()> {
    put(scene, &tag_link_key(&image.repository, &image.tag), content)
}
