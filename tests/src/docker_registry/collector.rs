//! The stock collectors: Debian's, and that of any other release whose program is at hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{PROGRAM, RegistryConfig};

/// A registry's program, of which only `garbage-collect` is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockCollector {
    program: PathBuf,
}

impl StockCollector {
    /// Debian's, Distribution 2.8.2.
    #[must_use]
    pub fn debian() -> Self {
        Self::at(PROGRAM)
    }

    /// Another release's.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self { program }
    }

    /// Which release it is: the last word of what it says of itself.
    ///
    /// # Errors
    ///
    /// A program that is missing or says nothing.
    pub fn version(&self) -> Result<String> {
        let output = command(&self.program)?.arg("--version").output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.split_whitespace().last();
        last.map(str::to_owned)
            .with_context(|| format!("{} does not say its version", self.program.display()))
    }

    /// Ready to run on the storage of a configuration, which is written to a folder.
    ///
    /// # Errors
    ///
    /// A machine without the program.
    pub fn command(
        &self,
        config: &RegistryConfig,
        folder: &Path,
        dry_run: bool,
        delete_untagged: bool,
    ) -> Result<Command> {
        let path = folder.join("config.yml");
        config.write(&path, "127.0.0.1:0")?;
        let mut command = command(&self.program)?;
        command.arg("garbage-collect").arg(&path).stdin(Stdio::null());
        if dry_run {
            command.arg("--dry-run");
        }
        if delete_untagged {
            command.arg("--delete-untagged");
        }
        Ok(command)
    }
}

/// A registry's program with nothing of our environment: a proxy or CA variable of the machine breaks its S3 driver.
pub(super) fn command(program: &Path) -> Result<Command> {
    if !program.exists() {
        bail!(
            "{} is missing: apt-get install docker-registry",
            program.display()
        );
    }
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    Ok(command)
}
