//! A server that has no JetStream, or has something else in its place, or takes only small messages.

use anyhow::{Context, Result};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use futures::TryStreamExt;
use hardprune_tests::fleet::Fleet;
use hardprune_tests::generate::Shape;
use hardprune_tests::nats_server::NatsOptions;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Scene, number};
use serde_json::json;

fn small_fleet() -> Fleet {
    Fleet::of(Scene::on_folder(&Shape::small(43)).unwrap()).unwrap()
}

async fn jetstream_of(fleet: &Fleet) -> jetstream::Context {
    jetstream::new(async_nats::connect(fleet.nats.url()).await.unwrap())
}

/// Every stream's configuration.
async fn streams(context: &jetstream::Context) -> Vec<String> {
    let names: Vec<String> = context.stream_names().try_collect().await.unwrap();
    let mut configs = Vec::new();
    for name in names {
        configs.push(format!(
            "{:?}",
            context.get_stream(name).await.unwrap().cached_info().config
        ));
    }
    configs.sort();
    configs
}

/// A coordinator is refused with exit status 2 and says all of this, and deletes nothing.
fn coordinator_is_refused(fleet: &Fleet, say: &[&str]) {
    let url = fleet.nats.url();
    let options = fleet.options(&url, &[]);
    let finished = fleet.scene.program.run(&fleet.scene.delete(&options)).unwrap();
    assert_eq!(finished.status, 2, "{}", finished.stderr);
    for words in say {
        assert!(
            finished.stderr.contains(words),
            "no {words:?} in {}",
            finished.stderr
        );
    }
    assert!(fleet.scene.difference().unwrap().removed.is_empty());
}

fn worker_is_refused(fleet: &Fleet, say: &[&str]) {
    let mut worker = fleet.worker().unwrap();
    assert_eq!(worker.wait().unwrap(), 2, "{}", worker.log());
    for words in say {
        assert!(worker.log().contains(words), "no {words:?} in {}", worker.log());
    }
}

