//! Any registry, whatever happens to it between two runs: with the cache and without it they find the same.

use std::time::SystemTime;

use anyhow::{Result, anyhow, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Scene, number};
use hardprune_tests::storage_writer::{blob_key, revision_link_key, tag_link_key};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::scene::*;

const CASES: u32 = 14;

/// What happens to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Push,
    PushNow,
    Copy,
    DeleteTag,
    DeleteRevision,
    DeleteManifest,
    LoseManifest,
    CutManifest,
    OtherBytes,
    SameBytes,
}

fn events() -> impl Strategy<Value = Vec<(Event, prop::sample::Index)>> {
    let event = prop::sample::select(vec![
        Event::Push,
        Event::PushNow,
        Event::Copy,
        Event::DeleteTag,
        Event::DeleteRevision,
        Event::DeleteManifest,
        Event::LoseManifest,
        Event::CutManifest,
        Event::OtherBytes,
        Event::SameBytes,
    ]);
    prop::collection::vec((event, any::<prop::sample::Index>()), 0..5)
}

fn happen(scene: &Scene, number: usize, event: Event, which: prop::sample::Index) -> Result<()> {
    let storage = scene.storage();
    // Past the second in which the next run begins.
    let now = SystemTime::now() + std::time::Duration::from_secs(2);
    let all = revisions(storage)?;
    let (repository, digest) = match all.as_slice() {
        [] => return Ok(()),
        all => which.get(all).clone(),
    };
    let key = blob_key(&digest);
    match (event, storage.get(&key)?) {
        (Event::Push, _) => {
            push(storage, &repository, &format!("p{number}"))?;
        }
        (Event::PushNow, _) => {
            let image = push(storage, &format!("{repository}/deeper"), &format!("p{number}"))?;
            storage.put(&blob_key(&image.digest), &image.bytes, now)?;
        }
        (Event::Copy, _) => copy(storage, &repository, &format!("copies/of-{number}"), &digest)?,
        (Event::DeleteTag, _) => {
            let tags: Vec<_> = scene.truth.tags.iter().collect();
            if !tags.is_empty() {
                let tag = which.get(&tags);
                let key = tag_link_key(&tag.repository, &tag.tag);
                if storage.get(&key)?.is_some() {
                    storage.remove(&key)?;
                }
            }
        }
        (Event::DeleteRevision, _) => storage.remove(&revision_link_key(&repository, &digest))?,
        (_, None) => {}
        (Event::DeleteManifest, Some(_)) => {
            storage.remove(&revision_link_key(&repository, &digest))?;
            storage.remove(&key)?;
        }
        (Event::LoseManifest, Some(_)) => storage.remove(&key)?,
        (Event::CutManifest, Some(bytes)) => storage.put(&key, &bytes[..bytes.len() / 2], long_ago())?,
        (Event::OtherBytes, Some(bytes)) => storage.put(&key, &vec![b'x'; bytes.len()], now)?,
        (Event::SameBytes, Some(bytes)) => storage.put(&key, &bytes, now)?,
    }
    Ok(())
}

fn shape() -> impl Strategy<Value = Shape> {
    let counts = (
        1..8_usize,
        1..30_usize,
        0..=100_usize,
        0..6_usize,
        0..5_usize,
        any::<u64>(),
    );
    counts.prop_map(
        |(repositories, images, multi_arch_percent, untagged_images, signatures, seed)| Shape {
            repositories,
            images,
            multi_arch_percent,
            untagged_images,
            signatures,
            orphans: 12,
            ..Shape::small(seed)
        },
    )
}

fn options() -> impl Strategy<Value = Vec<&'static str>> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(untagged, broken, empty)| {
        let mut options = Vec::new();
        if untagged {
            options.extend(["--delete-untagged", "--accept-untagged-repositories"]);
        }
        options.extend(broken.then_some("--prune-broken"));
        options.extend(empty.then_some("--delete-empty-repositories"));
        options
    })
}

/// Returns how many manifests were known, in all cases together.
fn results_are_the_same(scene: fn(&Shape) -> Result<Scene>, seed: u8) -> Result<u64> {
    let known = std::cell::Cell::new(0);
    let config = Config {
        cases: CASES,
        // Each step of shrinking is several runs of the program.
        max_shrink_iters: 12,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let values = (shape(), options(), events(), events());
    let held = TestRunner::new_with_rng(config, rng).run(&values, |(shape, options, first, second)| {
        let compare = || -> Result<()> {
            let scene = scene(&shape)?;
            let copies = first
                .iter()
                .chain(&second)
                .any(|(event, _)| matches!(event, Event::Copy));
            check(&scene, &options)?;
            for (number, (event, which)) in first.iter().enumerate() {
                happen(&scene, number, *event, *which)?;
            }
            let report = check_both(&scene, &options, !copies)?;
            for (number, (event, which)) in second.iter().enumerate() {
                happen(&scene, 100 + number, *event, *which)?;
            }
            known.set(known.get() + manifests_of(&report)?.1);
            check_both(&scene, &options, !copies)?;

            // A delete that knows as much deletes exactly what a check finds that knows nothing.
            let state = scene.state().display().to_string();
            check(&scene, &[&options[..], &["--state", &state]].concat())?;
            let without = [&options[..], &["--no-mark-cache"]].concat();
            let (wanted, _) = check(&scene, &without)?;
            let before = scene.inventory()?;
            let report = scene.report(0, &scene.delete(&[&SEED[..], &options[..]].concat()))?;
            known.set(known.get() + manifests_of(&report)?.1);
            let gone = before.until(&scene.inventory()?).removed_blobs().len() as u64;
            ensure!(
                gone == number(&wanted, "/blobs/orphaned")?,
                "{gone} went: {wanted}"
            );
            ensure!(
                gone == number(&report, "/blobs/deleted")?,
                "{gone} went: {report}"
            );
            Ok(())
        };
        compare().map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    held.map_err(|error| anyhow!("{error}"))?;
    Ok(known.get())
}

#[test]
fn in_a_folder_results_are_the_same_with_and_without_the_cache() {
    let known = results_are_the_same(|shape| Ok(kept_on_a_disk(Scene::on_folder(shape)?)), 1).unwrap();
    assert!(known > 50, "only {known} manifests were known");
}

#[test]
fn on_s3_results_are_the_same_with_and_without_the_cache() {
    let on_s3 = |shape: &Shape| {
        let options = S3Options {
            page_size: 7,
            ..S3Options::default()
        };
        Scene::on_s3(shape, options)
    };
    let known = results_are_the_same(on_s3, 2).unwrap();
    assert!(known > 50, "only {known} manifests were known");
}
