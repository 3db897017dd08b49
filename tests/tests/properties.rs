//! Any generated registry, any options, any interruption: no blob that is referenced is ever deleted (R1), what is said
//! to be freed was freed (R5), and a second run leaves nothing to delete.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use hardprune_tests::checker::{self, Roots, check_storage};
use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{KILLED, Scene, number, report_of};
use hardprune_tests::storage_writer::blob_key;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const CASES: u32 = 20;
const UNTAGGED: [&str; 2] = ["--delete-untagged", "--accept-untagged-repositories"];

/// Small registries of all kinds: with and without orphans, indexes, signatures, untagged manifests, shared layers.
fn shape() -> impl Strategy<Value = Shape> {
    let contents = (1..8_usize, 0..25_usize, 0..60_usize, 0..6_usize, 0..4_usize);
    let rest = (
        0..40_usize,
        0..=100_usize,
        0..5_usize,
        0..=100_usize,
        any::<u64>(),
    );
    (contents, rest).prop_map(|(contents, rest)| {
        let (repositories, images, multi_arch_percent, untagged_images, signatures) = contents;
        let (orphans, linked_orphans_percent, young_orphans, shared_base_percent, seed) = rest;
        Shape {
            repositories,
            images,
            multi_arch_percent,
            untagged_images,
            signatures,
            orphans,
            linked_orphans_percent,
            young_orphans,
            shared_base_percent,
            ..Shape::small(seed)
        }
    })
}

#[derive(Debug, Clone)]
struct Interruption {
    failpoint: &'static str,
    times_before: usize,
    action: &'static str,
}

fn interruption() -> impl Strategy<Value = Interruption> {
    let in_the_journal = prop::sample::select(vec![
        "journal-before-start",
        "journal-after-start",
        "delete-before-request",
        "delete-after-request",
        "journal-before-end",
        "journal-after-end",
    ]);
    let between = prop::sample::select(vec![
        "after-mark",
        "after-seal",
        "after-lock-allows",
        "after-unlink",
        "after-dangling",
        "after-sweep",
    ]);
    let action = prop_oneof![4 => Just("return"), 1 => Just("1*panic")];
    prop_oneof![
        (in_the_journal, 0..30_usize, action).prop_map(|(failpoint, times_before, action)| Interruption {
            failpoint,
            times_before,
            action
        }),
        between.prop_map(|failpoint| Interruption {
            failpoint,
            times_before: 0,
            action: "return"
        }),
    ]
}

impl Interruption {
    fn as_text(&self) -> String {
        format!("{}={}*off->{}", self.failpoint, self.times_before, self.action)
    }
}

