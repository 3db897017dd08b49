//! An S3 server that does not say clearly what became of a delete: the accounts are exact all the same (R5, R10).

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::scene::{Scene, number, report_of};
use hardprune_tests::storage_writer::blob_key;

/// Longer than the client waits for the answer to a delete.
const TOO_LONG: Duration = Duration::from_secs(22);

fn shape() -> Shape {
    Shape {
        images: 10,
        orphans: 20,
        ..Shape::small(13)
    }
}

fn on_deletes(effect: Effect) -> Fault {
    Fault::on(Operation::DeleteObjects, effect)
}

/// Everything goes in the end, whatever the server answers meanwhile.
fn all_goes(fault: Fault) -> Result<()> {
    let scene = Scene::on_s3(&shape(), S3Options::default())?;
    scene.server()?.faults().add(fault);
    let report = scene.report(0, &scene.delete(&[]))?;
    ensure!(scene.server()?.faults().met() > 0, "no request met the fault");
    scene.check_finished(&report, &scene.orphans())
}

/// One orphan stays, is accounted for as this, and goes with the next run.
fn one_stays(fault_of: impl Fn(&str) -> Fault, accounted_as: &str) -> Result<()> {
    let scene = Scene::on_s3(&shape(), S3Options::default())?;
    let (stays, size) = scene
        .truth
        .orphans
        .first_key_value()
        .context("there are orphans")?;
    let server = scene.server()?;
    server.faults().add(fault_of(&blob_key(stays)));
    let report = scene.report(5, &scene.delete(&[]))?;
    scene.check_intact()?;
    scene.check_accounts(&report)?;
    ensure!(
        number(&report, &format!("/blobs/{accounted_as}"))? == 1,
        "{report}"
    );
    let went = scene.difference()?.removed_blobs().into_keys().collect();
    let left: BTreeSet<_> = scene.orphans().difference(&went).cloned().collect();
    ensure!(left == BTreeSet::from([stays.clone()]), "{left:?}");

    server.faults().clear();
    let report = scene.report(0, &scene.delete(&[]))?;
    ensure!(number(&report, "/bytes/freed")? == *size, "{report}");
    Ok(())
}

#[test]
fn what_was_done_and_not_answered_counts_once() {
    all_goes(on_deletes(Effect::DropAfter).times(5)).unwrap();
    all_goes(on_deletes(Effect::CutBody(100)).times(5)).unwrap();
    all_goes(on_deletes(Effect::CutBody(0)).times(5)).unwrap();
}

/// Not even the last attempt is answered: what became of the keys is looked up.
#[test]
fn what_was_done_and_never_answered_is_found_to_be_gone() {
    all_goes(on_deletes(Effect::DropAfter).of_keys_with("blobs/")).unwrap();
}

#[test]
fn what_was_not_done_and_not_answered_is_done_again() {
    all_goes(on_deletes(Effect::DropConnection).times(5)).unwrap();
    all_goes(on_deletes(Effect::ErrorDocument200).times(5)).unwrap();
    all_goes(on_deletes(Effect::Html200).times(5)).unwrap();
    all_goes(on_deletes(Effect::Status(500, "InternalError")).times(5)).unwrap();
}

#[test]
fn a_server_that_asks_for_patience_gets_it() {
    // A request is sent eight times. Dangling links are one request, blobs one a shard.
    let links = on_deletes(Effect::Status(503, "SlowDown")).of_keys_with("_layers/");
    all_goes(links.times(5)).unwrap();
    let blobs = on_deletes(Effect::Status(503, "SlowDown")).of_keys_with("blobs/");
    all_goes(blobs.times(40)).unwrap();
    let slow_down = key_error("SlowDown");
    all_goes(on_deletes(slow_down).of_keys_with("blobs/").times(5)).unwrap();
}

#[test]
fn keys_that_the_answer_forgets_or_invents_change_nothing() {
    all_goes(
        on_deletes(Effect::KeySilentlyMissing)
            .of_keys_with("blobs/")
            .times(5),
    )
    .unwrap();
    let internal = key_error("InternalError");
    all_goes(on_deletes(internal).of_keys_with("blobs/").times(5)).unwrap();
    let live = Scene::on_s3(&shape(), S3Options::default()).unwrap();
    let live = live.truth.live.keys().next().unwrap().clone();
    let invented = Effect::UnexpectedKey(Box::leak(blob_key(&live).into_boxed_str()));
    all_goes(on_deletes(invented)).unwrap();
}