#[test]
fn without_jetstream_both_say_how_to_have_it() {
    let options = NatsOptions {
        jetstream: false,
        ..NatsOptions::default()
    };
    let fleet = Fleet::with(Scene::on_folder(&Shape::small(43)).unwrap(), &options).unwrap();
    coordinator_is_refused(&fleet, &["JetStream", "-js"]);
    worker_is_refused(&fleet, &["JetStream", "-js"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_somebody_elses_is_left_as_it_is() {
    let fleet = small_fleet();
    let context = jetstream_of(&fleet).await;
    let theirs = Config {
        name: "HARDPRUNE_TASKS".to_owned(),
        subjects: vec!["hardprune.tasks.>".to_owned(), "of.others".to_owned()],
        storage: StorageType::Memory,
        ..Config::default()
    };
    context.create_stream(theirs).await.unwrap();
    context
        .publish("of.others", "precious".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let before = streams(&context).await;
    coordinator_is_refused(
        &fleet,
        &[
            "HARDPRUNE_TASKS",
            "subjects is",
            "retention is Limits, not WorkQueue",
            "storage is Memory, not File",
        ],
    );
    worker_is_refused(&fleet, &["HARDPRUNE_TASKS", "storage is Memory, not File"]);
    assert_eq!(
        streams(&context).await,
        before,
        "nothing was made, nothing changed"
    );
    let mut stream = context.get_stream("HARDPRUNE_TASKS").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_somebody_changed_ends_workers_too() {
    let fleet = small_fleet();
    {
        let _worker = fleet.worker().unwrap();
        let report = fleet.delete(0, &[]).unwrap();
        fleet.check_finished(&report).unwrap();
    }
    let context = jetstream_of(&fleet).await;
    let mut changed = context
        .get_stream("HARDPRUNE_REPORTS")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    assert_eq!(changed.discard, DiscardPolicy::New);
    assert_eq!(changed.retention, RetentionPolicy::Limits);
    changed.discard = DiscardPolicy::Old;
    context.update_stream(&changed).await.unwrap();
    let before = streams(&context).await;
    let say = ["HARDPRUNE_REPORTS", "discard is Old, not New"];
    let url = fleet.nats.url();
    let finished = fleet
        .scene
        .program
        .run(&fleet.scene.delete(&fleet.options(&url, &[])))
        .unwrap();
    assert_eq!(finished.status, 2, "{}", finished.stderr);
    assert!(
        say.iter().all(|words| finished.stderr.contains(words)),
        "{}",
        finished.stderr
    );
    // A worker only sends reports there, but what it goes by must be what it knows.
    let mut tasks = context
        .get_stream("HARDPRUNE_TASKS")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    tasks.max_age = std::time::Duration::from_secs(3_600);
    context.update_stream(&tasks).await.unwrap();
    worker_is_refused(&fleet, &["HARDPRUNE_TASKS", "max_age is 3600s"]);
    tasks.max_age = std::time::Duration::from_secs(7 * 24 * 3_600);
    context.update_stream(&tasks).await.unwrap();
    assert_eq!(streams(&context).await, before);
}

/// The state of a run that no coordinator has begun, on the stores of a worker.
async fn announce(context: &jetstream::Context, fleet: &Fleet, run: &str) -> Result<()> {
    let stores = fleet.scene.store_names();
    let state = json!({
        "version": 1, "epoch": {"run": run, "number": 1}, "registry": stores[0], "state": stores.last().context("a store")?,
        "mode": "delete", "coordinator": "nobody", "started": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z",
        "deadline": null, "ended": null,
        "progress": {"stage": "", "done": 0, "total": 0, "unit": "", "items": 0, "bytes": 0, "seconds": 0.0,
                     "deleted_blobs": 0, "freed_bytes": 0, "workers": 0},
    });
    let subject = format!("$KV.hardprune_runs.{run}.run");
    context.publish(subject, state.to_string().into()).await?.await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_somebody_elses_is_left_alone() {
    let fleet = small_fleet();
    let worker = fleet.worker().unwrap();
    let check_state = fleet.scene.state().display().to_string();
    let report = fleet.delete(0, &["--state", &check_state]).unwrap();
    let context = jetstream_of(&fleet).await;
    let run = "01JDK3V0000000000000000000";
    announce(&context, &fleet, run).await.unwrap();
    let theirs = pull::Config {
        durable_name: Some(format!("run-{run}")),
        ack_policy: AckPolicy::Explicit,
        max_deliver: 1,
        filter_subject: format!("hardprune.tasks.{run}.theirs.>"),
        ..pull::Config::default()
    };
    let stream = context.get_stream("HARDPRUNE_TASKS").await.unwrap();
    stream.create_consumer(theirs).await.unwrap();
    context
        .publish(
            format!("hardprune.tasks.{run}.theirs.precious"),
            "precious".into(),
        )
        .await
        .unwrap()
        .await
        .unwrap();
    worker.wait_for_line("exists with another configuration").unwrap();
    worker.wait_for_line("max_deliver is 1, not unlimited").unwrap();
    worker.wait_for_line("filter_subject is").unwrap();
    let info = stream.consumer_info(format!("run-{run}")).await.unwrap();
    assert_eq!(
        (info.num_pending, info.num_ack_pending),
        (1, 0),
        "it took nothing"
    );
    assert_eq!(number(&report, "/blobs/not_attempted").unwrap(), 0);
    // It goes on with runs that are what they should be.
    let again = fleet.delete(0, &[]).unwrap();
    assert_eq!(number(&again, "/blobs/orphaned").unwrap(), 0);
}

#[test]
fn messages_of_64_kilobytes_are_enough() {
    let options = NatsOptions {
        configuration: "max_payload: 64KB\n".to_owned(),
        ..NatsOptions::default()
    };
    let shape = Shape {
        repositories: 600,
        images: 1_200,
        untagged_images: 300,
        orphans: 300,
        ..Shape::small(44)
    };
    let fleet = Fleet::with(Scene::on_s3(&shape, S3Options::default()).unwrap(), &options).unwrap();
    let _workers = fleet.workers(2).unwrap();
    let url = fleet.nats.url();
    let state = fleet.scene.state().display().to_string();
    let check = fleet
        .scene
        .check(&fleet.options(&url, &["--delete-untagged", "--state", &state]))
        .unwrap();
    let run = check["run"].as_str().unwrap();
    let report = fleet.delete(0, &["--delete-untagged", "--plan", run]).unwrap();
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    let deleted = number(&report, "/blobs/deleted").unwrap();
    assert_eq!(deleted, fleet.scene.orphans_and_untagged().len() as u64);
}
