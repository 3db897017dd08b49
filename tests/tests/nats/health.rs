//! What both programs show at `--health-addr` while a run goes on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hardprune_tests::fleet::{Fleet, wait_until};
use hardprune_tests::free_port::free_port;
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use hardprune_tests::scene::{Running, Scene, report_of};

/// Asks a program; returns the status and the text of its answer.
fn ask(address: &str, path: &str) -> Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client.get(format!("http://{address}{path}")).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await?))
    })
}

fn metrics(address: &str) -> Result<BTreeMap<String, f64>> {
    let (status, text) = ask(address, "/metrics")?;
    ensure!(status == 200, "{status}: {text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').context("a metric has a value")?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

#[test]
fn both_programs_show_that_they_live_and_what_they_do() {
    let shape = Shape {
        orphans: 600,
        ..Shape::small(35)
    };
    let scene = Scene::on_s3(&shape, S3Options::default()).unwrap();
    let fleet = Fleet::of(scene).unwrap();
    let at_worker = format!("127.0.0.1:{}", free_port().unwrap());
    let at_coordinator = format!("127.0.0.1:{}", free_port().unwrap());
    let url = fleet.nats.url();
    let _worker = fleet
        .worker_with(&url, "", &["--health-addr", &at_worker])
        .unwrap();
    wait_until("the worker lives", || {
        ask(&at_worker, "/healthz").is_ok_and(|(status, _)| status == 200)
    })
    .unwrap();

    let held = Effect::Status(503, "SlowDown");
    let faults = fleet.scene.server().unwrap().faults();
    faults.add(Fault::on(Operation::DeleteObjects, held).of_keys_with("/blobs/"));
    let options = fleet.options(&url, &["--health-addr", &at_coordinator]);
    let child = fleet.scene.start_with("", &fleet.scene.delete(&options)).unwrap();
    let coordinator = Running::of(child, fleet.scene.folder().join("hold")).unwrap();
    wait_until("batches are throttled", || {
        metrics(&at_worker).is_ok_and(|found| found["hardprune_worker_throttled_batches_total"] > 0.0)
    })
    .unwrap();
    for address in [&at_worker, &at_coordinator] {
        assert_eq!(ask(address, "/readyz").unwrap().0, 200, "{address}");
        assert_eq!(ask(address, "/healthz").unwrap().0, 200, "{address}");
        assert_eq!(ask(address, "/other").unwrap().0, 404, "{address}");
    }
    let worker = metrics(&at_worker).unwrap();
    assert!(
        worker[r#"hardprune_worker_running_tasks{kind="sweep"}"#] > 0.0,
        "{worker:?}"
    );
    assert!((worker["hardprune_worker_nats_connected"] - 1.0).abs() < f64::EPSILON);
    assert!(worker[r#"hardprune_worker_tasks_total{kind="mark",outcome="done"}"#] > 0.0);
    assert!(worker[r#"hardprune_worker_store_requests_total{kind="list"}"#] > 0.0);
    wait_until("the coordinator has counted the worker", || {
        metrics(&at_coordinator).is_ok_and(|found| found["hardprune_coordinator_alive_workers"] > 0.0)
    })
    .unwrap();
    let found = metrics(&at_coordinator).unwrap();
    assert!(
        found[r#"hardprune_coordinator_open_tasks{stage="sweep"}"#] > 0.0,
        "{found:?}"
    );
    assert!(found[r#"hardprune_coordinator_stage_info{stage="sweep"}"#] > 0.0);
    assert!(found[r#"hardprune_coordinator_finished_tasks_total{stage="mark"}"#] > 0.0);
    assert!(found["hardprune_coordinator_lock_lease_remaining_seconds"] > 0.0);

    faults.clear();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet
        .scene
        .check_finished(&report, &fleet.scene.orphans())
        .unwrap();
    let worker = metrics(&at_worker).unwrap();
    let freed = report["bytes"]["freed"].as_u64().unwrap();
    assert_eq!(
        worker["hardprune_worker_freed_bytes_total"].to_string(),
        freed.to_string()
    );
}

#[test]
fn an_address_that_is_taken_ends_both_programs_before_anything_else() {
    let scene = Scene::on_s3(&Shape::small(36), S3Options::default()).unwrap();
    let fleet = Fleet::of(scene).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = fleet.nats.url();
    let mut worker = fleet.worker_with(&url, "", &["--health-addr", &address]).unwrap();
    assert_eq!(worker.wait().unwrap(), 2);
    assert!(worker.log().contains("--health-addr"), "{}", worker.log());
    let options = fleet.options(&url, &["--health-addr", &address]);
    let finished = fleet.scene.run_with("", &fleet.scene.delete(&options)).unwrap();
    assert_eq!(finished.status, 2, "{}", finished.stderr);
    assert!(finished.stderr.contains("--health-addr"), "{}", finished.stderr);
}
