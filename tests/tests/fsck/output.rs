//! What people read.

use hardprune_tests::storage_writer::{blob_key, revision_link_key};

use crate::scene::{On, findings, fsck, images, put, scene};

#[test]
fn the_summary_comes_first_then_what_is_broken() {
    let scene = scene(On::Folder, 41).unwrap();
    let name = scene.store_names().remove(0);
    let intact = scene.program.run(&["fsck", &name]).unwrap();
    assert_eq!(intact.status, 0, "{}", intact.stderr);
    assert!(
        intact.stdout.ends_with("\nNothing is broken\n"),
        "{}",
        intact.stdout
    );

    let image = &images(&scene).unwrap()[0];
    scene.storage().remove(&blob_key(image.layer())).unwrap();
    let broken = scene.program.run(&["fsck", &name]).unwrap();
    assert_eq!(broken.status, 6, "{}", broken.stderr);
    let lines: Vec<&str> = broken.stdout.lines().collect();
    let (repository, tag, digest, layer) = (&image.repository, &image.tag, &image.digest, image.layer());
    let expected = [
        "Looked at 7 repositories, 35 tags, 48 manifests, 178 blobs that they need".to_owned(),
        "Broken: 1 images, 1 tags".to_owned(),
        "  layer_missing 1".to_owned(),
        format!("{repository}:{tag} {repository}@{digest}: a layer is missing: {layer}"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn people_get_the_first_and_programs_get_all() {
    let scene = scene(On::Folder, 42).unwrap();
    let name = scene.store_names().remove(0);
    for number in 0..150u32 {
        let digest = format!("sha256:{number:064x}");
        put(&scene, &revision_link_key("team-0", &digest), digest.as_bytes()).unwrap();
    }
    let text = scene.program.run(&["fsck", &name]).unwrap();
    let shown = text
        .stdout
        .lines()
        .filter(|line| line.starts_with("team-0@"))
        .count();
    assert_eq!(shown, 100, "{}", text.stdout);
    assert!(
        text.stdout
            .ends_with("… and 50 more: --output json has all of them\n"),
        "{}",
        text.stdout
    );
    assert_eq!(findings(&fsck(&scene, 6).unwrap()).len(), 150);
}

#[test]
fn no_terminal_obeys_a_registry() {
    let scene = scene(On::Folder, 43).unwrap();
    let name = scene.store_names().remove(0);
    let image = &images(&scene).unwrap()[0];
    let key = format!(
        "docker/registry/v2/repositories/{}/_manifests/tags/\u{1b}[2J/current/link",
        image.repository
    );
    put(&scene, &key, b"\x1b[31m").unwrap();
    let broken = scene.program.run(&["fsck", &name]).unwrap();
    assert_eq!(broken.status, 6, "{}", broken.stderr);
    assert!(
        !broken.stdout.contains('\u{1b}') && !broken.stderr.contains('\u{1b}'),
        "{}",
        broken.stdout
    );
}
