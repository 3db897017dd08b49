//! What cannot be checked is no intact registry, and no broken one.

use hardprune_tests::s3_server::{Effect, Fault, Operation};

use crate::scene::{On, scene};

#[test]
fn what_is_no_registry_is_said() {
    let scene = scene(On::Folder, 51).unwrap();
    let name = scene.store_names().remove(0);
    let empty = scene.folder().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    let blobs = format!("{name}/docker/registry/v2/blobs");
    let cases: [(&[&str], i32, &str); 7] = [
        (&["fsck"], 2, "which registry?"),
        (&["fsck", empty], 2, "holds no registry"),
        (&["fsck", &blobs], 2, "holds no registry"),
        (&["fsck", "/nowhere/at/all"], 2, "/nowhere/at/all"),
        (
            &["fsck", &name, "--restore"],
            2,
            "it needs --references openshift",
        ),
        (&["fsck", &name, "--confirm"], 2, "--restore"),
        (&["fsck", &name, "--spool-dir", "/nowhere"], 1, "--spool-dir"),
    ];
    for (arguments, status, said) in cases {
        let finished = scene.program.run(arguments).unwrap();
        assert_eq!(finished.status, status, "{arguments:?}: {}", finished.stderr);
        assert!(
            finished.stderr.contains(said),
            "{arguments:?}: {}",
            finished.stderr
        );
        assert_eq!(finished.stdout, "", "{arguments:?}");
    }
}

/// Where a listing or a read fails nothing is known: that is no finding.
#[test]
fn a_store_that_fails_is_no_broken_registry() {
    use Operation::{Get, List};
    let cases = [
        (List, "repositories/", Effect::Status(403, "AccessDenied")),
        (List, "blobs/sha256/a", Effect::Status(403, "AccessDenied")),
        (List, "blobs/sha256/a", Effect::TruncatedWithoutToken),
        (List, "repositories/", Effect::Html200),
        (Get, "/tags/", Effect::Status(500, "InternalError")),
        (Get, "blobs/", Effect::Status(500, "InternalError")),
    ];
    for (operation, keys, effect) in cases {
        let scene = scene(On::S3, 52).unwrap();
        let name = scene.store_names().remove(0);
        let fault = Fault::on(operation, effect.clone()).of_keys_with(keys);
        scene.server().unwrap().faults().add(fault);
        let quickly = ["--retry-pause", "1ms"];
        let finished = scene
            .program
            .run(&[&["fsck", &name][..], &quickly].concat())
            .unwrap();
        assert_eq!(
            finished.status, 1,
            "{keys} {effect:?}: {}{}",
            finished.stdout, finished.stderr
        );
        assert_eq!(finished.stdout, "", "{keys} {effect:?}");
    }
}
