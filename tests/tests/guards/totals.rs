//! How much may go.

use hardprune_tests::fleet::Fleet;
use hardprune_tests::generate::Shape;
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::REGISTRY_ROOT;

use crate::scene::{EVERYWHERE, On, passes, refuses, scene};

/// More orphans than all else together.
fn mostly_orphans() -> Shape {
    Shape {
        orphans: 600,
        ..Shape::small(41)
    }
}

#[test]
fn a_usual_registry_is_pruned_without_any_option() {
    for on in EVERYWHERE {
        passes(&scene(on, &Shape::small(41)).unwrap(), &[]).unwrap();
    }
}

#[test]
fn more_than_half_is_refused_unless_it_is_allowed() {
    for on in EVERYWHERE {
        let scene = scene(on, &mostly_orphans()).unwrap();
        let all = scene.start.0.keys().filter(|key| key.ends_with("/data")).count();
        let seen = format!("600 of {all} blobs would go");
        refuses(
            &scene,
            &[],
            &["max_delete_percent", "max_delete_percent"],
            &[&seen, "--max-delete-percent", "of the bytes", " manifests and "],
        )
        .unwrap();
        // Neither a share that is too low, nor the environment helps.
        let unheard = scene.with("HARDPRUNE_MAX_DELETE_PERCENT", "100");
        refuses(
            &unheard,
            &["--max-delete-percent", "60"],
            &["max_delete_percent", "max_delete_percent"],
            &[],
        )
        .unwrap();
        passes(&unheard, &["--max-delete-percent", "100"]).unwrap();
    }
}

/// Who reads a report later must know what was allowed.
#[test]
fn the_report_has_the_limits() {
    let scene = scene(On::Folder, &Shape::small(41)).unwrap();
    let limits = |others: &[&str]| scene.report(0, &scene.delete(others)).unwrap()["guard_limits"].clone();
    let usual = serde_json::json!({
        "accept_no_references": false, "min_present": 95.0, "max_delete_percent": 50.0, "max_delete_blobs": null,
        "max_delete_bytes": null, "max_clock_difference_seconds": 300,
    });
    assert_eq!(limits(&[]), usual);
    let options = [
        "--max-delete-percent",
        "33.33",
        "--max-delete-bytes",
        "1GiB",
        "--accept-no-references",
    ];
    let mut raised = usual;
    raised["max_delete_percent"] = 33.33.into();
    raised["max_delete_bytes"] = (1_u64 << 30).into();
    raised["accept_no_references"] = true.into();
    assert_eq!(limits(&options), raised);
    assert_eq!(scene.show_run(&latest(&scene)).unwrap()["guard_limits"], raised);
}

fn latest(scene: &Scene) -> String {
    let runs = std::fs::read_dir(scene.state().join("hardprune/runs")).unwrap();
    let names = runs.map(|run| run.unwrap().file_name().into_string().unwrap());
    names.max().unwrap()
}

#[test]
fn limits_in_numbers() {
    let scene = scene(On::Folder, &Shape::small(42)).unwrap();
    let orphans = scene.truth.orphans.len();
    let (less, enough) = ((orphans - 1).to_string(), orphans.to_string());
    refuses(
        &scene,
        &["--max-delete-blobs", &less],
        &["max_delete_blobs"],
        &["30 blobs would go", "--max-delete-blobs"],
    )
    .unwrap();
    let bytes = scene.truth.orphan_bytes();
    let (fewer, all) = ((bytes - 1).to_string(), bytes.to_string());
    refuses(
        &scene,
        &["--max-delete-bytes", &fewer],
        &["max_delete_bytes"],
        &[&format!("({all} bytes) would go"), "--max-delete-bytes"],
    )
    .unwrap();
    refuses(
        &scene,
        &["--max-delete-bytes", "1KiB", "--max-delete-blobs", "0"],
        &["max_delete_blobs", "max_delete_bytes"],
        &["Also:"],
    )
    .unwrap();
    passes(
        &scene,
        &["--max-delete-blobs", &enough, "--max-delete-bytes", &all],
    )
    .unwrap();
}

