//! The registry's cache: what it remembers of blobs that are gone makes a push "succeed" without its data. With Debian's real
//! `redis-server` and a real registry that caches in it.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::content::Seeded;
use hardprune_tests::docker_registry::{DockerRegistry, RedisSettings, RegistryConfig};
use hardprune_tests::generate::Shape;
use hardprune_tests::manifests::{Content, Family, config, image, layer};
use hardprune_tests::program::{Finished, Hardprune};
use hardprune_tests::pull::Puller;
use hardprune_tests::push::Pusher;
use hardprune_tests::redis_server::RedisServer;
use hardprune_tests::scene::{KILLED, Scene, fast_folder, report_of};
use hardprune_tests::storage_writer::Folder;
use hardprune_tests::tcp_proxy::TcpProxy;
use tempfile::TempDir;

const PASSWORD: &str = "Pl4ntedS3cret";
const DATABASE: u32 = 3;
const REPOSITORY: &str = "team/app";

/// An image of one layer.
struct Image {
    layer: Content,
    config: Content,
    manifest: Content,
}

impl Image {
    fn new(seed: u64) -> Self {
        let layer = layer(Family::Oci, &mut Seeded::new(seed), 2_000);
        let config = config(Family::Oci, "amd64", &[&layer]);
        let manifest = image(Family::Oci, &config, &[&layer], None);
        Self {
            layer,
            config,
            manifest,
        }
    }

    /// Pushes as clients do: what the registry says that it has is not sent again. Returns how many blobs were sent.
    async fn push(&self, registry: &DockerRegistry, tag: &str) -> Result<usize> {
        let pusher = Pusher::new(registry);
        let mut sent = 0;
        for blob in [&self.layer, &self.config] {
            let url = format!("{}/v2/{REPOSITORY}/blobs/{}", registry.url(), blob.digest);
            if !registry.client().head(url).send().await?.status().is_success() {
                pusher.blob(REPOSITORY, blob).await?;
                sent += 1;
            }
        }
        pusher.manifest(REPOSITORY, tag, &self.manifest).await?;
        Ok(sent)
    }
}

/// A registry that caches in Redis, with an image that lives and one that was deleted.
struct Cached {
    redis: RedisServer,
    registry: DockerRegistry,
    program: Hardprune,
    folder: TempDir,
    live: Image,
    gone: Image,
}

impl Cached {
    async fn new() -> Result<Self> {
        let redis = RedisServer::start(PASSWORD)?;
        let folder = fast_folder()?;
        let config = RegistryConfig::filesystem(folder.path()).with_redis(RedisSettings {
            address: redis.address(),
            password: PASSWORD.to_owned(),
            database: DATABASE,
        });
        let registry = DockerRegistry::start(config).await?;
        let (live, gone) = (Image::new(1), Image::new(2));
        ensure!(live.push(&registry, "live").await? == 2);
        ensure!(gone.push(&registry, "gone").await? == 2);
        Pusher::new(&registry)
            .delete_manifest(REPOSITORY, &gone.manifest.digest)
            .await?;
        Folder::new(folder.path()).set_all_modified(SystemTime::now() - Duration::from_secs(3 * 86_400))?;
        let cached = Self {
            redis,
            registry,
            program: Hardprune::new()?,
            folder,
            live,
            gone,
        };
        let known = cached.entries_of(&cached.gone.layer.digest)?;
        ensure!(known == 3, "the registry remembers {known} entries of the layer");
        Ok(cached)
    }

    /// How many entries speak of a digest.
    fn entries_of(&self, digest: &str) -> Result<usize> {
        let keys = self.redis.keys(DATABASE)?;
        let named = keys.iter().filter(|key| key.contains(digest)).count();
        let members = self
            .redis
            .members(DATABASE, &format!("repository::{REPOSITORY}::blobs"))?;
        Ok(named + members.iter().filter(|member| *member == digest).count())
    }

    fn delete(&self, others: &[&str]) -> Result<Finished> {
        let storage = self.storage().to_str().context("a plain name")?;
        let arguments = [&["delete", storage, "--assume-read-only"], others].concat();
        self.program.run(&arguments)
    }

    fn storage(&self) -> &Path {
        self.folder.path()
    }

