//! Debian's real `redis-server` as a child process on a free port, without anything on disk. It ends when its handle is dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::free_port::free_port;
use crate::scene::fast_folder;

const PROGRAM: &str = "/usr/bin/redis-server";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Another process may take a free port between our looking and the server's binding it.
const START_ATTEMPTS: usize = 5;

/// A running server, with the password that it asks for.
#[derive(Debug)]
pub struct RedisServer {
    child: Option<Child>,
    port: u16,
    password: String,
    /// More lines of its configuration.
    configuration: String,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server, and waits until it listens.
    ///
    /// # Errors
    ///
    /// A machine without `redis-server`.
    pub fn start(password: &str) -> Result<Self> {
        Self::start_with(password, |port| format!("port {port}\n"))
    }

    /// Starts a server with a configuration of its own for the port that it gets.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`].
    pub fn start_with(password: &str, configuration: impl Fn(u16) -> String) -> Result<Self> {
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            let port = free_port()?;
            let mut server = Self {
                child: None,
                port,
                password: password.to_owned(),
                configuration: configuration(port),
                folder: fast_folder()?,
            };
            match server.start_again() {
                Ok(()) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    /// Starts it again after [`RedisServer::stop`]: with nothing in it.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`].
    pub fn start_again(&mut self) -> Result<()> {
        if !Path::new(PROGRAM).exists() {
            bail!("{PROGRAM} is missing: apt-get install redis-server");
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))?;
        let configuration = self.folder.path().join("redis.conf");
        let text = format!(
            "bind 127.0.0.1\n{}save \"\"\nappendonly no\nrequirepass {}\ndir {}\n",
            self.configuration,
            self.password,
            self.folder.path().display()
        );
        std::fs::write(&configuration, text)?;
        let child = Command::new(PROGRAM)
            .arg(configuration)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {PROGRAM}"))?;
        let child = self.child.insert(child);
        let begun = Instant::now();
        while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port))).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("{PROGRAM} ended with {status}: {}", self.log());
            }
            if begun.elapsed() > START_TIMEOUT {
                bail!("{PROGRAM} does not listen: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends the server as the kernel would.
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

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `redis://127.0.0.1:<port>/<database>`, without the password.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        format!("redis://{}/{database}", self.address())
    }

    /// The password that it asks for.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// All keys of a database, ascending.
    ///
    /// # Errors
    ///
    /// A server that does not answer.
    pub fn keys(&self, database: u32) -> Result<Vec<String>> {
        let mut keys = self.ask(database, &["KEYS", "*"])?;
        keys.sort();
        Ok(keys)
    }

    /// The members of a set.
    ///
    /// # Errors
    ///
    /// A server that does not answer.
    pub fn members(&self, database: u32, set: &str) -> Result<Vec<String>> {
        self.ask(database, &["SMEMBERS", set])
    }

    /// Remembers a blob as a registry does that has served it; in a repository, too.
    ///
    /// # Errors
    ///
    /// A server that does not answer.
    pub fn remember(&self, database: u32, repository: Option<&str>, digest: &str) -> Result<()> {
        let set = match repository {
            None => "blobs".to_owned(),
            Some(repository) => {
                let set = format!("repository::{repository}::blobs");
                self.tell(database, &["SADD", &set, digest])?;
                set
            }
        };
        self.tell(database, &["HSET", &format!("{set}::{digest}"), "digest", digest])
    }

    fn tell(&self, database: u32, command: &[&str]) -> Result<()> {
        let answer = self
            .send(database, command)?
            .next()
            .context("the answer was cut short")??;
        ensure!(answer.starts_with(':'), "{answer}");
        Ok(())
    }

    /// Asks for a list.
    fn ask(&self, database: u32, command: &[&str]) -> Result<Vec<String>> {
        let mut lines = self.send(database, command)?;
        let mut line = || {
            lines
                .next()
                .context("the answer was cut short")?
                .context("reading an answer")
        };
        let count: usize = line()?
            .trim_start_matches('*')
            .parse()
            .context("this is no list")?;
        let mut items = Vec::new();
        for _ in 0..count {
            line()?;
            items.push(line()?);
        }
        Ok(items)
    }

    /// Sends a command in the server's own protocol; the answer's lines.
    fn send(&self, database: u32, command: &[&str]) -> Result<Lines<BufReader<TcpStream>>> {
        let mut stream = TcpStream::connect(self.address())?;
        let database = database.to_string();
        let mut request = String::new();
        for words in [&["AUTH", &self.password][..], &["SELECT", &database], command] {
            request += &format!("*{}\r\n", words.len());
            for word in words {
                request += &format!("${}\r\n{word}\r\n", word.len());
            }
        }
        stream.write_all(request.as_bytes())?;
        let mut lines = BufReader::new(stream).lines();
        for _ in 0..2 {
            let answer = lines.next().context("the answer was cut short")??;
            ensure!(answer == "+OK", "{answer}");
        }
        Ok(lines)
    }

    /// What it wrote to its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // One that has ended already is what some tests leave here.
        let _ = self.stop();
    }
}
