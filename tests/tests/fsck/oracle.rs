//! Any set of objects is gone: exactly the images are named that need one of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use hardprune_tests::checker::{Roots, check_storage};
use hardprune_tests::content::Seeded;
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::{blob_key, tag_link_key};
use serde_json::Value;

use crate::scene::{EVERYWHERE, broken_images, broken_tags, findings, fsck, scene};

/// Removes some objects of a registry; of any kind, or blobs only.
pub fn damage(scene: &Scene, seed: u64, count: usize, only_blobs: bool) -> Result<BTreeSet<String>> {
    let mut seeded = Seeded::new(seed);
    let mut keys: Vec<String> = scene.storage().keys()?.into_keys().collect();
    keys.retain(|key| {
        let is_blob = key.starts_with("docker/registry/v2/blobs/");
        is_blob || !only_blobs && !key.contains("/index/")
    });
    let mut removed = BTreeSet::new();
    for _ in 0..count {
        let place = usize::try_from(seeded.number() % keys.len() as u64)?;
        let key = keys.swap_remove(place);
        scene.storage().remove(&key)?;
        removed.insert(key);
    }
    Ok(removed)
}

/// By the checker, which shares nothing with the program: the manifests that are not whole, and the indexes of which a child is not.
pub fn not_whole(scene: &Scene) -> Result<BTreeSet<(String, String)>> {
    let report = check_storage(scene.storage(), Roots::Revisions)?;
    let mut broken: BTreeSet<(String, String)> = report
        .violations
        .into_iter()
        .map(|violation| match violation.of.strip_prefix("tag ") {
            Some(_) => (violation.repository, violation.digest),
            None => (violation.repository, violation.of),
        })
        .collect();
    let mut children: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (_, digest) in &report.live_manifests {
        let Some(bytes) = scene.storage().get(&blob_key(digest))? else {
            continue;
        };
        let manifest: Value = serde_json::from_slice(&bytes)?;
        let listed = manifest["manifests"].as_array().into_iter().flatten();
        let digests = listed.filter_map(|child| Some(child["digest"].as_str()?.to_owned()));
        children.insert(digest, digests.collect());
    }
    for (repository, digest) in &report.live_manifests {
        let is_broken = |child: &String| broken.contains(&(repository.clone(), child.clone()));
        if children
            .get(digest.as_str())
            .is_some_and(|children| children.iter().any(is_broken))
        {
            broken.insert((repository.clone(), digest.clone()));
        }
    }
    Ok(broken)
}

#[test]
fn exactly_the_images_are_named_that_need_what_is_gone() {
    for on in EVERYWHERE {
        for seed in 0..6u64 {
            let scene = scene(on, 20 + seed).unwrap();
            let count = [1, 2, 5, 12, 40, 100][usize::try_from(seed).unwrap()];
            let removed = damage(&scene, seed, count, seed % 2 == 1).unwrap();
            let expected = not_whole(&scene).unwrap();
            let cut_off: BTreeSet<(String, String)> = scene
                .truth
                .tags
                .iter()
                .filter(|tag| removed.contains(&tag_link_key(&tag.repository, &tag.tag)))
                .map(|tag| (tag.repository.clone(), tag.tag.clone()))
                .collect();
            let status = if expected.is_empty() && cut_off.is_empty() {
                0
            } else {
                6
            };
            let report = fsck(&scene, status).unwrap();
            findings(&report);
            assert_eq!(broken_images(&report), expected, "{on:?} {seed} {removed:?}");
            let mut tags: BTreeSet<(String, String)> = scene
                .truth
                .tags
                .iter()
                .filter(|tag| expected.contains(&(tag.repository.clone(), tag.digest.clone())))
                .map(|tag| (tag.repository.clone(), tag.tag.clone()))
                .collect();
            tags.retain(|tag| !cut_off.contains(tag));
            tags.extend(cut_off);
            assert_eq!(broken_tags(&report), tags, "{on:?} {seed} {removed:?}");
        }
    }
}