fn holds<S: Strategy>(cases: u32, seed: u8, values: S, test: impl Fn(S::Value) -> Result<()>) {
    let config = Config {
        cases,
        // Each step of shrinking is several runs of the program.
        max_shrink_iters: 12,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let held = TestRunner::new_with_rng(config, rng).run(&values, |value| {
        test(value).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}

/// What is expected to go: exactly the truth.
fn wanted(scene: &Scene, untagged: bool) -> BTreeSet<String> {
    if untagged {
        scene.orphans_and_untagged()
    } else {
        scene.orphans()
    }
}

#[test]
fn exactly_the_orphans_go() {
    holds(CASES, 1, (shape(), any::<bool>()), |(shape, untagged)| {
        let scene = Scene::on_folder(&shape)?;
        let mut arguments = scene.delete(&["--filter-seed", "1"]);
        if untagged {
            arguments.extend(UNTAGGED);
        }
        let report = scene.report(0, &arguments)?;
        scene.check_finished(&report, &wanted(&scene, untagged))?;
        let links = if untagged {
            None
        } else {
            Some(scene.truth.dangling_links.len() as u64)
        };
        ensure!(
            links.is_none_or(|links| report["links"]["layer"] == links),
            "{links:?} dangling links: {report}"
        );
        Ok(())
    });
}

#[test]
fn whatever_interrupts_a_run_going_on_leaves_nothing_to_delete() {
    let values = (
        shape(),
        any::<bool>(),
        prop::collection::vec(interruption(), 1..4),
    );
    holds(CASES, 2, values, |(shape, untagged, interruptions)| {
        let scene = Scene::on_folder(&shape)?;
        let mut arguments = scene.delete(&["--filter-seed", "2"]);
        if untagged {
            arguments.extend(UNTAGGED);
        }
        for interruption in &interruptions {
            let ended = scene.run_with(&interruption.as_text(), &arguments)?;
            scene.check_intact()?;
            scene.check_accounts(&scene.show()?)?;
            match ended.status {
                // It did not come there so often.
                0 => break,
                KILLED => arguments = scene.resume(),
                _ => anyhow::bail!("{ended:?}"),
            }
        }
        if scene.show()?["outcome"] == "stopped" {
            scene.report(0, &scene.resume())?;
        }
        scene.check_finished(&scene.show()?, &wanted(&scene, untagged))
    });
}

/// Manifests are missing, cut or others: their repositories are frozen, or with `--prune-broken` the missing ones go.
/// What can be pulled can be pulled afterwards.
#[test]
fn broken_manifests_never_cost_what_is_whole() {
    let breaks = prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize), 1..4);
    let values = (shape(), any::<bool>(), any::<bool>(), breaks, interruption());
    holds(
        CASES,
        3,
        values,
        |(shape, untagged, prune_broken, breaks, interruption)| {
            let mut scene = Scene::on_folder(&shape)?;
            let manifests: Vec<_> = all(&scene)?.live_manifests.into_iter().collect();
            for (which, how) in breaks {
                if !manifests.is_empty() {
                    let (_, digest) = which.get(&manifests);
                    break_blob(&scene, digest, how).context("breaking a manifest")?;
                }
            }
            scene.begin()?;
            let before = (all(&scene)?, tagged(&scene)?);

            let mut arguments = scene.delete(&["--filter-seed", "3"]);
            arguments.extend(untagged.then_some(UNTAGGED).into_iter().flatten());
            arguments.extend(prune_broken.then_some("--prune-broken"));
            let mut ended = scene.run_with(&interruption.as_text(), &arguments)?;
            nothing_whole_is_lost(&scene, &before, untagged)?;
            scene.check_accounts(&scene.show()?)?;
            if ended.status == KILLED {
                ended = scene.run_with("", &scene.resume())?;
            }
            let report = report_of(&ended, 0)?;
            nothing_whole_is_lost(&scene, &before, untagged)?;
            scene.check_accounts(&report)?;

            let again = scene.report(0, &arguments)?;
            nothing_whole_is_lost(&scene, &before, untagged)?;
            let left = number(&again, "/blobs/orphaned")?;
            ensure!(
                left == 0 || prune_broken,
                "a second run found {left} orphans\n{again}"
            );
            let third = scene.report(0, &arguments)?;
            ensure!(number(&third, "/blobs/orphaned")? == 0, "{third}");
            Ok(())
        },
    );
}

fn all(scene: &Scene) -> Result<checker::Report> {
    check_storage(scene.storage(), Roots::Revisions)
}

fn tagged(scene: &Scene) -> Result<checker::Report> {
    check_storage(scene.storage(), Roots::Tags)
}

fn break_blob(scene: &Scene, digest: &str, how: usize) -> Result<()> {
    let storage = scene.storage();
    let key = blob_key(digest);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 86_400);
    match (how, storage.get(&key)?) {
        // Broken before, by another.
        (_, None) => Ok(()),
        (0, Some(_)) => storage.remove(&key),
        (1, Some(bytes)) => storage.put(&key, &bytes[..bytes.len() / 2], long_ago),
        (_, Some(_)) => storage.put(&key, b"{}", long_ago),
    }
}

/// No blob goes that something whole needs, and nothing more is wrong than was before.
fn nothing_whole_is_lost(
    scene: &Scene,
    (all_before, tagged_before): &(checker::Report, checker::Report),
    untagged: bool,
) -> Result<()> {
    let (before, now) = if untagged {
        (tagged_before, tagged(scene)?)
    } else {
        (all_before, all(scene)?)
    };
    let lost: Vec<_> = before
        .live_blobs
        .keys()
        .filter(|digest| !now.live_blobs.contains_key(*digest))
        .collect();
    ensure!(lost.is_empty(), "R1: these blobs went: {lost:?}");
    let known: BTreeSet<_> = before
        .violations
        .iter()
        .map(|violation| &violation.digest)
        .collect();
    let new: Vec<_> = now
        .violations
        .iter()
        .filter(|violation| !known.contains(&violation.digest))
        .collect();
    ensure!(new.is_empty(), "R1: {new:?}");
    Ok(())
}
