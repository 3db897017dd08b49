//! Debian's real `nats-server` as a child process on a free port, with JetStream in a folder of its own. It ends when its
//! handle is dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::free_port::free_port;
use crate::scene::fast_folder;

const PROGRAM: &str = "/usr/sbin/nats-server";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Another process may take a free port between our looking and the server's binding it.
const START_ATTEMPTS: usize = 5;

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Whether it has JetStream.
    pub jetstream: bool,
    /// More lines of its configuration.
    pub configuration: String,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            jetstream: true,
            configuration: String::new(),
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct NatsServer {
    child: Option<Child>,
    port: u16,
    folder: TempDir,
}

impl NatsServer {
    /// Starts a server, and waits until it listens.
    ///
    /// # Errors
    ///
    /// A machine without `nats-server`, a configuration that it does not take.
    pub fn start(options: &NatsOptions) -> Result<Self> {
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            let mut server = Self {
                child: None,
                port: free_port()?,
                folder: fast_folder()?,
            };
            server.configure(options)?;
            match server.start_again() {
                Ok(()) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    fn configure(&self, options: &NatsOptions) -> Result<()> {
        let mut text = format!("listen: \"127.0.0.1:{}\"\n", self.port);
        if options.jetstream {
            let store = self.folder.path().join("jetstream");
            text += &format!("jetstream {{ store_dir: {store:?} }}\n");
        }
        text += &options.configuration;
        std::fs::write(self.folder.path().join("nats.conf"), text)
            .context("writing the server's configuration")
    }

    /// Starts the server again after [`NatsServer::stop`], with what it had stored.
    ///
    /// # Errors
    ///
    /// As [`NatsServer::start`].
    pub fn start_again(&mut self) -> Result<()> {
        if !Path::new(PROGRAM).exists() {
            bail!("{PROGRAM} is missing: apt-get install nats-server");
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))?;
        let child = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.folder.path().join("nats.conf"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {PROGRAM}"))?;
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(self.address()).is_err() {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("{PROGRAM} ended with {status}: {}", self.log());
            }
            if begun.elapsed() > START_TIMEOUT {
                bail!("{PROGRAM} does not listen: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends the server as the kernel would; what it stored stays.
    ///
    /// # Errors
    ///
    /// A server that cannot be ended.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A folder for certificates and the like.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What it wrote to its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // One that has ended already is what some tests leave here.
        let _ = self.stop();
    }
}
