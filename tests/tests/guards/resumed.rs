//! A run that is resumed: what it has deleted counts, and the limits are those of the new command line.

use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{KILLED, Scene, number, report_of};

use crate::scene::{On, names, scene};

const ORPHANS: u64 = 120;

/// A run that was killed in the middle of its deletes, under these limits.
fn killed(limits: &[&str]) -> Scene {
    let shape = Shape {
        orphans: usize::try_from(ORPHANS).unwrap(),
        ..Shape::small(91)
    };
    let scene = scene(On::Folder, &shape).unwrap();
    // One request after the other, so that some have ended and others have not begun.
    let options = [&["--concurrency", "1"], limits].concat();
    let killed = scene
        .run_with("delete-before-request=6*off->return", &scene.delete(&options))
        .unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    let went = scene.difference().unwrap().removed_blobs().len() as u64;
    assert!((1..ORPHANS).contains(&went), "{went} went");
    scene
}

#[test]
fn a_resume_cannot_exceed_what_the_run_may_delete() {
    for (too_low, enough, guard) in [
        (
            ["--max-delete-blobs", "119"],
            ["--max-delete-blobs", "120"],
            "max_delete_blobs",
        ),
        (
            ["--max-delete-percent", "20"],
            ["--max-delete-percent", "60"],
            "max_delete_percent",
        ),
    ] {
        let scene = killed(&enough);
        let before = scene.difference().unwrap().removed_blobs();
        let finished = scene
            .program
            .run(&scene.delete(&[&["--resume", "auto"], &too_low[..]].concat()))
            .unwrap();
        // Something was deleted, if not by this epoch.
        let report = report_of(&finished, 4).unwrap();
        assert!(names(&report).contains(&guard), "{report:#}");
        assert!(
            finished.stderr.contains("that this run has deleted before"),
            "{}",
            finished.stderr
        );
        assert_eq!(scene.difference().unwrap().removed_blobs(), before);

        let resumed = [&["--resume", "auto"], &enough[..]].concat();
        let report = scene.report(0, &scene.delete(&resumed)).unwrap();
        assert!(names(&report).is_empty(), "{report:#}");
        assert_eq!(number(&report, "/blobs/deleted").unwrap(), ORPHANS, "{report:#}");
        scene.check_finished(&report, &scene.orphans()).unwrap();
    }
}

#[test]
fn a_resume_has_the_limits_of_its_own_command_line() {
    let scene = killed(&["--max-delete-blobs", "120"]);
    let report = scene.report(0, &scene.resume()).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
}
