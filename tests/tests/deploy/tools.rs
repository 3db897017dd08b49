//! Runs the tools of others that judge a file, without any server.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::files;

/// Runs a tool in a folder of the repository with these variables only, and fails with all that it said where it fails.
pub fn run(
    tool: &str,
    package: &str,
    folder: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<()> {
    let output = Command::new(tool)
        .args(arguments)
        .current_dir(files::place(folder))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin")
        .envs(variables.iter().copied())
        .output()
        .with_context(|| format!("{tool} is missing: apt-get install {package}"))?;
    ensure!(
        output.status.success(),
        "{tool} {}:\n{}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