fn key_error(code: &'static str) -> Effect {
    let message = "no";
    Effect::KeyError { code, message }
}

/// Those that take long, together: the client's own patience has to end.
#[test]
fn answers_that_come_too_late_and_keys_that_never_go() {
    thread::scope(|scope| {
        let late = |effect| move || all_goes(on_deletes(effect).times(1));
        let stays = |effect: Effect, accounted_as| {
            move || one_stays(|key| on_deletes(effect.clone()).of_keys_with(key), accounted_as)
        };
        let cases = [
            ("done late", scope.spawn(late(Effect::DelayBefore(TOO_LONG)))),
            ("answered late", scope.spawn(late(Effect::DelayAfter(TOO_LONG)))),
            ("never answered", scope.spawn(late(Effect::Hang))),
            ("refused", scope.spawn(stays(key_error("AccessDenied"), "failed"))),
            (
                "broken inside",
                scope.spawn(stays(key_error("InternalError"), "not_attempted")),
            ),
            (
                "never named",
                scope.spawn(stays(Effect::KeySilentlyMissing, "not_attempted")),
            ),
        ];
        let failed: Vec<_> = cases
            .into_iter()
            .filter_map(|(name, case)| match case.join() {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{name}: {error:#}")),
                Err(_) => Some(format!("{name}: panicked")),
            })
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    });
}

/// The request that deletes a revision link is refused for its key: everything behind it waits (R6).
#[test]
fn a_revision_link_that_stays_holds_all_blobs_back() {
    let scene = Scene::on_s3(&shape(), S3Options::default()).unwrap();
    let server = scene.server().unwrap();
    let refused = key_error("AccessDenied");
    server
        .faults()
        .add(on_deletes(refused).of_keys_with("/_manifests/revisions/"));
    let untagged = ["--delete-untagged", "--accept-untagged-repositories"];
    let report = scene.report(4, &scene.delete(&untagged)).unwrap();
    scene.check_intact().unwrap();
    scene.check_accounts(&report).unwrap();
    let all = scene.orphans_and_untagged().len() as u64;
    assert_eq!(number(&report, "/blobs/deleted").unwrap(), 0);
    assert_eq!(number(&report, "/blobs/not_attempted").unwrap(), all);
    assert!(scene.difference().unwrap().removed.is_empty());

    server.faults().clear();
    let report = scene.report(0, &scene.resume()).unwrap();
    scene
        .check_finished(&report, &scene.orphans_and_untagged())
        .unwrap();
}

/// A batch that was refused stays in the journal of its task. When another batch ends the task by a panic, and the task is
/// done again, what was refused counts as what became of it later.
#[test]
fn a_task_that_is_done_again_forgets_no_batch_and_counts_none_twice() {
    // Without bulk deletes a batch has 100 keys; those of one task are four at a time.
    let shape = Shape {
        orphans: 1_000,
        linked_orphans_percent: 100,
        ..shape()
    };
    let scene = Scene::on_s3(&shape, S3Options::default()).unwrap();
    let scene = scene.with("AWS_DISABLE_BULK_DELETE", "true");
    let links = scene.truth.dangling_links.len();
    assert_eq!(links, 1_000);
    let refused = Fault::on(Operation::Delete, Effect::Status(403, "AccessDenied"));
    let server = scene.server().unwrap();
    server.faults().add(refused.of_keys_with("/_layers/").times(1));
    let report = report_of(
        &scene
            .run_with(
                "journal-after-start=8*off->1*panic",
                &scene.delete(&["--concurrency", "1"]),
            )
            .unwrap(),
        0,
    )
    .unwrap();
    assert_eq!(server.faults().met(), 1);
    scene.check_finished(&report, &scene.orphans()).unwrap();
    assert_eq!(number(&report, "/links/layer").unwrap(), links as u64, "{report}");
}
