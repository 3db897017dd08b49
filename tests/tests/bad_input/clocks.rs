//! R4: young and old are told by the store's time. The machine's clock may be a day off.

use std::time::Duration;

use anyhow::Result;
use hardprune_tests::s3_server::S3Options;
use jiff::SignedDuration;

use crate::scene::{Scene, blob, number};

const HOUR: Duration = Duration::from_secs(3_600);

fn a_machine_that_is_off_by(hours: i64) -> Result<()> {
    let scene = Scene::on_s3(S3Options {
        clock_offset: SignedDuration::from_hours(hours),
        ..S3Options::default()
    })?;
    // By the machine's clock these would be on the other side of 24 hours, whichever way it is off.
    let (young, old) = (blob(1), blob(2));
    let put = |blob: &hardprune_tests::manifests::Content, age| {
        let key = hardprune_tests::storage_writer::blob_key(&blob.digest);
        scene.put_aged(&key, &blob.bytes, age)
    };
    put(&young, 23 * HOUR)?;
    put(&old, 25 * HOUR)?;
    let report = scene.prunes_exactly(&[&old])?;
    let young_blobs = scene.truth.young_orphans.len() as u64 + 1;
    assert_eq!(number(&report, "/blobs/young"), young_blobs, "{report:#}");
    let cutoff: jiff::Timestamp = report["cutoff"].as_str().unwrap_or_default().parse()?;
    let expected = scene.server().now() - 24 * HOUR;
    assert!(
        (cutoff.as_second() - expected.as_second()).abs() < 600,
        "cutoff {cutoff}, expected about {expected}"
    );
    Ok(())
}

#[test]
fn a_machine_that_is_a_day_behind() {
    a_machine_that_is_off_by(24).unwrap();
}

#[test]
fn a_machine_that_is_a_day_ahead() {
    a_machine_that_is_off_by(-24).unwrap();
}

/// Files from the future, as a restored backup or a clock that was wrong leaves them: they are young.
#[test]
fn blobs_from_the_future_are_young() {
    for on in crate::scene::EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let (digest, size) = scene.truth.orphans.iter().next().unwrap();
        let key = hardprune_tests::storage_writer::blob_key(digest);
        let bytes = scene.storage().get(&key).unwrap().unwrap();
        let next_year = std::time::SystemTime::now() + 9_000 * HOUR;
        scene.storage().put(&key, &bytes, next_year).unwrap();
        let report = scene.report(0, "check", &[]).unwrap();
        assert_eq!(
            number(&report, "/blobs/young"),
            scene.truth.young_orphans.len() as u64 + 1
        );
        assert_eq!(
            number(&report, "/bytes/orphaned"),
            scene.truth.orphan_bytes() - size
        );
    }
}
