//! Workers and coordinators that are killed, suspended and cut off, and a server that goes away: nothing that is referenced is
//! gone, every orphan is, and the freed bytes are exact.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::Seeded;
use hardprune_tests::fleet::{Fleet, Worker, wait_for_file, wait_until};
use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::scene::{KILLED, Running, Scene, number, report_of};
use hardprune_tests::tcp_proxy::TcpProxy;
use serde_json::Value;

/// Longer than a lease, and the requests that it may outlast.
const PAST_THE_LEASE: Duration = Duration::from_secs(13);

/// A registry of so many blobs whose deletes are slow.
fn slow_fleet(shape: &Shape) -> Result<Fleet> {
    let scene = Scene::on_s3(shape, S3Options::default())?;
    slow_deletes(&scene)?;
    Fleet::of(scene)
}

fn slow_deletes(scene: &Scene) -> Result<()> {
    let slow = Effect::DelayBefore(Duration::from_millis(150));
    scene
        .server()?
        .faults()
        .add(Fault::on(Operation::DeleteObjects, slow));
    Ok(())
}

fn some_thousand() -> Shape {
    Shape {
        images: 200,
        orphans: 3_000,
        ..Shape::small(32)
    }
}

/// Starts a coordinator that deletes.
fn start_delete(fleet: &Fleet, failpoints: &str, others: &[&str]) -> Result<Running> {
    let url = fleet.nats.url();
    let options = fleet.options(&url, others);
    let child = fleet
        .scene
        .start_with(failpoints, &fleet.scene.delete(&options))?;
    Running::of(child, fleet.scene.folder().join("hold"))
}

/// Goes on with the latest run, as soon as the lock of the dead coordinator has lapsed.
fn resume(fleet: &Fleet) -> Result<Value> {
    let url = fleet.nats.url();
    let options = fleet.options(&url, &["--resume", "auto"]);
    let begun = Instant::now();
    loop {
        let finished = fleet.scene.run_with("", &fleet.scene.delete(&options))?;
        if finished.status != 7 {
            return report_of(&finished, 0);
        }
        ensure!(begun.elapsed() < PAST_THE_LEASE * 2, "{}", finished.stderr);
        thread::sleep(Duration::from_millis(200));
    }
}

fn check_finished(fleet: &Fleet, report: &Value) -> Result<()> {
    fleet.scene.check_finished(report, &fleet.scene.orphans())
}

fn check_ended(fleet: &Fleet, finished: &Finished) -> Result<()> {
    let report = report_of(finished, 0)?;
    check_finished(fleet, &report)
}

/// Waits until the sweep has begun to delete.
fn wait_for_deletes(fleet: &Fleet) -> Result<()> {
    let before = fleet.scene.start.blob_bytes();
    wait_until("the first deletes of blobs", || {
        fleet.scene.inventory().is_ok_and(|now| now.blob_bytes() < before)
    })
}

/// Three workers and 20,000 blobs; a random worker is killed every few hundred milliseconds, and another started.
fn rounds_of_murder(first_seed: u64, rounds: u64) -> Result<()> {
    let fleet = slow_fleet(&Shape {
        repositories: 60,
        images: 2_700,
        orphans: 8_000,
        ..Shape::small(33)
    })?;
    let blobs = fleet
        .scene
        .start
        .0
        .keys()
        .filter(|key| key.ends_with("/data"))
        .count();
    ensure!(blobs > 19_000, "only {blobs} blobs");
    let contents = fleet.scene.contents()?;
    for seed in first_seed..first_seed + rounds {
        fleet.scene.put_back(&contents)?;
        round_of_murder(&fleet, seed).with_context(|| format!("round {seed}"))?;
    }
    Ok(())
}

fn round_of_murder(fleet: &Fleet, seed: u64) -> Result<()> {
    let mut random = Seeded::new(seed);
    let mut workers = fleet.workers(3)?;
    let coordinator = start_delete(fleet, "", &[])?;
    if seed.is_multiple_of(2) {
        // Every other round has its murders in the sweep.
        wait_for_deletes(fleet)?;
    }
    for _ in 0..12 {
        thread::sleep(Duration::from_millis(100 + random.between(0, 300)));
        let victim = usize::try_from(random.between(0, 2))?;
        workers.swap_remove(victim).kill()?;
        workers.push(fleet.worker()?);
    }
    check_ended(fleet, &coordinator.finish()?)
}

#[test]
fn workers_are_killed_all_the_time_rounds_1_to_5() {
    rounds_of_murder(1, 5).unwrap();
}

#[test]
fn workers_are_killed_all_the_time_rounds_6_to_10() {
    rounds_of_murder(6, 5).unwrap();
}

#[test]
fn workers_are_killed_all_the_time_rounds_11_to_15() {
    rounds_of_murder(11, 5).unwrap();
}

#[test]
fn workers_are_killed_all_the_time_rounds_16_to_20() {
    rounds_of_murder(16, 5).unwrap();
}

#[test]
fn the_coordinator_is_killed_in_each_stage_and_another_goes_on() {
    for failpoint in [
        "after-mark",
        "after-seal",
        "after-lock-allows",
        "after-unlink",
        "after-dangling",
        "after-sweep",
    ] {
        let fleet = slow_fleet(&some_thousand()).unwrap();
        let _workers = fleet.workers(2).unwrap();
        let killed = start_delete(&fleet, &format!("{failpoint}=return"), &[]).unwrap();
        assert_eq!(killed.finish().unwrap().status, KILLED, "{failpoint}");
        fleet.scene.check_intact().unwrap();
        let report = resume(&fleet).with_context(|| failpoint).unwrap();
        check_finished(&fleet, &report)
            .with_context(|| failpoint)
            .unwrap();
        assert_eq!(number(&report, "/epochs").unwrap(), 2, "{failpoint}");
    }
}

