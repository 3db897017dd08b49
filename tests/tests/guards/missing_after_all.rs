//! A manifest that was missing, and is there when it is looked for again.

use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::{Effect, Fault, Operation};
use hardprune_tests::scene::{Scene, report_of};
use hardprune_tests::storage_writer::blob_key;

use crate::scene::{EVERYWHERE, On, names, passes, scene};

/// Marks without a manifest, and gives it back before the plan is looked at. Returns the manifest.
fn appears(scene: &Scene, options: &[&str]) -> String {
    let manifest = scene.truth.tags[0].digest.clone();
    let key = blob_key(&manifest);
    let bytes = scene.storage().get(&key).unwrap().unwrap();
    scene.storage().remove(&key).unwrap();
    let running = scene.hold_at("after-mark", 0, &scene.delete(options)).unwrap();
    crate::scene::put(scene, &key, &bytes).unwrap();
    running.release().unwrap();
    let finished = running.finish().unwrap();
    let report = report_of(&finished, 3).unwrap();
    assert_eq!(names(&report), ["missing_after_all"], "{report:#}");
    assert!(finished.stderr.contains(&manifest), "{}", finished.stderr);
    let difference = scene.difference().unwrap();
    assert!(difference.removed_blobs().is_empty(), "{difference:?}");
    manifest
}

#[test]
fn a_manifest_that_appears_is_refused() {
    for on in EVERYWHERE {
        let scene = scene(on, &Shape::small(71)).unwrap();
        appears(&scene, &[]);
        // It was there all the time, as far as the next run can tell.
        passes(&scene, &[]).unwrap();
    }
}

/// Then its links would go.
#[test]
fn a_manifest_that_appears_is_refused_where_it_counts_as_dead() {
    let scene = scene(On::Folder, &Shape::small(72)).unwrap();
    appears(&scene, &["--prune-broken"]);
    scene.check_intact().unwrap();
}

#[test]
fn a_manifest_that_stays_missing_is_only_a_problem() {
    for on in EVERYWHERE {
        let mut scene = scene(on, &Shape::small(73)).unwrap();
        let key = blob_key(&scene.truth.tags[0].digest);
        scene.storage().remove(&key).unwrap();
        scene.start = scene.inventory().unwrap();
        let report = scene.report(0, &scene.delete(&[])).unwrap();
        assert!(names(&report).is_empty(), "{report:#}");
        assert_eq!(report["problems"]["by_kind"]["manifest_missing"], 1, "{report:#}");
    }
}

/// A storage that says once that something is not there which is.
#[test]
fn a_storage_that_does_not_read_what_was_written() {
    let scene = scene(On::S3, &Shape::small(74)).unwrap();
    let manifest = &scene.truth.tags[0].digest;
    let lie = Fault::on(Operation::Get, Effect::Status(404, "NoSuchKey"))
        .of_keys_with(blob_key(manifest))
        .times(1);
    scene.server().unwrap().faults().add(lie);
    let report =
        crate::scene::refused(&scene, &["--prune-broken"], &["missing_after_all"], &[manifest]).unwrap();
    assert_eq!(report["manifests"]["missing"], 1, "{report:#}");
    scene.check_intact().unwrap();
}
