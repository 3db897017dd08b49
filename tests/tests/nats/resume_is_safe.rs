//! Between two epochs of a run its registry may have been written to: what a push took for granted is not deleted by what was
//! sealed before (R11). With Debian's real registry.

use std::time::Duration;

use anyhow::{Context, Result};
use hardprune_tests::content::Seeded;
use hardprune_tests::docker_registry::{DockerRegistry, RegistryConfig, S3Settings};
use hardprune_tests::fleet::{Fleet, wait_for_file};
use hardprune_tests::generate::Shape;
use hardprune_tests::manifests::{self, Content, Family};
use hardprune_tests::pull::Puller;
use hardprune_tests::push::Pusher;
use hardprune_tests::scene::{Running, number, report_of};
use hardprune_tests::storage_writer::blob_key;
use hardprune_tests::truth::Tag;

const REPOSITORY: &str = "team/reused";

fn fleet() -> Fleet {
    let shape = Shape {
        images: 80,
        orphans: 400,
        ..Shape::small(81)
    };
    Fleet::with_slow_deletes(&shape, Duration::from_millis(500)).unwrap()
}

fn registry(fleet: &Fleet) -> Result<RegistryConfig> {
    let server = fleet.scene.server()?;
    Ok(RegistryConfig::s3(S3Settings {
        endpoint: server.endpoint(),
        bucket: server.bucket().to_owned(),
        root_directory: String::new(),
        access_key: server.access_key().to_owned(),
        secret_key: server.secret_key().to_owned(),
    }))
}

/// Pushes an image whose layers have these bytes, as a client does that has them: through a registry that takes writes.
async fn push(fleet: &Fleet, layers: Vec<Vec<u8>>) -> Result<Tag> {
    let registry = DockerRegistry::start(registry(fleet)?).await?;
    let pusher = Pusher::new(&registry);
    let media_type = manifests::layer(Family::Oci, &mut Seeded::new(1), 16).media_type;
    let layers: Vec<Content> = layers
        .into_iter()
        .map(|bytes| Content::new(media_type, bytes))
        .collect();
    let layers: Vec<&Content> = layers.iter().collect();
    let config = manifests::config(Family::Oci, "amd64", &layers);
    for blob in layers.iter().chain([&&config]) {
        pusher.blob(REPOSITORY, blob).await?;
    }
    let manifest = manifests::image(Family::Oci, &config, &layers, None);
    pusher.manifest(REPOSITORY, "latest", &manifest).await?;
    Ok(Tag {
        repository: REPOSITORY.to_owned(),
        tag: "latest".to_owned(),
        digest: manifest.digest,
    })
}

/// Every byte of an image comes out of a registry that is started anew.
async fn pull(fleet: &Fleet, tag: &Tag) -> Result<()> {
    let registry = DockerRegistry::start(registry(fleet)?.read_only()).await?;
    Puller::new(&registry).tag(tag).await
}

/// The bytes of orphans that are still there.
fn orphans_left(fleet: &Fleet, count: usize) -> Result<Vec<Vec<u8>>> {
    let server = fleet.scene.server()?;
    let orphans = fleet.scene.orphans();
    let left: Vec<_> = orphans
        .iter()
        .filter_map(|orphan| server.get(&blob_key(orphan)))
        .collect();
    let left: Vec<Vec<u8>> = left
        .into_iter()
        .rev()
        .take(count)
        .map(|bytes| bytes.to_vec())
        .collect();
    anyhow::ensure!(left.len() == count, "only {} orphans are left", left.len());
    Ok(left)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_between_two_epochs_stays_though_it_was_planned_to_go() {
    let fleet = fleet();
    let _worker = fleet
        .worker_with(&fleet.nats.url(), "", &["--concurrency", "1"])
        .unwrap();
    let coordinator = fleet.start_delete("", &[]).unwrap();
    fleet.wait_for_deletes().unwrap();
    coordinator.signal("TERM").unwrap();
    let stopped = report_of(&coordinator.finish().unwrap(), 4).unwrap();
    fleet.scene.check_accounts(&stopped).unwrap();
    fleet.scene.server().unwrap().faults().clear();
    // The registry finds the blobs there, old as they are, and only links them.
    let tag = push(&fleet, orphans_left(&fleet, 3).unwrap()).await.unwrap();
    let resumed = fleet.resume().unwrap();
    assert_eq!(resumed["run"], stopped["run"]);
    assert_eq!(number(&resumed, "/blobs/deleted").unwrap(), 400 - 3);
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&resumed).unwrap();
    pull(&fleet, &tag).await.unwrap();
    assert_eq!(fleet.scene.check(&[]).unwrap()["blobs"]["orphaned"], 0);
}

/// Runs a delete to its end, as soon as the lock of another has lapsed.
fn delete_when_unlocked(fleet: &Fleet) -> Result<serde_json::Value> {
    let url = fleet.nats.url();
    let options = fleet.options(&url, &[]);
    // The lock of a coordinator that is suspended stands for its lease and a request's time.
    for _ in 0..200 {
        let finished = fleet.scene.program.run(&fleet.scene.delete(&options))?;
        if finished.status != 7 {
            return report_of(&finished, 0);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    anyhow::bail!("it stays locked")
}

/// Suspends a coordinator; another run completes; an image is pushed of what the first had planned to delete; the first wakes
/// up.
async fn suspended_past_its_lease(fleet: &Fleet, coordinator: Running) -> Result<()> {
    let planned = orphans_left(fleet, 3)?;
    coordinator.signal("STOP")?;
    let second = delete_when_unlocked(fleet)?;
    fleet.scene.check_intact()?;
    let tag = push(fleet, planned).await?;
    let pushed = fleet.scene.inventory()?;
    coordinator.signal("CONT")?;
    let finished = coordinator.finish()?;
    anyhow::ensure!(
        [4, 7].contains(&finished.status),
        "{}: {}",
        finished.status,
        finished.stderr
    );
    let gone = pushed.until(&fleet.scene.inventory()?);
    anyhow::ensure!(gone.removed_blobs().is_empty(), "{gone:?}");
    pull(fleet, &tag).await?;
    fleet.scene.check_intact()?;
    // What each freed adds up to all that went, nothing is counted twice.
    let first: serde_json::Value = serde_json::from_str(&finished.stdout).context(finished.stdout)?;
    for figure in ["/blobs/deleted", "/bytes/freed"] {
        let sum = number(&first, figure)? + number(&second, figure)?;
        let really = match figure {
            "/blobs/deleted" => fleet.scene.truth.orphans.len() as u64,
            _ => fleet.scene.truth.orphan_bytes(),
        };
        anyhow::ensure!(sum == really, "{figure}: {sum} instead of {really}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_suspended_in_the_sweep_deletes_nothing_more() {
    let fleet = fleet();
    let _worker = fleet
        .worker_with(&fleet.nats.url(), "", &["--concurrency", "1"])
        .unwrap();
    let coordinator = fleet.start_delete("", &[]).unwrap();
    fleet.wait_for_deletes().unwrap();
    suspended_past_its_lease(&fleet, coordinator).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_suspended_before_the_sweep_deletes_nothing() {
    let fleet = fleet();
    let _worker = fleet.worker().unwrap();
    let hold = fleet.scene.folder().join("hold");
    let coordinator = fleet
        .start_delete(&format!("after-lock-allows=1*return({})", hold.display()), &[])
        .unwrap();
    wait_for_file(&hold).unwrap();
    coordinator.signal("STOP").unwrap();
    std::fs::remove_file(&hold).unwrap();
    suspended_past_its_lease(&fleet, coordinator).await.unwrap();
}
