//! Symbolic links in a filesystem registry: followed when marking, never when deleting.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use hardprune_tests::inventory::Inventory;
use hardprune_tests::storage_writer::{Folder, blob_key};
use tempfile::TempDir;

use crate::scene::{Image, On, Scene, blob, number};

const REPOSITORIES: &str = "docker/registry/v2/repositories";
const BLOBS: &str = "docker/registry/v2/blobs/sha256";

fn scene() -> Result<(Scene, TempDir)> {
    Ok((Scene::new(On::Folder)?, tempfile::tempdir()?))
}

/// Moves a folder of the registry elsewhere and leaves a symbolic link in its place.
fn move_away(scene: &Scene, path: &str, elsewhere: &TempDir) -> Result<PathBuf> {
    let (from, to) = (scene.root().join(path), elsewhere.path().join("moved"));
    let copied = Command::new("cp").arg("-a").args([&from, &to]).status()?;
    ensure!(copied.success(), "{} cannot be copied", from.display());
    fs::remove_dir_all(&from)?;
    symlink(&to, &from)?;
    Ok(to)
}

fn files(folder: &Path) -> Result<Inventory> {
    Inventory::take(&Folder::new(folder))
}

#[test]
fn references_of_a_repository_behind_a_link_count_and_nothing_there_goes() {
    let (scene, elsewhere) = scene().unwrap();
    let (image, dangling) = (Image::new(1), blob(2));
    scene.put_image("linked/app", &image).unwrap();
    scene.put_blob(&dangling).unwrap();
    scene.put_layer_link("linked/app", &dangling.digest).unwrap();
    let moved = move_away(&scene, &format!("{REPOSITORIES}/linked"), &elsewhere).unwrap();
    let before = files(&moved).unwrap();
    scene.prunes_exactly(&[&dangling]).unwrap();
    assert!(
        before.until(&files(&moved).unwrap()).is_empty(),
        "something behind the link went"
    );
}

#[test]
fn also_where_untagged_manifests_go() {
    let (scene, elsewhere) = scene().unwrap();
    let image = Image::new(1);
    scene.put_image("linked/app", &image).unwrap();
    scene.put_image("linked/app", &Image::new(2)).unwrap();
    let moved = move_away(&scene, &format!("{REPOSITORIES}/linked"), &elsewhere).unwrap();
    let before = files(&moved).unwrap();
    let registry = scene.snapshot().unwrap();
    let more = [
        "--delete-untagged",
        "--delete-empty-repositories",
        "--prune-broken",
    ];
    scene.report(0, "delete", &more).unwrap();
    assert!(
        before.until(&files(&moved).unwrap()).is_empty(),
        "something behind the link went"
    );
    // What cannot be unlinked is still served: all that its revisions need must be left.
    let gone = registry.gone_unchecked(&scene).unwrap().removed_blobs();
    for image in [&image, &Image::new(2)] {
        for blob in [&image.config, &image.layer, &image.manifest] {
            assert!(!gone.contains_key(&blob.digest), "{} went", blob.digest);
        }
    }
}

#[test]
fn a_repository_with_two_names() {
    let (scene, _elsewhere) = scene().unwrap();
    scene.put_image("one/app", &Image::new(1)).unwrap();
    symlink("one", scene.root().join(REPOSITORIES).join("two")).unwrap();
    let report = scene.prunes_exactly(&[]).unwrap();
    assert_eq!(number(&report, "/problems/total"), 0, "{report:#}");
}

#[test]
fn links_in_circles_end() {
    let (scene, _elsewhere) = scene().unwrap();
    let repositories = scene.root().join(REPOSITORIES);
    scene.put_image("loop/app", &Image::new(1)).unwrap();
    symlink("..", repositories.join("loop/up")).unwrap();
    symlink(".", repositories.join("here")).unwrap();
    symlink(&repositories, repositories.join("loop/app/all")).unwrap();
    symlink("itself", repositories.join("itself")).unwrap();
    scene.prunes_exactly(&[]).unwrap();
    for link in ["loop/up", "here", "loop/app/all", "itself"] {
        assert!(repositories.join(link).is_symlink(), "{link} went");
    }
}

