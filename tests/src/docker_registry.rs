//! Debian's real `docker-registry` (Distribution 2.8.2) as a child process on a free port, and its stock garbage
//! collector. A registry ends when its handle is dropped.

mod collector;
mod config;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

pub use collector::StockCollector;
pub use config::{RedisSettings, RegistryConfig, S3Settings};

use crate::free_port::free_port;
use collector::command;

const PROGRAM: &str = "/usr/bin/docker-registry";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Another process may take a free port between our looking and the registry's binding it.
const START_ATTEMPTS: usize = 5;

/// A running registry.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
    config: RegistryConfig,
    client: reqwest::Client,
}

impl DockerRegistry {
    /// Starts a registry and waits until it answers.
    pub async fn start(config: RegistryConfig) -> Result<Self> {
        let mut last = anyhow!("no attempt was made");
        for _ in 0..START_ATTEMPTS {
            match Self::start_once(&config).await {
                Ok(registry) => return Ok(registry),
                Err(error) if error.to_string().contains("address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn start_once(config: &RegistryConfig) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a folder for the registry's configuration")?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let path = folder.path().join("config.yml");
        config.write(&path, &address)?;
        let log = File::create(folder.path().join("log")).context("making the registry's log")?;
        let mut command = command(Path::new(PROGRAM))?;
        command
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("starting {PROGRAM}"))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(120))
            // Whoever asks in earnest is another.
            .tls_danger_accept_invalid_certs(true)
            .build()?;
        let url = format!("{}://{address}", config.scheme());
        let mut registry = Self {
            child,
            url,
            folder,
            config: config.clone(),
            client,
        };
        registry.wait_until_it_answers().await?;
        Ok(registry)
    }

    async fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let probe = self
            .client
            .get(format!("{}/v2/", self.url))
            .timeout(Duration::from_secs(2));
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("{PROGRAM} ended with {status}: {}", self.log());
            }
            let answer = probe
                .try_clone()
                .context("a request without a body")?
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!(
            "{PROGRAM} does not answer on {} after {START_TIMEOUT:?}: {}",
            self.url,
            self.log()
        )
    }

    /// Ends this registry and starts one anew on the same storage: its caches are empty then.
    pub async fn restart(self) -> Result<Self> {
        let config = self.config.clone();
        drop(self);
        Self::start(config).await
    }

    /// Ends it. It answers no more when this returns.
    ///
    /// # Errors
    ///
    /// A process that cannot be waited for.
    pub fn end(&mut self) -> Result<()> {
        // One that has ended by itself cannot be killed.
        let _ = self.child.kill();
        self.child.wait().context("waiting for the registry's end")?;
        Ok(())
    }

    /// `http://127.0.0.1:<port>`, or `https`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client that goes past all proxies.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The `config.yml` that it runs with.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    /// What it runs with.
    pub fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // Every write that it confirmed is on disk already; nothing is lost by not asking politely.
        let _ = self.end();
    }
}

/// What the stock collector did or would do.
#[derive(Debug, Clone)]
pub struct GarbageCollection {
    /// Digests of the blobs that it calls eligible for deletion.
    pub eligible: BTreeSet<String>,
    /// All that it printed.
    pub stdout: String,
    /// Its log and errors.
    pub stderr: String,
    /// How it ended; not zero where a manifest stopped it.
    pub status: ExitStatus,
    /// From start to end of the process.
    pub elapsed: Duration,
}

/// Runs `docker-registry garbage-collect` on the storage of a configuration.
///
/// The registry should not run meanwhile, or be read-only.
pub async fn garbage_collect(
    config: &RegistryConfig,
    dry_run: bool,
    delete_untagged: bool,
) -> Result<GarbageCollection> {
    let folder = tempfile::tempdir().context("making a folder for the collector's configuration")?;
    let command = StockCollector::debian().command(config, folder.path(), dry_run, delete_untagged)?;
    let started = Instant::now();
    let mut command = tokio::process::Command::from(command);
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("running {PROGRAM}"))?;
    let elapsed = started.elapsed();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(GarbageCollection {
        eligible: eligible(&stdout),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        stdout,
        status: output.status,
        elapsed,
    })
}

/// The digests that the stock collector's output calls eligible for deletion.
#[must_use]
pub fn eligible(stdout: &str) -> BTreeSet<String> {
    stdout
        .lines()
        .filter_map(|line| line.strip_prefix("blob eligible for deletion: "))
        .map(str::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eligible_blobs_are_told_from_the_rest_of_the_output() {
        let stdout = "team/app\nteam/app: marking manifest sha256:aa \n\n1 blobs marked, 2 blobs and 0 manifests \
                      eligible for deletion\nblob eligible for deletion: sha256:bb\nblob eligible for deletion: sha256:cc\n";
        assert_eq!(
            eligible(stdout),
            BTreeSet::from(["sha256:bb".to_string(), "sha256:cc".to_string()])
        );
    }
}
