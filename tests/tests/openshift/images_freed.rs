//! The line about bytes: no less than what is really gone from the registry's storage, and what the cluster tells no size of said.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use hardprune_tests::openshift_fixtures::Case;
use serde_json::Value;

use crate::images_scene::Scene;

/// What the line says: bytes, and blobs without a size.
fn freed(stdout: &str) -> Result<(u64, usize)> {
    let line = stdout.lines().find(|line| line.contains("at most "));
    let line = line.context("no line about bytes")?;
    let between = |begin: &str, end: &str| {
        let rest = line.split_once(begin)?.1;
        rest.split_once(end).map(|(number, _)| number)
    };
    let bytes = between("(", " bytes)")
        .with_context(|| line.to_owned())?
        .parse()?;
    let unknown = between("and ", " blob(s)").map_or(Ok(0), str::parse)?;
    Ok((bytes, unknown))
}

/// The digests of blobs with their bytes.
fn blobs(files: &BTreeMap<String, String>) -> BTreeMap<String, u64> {
    let blobs = files.iter().filter_map(|(path, data)| {
        let hex = path
            .strip_prefix("blobs/sha256/")?
            .strip_suffix("/data")?
            .split_once('/')?
            .1;
        Some((format!("sha256:{hex}"), data.len() as u64))
    });
    blobs.collect()
}

/// The manifests whose size no object of the cluster tells: those of images that are no index's child.
fn without_a_size(objects: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let images: Vec<&Value> = objects
        .iter()
        .filter(|(id, _)| id.starts_with("Image/"))
        .map(|(_, image)| image)
        .collect();
    let children: BTreeSet<&str> = images
        .iter()
        .filter_map(|image| image["dockerImageManifests"].as_array())
        .flatten()
        .filter_map(|child| child["digest"].as_str())
        .collect();
    let names = images
        .iter()
        .filter_map(|image| image["metadata"]["name"].as_str());
    names
        .filter(|name| !children.contains(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn children_of_indexes_count_with_their_size() -> Result<()> {
    let scene = Scene::of(&Case::load("multiarch")?, Vec::new())?;
    let untold = without_a_size(&scene.api.objects());
    let before = blobs(&scene.registry.files());
    let asked = ["--keep-tag-revisions=0", "--keep-younger-than=0s"];
    let would = freed(&scene.run(&asked)?.stdout)?;
    let pruned = scene.prune(&asked)?;
    assert_eq!(pruned.status, 0, "{}", pruned.stderr);
    let left = blobs(&scene.registry.files());
    let gone: BTreeMap<_, _> = before
        .into_iter()
        .filter(|(digest, _)| !left.contains_key(digest))
        .collect();
    let (unknown, known): (Vec<_>, Vec<_>) = gone.iter().partition(|(digest, _)| untold.contains(*digest));
    let bytes = known.iter().map(|(_, bytes)| **bytes).sum();
    assert_eq!(freed(&pruned.stdout)?, (bytes, unknown.len()));
    // Nothing has changed but by the run.
    assert_eq!(would, (bytes, unknown.len()));
    Ok(())
}

/// Objects may tell too little: an image of another stream that has the blob tells more.
#[test]
fn the_largest_size_that_is_told_counts() -> Result<()> {
    let scene = Scene::history()?;
    let mut objects = scene.api.objects();
    let images: Vec<&mut Value> = objects
        .iter_mut()
        .filter(|(id, _)| id.starts_with("Image/"))
        .map(|(_, image)| image)
        .collect();
    let layer = images[0]["dockerImageLayers"][0]["name"].clone();
    assert!(layer.is_string(), "an image with a layer");
    for (size, image) in [0, 1_000_000, 5].into_iter().zip(images) {
        image["dockerImageLayers"][0] = serde_json::json!({"name": layer, "size": size});
        scene.api.put(image.clone())?;
    }
    let dry = scene.run(&["--keep-tag-revisions=0", "--keep-younger-than=0s"])?;
    assert!(
        dry.stdout.contains(layer.as_str().context("a name")?),
        "{}",
        dry.stdout
    );
    let (bytes, _) = freed(&dry.stdout)?;
    assert!((1_000_000..1_010_000).contains(&bytes), "{bytes}");
    Ok(())
}
