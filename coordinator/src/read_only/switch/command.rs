//! The operator's own commands: for everything that no other way knows (Compose, systemd, Harbor's API, …).

use std::io::{Read, Seek};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use hardprune_worker::nats_args;
use tokio::process::Command;
use tracing::{info, warn};

use super::SwitchError;
use crate::human::printable;
use crate::read_only::credentials;

/// Of what a command says, so much is logged.
const LONGEST_OUTPUT: u64 = 16 * 1024;

/// Secrets that are hardprune's own: no business of a command.
const OWN_SECRETS: [&str; 4] = [
    credentials::PASSWORD_VARIABLE,
    credentials::TOKEN_VARIABLE,
    nats_args::PASSWORD_VARIABLE,
    nats_args::TOKEN_VARIABLE,
];

/// The commands that switch a registry.
#[derive(Debug)]
pub(in crate::read_only) struct Commands {
    /// `None` where it is only switched back.
    pub read_only: Option<String>,
    pub read_write: String,
    /// For each.
    pub timeout: Duration,
}

impl Commands {
    /// Runs the one that makes the registry read-only. It is not broken off when the run is to stop: half a switch is worse.
    pub async fn to_read_only(&self) -> Result<(), SwitchError> {
        match &self.read_only {
            Some(command) => run("--read-only-command", command, self.timeout).await,
            None => Ok(()),
        }
    }

    /// Runs the one that lets it take writes again.
    pub async fn to_read_write(&self) -> Result<(), SwitchError> {
        run("--read-write-command", &self.read_write, self.timeout).await
    }
}

async fn run(option: &'static str, command: &str, timeout: Duration) -> Result<(), SwitchError> {
    let failed = |problem: String| SwitchError::Command { option, problem };
    // Into a file: what a command leaves running may hold a pipe open for ever.
    let mut output = tempfile::tempfile().map_err(|error| failed(format!("no temporary file: {error}")))?;
    let mut shell = Command::new("sh");
    for name in OWN_SECRETS {
        shell.env_remove(name);
    }
    let copies = output.try_clone().and_then(|out| Ok((out, output.try_clone()?)));
    let (out, err) = copies.map_err(|error| failed(error.to_string()))?;
    // A group of its own: the terminal's Ctrl-C is for hardprune, which then switches back.
    let child = shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| failed(format!("sh cannot be started: {error}")))?;
    let ended = tokio::time::timeout(timeout, child.wait()).await;
    let is_fine = matches!(&ended, Ok(Ok(status)) if status.success());
    log_output(option, &mut output, is_fine);
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(format!(
            "{}; its output is in the log above",
            ending(status)
        ))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!(
            "it did not end in {} s and was killed; with more time: --read-only-timeout",
            timeout.as_secs()
        ))),
    }
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("it exited with status {code}"),
        None => "it was ended by a signal".to_owned(),
    }
}

fn log_output(option: &'static str, output: &mut std::fs::File, is_fine: bool) {
    let mut bytes = Vec::new();
    let read = output
        .rewind()
        .and_then(|()| output.take(LONGEST_OUTPUT).read_to_end(&mut bytes));
    if let Err(error) = read {
        warn!(option, %error, "the command's output could not be read");
    }
    for line in String::from_utf8_lossy(&bytes).lines().map(printable) {
        if is_fine {
            info!(option, "{line}");
        } else {
            warn!(option, "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn says(command: &str, timeout: Duration) -> String {
        run("--read-only-command", command, timeout)
            .await
            .unwrap_err()
            .to_string()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_command_must_exit_with_zero() {
        run("--read-only-command", "read x; test -z \"$x\"", LONG)
            .await
            .unwrap();
        assert!(says("exit 7", LONG).await.contains("status 7"));
        assert!(says("kill -9 $$", LONG).await.contains("signal"));
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed() {
        let said = says("exec sleep 600", Duration::from_millis(50)).await;
        assert!(said.contains("--read-only-timeout"), "{said}");
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_is_not_waited_for() {
        run("--read-only-command", "sleep 5 &", LONG).await.unwrap();
    }
}
