//! A program that runs, and is held at a failpoint.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::program::Finished;

const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A program that runs. Ended with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    hold: PathBuf,
    stdout: Option<JoinHandle<String>>,
    lines: Receiver<String>,
    stderr: String,
}

impl Running {
    /// Takes a program that has just started, and waits until a failpoint holds it by this file.
    ///
    /// # Errors
    ///
    /// A program that ends before.
    pub fn held(child: Child, hold: PathBuf) -> Result<Self> {
        let mut running = Self::of(child, hold)?;
        running.wait_until("it is held", |running| Ok(running.hold.exists()))?;
        Ok(running)
    }

    /// Takes a program that has just started.
    ///
    /// # Errors
    ///
    /// A program whose output goes elsewhere.
    pub fn of(mut child: Child, hold: PathBuf) -> Result<Self> {
        let mut stdout = child.stdout.take().context("its output goes elsewhere")?;
        let stderr = child.stderr.take().context("its output goes elsewhere")?;
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            // Output that is cut says so itself when it is read as a report.
            let _ = stdout.read_to_string(&mut text);
            text
        });
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdout = Some(stdout);
        let stderr = String::new();
        Ok(Self {
            child,
            hold,
            stdout,
            lines,
            stderr,
        })
    }

    /// Sends it a signal, `TERM` or `INT`.
    ///
    /// # Errors
    ///
    /// A machine without `kill`.
    pub fn signal(&self, name: impl Display) -> Result<()> {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()?;
        ensure!(status.success(), "the signal could not be sent");
        Ok(())
    }

    /// Waits until it has said something on its standard error.
    ///
    /// # Errors
    ///
    /// A program that ends before.
    pub fn wait_for_line(&mut self, text: &str) -> Result<()> {
        self.wait_until(text, |running| {
            running
                .stderr
                .extend(running.lines.try_iter().map(|line| line + "\n"));
            Ok(running.stderr.contains(text))
        })
    }

    /// Waits until something is so.
    ///
    /// # Errors
    ///
    /// A program that ends before, or a minute without it.
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&mut Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !is_so(self)? {
            if let Some(status) = self.child.try_wait()? {
                self.stderr.extend(self.lines.iter().map(|line| line + "\n"));
                bail!("it ended ({status}) before {what:?}:\n{}", self.stderr);
            }
            ensure!(
                begun.elapsed() < LONGEST_WAIT,
                "waited too long for {what:?}:\n{}",
                self.stderr
            );
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// A program that is not held.
    pub fn release(&self) -> Result<()> {
        std::fs::remove_file(&self.hold).context("it is not held")
    }

    /// Ends it as the kernel would.
    ///
    /// # Errors
    ///
    /// A program that cannot be ended.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// A program that goes on for a minute.
    pub fn finish(mut self) -> Result<Finished> {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            self.stderr.extend(self.lines.try_iter().map(|line| line + "\n"));
            ensure!(
                begun.elapsed() < LONGEST_WAIT,
                "it does not end:\n{}",
                self.stderr
            );
            thread::sleep(Duration::from_millis(2));
        };
        let stdout = self.stdout.take().map(JoinHandle::join);
        let stdout = stdout.and_then(Result::ok).unwrap_or_default();
        self.stderr.extend(self.lines.iter().map(|line| line + "\n"));
        Finished::of(&std::process::Output {
            status,
            stdout: stdout.into_bytes(),
            stderr: self.stderr.clone().into_bytes(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A program that has ended already is what most tests leave here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
