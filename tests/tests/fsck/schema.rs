//! What is printed as JSON is what `docs/fsck.schema.json` says, and the schema says all that is in it.

use std::collections::BTreeSet;

use hardprune_tests::kubernetes_api::{Effect, Fault};
use hardprune_tests::scene::report_of;
use hardprune_tests::storage_writer::{blob_key, layer_link_key, revision_link_key};
use serde_json::{Value, json};

use crate::json_schema::ensure_fits;
use crate::openshift::{ClusterScene, GHOST, keep_a_gone_streams_revisions, lose_the_index, revision};
use crate::scene::{EVERYWHERE, On, fsck, images, indexes, point_tag, put, scene};

const SCHEMA: &str = include_str!("../../../docs/fsck.schema.json");
const DOCUMENT: &str = include_str!("../../../docs/fsck.md");

fn ensure_valid(report: &Value) {
    ensure_fits(SCHEMA, report).unwrap();
}

fn kinds(report: &Value) -> BTreeSet<&str> {
    let by_kind = report["broken"]["by_kind"].as_object().unwrap();
    by_kind.keys().map(String::as_str).collect()
}

#[test]
fn a_registry_that_is_intact_and_one_that_is_broken_in_many_ways() {
    for on in EVERYWHERE {
        let scene = scene(on, 71).unwrap();
        ensure_valid(&fsck(&scene, 0).unwrap());

        let all = images(&scene).unwrap();
        let storage = scene.storage();
        storage.remove(&blob_key(all[0].layer())).unwrap();
        storage.remove(&blob_key(all[1].config())).unwrap();
        put(&scene, &blob_key(&all[2].digest), b"{}").unwrap();
        storage
            .remove(&layer_link_key(&all[3].repository, all[3].layer()))
            .unwrap();
        point_tag(&scene, &all[4], b"no digest").unwrap();
        put(&scene, &blob_key(all[5].layer()), b"of another size").unwrap();
        let index = &indexes(&scene).unwrap()[0];
        let child = index.manifest["manifests"][0]["digest"].as_str().unwrap();
        storage.remove(&blob_key(child)).unwrap();
        storage
            .remove(&revision_link_key(&index.repository, child))
            .unwrap();
        let broken = fsck(&scene, 6).unwrap();
        ensure_valid(&broken);
        let expected = [
            "child_missing",
            "config_missing",
            "layer_link_missing",
            "layer_missing",
            "manifest_corrupt",
            "size_differs",
            "tag_link_invalid",
        ];
        assert_eq!(kinds(&broken), BTreeSet::from(expected), "{broken:#}");

        let name = scene.store_names().remove(0);
        let arguments = ["fsck", &name, "--output", "json", "--namespace", "team-0"];
        let finished = scene.program.run(&arguments).unwrap();
        let status = finished.status;
        ensure_valid(&report_of(&finished, status).unwrap());
    }
}

/// A cluster that lost an image and a stream, and has tags that name nothing.
fn damaged(on: On) -> ClusterScene {
    ClusterScene::with(
        lose_the_index,
        |files| {
            keep_a_gone_streams_revisions(files);
            // No namespace of a cluster can have it.
            files.insert(revision("gone/app/deeper", GHOST), GHOST.to_owned());
        },
        on,
    )
}

#[test]
fn a_cluster_that_is_intact_and_one_that_is_restored() {
    for on in EVERYWHERE {
        ensure_valid(&ClusterScene::new(on).fsck(0, &[]));
        let scene = damaged(on);
        let lost = scene.fsck(6, &[]);
        ensure_valid(&lost);
        let expected = ["image_missing", "metadata_lost", "tag_image_invalid"];
        assert_eq!(kinds(&lost), BTreeSet::from(expected), "{lost:#}");
        let dry = scene.fsck(6, &["--restore"]);
        ensure_valid(&dry);
        assert!(dry["restore"]["would_restore"].as_u64() > Some(0), "{dry:#}");
        assert!(dry["restore"]["not_possible"].as_u64() > Some(0), "{dry:#}");

        let refuses = Effect::Status(403, "not today".to_owned());
        scene.api().fault(Fault::on("POST", "/namespaces/gone/", refuses));
        let partly = scene.fsck(5, &["--restore", "--confirm"]);
        ensure_valid(&partly);
        assert!(partly["restore"]["restored"].as_u64() > Some(0), "{partly:#}");
        assert!(partly["restore"]["failed"].as_u64() > Some(0), "{partly:#}");
    }
}

#[test]
fn the_schema_is_strict_enough_to_refuse_what_is_no_report() {
    let scene = damaged(On::Folder);
    let good = scene.fsck(6, &["--restore"]);
    ensure_valid(&good);
    for path in [
        "/version",
        "/tool",
        "/sources",
        "/started",
        "/finished",
        "/seconds",
        "/seen/repositories",
        "/broken/images",
        "/broken/by_kind",
        "/restore/would_restore",
        "/requests/get",
        "/findings",
        "/findings/0/tags",
        "/findings/0/kind",
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = json!("x");
        assert!(ensure_fits(SCHEMA, &bad).is_err(), "{path} may be anything");
        let mut less = good.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = less.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(name);
        assert!(ensure_fits(SCHEMA, &less).is_err(), "{path} may be missing");
    }
    let mut more = good.clone();
    more["findings"][0]["colour"] = json!("red");
    assert!(
        ensure_fits(SCHEMA, &more).is_err(),
        "a field that is not described"
    );
}

/// The schema, and the table for people.
#[test]
fn every_kind_is_documented() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let kinds = schema["$defs"]["kind"]["enum"].as_array().unwrap();
    let in_schema: BTreeSet<&str> = kinds.iter().filter_map(Value::as_str).collect();
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    let in_document: BTreeSet<&str> = rows
        .flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(in_schema, in_document);
}
