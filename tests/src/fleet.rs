//! A registry that is pruned over NATS: a server of its own, and any number of real `hardprune-worker` processes that can be
//! killed, suspended and started at any moment.

mod runs;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hardprune_common::nats::{self, Credentials, Nats, Settings};

use crate::nats_server::{NatsOptions, NatsServer};
use crate::program::{Hardprune, built_program};
use crate::scene::Scene;

const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Terms on which tests do not have to wait for what died as long as operators do.
pub const QUICK: [&str; 4] = ["--lease", "9s", "--ack-wait", "2s"];

/// A registry, a NATS server, and workers.
pub struct Fleet {
    /// The registry and the coordinator's program.
    pub scene: Scene,
    /// The server.
    pub nats: NatsServer,
    started: std::cell::Cell<usize>,
}

impl Fleet {
    /// Starts a NATS server for a registry.
    ///
    /// # Errors
    ///
    /// A machine without `nats-server`.
    pub fn of(scene: Scene) -> Result<Self> {
        Self::with(scene, &NatsOptions::default())
    }

    /// Starts a NATS server that is set up so.
    ///
    /// # Errors
    ///
    /// As [`Fleet::of`].
    pub fn with(scene: Scene, options: &NatsOptions) -> Result<Self> {
        Ok(Self {
            scene,
            nats: NatsServer::start(options)?,
            started: std::cell::Cell::new(0),
        })
    }

    /// Makes the streams that a coordinator would make, so that workers can begin before it.
    ///
    /// # Errors
    ///
    /// A server that refuses.
    pub fn set_up(&self) -> Result<()> {
        set_up(&self.nats)
    }

    /// The options that make a coordinator hand out its tasks here, before others.
    #[must_use]
    pub fn options<'a>(&self, url: &'a str, others: &[&'a str]) -> Vec<&'a str> {
        let mut options = vec!["--nats", url];
        options.extend(QUICK);
        options.extend(others);
        options
    }

    /// Starts a worker on the registry.
    ///
    /// # Errors
    ///
    /// A program that was not built.
    pub fn worker(&self) -> Result<Worker> {
        self.worker_with(&self.nats.url(), "", &[])
    }

    /// Starts a worker that reaches NATS at an address, with failpoints and more options.
    ///
    /// # Errors
    ///
    /// A program that was not built.
    pub fn worker_with(&self, url: &str, failpoints: &str, others: &[&str]) -> Result<Worker> {
        let stores = self.scene.store_names();
        let mut arguments = vec!["--nats", url, "-v"];
        for store in &stores {
            arguments.extend(["--store", store]);
        }
        arguments.extend(others);
        self.bare_worker(failpoints, &arguments)
    }

    /// Starts a worker with these arguments and no others.
    ///
    /// # Errors
    ///
    /// A program that was not built.
    pub fn bare_worker(&self, failpoints: &str, arguments: &[&str]) -> Result<Worker> {
        let number = self.started.get();
        self.started.set(number + 1);
        let log = self.scene.folder().join(format!("worker-{number}.log"));
        Worker::start(&self.scene.program, log, failpoints, arguments)
    }

    /// Starts so many workers.
    ///
    /// # Errors
    ///
    /// As [`Fleet::worker`].
    pub fn workers(&self, count: usize) -> Result<Vec<Worker>> {
        (0..count).map(|_| self.worker()).collect()
    }
}

/// Makes the streams that a coordinator would make, so that workers can begin before it.
///
/// # Errors
///
/// A server that refuses.
pub fn set_up(server: &NatsServer) -> Result<()> {
    let settings = Settings {
        servers: server.url(),
        credentials: Credentials::None,
        ca: None,
        client_certificate: None,
        name: "hardprune's tests".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let nats = Nats::connect(&settings).await?;
        Ok(nats::set_up(&nats, 1).await?)
    })
}

/// A worker's process. Ended with this value.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    /// Starts one in the environment of a coordinator's program.
    ///
    /// # Errors
    ///
    /// A program that was not built.
    pub fn start(program: &Hardprune, log: PathBuf, failpoints: &str, arguments: &[&str]) -> Result<Self> {
        let out = File::create(&log)?;
        let mut command = Command::new(built_program("hardprune-worker")?);
        command
            .args(arguments)
            .env_clear()
            .envs(program.environment())
            .env("FAILPOINTS", failpoints)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        Ok(Self {
            child: command.spawn().context("starting hardprune-worker")?,
            log,
        })
    }

    /// Sends it a signal: `TERM`, `STOP`, `CONT`.
    ///
    /// # Errors
    ///
    /// A process that is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()?;
        ensure!(status.success(), "the signal could not be sent");
        Ok(())
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as the kernel would.
    ///
    /// # Errors
    ///
    /// A process that cannot be ended.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end. Returns its exit status.
    ///
    /// # Errors
    ///
    /// A process that goes on for a minute, or is ended by a signal.
    pub fn wait(&mut self) -> Result<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return status
                    .code()
                    .with_context(|| format!("{status}:\n{}", self.log()));
            }
            if begun.elapsed() > LONGEST_WAIT {
                bail!("it does not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it has written something to its log.
    ///
    /// # Errors
    ///
    /// A minute without it.
    pub fn wait_for_line(&self, text: &str) -> Result<()> {
        wait_until(text, || self.log().contains(text)).with_context(|| self.log())
    }

    /// What it wrote to its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended already is what most tests leave here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
///
/// # Errors
///
/// A minute without it.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        ensure!(begun.elapsed() < LONGEST_WAIT, "waited too long for {what:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits until a file is there.
///
/// # Errors
///
/// A minute without it.
pub fn wait_for_file(path: &Path) -> Result<()> {
    wait_until(&path.display().to_string(), || path.exists())
}
