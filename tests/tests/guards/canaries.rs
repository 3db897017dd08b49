//! What must be kept, and whether it would be.

use hardprune_tests::generate::Shape;
use hardprune_tests::manifests::Content;
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::{blob_key, layer_link_key, revision_link_key, tag_link_key};
use hardprune_tests::truth::Tag;

use crate::scene::{EVERYWHERE, On, images, passes, put, refuses, scene};

fn file(scene: &Scene, text: &str) -> String {
    let path = scene.folder().join("keep");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn refuses_for(scene: &Scene, lines: &str, options: &[&str], parts: &[&str]) {
    let keep = file(scene, lines);
    let options = [options, &["--must-keep", &keep]].concat();
    refuses(scene, &options, &["must_keep"], parts).unwrap();
}

fn named(tag: &Tag) -> String {
    format!("{}:{}", tag.repository, tag.tag)
}

#[test]
fn what_is_whole_and_stays_is_no_reason_to_refuse() {
    for on in EVERYWHERE {
        let scene = scene(on, &Shape::small(81)).unwrap();
        let mut lines = vec!["# All that is live.".to_owned(), String::new()];
        for tag in &scene.truth.tags {
            lines.push(named(tag));
            lines.push(format!("  {}@{}  ", tag.repository, tag.digest));
        }
        lines.extend(scene.truth.live.keys().cloned());
        let keep = file(&scene, &lines.join("\n"));
        passes(&scene, &["--must-keep", &keep]).unwrap();
        scene.check_intact().unwrap();
    }
}

#[test]
fn a_blob_that_would_go() {
    for on in EVERYWHERE {
        let scene = scene(on, &Shape::small(82)).unwrap();
        let orphan = scene.truth.orphans.keys().next().unwrap();
        let live = named(&scene.truth.tags[0]);
        let wanted = format!("{orphan}: the plan would remove {}", blob_key(orphan));
        refuses_for(&scene, &format!("{live}\n{orphan}\n"), &[], &["1 of 2", &wanted]);
    }
}

#[test]
fn what_is_not_there() {
    let scene = scene(On::Folder, &Shape::small(83)).unwrap();
    let tag = &scene.truth.tags[0];
    let gone = Content::new("", b"nobody has this".to_vec()).digest;
    for (line, part) in [
        (gone.clone(), format!("blob {gone} is not there")),
        (
            format!("{}:gone", tag.repository),
            "current/link is not there".to_owned(),
        ),
        (
            format!("{}@{gone}", tag.repository),
            format!("{} is not there", revision_link_key(&tag.repository, &gone)),
        ),
        (format!("nowhere@{}", tag.digest), "is not there".to_owned()),
    ] {
        refuses_for(&scene, &line, &[], &[&part]);
    }
}

#[test]
fn an_image_that_is_not_whole() {
    for on in EVERYWHERE {
        let scene = scene(on, &Shape::small(84)).unwrap();
        let images = images(&scene).unwrap();
        let (tag, layer) = &images[0];
        scene.storage().remove(&blob_key(layer)).unwrap();
        refuses_for(&scene, &named(tag), &[], &[&format!("blob {layer} is not there")]);

        let (broken, _) = &images[1];
        put(&scene, &blob_key(&broken.digest), b"{}").unwrap();
        let part = format!("manifest {} has other bytes", broken.digest);
        refuses_for(&scene, &named(broken), &[], &[&part]);

        let (untagged, _) = &images[2];
        put(
            &scene,
            &tag_link_key(&untagged.repository, &untagged.tag),
            b"garbage",
        )
        .unwrap();
        refuses_for(&scene, &named(untagged), &[], &["cannot be read"]);
    }
}

/// What other options take for dead.
#[test]
fn an_image_whose_links_would_go() {
    let scene = scene(On::Folder, &Shape::small(85)).unwrap();
    let revisions: Vec<(String, String)> = scene
        .start
        .0
        .keys()
        .filter_map(|key| {
            let (repository, rest) = key
                .split_once("/repositories/")?
                .1
                .split_once("/_manifests/revisions/sha256/")?;
            Some((
                repository.to_owned(),
                format!("sha256:{}", rest.strip_suffix("/link")?),
            ))
        })
        .collect();
    let (repository, untagged) = revisions
        .iter()
        .find(|(_, digest)| scene.truth.untagged.contains_key(digest))
        .unwrap();
    let line = format!("{repository}@{untagged}");
    let link = revision_link_key(repository, untagged);
    let part = format!("{line}: the plan would remove ");
    refuses_for(&scene, &line, &["--delete-untagged"], &[&part]);
    assert!(scene.storage().get(&link).unwrap().is_some());
    let keep = file(&scene, &line);
    passes(&scene, &["--must-keep", &keep]).unwrap();
}

/// Of foreign layers there need be no blob, and children that were never pushed are not served now either.
#[test]
fn windows_images_and_sparse_indexes_are_whole() {
    let mut scene = scene(On::Folder, &Shape::small(86)).unwrap();
    let (_, layer) = images(&scene).unwrap().swap_remove(0);
    let absent = Content::new("", b"nobody has this".to_vec()).digest;
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let image = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{layer}"}},"layers":[{{"mediaType":"{foreign}","digest":"{absent}"}}]}}"#
    );
    let image = Content::new("", image.into_bytes());
    crate::scene::put_manifest(&scene, "windows", "image", &image.digest, &image.bytes).unwrap();
    put(&scene, &layer_link_key("windows", &layer), layer.as_bytes()).unwrap();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{absent}"}},{{"digest":"{}"}}]}}"#,
        image.digest
    );
    let index = Content::new("", index.into_bytes());
    crate::scene::put_manifest(&scene, "windows", "index", &index.digest, &index.bytes).unwrap();
    scene.start = scene.inventory().unwrap();
    let keep = file(&scene, "windows:image\nwindows:index\n");
    passes(&scene, &["--must-keep", &keep]).unwrap();
}

#[test]
fn a_file_that_cannot_be_understood_is_an_error_of_use() {
    let scene = scene(On::Folder, &Shape::small(87)).unwrap();
    let orphan = scene.truth.orphans.keys().next().unwrap();
    for (text, parts) in [
        (format!("{orphan}\n\n# x\nweb"), vec!["line 4", "\"web\""]),
        ("sha256:abc\n".to_owned(), vec!["line 1", "is no digest"]),
        (
            "host:5000/web:v1\n".to_owned(),
            vec!["line 1", "without the registry's host"],
        ),
        ("# nothing\n".to_owned(), vec!["names nothing"]),
    ] {
        let keep = file(&scene, &text);
        let finished = scene.program.run(&scene.delete(&["--must-keep", &keep])).unwrap();
        assert_eq!(finished.status, 2, "{finished:?}");
        for part in parts {
            assert!(finished.stderr.contains(part), "{part:?}: {}", finished.stderr);
        }
    }
    let finished = scene
        .program
        .run(&scene.delete(&["--must-keep", "/nowhere/keep"]))
        .unwrap();
    assert_eq!(finished.status, 2, "{finished:?}");
    assert!(scene.difference().unwrap().removed.is_empty());
}