#[test]
fn sizes_and_shares_that_are_none() {
    let scene = scene(On::Folder, &Shape::small(42)).unwrap();
    for options in [
        ["--max-delete-bytes", "much"],
        ["--max-delete-percent", "101"],
        ["--min-present", "95%"],
    ] {
        let finished = scene.program.run(&scene.delete(&options)).unwrap();
        assert_eq!(finished.status, 2, "{finished:?}");
        assert!(finished.stderr.contains(options[0]), "{finished:?}");
    }
}

/// All links are gone: the blobs of another registry, perhaps, or of one whose links are in another bucket.
fn without_repositories(on: On) -> Scene {
    let scene = scene(on, &Shape::small(43)).unwrap();
    let repositories = format!("{REGISTRY_ROOT}repositories/");
    for key in scene.start.0.keys().filter(|key| key.starts_with(&repositories)) {
        scene.storage().remove(key).unwrap();
    }
    scene
}

#[test]
fn a_registry_without_references_is_refused_unless_it_is_what_it_seems() {
    for on in EVERYWHERE {
        let scene = without_repositories(on);
        let percent = ["--max-delete-percent", "100"];
        refuses(&scene, &percent, &["no_references"], &["--accept-no-references"]).unwrap();
        let accepted = [&percent[..], &["--accept-no-references"]].concat();
        let report = scene.report(0, &scene.delete(&accepted)).unwrap();
        assert_eq!(
            report["blobs"]["deleted"], report["blobs"]["orphaned"],
            "{report:#}"
        );
        assert_eq!(report["blobs"]["referenced"], 0, "{report:#}");
    }
}

#[test]
fn what_a_check_proposes_has_the_options_of_the_guards() {
    let scene = scene(On::Folder, &mostly_orphans()).unwrap();
    let name = scene.state().display().to_string();
    let keep = scene.folder().join("keep");
    let tag = &scene.truth.tags[0];
    std::fs::write(&keep, format!("{}:{}\n", tag.repository, tag.tag)).unwrap();
    let keep = keep.display().to_string();
    let options = [
        "--max-delete-percent=99.5",
        "--min-present",
        "90",
        "--must-keep",
        &keep,
    ];
    let finished = scene
        .program
        .run(&[&["check", &name], &options[..]].concat())
        .unwrap();
    assert_eq!(finished.status, 0, "{finished:?}");
    let wanted = format!(
        "Use `hardprune delete {name} {} --assume-read-only`",
        options.join(" ")
    );
    assert!(finished.stdout.contains(&wanted), "{}", finished.stdout);
    assert!(!finished.stdout.contains("refused"), "{}", finished.stdout);

    let run = finished
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("run ")?.split(' ').next());
    let shown = scene.program.run(&["runs", "show", run.unwrap()]).unwrap();
    let wanted = format!("--max-delete-percent 99.5 --must-keep {keep} --plan");
    assert!(
        shown.stdout.contains("--min-present 90 ") && shown.stdout.contains(&wanted),
        "{}",
        shown.stdout
    );

    let finished = scene.program.run(&["check", &name]).unwrap();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(
        finished.stderr.contains("a delete would be refused: 600 of"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stdout.contains("a delete is refused"),
        "{}",
        finished.stdout
    );
}

#[test]
fn over_nats_it_is_the_same() {
    let fleet = Fleet::of(scene(On::S3, &mostly_orphans()).unwrap()).unwrap();
    let url = fleet.nats.url();
    let _worker = fleet.worker().unwrap();
    let state = fleet.scene.state().display().to_string();
    let guards = ["max_delete_percent", "max_delete_percent"];
    let options = fleet.options(&url, &[]);
    let refused = crate::scene::refused(&fleet.scene, &options, &guards, &["600 of"]).unwrap();
    assert_eq!(refused["outcome"], "refused", "{refused:#}");
    assert!(fleet.scene.difference().unwrap().removed_blobs().is_empty());
    let check = [&["--state", &state], options.as_slice()].concat();
    assert_eq!(crate::scene::names(&fleet.scene.check(&check).unwrap()), guards);
    fleet.delete(0, &["--max-delete-percent", "100"]).unwrap();
    let went = fleet.scene.difference().unwrap().removed_blobs();
    assert_eq!(went.len(), 600);
}
