//! Uploads that went on when the registry became read-only.

use std::time::SystemTime;

use hardprune_tests::generate::Shape;
use hardprune_tests::scene::Scene;

use crate::scripted::{Switchable, delete, refused};

const UPLOAD: &str = "docker/registry/v2/repositories/team/app/_uploads/5f/data";

fn begin_upload(scene: &Scene, modified: SystemTime) {
    scene.storage().put(UPLOAD, b"the beginning", modified).unwrap();
}

fn hour() -> std::time::Duration {
    std::time::Duration::from_secs(3600)
}

#[test]
fn one_that_was_given_up_is_not_waited_for() {
    let scene = Scene::on_folder(&Shape::small(23)).unwrap();
    begin_upload(&scene, SystemTime::now() - hour());
    let registry = Switchable::start().unwrap();
    let url = registry.server.url();
    let report = scene
        .report(0, &delete(&scene, &["--registry-url", &url]))
        .unwrap();
    assert_eq!(report["read_only"], "proved");
    assert!(scene.storage().get(UPLOAD).unwrap().is_some());
}

#[test]
fn one_that_is_written_to_refuses_in_the_end() {
    let scene = Scene::on_folder(&Shape::small(23)).unwrap();
    // As one that is written to all the time shows: always newer than the switch.
    begin_upload(&scene, SystemTime::now() + hour());
    let registry = Switchable::start().unwrap();
    let url = registry.server.url();
    let arguments = delete(&scene, &["--registry-url", &url, "--drain-uploads", "300ms"]);
    let finished = scene.program.run(&arguments).unwrap();
    refused(
        &scene,
        &finished,
        &["team/app/_uploads/5f/data", "--drain-uploads"],
    )
    .unwrap();
}

#[test]
fn one_that_ends_is_waited_for() {
    let scene = Scene::on_folder(&Shape::small(23)).unwrap();
    begin_upload(&scene, SystemTime::now() + hour());
    let registry = Switchable::start().unwrap();
    let url = registry.server.url();
    let arguments = delete(&scene, &["--registry-url", &url]);
    let hold = scene.folder().join("hold");
    let mut running =
        hardprune_tests::scene::Running::of(scene.start_with("", &arguments).unwrap(), hold).unwrap();
    running.wait_for_line("waits for uploads in flight").unwrap();
    // It waits as long as there is an upload. What a push adds at its end is seen by the mark.
    scene.storage().remove(UPLOAD).unwrap();
    let finished = running.finish().unwrap();
    assert_eq!(finished.status, 0, "{finished:?}");
}
