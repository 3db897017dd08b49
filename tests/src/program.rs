//! Runs the built `hardprune` as a user would: a child process with a clean environment, its output read back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::s3_server::S3Server;

/// Finds a program of this workspace beside the running test.
///
/// # Errors
///
/// A program that was not built.
pub fn built_program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("the running test has no path")?;
    // target/PROFILE/deps/TEST-HASH, or target/PROFILE/PROGRAM.
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is not built: run `cargo build --workspace --bins --features failpoints` first")
    })
}

/// Scenes are small and broken: most of their blobs are orphans, manifests are missing, clocks are days off. What guards
/// say to that is tested by itself (`tests/guards.rs`).
const WITHOUT_LIMITS: [&str; 7] = [
    "--max-delete-percent",
    "100",
    "--min-present",
    "0",
    "--max-clock-difference",
    "9000h",
    "--accept-no-references",
];

/// `hardprune` with what all its runs in a test share: a home folder, credentials, options.
#[derive(Debug)]
pub struct Hardprune {
    program: PathBuf,
    home: TempDir,
    environment: BTreeMap<OsString, OsString>,
    guarded: bool,
}

impl Hardprune {
    /// Finds the program, and makes it a home of its own.
    ///
    /// # Errors
    ///
    /// A program that was not built.
    pub fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut environment = BTreeMap::new();
        environment.insert("HOME".into(), home.path().into());
        environment.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        Ok(Self {
            program: built_program("hardprune")?,
            home,
            environment,
            guarded: false,
        })
    }

    /// Sets a variable for every run.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Leaves the limits of its guards as they are for users. Otherwise each `delete` is told to allow everything.
    #[must_use]
    pub fn guarded(mut self) -> Self {
        self.guarded = true;
        self
    }

    /// Gives it what the AWS tools would need to reach a server.
    #[must_use]
    pub fn on_s3(self, server: &S3Server) -> Self {
        self.with("AWS_ENDPOINT_URL", server.endpoint())
            .with("AWS_ACCESS_KEY_ID", server.access_key())
            .with("AWS_SECRET_ACCESS_KEY", server.secret_key())
            .with("AWS_REGION", "us-east-1")
    }

    /// Its home: the state of checks is kept below.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The variables of every run.
    #[must_use]
    pub fn environment(&self) -> &BTreeMap<OsString, OsString> {
        &self.environment
    }

    /// A run that has not begun.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null());
        if !self.guarded && arguments.first() == Some(&"delete") {
            command.args(WITHOUT_LIMITS);
        }
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// A program that does not start, or is ended by a signal.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        Finished::of(&self.command(arguments).output()?)
    }

    /// Starts it, and goes on.
    ///
    /// # Errors
    ///
    /// A program that does not start.
    pub fn start(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// Runs it with `--output json` to the exit status wanted, and reads its report.
    ///
    /// # Errors
    ///
    /// Another exit status, or no report.
    pub fn report(&self, wanted: i32, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let finished = self.run(&arguments)?;
        if finished.status != wanted {
            bail!(
                "exit status {} instead of {wanted}:\n{}{}",
                finished.status,
                finished.stdout,
                finished.stderr
            );
        }
        serde_json::from_str(&finished.stdout).with_context(|| format!("no report:\n{}", finished.stdout))
    }
}

/// A run that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit status; 128 and the signal's number where one ended it.
    pub status: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Finished {
    /// Reads what a process left.
    ///
    /// # Errors
    ///
    /// An end that is neither an exit nor a signal.
    pub fn of(output: &Output) -> Result<Self> {
        use std::os::unix::process::ExitStatusExt;
        let status = output
            .status
            .code()
            .or_else(|| Some(128 + output.status.signal()?));
        Ok(Self {
            status: status.context("the process neither exited nor was ended by a signal")?,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