#[test]
fn the_coordinator_is_killed_while_workers_sweep_and_another_goes_on() {
    let fleet = slow_fleet(&some_thousand()).unwrap();
    let _workers = fleet.workers(2).unwrap();
    let coordinator = start_delete(&fleet, "", &[]).unwrap();
    wait_for_deletes(&fleet).unwrap();
    coordinator.kill().unwrap();
    let report = resume(&fleet).unwrap();
    check_finished(&fleet, &report).unwrap();
    fleet.scene.check_shown(&report).unwrap();
}

#[test]
fn the_server_goes_away_in_the_sweep_and_comes_back() {
    let mut fleet = slow_fleet(&some_thousand()).unwrap();
    let _workers = fleet.workers(2).unwrap();
    let coordinator = start_delete(&fleet, "", &[]).unwrap();
    wait_for_deletes(&fleet).unwrap();
    fleet.nats.stop().unwrap();
    thread::sleep(Duration::from_secs(3));
    fleet.nats.start_again().unwrap();
    check_ended(&fleet, &coordinator.finish().unwrap()).unwrap();
}

#[test]
fn a_worker_that_was_cut_off_for_longer_than_its_task_is_its_own_does_no_harm() {
    let fleet = slow_fleet(&some_thousand()).unwrap();
    let proxy = TcpProxy::to(fleet.nats.address()).unwrap();
    let cut_off = fleet
        .worker_with(&format!("nats://{}", proxy.address()), "", &[])
        .unwrap();
    let coordinator = start_delete(&fleet, "", &[]).unwrap();
    wait_for_deletes(&fleet).unwrap();
    proxy.cut();
    let other = fleet.worker().unwrap();
    other
        .wait_for_line("takes over the task of a worker that is silent")
        .unwrap();
    proxy.mend();
    check_ended(&fleet, &coordinator.finish().unwrap()).unwrap();
    drop(cut_off);
}

/// Holds a worker at its first delete, right before the request, and suspends it there.
fn suspended_before_its_request(fleet: &Fleet) -> Result<(Worker, std::path::PathBuf)> {
    let hold = fleet.scene.folder().join("hold-worker");
    let failpoints = format!("delete-before-request=1*off->1*return({})", hold.display());
    let worker = fleet.worker_with(&fleet.nats.url(), &failpoints, &["--concurrency", "1"])?;
    Ok((worker, hold))
}

#[test]
fn a_worker_that_is_suspended_before_its_request_past_the_lease_sends_nothing() {
    let fleet = slow_fleet(&some_thousand()).unwrap();
    let (mut suspended, hold) = suspended_before_its_request(&fleet).unwrap();
    let coordinator = start_delete(&fleet, "", &[]).unwrap();
    wait_for_file(&hold).unwrap();
    suspended.signal("STOP").unwrap();
    let others = fleet.workers(2).unwrap();
    let finished = coordinator.finish().unwrap();
    check_ended(&fleet, &finished).unwrap();
    // Its keys come back, by a push: whoever sent its request now would delete them.
    for orphan in fleet.scene.orphans() {
        fleet
            .scene
            .server()
            .unwrap()
            .put(&blob_key(&orphan), "pushed again", None);
    }
    let pushed = fleet.scene.inventory().unwrap();
    thread::sleep(PAST_THE_LEASE);
    std::fs::remove_file(&hold).unwrap();
    // It wakes up in the middle of its batch, and ends that before it leaves.
    suspended.signal("TERM").unwrap();
    suspended.signal("CONT").unwrap();
    assert_eq!(suspended.wait().unwrap(), 0);
    let gone = pushed.until(&fleet.scene.inventory().unwrap());
    assert!(gone.removed_blobs().is_empty(), "{gone:?}");
    drop(others);
}

fn blob_key(digest: &str) -> String {
    let hex = digest.trim_start_matches("sha256:");
    format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])
}

#[test]
fn every_message_comes_twice() {
    let fleet = slow_fleet(&some_thousand()).unwrap();
    let _workers = fleet.workers(4).unwrap();
    let _echo = Echo::start(&fleet.nats.url()).unwrap();
    let coordinator = start_delete(&fleet, "", &[]).unwrap();
    check_ended(&fleet, &coordinator.finish().unwrap()).unwrap();
}

/// Publishes every task and report that it sees once more.
struct Echo {
    /// Ends with this.
    _runtime: tokio::runtime::Runtime,
}

impl Echo {
    fn start(url: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(async_nats::connect(url))?;
        for subjects in ["hardprune.tasks.>", "hardprune.reports.>"] {
            let mut seen = runtime.block_on(client.subscribe(subjects))?;
            let client = client.clone();
            runtime.spawn(async move {
                use futures::StreamExt;
                while let Some(message) = seen.next().await {
                    let is_echo = message
                        .headers
                        .as_ref()
                        .is_some_and(|headers| headers.get("Echo").is_some());
                    if !is_echo {
                        let mut headers = async_nats::HeaderMap::new();
                        headers.insert("Echo", "1");
                        // A server that is gone ends the test in other ways.
                        let _ = client
                            .publish_with_headers(message.subject, headers, message.payload)
                            .await;
                    }
                }
            });
        }
        Ok(Self { _runtime: runtime })
    }
}