    /// Nothing of the deleted image is remembered, all of the live one is.
    fn ensure_cleared(&self) -> Result<()> {
        for blob in [&self.gone.layer, &self.gone.config, &self.gone.manifest] {
            let left = self.entries_of(&blob.digest)?;
            ensure!(left == 0, "{left} entries of {}", blob.digest);
        }
        for blob in [&self.live.layer, &self.live.config] {
            let left = self.entries_of(&blob.digest)?;
            ensure!(left == 3, "{left} entries of {}, which lives", blob.digest);
        }
        Ok(())
    }

    /// Pushes the deleted image again, and pulls both.
    async fn ensure_a_push_works(&self) -> Result<()> {
        let sent = self.gone.push(&self.registry, "again").await?;
        ensure!(sent == 2, "{sent} of 2 blobs were sent again");
        let mut puller = Puller::new(&self.registry);
        for image in [&self.live, &self.gone] {
            puller.digest(REPOSITORY, &image.manifest.digest).await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_clearing_the_cache_a_push_succeeds_without_its_data() {
    let cached = Cached::new().await.unwrap();
    let deleted = cached.delete(&["--cache", "manual"]).unwrap();
    assert_eq!(deleted.status, 0, "{deleted:?}");
    assert!(
        deleted.stderr.contains("Clear the registry's cache"),
        "{deleted:?}"
    );
    assert_eq!(cached.entries_of(&cached.gone.layer.digest).unwrap(), 3);
    let error = cached.ensure_a_push_works().await.unwrap_err().to_string();
    assert!(error.contains("0 of 2 blobs were sent again"), "{error}");
    let pulled = Puller::new(&cached.registry)
        .digest(REPOSITORY, &cached.gone.manifest.digest)
        .await;
    assert!(pulled.is_err(), "the bug that this is about is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_that_the_configuration_names_is_cleared_and_a_push_works() {
    let cached = Cached::new().await.unwrap();
    let config = cached.registry.config_path().display().to_string();
    let deleted = cached
        .program
        .run(&["delete", "--registry-config", &config, "--assume-read-only"])
        .unwrap();
    assert_eq!(deleted.status, 0, "{deleted:?}");
    assert!(
        !deleted.stderr.contains("Clear the registry's cache"),
        "{deleted:?}"
    );
    assert!(!format!("{deleted:?}").contains(PASSWORD), "{deleted:?}");
    cached.ensure_cleared().unwrap();
    cached.ensure_a_push_works().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_that_an_option_names_is_cleared_and_a_push_works() {
    let cached = Cached::new().await.unwrap();
    let file = cached.program.home().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let url = cached.redis.url(DATABASE);
    let options = ["--cache", &url, "--cache-password-file", file.to_str().unwrap()];
    let deleted = cached.delete(&options).unwrap();
    assert_eq!(deleted.status, 0, "{deleted:?}");
    cached.ensure_cleared().unwrap();
    cached.ensure_a_push_works().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_used_refuses_before_anything_is_deleted_and_no_secret_is_told() {
    let mut cached = Cached::new().await.unwrap();
    let url = cached.redis.url(DATABASE);
    let program = std::mem::replace(&mut cached.program, Hardprune::new().unwrap());
    let blob = hardprune_tests::storage_writer::blob_key(&cached.gone.layer.digest);
    // No password, a wrong one, a wrong place for it, what is not there yet, and at last no server.
    let no_password = cached.delete(&["--cache", &url]).unwrap();
    assert_eq!(no_password.status, 3, "{no_password:?}");
    cached.program = program.with("HARDPRUNE_CACHE_PASSWORD", "An0therS3cret");
    let wrong = cached.delete(&["--cache", &url]).unwrap();
    assert!(
        wrong.status == 3 && wrong.stderr.contains("--cache manual"),
        "{wrong:?}"
    );
    let in_the_url = url.replace("redis://", "redis://:An0therS3cret@");
    let misplaced = cached.delete(&["--cache", &in_the_url]).unwrap();
    assert!(
        misplaced.status == 2 && misplaced.stderr.contains("--cache-password-file"),
        "{misplaced:?}"
    );
    let restart = cached.delete(&["--cache", "restart"]).unwrap();
    assert!(
        restart.status == 2 && restart.stderr.contains("restart every replica"),
        "{restart:?}"
    );
    cached.redis.stop().unwrap();
    let config = cached.registry.config_path().display().to_string();
    let down = cached
        .program
        .run(&["delete", "--registry-config", &config, "--assume-read-only"])
        .unwrap();
    assert_eq!(down.status, 3, "{down:?}");
    for told in [&no_password, &wrong, &misplaced, &restart, &down] {
        let text = format!("{told:?}");
        assert!(
            !text.contains("An0therS3cret") && !text.contains(PASSWORD),
            "{text}"
        );
    }
    assert!(cached.storage().join(blob).exists());
    assert!(!cached.storage().join("hardprune").exists(), "nothing was begun");
}

/// A generated registry of which a cache remembers everything.
fn remembered(seed: u64) -> Result<(Scene, RedisServer)> {
    let redis = RedisServer::start(PASSWORD)?;
    let scene = Scene::on_folder(&Shape::small(seed))?.with("HARDPRUNE_CACHE_PASSWORD", PASSWORD);
    for digest in scene.truth.orphans.keys().chain(scene.truth.live.keys()) {
        redis.remember(DATABASE, None, digest)?;
    }
    for (repository, digest) in &scene.truth.dangling_links {
        redis.remember(DATABASE, Some(repository), digest)?;
    }
    Ok((scene, redis))
}

/// The cache has all of the live blobs, and nothing else.
fn ensure_only_live(scene: &Scene, redis: &RedisServer) -> Result<()> {
    let live: BTreeSet<String> = scene
        .truth
        .live
        .keys()
        .map(|digest| format!("blobs::{digest}"))
        .collect();
    let keys: BTreeSet<String> = redis.keys(DATABASE)?.into_iter().collect();
    ensure!(
        keys == live,
        "remembered: {:?}",
        keys.symmetric_difference(&live).collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn a_cache_that_is_lost_after_deletes_began_stops_none_and_the_command_that_is_told_clears_it() {
    let (scene, redis) = remembered(61).unwrap();
    let proxy = TcpProxy::to(redis.address().parse().unwrap()).unwrap();
    let cache = format!("redis://{}/{DATABASE}", proxy.address());
    let held = scene
        .hold_at("after-lock-allows", 0, &scene.delete(&["--cache", &cache]))
        .unwrap();
    proxy.cut();
    held.release().unwrap();
    let finished = held.finish().unwrap();
    let report = report_of(&finished, 5).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
    let run = report["run"].as_str().unwrap();
    let command = format!(
        "hardprune runs clear-cache {run} --state {} --cache {cache}",
        scene.state().display()
    );
    assert!(finished.stderr.contains(&command), "{finished:?}");
    assert!(!format!("{finished:?}").contains(PASSWORD), "{finished:?}");
    assert!(
        ensure_only_live(&scene, &redis).is_err(),
        "nothing was left to clear"
    );

    let (state, url) = (scene.state().display().to_string(), redis.url(DATABASE));
    let cleared = scene
        .program
        .run(&["runs", "clear-cache", run, "--state", &state, "--cache", &url])
        .unwrap();
    assert_eq!(cleared.status, 0, "{cleared:?}");
    ensure_only_live(&scene, &redis).unwrap();
}

#[test]
fn a_registry_stays_read_only_until_its_cache_has_forgotten_what_is_gone() {
    let (scene, redis) = remembered(68).unwrap();
    let proxy = TcpProxy::to(redis.address().parse().unwrap()).unwrap();
    let cache = format!("redis://{}/{DATABASE}", proxy.address());
    let folder = fast_folder().unwrap();
    let writable = folder.path().join("writable");
    let back = format!("touch {}", writable.display());
    let switch = ["--read-only-command", "true", "--read-write-command", &back];
    let delete = [&["--cache", cache.as_str()], &switch[..]].concat();
    let held = scene
        .hold_at("after-lock-allows", 0, &scene.delete(&delete))
        .unwrap();
    proxy.cut();
    held.release().unwrap();
    let finished = held.finish().unwrap();
    report_of(&finished, 5).unwrap();
    assert!(finished.stderr.contains("hardprune read-write"), "{finished:?}");
    assert!(!writable.exists());

    let registry = scene.store_names().remove(0);
    let read_write = |cache: &str| {
        let arguments = [
            "read-write",
            &registry,
            "--cache",
            cache,
            "--read-write-command",
            &back,
        ];
        scene.program.run(&arguments).unwrap()
    };
    let refused = read_write(&cache);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(!writable.exists());
    let switched = read_write(&redis.url(DATABASE));
    assert_eq!(switched.status, 0, "{switched:?}");
    assert!(writable.exists());
    ensure_only_live(&scene, &redis).unwrap();
}

#[test]
fn whoever_goes_on_with_a_killed_run_clears_what_it_deleted_before() {
    let (scene, redis) = remembered(62).unwrap();
    let url = redis.url(DATABASE);
    let delete = scene.delete(&["--cache", &url]);
    let killed = scene
        .run_with("delete-after-request=6*off->return", &delete)
        .unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    assert!(
        ensure_only_live(&scene, &redis).is_err(),
        "nothing was left to clear"
    );
    let resume = scene.delete(&["--resume", "auto", "--cache", &url]);
    let report = scene.report(0, &resume).unwrap();
    scene.check_finished(&report, &scene.orphans()).unwrap();
    ensure_only_live(&scene, &redis).unwrap();
}

#[test]
fn of_a_killed_run_all_that_it_had_begun_is_cleared_by_hand() {
    let (scene, redis) = remembered(64).unwrap();
    let killed = scene
        .run_with(
            "delete-after-request=6*off->return",
            &scene.delete(&["--cache", "none"]),
        )
        .unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    let (run, state, url) = (
        scene.run_id().unwrap(),
        scene.state().display().to_string(),
        redis.url(DATABASE),
    );
    let cleared = scene
        .program
        .run(&["runs", "clear-cache", &run, "--state", &state, "--cache", &url])
        .unwrap();
    assert_eq!(cleared.status, 0, "{cleared:?}");
    // Nobody has written down what became of the last requests.
    let gone = scene.difference().unwrap().removed_blobs();
    assert!(!gone.is_empty());
    let keys = redis.keys(DATABASE).unwrap();
    let left: Vec<_> = gone
        .keys()
        .filter(|digest| keys.contains(&format!("blobs::{digest}")))
        .collect();
    assert!(left.is_empty(), "gone and remembered: {left:?}");
}

#[test]
fn a_cache_is_spoken_to_with_tls() {
    let folder = fast_folder().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [certificate, key] =
        ["certificate.pem", "key.pem"].map(|name| folder.path().join(name).display().to_string());
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let redis = RedisServer::start_with(PASSWORD, |port| {
        format!(
            "port 0\ntls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-auth-clients no\n"
        )
    })
    .unwrap();
    let port = redis.address().rsplit(':').next().unwrap().to_owned();
    let url = format!("rediss://localhost:{port}/0");
    let scene = Scene::on_folder(&Shape::small(65))
        .unwrap()
        .with("HARDPRUNE_CACHE_PASSWORD", PASSWORD);
    let stranger = scene.program.run(&scene.delete(&["--cache", &url])).unwrap();
    assert_eq!(stranger.status, 3, "{stranger:?}");
    let scene = scene.with("SSL_CERT_FILE", &certificate);
    scene.report(0, &scene.delete(&["--cache", &url])).unwrap();
}

#[test]
fn shards_that_are_done_are_cleared_while_the_sweep_goes_on() {
    let (scene, redis) = remembered(63).unwrap();
    let url = redis.url(DATABASE);
    // Killed before the books are closed: what is cleared was cleared on the way.
    let killed = scene
        .run_with("after-sweep=return", &scene.delete(&["--cache", &url]))
        .unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    ensure_only_live(&scene, &redis).unwrap();
}

#[test]
fn a_server_that_lets_nothing_be_removed_is_refused_before_anything_is_deleted() {
    let primary = RedisServer::start(PASSWORD).unwrap();
    let replica = RedisServer::start_with(PASSWORD, |port| {
        format!("port {port}\nreplicaof {}\n", primary.address().replace(':', " "))
    })
    .unwrap();
    let scene = Scene::on_folder(&Shape::small(66))
        .unwrap()
        .with("HARDPRUNE_CACHE_PASSWORD", PASSWORD);
    let refused = scene
        .program
        .run(&scene.delete(&["--cache", &replica.url(0)]))
        .unwrap();
    assert!(
        refused.status == 3 && refused.stderr.contains("replica"),
        "{refused:?}"
    );
    assert!(scene.difference().unwrap().is_empty());
}
