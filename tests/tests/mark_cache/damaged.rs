//! What lies in the state store may be damaged, another registry's, of another version, or forged: then manifests are read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use hardprune_common::digest::{Algorithm, Digest};
use hardprune_common::mark_cache::{BlockBuffer, CacheBlock, Cached, cache_folder};
use hardprune_common::state::{FileRef, StateStore};
use hardprune_common::store::filesystem::FilesystemStore;
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::blob_key;
use serde_json::Value;
use std::sync::Arc;

use crate::scene::*;

/// Runs a check that finds the same as one without the cache. Returns how many manifests it knew.
fn known(scene: &Scene) -> u64 {
    manifests_of(&check_both_ways(scene, &[]).unwrap()).unwrap().1
}

fn files(scene: &Scene, name: &str) -> Vec<PathBuf> {
    let files = cache_files(scene).unwrap();
    let is_named = |path: &PathBuf| path.to_string_lossy().contains(name);
    files.into_iter().filter(is_named).collect()
}

fn damage(path: &Path, how: usize) {
    let bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    match how {
        0 => fs::write(path, &bytes[..middle]).unwrap(),
        1 => fs::write(path, []).unwrap(),
        2 => {
            let mut bytes = bytes;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        3 => fs::write(path, [bytes.as_slice(), b"x"].concat()).unwrap(),
        _ => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn damaged_and_missing_files_are_misses() {
    for how in 0..5 {
        for name in ["latest.json", "/index-", ".blocks.jsonl", ".manifests"] {
            let scene = on_folder();
            let all = scene.truth.manifests as u64;
            scene.check(&[]).unwrap();
            let damaged = files(&scene, name);
            assert!(!damaged.is_empty(), "{name}");
            damaged.iter().for_each(|path| damage(path, how));
            assert_eq!(known(&scene), 0, "{name} {how}");
            // And then all is known again.
            assert_eq!(manifests_of(&scene.check(&[]).unwrap()).unwrap(), (0, all));
        }
    }
}

#[test]
fn one_damaged_block_is_one_ranges_manifests() {
    let scene = on_s3();
    let all = scene.truth.manifests as u64;
    scene.check(&[]).unwrap();
    damage(&files(&scene, ".manifests")[0], 2);
    let known = known(&scene);
    assert!(known > 0 && known < all, "{known} of {all}");
}

/// The folder of a registry's cache in the state of checks.
fn folder(scene: &Scene, registry: &str) -> PathBuf {
    scene
        .program
        .home()
        .join(".local/state")
        .join(cache_folder(registry))
}

#[test]
fn another_registrys_cache_is_a_miss() {
    let (scene, other) = (on_folder(), on_folder());
    let identity = |scene: &Scene| scene.check(&[]).unwrap()["registry"].as_str().unwrap().to_owned();
    let (ours, theirs) = (identity(&scene), identity(&other));
    fs::remove_dir_all(folder(&scene, &ours)).unwrap();
    fs::rename(folder(&other, &theirs), folder(&scene, &ours)).unwrap();
    assert_eq!(known(&scene), 0);
}

/// Changes the index, and has the rest name what it is now: as one would who can write to the state store.
fn forge(scene: &Scene, change: impl FnOnce(&mut Value)) -> Result<()> {
    let state = scene.program.home().join(".local/state");
    let latest_file = files(scene, "latest.json").swap_remove(0);
    let mut latest: Value = serde_json::from_slice(&fs::read(&latest_file)?)?;
    let index_file = state.join(latest["index"]["key"].as_str().context("an index has a key")?);
    let mut index: Value = serde_json::from_slice(&fs::read(&index_file)?)?;
    change(&mut index);
    let bytes = serde_json::to_vec(&index)?;
    latest["index"]["sha256"] = Digest::of(Algorithm::Sha256, &bytes).to_string().into();
    latest["index"]["size"] = bytes.len().into();
    if let Some(version) = index["version"].as_u64() {
        latest["version"] = version.into();
    }
    fs::write(index_file, bytes)?;
    fs::write(latest_file, serde_json::to_vec(&latest)?)?;
    Ok(())
}

fn state_of(scene: &Scene) -> StateStore {
    let folder = scene.program.home().join(".local/state");
    StateStore::new(Arc::new(FilesystemStore::open(&folder).unwrap()))
}

/// Replaces every block by one with these bytes in the place of each manifest.
fn forge_blocks(scene: &Scene, bytes_of: impl Fn(&str, &str) -> Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let registry = scene.check(&[]).unwrap()["registry"].as_str().unwrap().to_owned();
    let state = state_of(scene);
    let mut buffer = BlockBuffer::default();
    for (repository, digest) in revisions(scene.storage()).unwrap() {
        let cached = Cached::Bytes {
            verified: i64::MAX,
            bytes: Bytes::from(bytes_of(&repository, &digest)),
        };
        assert!(
            buffer
                .push(&repository, &digest.parse().unwrap(), cached)
                .is_none()
        );
    }
    let key = format!("{}forged.manifests", cache_folder(&registry));
    let block = runtime.block_on(buffer.write(&state, &key)).unwrap().unwrap();
    let key = format!("{}forged.blocks.jsonl", cache_folder(&registry));
    let list = runtime.block_on(state.write_lines(&key, &[block])).unwrap();
    let list = serde_json::to_value(&list).unwrap();
    forge(scene, |index| {
        for range in index["ranges"].as_array_mut().unwrap() {
            range["blocks"] = vec![list.clone()].into();
        }
    })
    .unwrap();
}

/// Who can write to the state store says that no manifest needs anything, and is not believed (R1).
#[test]
fn forged_manifests_are_misses() {
    let scene = on_folder();
    forge_blocks(&scene, |_, _| {
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#
            .to_vec()
    });
    assert_eq!(known(&scene), 0);
    // The same with each manifest's own bytes, so that it was the bytes that were not believed.
    forge_blocks(&scene, |_, digest| {
        scene.storage().get(&blob_key(digest)).unwrap().unwrap()
    });
    assert_eq!(known(&scene), scene.truth.manifests as u64);
    // And with the bytes of a manifest that is gone: what was remembered must be there.
    let (_, lost) = revisions(scene.storage()).unwrap().swap_remove(0);
    let bytes = scene.storage().get(&blob_key(&lost)).unwrap().unwrap();
    scene.storage().remove(&blob_key(&lost)).unwrap();
    forge_blocks(&scene, |_, digest| {
        let found = scene.storage().get(&blob_key(digest)).unwrap();
        found.unwrap_or_else(|| bytes.clone())
    });
    let report = check_both_ways(&scene, &[]).unwrap();
    assert_eq!(report["manifests"]["missing"], 1);
}

/// Ranges that take a repository apart would hide its tags from its manifests.
#[test]
fn forged_ranges_are_a_miss() {
    let scene = on_s3();
    let options = ["--delete-untagged", "--accept-untagged-repositories"];
    for cut in [
        "docker/registry/v2/repositories/team-01/app-1/_manifests/tags/",
        "docker/registry/v2/repositories/team-01/app-1/_m",
        "docker/registry/v2/blobs/",
        "",
    ] {
        scene.check(&[]).unwrap();
        forge(&scene, |index| {
            let range = index["ranges"][0].clone();
            let (mut first, mut second) = (range.clone(), range);
            first["range"] = serde_json::json!({"after": null, "to": cut});
            second["range"] = serde_json::json!({"after": cut, "to": null});
            index["ranges"] = vec![first, second].into();
        })
        .unwrap();
        let report = check_both_ways(&scene, &options).unwrap();
        assert_eq!(manifests_of(&report).unwrap().1, 0, "{cut}");
    }
    // Half of the key space is none.
    forge(&scene, |index| {
        index["ranges"].as_array_mut().unwrap().truncate(1)
    })
    .unwrap();
    assert_eq!(known(&scene), 0);
    // A file that is not the cache's own is nothing that the cache may name, or remove.
    forge(&scene, |index| {
        let file = FileRef {
            key: "hardprune/runs/x".to_owned(),
            sha256: Digest::of(Algorithm::Sha256, b""),
            size: 0,
            items: 1,
        };
        index["excluded"] = vec![serde_json::to_value(file).unwrap()].into();
    })
    .unwrap();
    assert_eq!(known(&scene), 0);
}

#[test]
fn another_version_is_a_miss() {
    let scene = on_s3();
    scene.check(&[]).unwrap();
    forge(&scene, |index| index["version"] = 2.into()).unwrap();
    assert_eq!(known(&scene), 0);
    // A newer one that this version cannot read at all.
    forge(&scene, |index| {
        index["version"] = 2.into();
        index.as_object_mut().unwrap().remove("ranges");
    })
    .unwrap();
    assert_eq!(known(&scene), 0);
    // Blocks of another kind.
    scene.check(&[]).unwrap();
    let state = state_of(&scene);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let file = |path: &Path| {
        path.strip_prefix(scene.program.home().join(".local/state"))
            .unwrap()
            .display()
            .to_string()
    };
    for list in files(&scene, ".blocks.jsonl") {
        let text = fs::read_to_string(&list).unwrap();
        let mut blocks: Vec<CacheBlock> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for block in &mut blocks {
            let written = state.write(&block.file.key, Bytes::from_static(b"HPC2"), 1);
            block.file = runtime.block_on(written).unwrap();
        }
        let old = Digest::of(Algorithm::Sha256, text.as_bytes()).to_string();
        let new = runtime
            .block_on(state.write_lines(&file(&list), &blocks))
            .unwrap();
        forge(&scene, |index| {
            let text = index.to_string().replace(&old, &new.sha256.to_string());
            *index = serde_json::from_str(&text).unwrap();
        })
        .unwrap();
    }
    assert_eq!(known(&scene), 0);
}
