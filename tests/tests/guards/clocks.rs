//! The clock of this machine, and that of the storage.

use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::Scene;
use jiff::SignedDuration;

use crate::scene::{on_s3, passes, refuses};

fn off_by(minutes: i64) -> Scene {
    let options = S3Options {
        clock_offset: SignedDuration::from_mins(minutes),
        ..S3Options::default()
    };
    on_s3(&Shape::small(61), options).unwrap()
}

#[test]
fn clocks_that_differ_are_refused_before_anything_is_marked() {
    for (minutes, direction) in [(10, "behind"), (-10, "ahead of")] {
        let scene = off_by(minutes);
        refuses(
            &scene,
            &[],
            &["clock_difference"],
            &[
                &format!("seconds {direction} the storage's"),
                "--max-clock-difference",
            ],
        )
        .unwrap();
        let report = crate::scene::refused(&scene, &[], &["clock_difference"], &[]).unwrap();
        assert_eq!(
            (&report["cutoff"], &report["repositories"]),
            (&serde_json::Value::Null, &0.into())
        );
        passes(&scene, &["--max-clock-difference", "11m"]).unwrap();
    }
}

#[test]
fn clocks_that_differ_a_little_are_not() {
    for minutes in [4, -4] {
        let scene = off_by(minutes);
        passes(&scene, &[]).unwrap();
    }
}