#[test]
fn links_that_lead_nowhere_are_left_alone() {
    let (scene, _elsewhere) = scene().unwrap();
    let (root, orphan) = (scene.root(), blob(1));
    let data = root.join(blob_key(&orphan.digest));
    fs::create_dir_all(data.parent().unwrap()).unwrap();
    let links = [
        data,
        root.join(REPOSITORIES).join("nowhere"),
        root.join(REPOSITORIES).join("team-0/_layers/sha256/link"),
        root.join(BLOBS).join("nowhere"),
    ];
    for link in &links {
        symlink("/nowhere/at/all", link).unwrap();
    }
    let report = scene.prunes_exactly(&[]).unwrap();
    assert_eq!(number(&report, "/blobs/unrecognized_keys"), 4, "{report:#}");
    for link in &links {
        assert!(link.is_symlink(), "{link:?} went");
    }
}

/// The bytes of an orphan that lie elsewhere: neither they nor the link to them are this registry's to delete.
#[test]
fn a_blob_whose_bytes_lie_elsewhere() {
    let (scene, elsewhere) = scene().unwrap();
    let bytes = elsewhere.path().join("precious");
    fs::write(&bytes, "precious").unwrap();
    let (as_file, as_folder) = (blob(1), blob(2));
    let file = scene.root().join(blob_key(&as_file.digest));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    symlink(&bytes, &file).unwrap();
    scene.put_blob(&as_folder).unwrap();
    let data = scene.root().join(blob_key(&as_folder.digest));
    let folder = data
        .parent()
        .unwrap()
        .strip_prefix(scene.root())
        .unwrap()
        .to_owned();
    let moved = move_away(&scene, folder.to_str().unwrap(), &elsewhere).unwrap();
    let report = scene.prunes_exactly(&[]).unwrap();
    assert_eq!(number(&report, "/blobs/unrecognized_keys"), 2, "{report:#}");
    assert_eq!(fs::read(&bytes).unwrap(), b"precious");
    assert_eq!(fs::read(moved.join("data")).unwrap(), as_folder.bytes);
    assert!(file.is_symlink() && data.exists());
}

/// A manifest behind a link is read like any other.
#[test]
fn a_manifest_whose_bytes_lie_elsewhere_is_read() {
    let (scene, elsewhere) = scene().unwrap();
    let image = Image::new(1);
    scene.put_image("linked/app", &image).unwrap();
    let data = scene.root().join(blob_key(&image.manifest.digest));
    let bytes = elsewhere.path().join("manifest");
    fs::write(&bytes, &image.manifest.bytes).unwrap();
    fs::remove_file(&data).unwrap();
    symlink(&bytes, &data).unwrap();
    let report = scene.prunes_exactly(&[]).unwrap();
    assert_eq!(number(&report, "/frozen_repositories"), 0, "{report:#}");
}

/// A part of the blobs that lies behind a link cannot be pruned without following it: refused, with the way out.
#[test]
fn a_shard_that_lies_elsewhere() {
    let (scene, elsewhere) = scene().unwrap();
    let (orphan, _) = scene.truth.orphans.iter().next().unwrap();
    let two = &orphan["sha256:".len()..][..2];
    let moved = move_away(&scene, &format!("{BLOBS}/{two}"), &elsewhere).unwrap();
    let before = files(&moved).unwrap();
    scene
        .both_fail(2, &[], &["symbolic link", "mount it there instead", two])
        .unwrap();
    assert!(before.until(&files(&moved).unwrap()).is_empty());
}

#[test]
fn all_blobs_lie_elsewhere() {
    let (scene, elsewhere) = scene().unwrap();
    let moved = move_away(&scene, "docker/registry/v2/blobs", &elsewhere).unwrap();
    let before = files(&moved).unwrap();
    scene
        .both_fail(1, &[], &["symbolic link", "mount it there instead"])
        .unwrap();
    assert!(before.until(&files(&moved).unwrap()).is_empty());
}

/// The registry itself may be named by a link.
#[test]
fn a_root_that_is_a_link() {
    let (scene, elsewhere) = scene().unwrap();
    let link = elsewhere.path().join("registry");
    symlink(scene.root(), &link).unwrap();
    let name = link.to_str().unwrap();
    let before = scene.snapshot().unwrap();
    let arguments = scene.arguments(name, "delete", &[]);
    let report = scene.program.report(0, &arguments).unwrap();
    assert_eq!(report["registry"], scene.root().to_str().unwrap());
    let gone = before.gone(&scene).unwrap();
    assert_eq!(gone.removed_blobs(), scene.truth.orphans);
}
