//! However many workers there are, and wherever: the same blobs, the same report, the same bytes.

use hardprune_tests::fleet::Fleet;
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::Scene;
use serde_json::Value;

/// What of a report does not depend on when, where and by whom it was made.
fn comparable(mut report: Value) -> Value {
    for field in [
        "run", "started", "finished", "cutoff", "seconds", "requests", "workers",
    ] {
        report.as_object_mut().unwrap().remove(field).unwrap();
    }
    report
}

fn shape() -> Shape {
    Shape {
        images: 120,
        orphans: 300,
        ..Shape::small(31)
    }
}

/// Checks and deletes with so many workers; with none in one process. Returns the orphans and both reports.
fn prune(fleet: &Fleet, workers: usize) -> (String, Value, Value) {
    let url = fleet.nats.url();
    let _workers = fleet.workers(workers).unwrap();
    let state = fleet.scene.state().display().to_string();
    let candidates = fleet.scene.folder().join("candidates").display().to_string();
    let mut options = vec![
        "--filter-seed",
        "7",
        // What one run has read another need not read: that is told apart in the report.
        "--no-mark-cache",
        "--delete-untagged",
        "--candidates",
        &candidates,
    ];
    if workers > 0 {
        options.extend(fleet.options(&url, &[]));
    }
    let check = fleet
        .scene
        .check(&[options.as_slice(), &["--state", &state]].concat())
        .unwrap();
    let orphans = std::fs::read_to_string(&candidates).unwrap();
    let report = fleet.scene.report(0, &fleet.scene.delete(&options)).unwrap();
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    (orphans, comparable(check), comparable(report))
}

#[test]
fn in_one_process_with_one_worker_and_with_five_all_is_the_same() {
    let fleet = Fleet::of(Scene::on_s3(&shape(), S3Options::default()).unwrap()).unwrap();
    let contents = fleet.scene.contents().unwrap();
    let (orphans, check, report) = prune(&fleet, 0);
    assert!(orphans.lines().count() >= 300, "{orphans}");
    for workers in [1, 5] {
        fleet.scene.put_back(&contents).unwrap();
        let (their_orphans, their_check, their_report) = prune(&fleet, workers);
        assert_eq!(their_orphans, orphans, "{workers} workers");
        assert_eq!(their_check, check, "{workers} workers");
        assert_eq!(their_report, report, "{workers} workers");
    }
}
