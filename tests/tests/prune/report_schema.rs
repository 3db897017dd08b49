//! Reports are what `docs/report.schema.json` says, and the schema says all that is in them.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::Result;
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::s3_server::{Effect, Fault, Operation};
use hardprune_tests::storage_writer::{Storage, blob_key, revision_link_key};
use serde_json::Value;

use crate::json_schema::ensure_fits;
use crate::scene::{Place, THREE_DAYS, report};

const SCHEMA: &str = include_str!("../../../docs/report.schema.json");

fn ensure_valid(report: &Value) -> Result<()> {
    ensure_fits(SCHEMA, report)
}

#[test]
fn reports_are_valid_with_problems_and_without_of_checks_deletes_and_refusals() {
    let place = Place::folder().unwrap();
    let truth = generate(&Shape::small(31), &place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let checked = report(&hardprune, &place, 0, "check", &["--delete-untagged"]).unwrap();
    ensure_valid(&checked).unwrap();
    let refused = report(&hardprune, &place, 0, "check", &["--max-delete-blobs", "0"]).unwrap();
    ensure_valid(&refused).unwrap();
    assert_eq!(refused["guards"][0]["guard"], "max_delete_blobs", "{refused}");
    place.remove(&blob_key(&truth.tags[0].digest)).unwrap();
    let options = [
        "--delete-untagged",
        "--purge-uploads-older-than",
        "1h",
        "--plan",
        checked["run"].as_str().unwrap(),
    ];
    let deleted = report(&hardprune, &place, 0, "delete", &options).unwrap();
    ensure_valid(&deleted).unwrap();
    assert_eq!(
        deleted["problems"]["first"].as_array().unwrap().len(),
        1,
        "{deleted}"
    );
}

#[test]
fn a_refused_run_has_a_valid_report_too_and_it_says_why() {
    let place = Place::s3("").unwrap();
    let revision = place.add_orphan(b"{}", None).unwrap();
    let link = revision_link_key("harbor/app", &revision);
    let old = SystemTime::now() - THREE_DAYS;
    place.put(&link, revision.as_bytes(), old).unwrap();
    let hardprune = place.hardprune().unwrap();
    let argument = place.argument();
    let refused = hardprune.run(&["check", &argument, "--delete-untagged"]).unwrap();
    assert_eq!(refused.status, 3, "{refused:?}");
    let run = refused
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("run ")?.split(' ').next());
    let shown = hardprune.report(0, &["runs", "show", run.unwrap()]).unwrap();
    ensure_valid(&shown).unwrap();
    assert_eq!(shown["outcome"], "refused");
    assert!(
        shown["error"]
            .as_str()
            .unwrap()
            .contains("--accept-untagged-repositories"),
        "{shown:#}"
    );

    // Nor does it claim to know what would go.
    let text = hardprune.run(&["runs", "show", run.unwrap()]).unwrap();
    assert!(text.stdout.contains("refused, nothing deleted"), "{text:?}");
    assert!(text.stdout.contains("--accept-untagged-repositories"), "{text:?}");
    assert!(!text.stdout.contains("Would"), "{text:?}");
}

