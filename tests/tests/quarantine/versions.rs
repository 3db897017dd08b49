//! A bucket that keeps versions: what went is hidden, not copied, and undo takes the delete markers away.

use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Scene, number};

use crate::scene::{UNTAGGED, copies, of, registry_of, restore};

fn versioned() -> Scene {
    let options = S3Options {
        versioned: true,
        ..S3Options::default()
    };
    Scene::on_s3(&Shape::small(5), options).unwrap()
}

#[test]
fn delete_markers_are_taken_away() {
    let scene = versioned();
    let before = registry_of(&scene).unwrap();
    let mut options = UNTAGGED.to_vec();
    options.push("--accept-versioned");
    let report = scene.report(0, &scene.delete(&options)).unwrap();
    let run = report["run"].as_str().unwrap();
    assert_eq!(number(&report, "/bytes/freed").unwrap(), 0, "{report}");
    assert!(number(&report, "/bytes/hidden").unwrap() > 0, "{report}");
    assert!(copies(&scene).unwrap().is_empty());
    scene.check_intact().unwrap();

    // One orphan comes back first, then all.
    let digest = scene.truth.orphans.keys().next().unwrap();
    let one = restore(&scene, run, &["--digest", digest]).unwrap();
    assert_eq!(number(&one, "/blobs").unwrap(), 1, "{one}");
    let all = restore(&scene, run, &[]).unwrap();
    assert_eq!(
        number(&all, "/blobs").unwrap() + 1,
        number(&report, "/blobs/deleted").unwrap(),
        "{all}"
    );
    assert_eq!(registry_of(&scene).unwrap(), before);

    let names = scene.store_names();
    let refused = scene
        .run_with("", &of(&names, &["purge", run, "--assume-read-only"]))
        .unwrap();
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("lifecycle rule"), "{refused:?}");
}

#[test]
fn what_was_pushed_since_is_left_alone() {
    let scene = versioned();
    let mut options = UNTAGGED.to_vec();
    options.push("--accept-versioned");
    let report = scene.report(0, &scene.delete(&options)).unwrap();
    let run = report["run"].as_str().unwrap();
    let digest = scene.truth.orphans.keys().next().unwrap();
    let key = hardprune_tests::storage_writer::blob_key(digest);
    scene.server().unwrap().put(&key, "pushed since", None);
    let restored = restore(&scene, run, &[]).unwrap();
    assert_eq!(number(&restored, "/already_there").unwrap(), 1, "{restored}");
    assert_eq!(scene.storage().get(&key).unwrap().unwrap(), b"pushed since");
}
