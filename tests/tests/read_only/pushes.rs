//! The real registry is switched to read-only and back while clients push: none of what they were told is there is broken.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use hardprune_tests::docker_registry::{DockerRegistry, RegistryConfig};
use hardprune_tests::generate::Shape;
use hardprune_tests::pull::Puller;
use hardprune_tests::push::Pusher;
use hardprune_tests::s3_server::S3Options;
use hardprune_tests::scene::{Running, Scene, number, report_of};
use hardprune_tests::steady_clients::{clients, more_than};
use hardprune_tests::tcp_proxy::TcpProxy;

use crate::scripted::delete;

/// A registry at one address, whatever process it is in.
struct Restarted {
    proxy: Arc<TcpProxy>,
    url: String,
    config: RegistryConfig,
    registry: DockerRegistry,
}

fn address(registry: &DockerRegistry) -> Result<SocketAddr> {
    Ok(registry
        .url()
        .strip_prefix("http://")
        .context("no address")?
        .parse()?)
}

impl Restarted {
    async fn start(config: RegistryConfig) -> Result<Self> {
        let registry = DockerRegistry::start(config.clone()).await?;
        let proxy = Arc::new(TcpProxy::to(address(&registry)?)?);
        let url = format!("http://{}", proxy.address());
        Ok(Self {
            proxy,
            url,
            config,
            registry,
        })
    }

    /// Ends it, and starts it in the other mode.
    async fn switch(&mut self, is_read_only: bool) -> Result<()> {
        self.proxy.cut();
        let config = match is_read_only {
            true => self.config.clone().read_only(),
            false => self.config.clone(),
        };
        // The old one ends before the new one begins.
        self.registry.end()?;
        self.registry = DockerRegistry::start(config).await?;
        self.proxy.turn_to(address(&self.registry)?);
        self.proxy.mend();
        Ok(())
    }
}

/// A command that has the test do something, and waits until it is done.
fn command(folder: &Path, name: &str) -> String {
    let (asked, done) = (folder.join(name), folder.join(format!("{name}-done")));
    format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.02; done",
        asked.display(),
        done.display()
    )
}

/// Waits until the program's command has asked for this.
async fn asked_for(running: &mut Running, folder: &Path, name: &str) -> Result<()> {
    let file = folder.join(name);
    tokio::task::block_in_place(|| running.wait_until(name, |_| Ok(file.exists())))
}

fn done(folder: &Path, name: &str) -> Result<()> {
    Ok(std::fs::write(folder.join(format!("{name}-done")), b"")?)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_push_is_broken_by_a_prune_in_a_folder() {
    let scene = Scene::on_folder(&shape()).unwrap();
    pushes_throughout(scene).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_push_is_broken_by_a_prune_on_s3() {
    let scene = Scene::on_s3(&shape(), S3Options::default()).unwrap();
    pushes_throughout(scene).await.unwrap();
}

fn shape() -> Shape {
    Shape {
        orphans: 200,
        ..Shape::small(27)
    }
}

async fn pushes_throughout(scene: Scene) -> Result<()> {
    let config = scene.registry_config();
    let orphans = scene.orphan_blobs(40)?;
    let mut registry = Restarted::start(config.clone()).await?;
    let (confirmed, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let pusher = Pusher::at(&registry.registry, &registry.url);
    let clients = clients(&pusher, &orphans, &confirmed, &stop);
    more_than(&confirmed, 6).await?;

    let folder = scene.folder().to_owned();
    let (read_only, read_write) = (command(&folder, "read-only"), command(&folder, "read-write"));
    let url = registry.url.clone();
    let options = [
        "--registry-url",
        &url,
        "--read-only-command",
        &read_only,
        "--read-write-command",
        &read_write,
    ];
    let mut arguments = delete(&scene, &options);
    // Restarts take their time: it is not lost as long as nothing else is said.
    arguments.retain(|argument| !["--probe-timeout", "2s"].contains(argument));
    let mut running = Running::of(scene.start_with("", &arguments)?, folder.join("hold"))?;
    asked_for(&mut running, &folder, "read-only").await?;
    registry.switch(true).await?;
    done(&folder, "read-only")?;
    asked_for(&mut running, &folder, "read-write").await?;
    let in_the_window = confirmed.load(Ordering::SeqCst);
    registry.switch(false).await?;
    done(&folder, "read-write")?;
    let finished = tokio::task::spawn_blocking(move || running.finish()).await??;
    let report = report_of(&finished, 0)?;
    ensure!(report["read_only"] == "proved", "{report}");

    more_than(&confirmed, in_the_window + 6).await?;
    stop.store(true, Ordering::SeqCst);
    let mut tags = Vec::new();
    for client in clients {
        tags.extend(client.await?);
    }
    ensure!(tags.len() > 12, "{} images were pushed", tags.len());
    ensure!(number(&report, "/blobs/deleted")? > 100, "{report}");
    let fresh = DockerRegistry::start(config.read_only()).await?;
    let mut puller = Puller::new(&fresh);
    for tag in &tags {
        puller
            .tag(tag)
            .await
            .with_context(|| format!("{tag:?} was pushed and is broken"))?;
    }
    scene.check_intact()
}