/// The error goes to standard error all the same, and text says nothing on standard output.
#[test]
fn runs_that_fail_or_are_refused_print_their_report_as_json() {
    let place = Place::s3("").unwrap();
    let revision = place.add_orphan(b"{}", None).unwrap();
    place.add_orphan(b"an orphan", None).unwrap();
    let old = SystemTime::now() - THREE_DAYS;
    let link = revision_link_key("harbor/app", &revision);
    place.put(&link, revision.as_bytes(), old).unwrap();
    let hardprune = place.hardprune().unwrap();
    let cases: [(i32, &str, &[&str]); 3] = [
        (3, "refused", &["--delete-untagged"]),
        (2, "failed", &["--candidates", "/dev/full"]),
        (1, "failed", &[]),
    ];
    let argument = place.argument();
    for command in [&["check"][..], &["delete", "--assume-read-only"]] {
        for (status, outcome, options) in cases {
            if status == 1 {
                let denied = Fault::on(Operation::List, Effect::Status(403, "AccessDenied"));
                let of_shards = denied.of_keys_with("docker/registry/v2/blobs/sha256/");
                place.server().unwrap().faults().add(of_shards);
            }
            let arguments = [command, &[&argument], options].concat();
            let text = hardprune.run(&arguments).unwrap();
            assert_eq!((text.status, text.stdout.as_str()), (status, ""), "{text:?}");
            let json = hardprune
                .run(&[&arguments[..], &["--output", "json"]].concat())
                .unwrap();
            place.server().unwrap().faults().clear();
            assert_eq!(json.status, status, "{json:?}");
            assert!(json.stderr.contains("hardprune: "), "{json:?}");
            let report: Value = serde_json::from_str(&json.stdout).unwrap();
            ensure_valid(&report).unwrap();
            assert_eq!(report["outcome"], outcome, "{report:#}");
            assert!(report["error"].is_string(), "{report:#}");
        }
        // No run came to be.
        let none = [command, &["/no/such/registry", "--output", "json"]].concat();
        let none = hardprune.run(&none).unwrap();
        assert_eq!((none.status, none.stdout.as_str()), (2, ""), "{none:?}");
    }
}

#[test]
fn the_schema_is_strict_enough_to_refuse_what_is_no_report() {
    let place = Place::folder().unwrap();
    place.add_orphan(b"an orphan", None).unwrap();
    let hardprune = place.hardprune().unwrap();
    let good = report(&hardprune, &place, 0, "check", &[]).unwrap();
    ensure_valid(&good).unwrap();
    let paths: BTreeSet<String> = [
        "/version",
        "/run",
        "/mode",
        "/outcome",
        "/started",
        "/blobs/scanned",
        "/bytes/freed",
        "/links/layer",
        "/filter/items",
        "/requests/list",
        "/seconds/total",
        "/problems/total",
        "/options/delete_untagged",
    ]
    .map(str::to_owned)
    .into();
    for path in paths {
        let mut bad = good.clone();
        *bad.pointer_mut(&path).unwrap() = Value::String("x".to_owned());
        assert!(ensure_valid(&bad).is_err(), "{path} may be anything");
        let mut less = good.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        less.pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(name);
        assert!(ensure_valid(&less).is_err(), "{path} may be missing");
    }
}

#[test]
fn the_report_has_every_field_of_the_design() {
    let place = Place::folder().unwrap();
    place.add_orphan(b"an orphan", None).unwrap();
    let hardprune = place.hardprune().unwrap();
    let report = report(&hardprune, &place, 0, "check", &[]).unwrap();
    let fields = "version tool run epochs registry mode outcome read_only sources options cutoff started finished \
        repositories frozen_repositories manifests/read manifests/missing manifests/corrupt manifests/unknown_type \
        references blobs/scanned blobs/referenced blobs/orphaned blobs/young blobs/deleted blobs/failed \
        blobs/not_attempted blobs/unrecognized_keys bytes/scanned bytes/orphaned bytes/young bytes/freed bytes/hidden \
        bytes/uploads links/layer links/revision links/tag filter/items filter/bytes filter/false_positive_rate \
        filter/expected_kept_by_chance shards workers requests/list requests/get requests/head requests/put \
        requests/copy requests/delete seconds/mark seconds/seal seconds/plan seconds/unlink seconds/sweep \
        seconds/total problems/total problems/by_kind problems/first";
    for field in fields.split_whitespace() {
        assert!(
            report.pointer(&format!("/{field}")).is_some(),
            "{field} is missing in {report:#}"
        );
    }
    assert_eq!(report["version"], 1);
    assert_eq!(report["mode"], "check");
    assert_eq!(report["outcome"], "completed");
    assert_eq!(report["sources"], serde_json::json!(["storage"]));
    assert_eq!(report["registry"], place.argument());
    let time = |name: &str| report[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    // The epoch begins a moment after the run.
    let epoch_started = time("cutoff") + jiff::SignedDuration::from_hours(24);
    assert!(time("started") <= epoch_started && epoch_started <= time("finished"));
}
