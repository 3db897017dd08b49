//! How it is known that nothing writes to the registry, from the command line. What overrides a guard is never read from the
//! environment: an assertion, a connection that is not safe, a command.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::switch::SwitchTarget;
use crate::cli::duration;

/// How it is known that nothing writes to the registry.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Read-only mode")]
pub struct ReadOnlyArgs {
    /// Asserts that nothing writes to the registry until this ends: it is stopped, or in read-only mode
    /// (REGISTRY_STORAGE_MAINTENANCE_READONLY={"enabled":true}).
    #[arg(long)]
    pub assume_read_only: bool,
    /// How that is proved.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// How that is brought about.
    #[command(flatten)]
    pub switch: SwitchArgs,
    /// What is restarted afterwards.
    #[command(flatten)]
    pub restart: RestartArgs,
    /// Switches the registry to read-only: run with `sh -c`, must exit 0, and again after a crash.
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "read_write_command",
        conflicts_with = "read_only_via"
    )]
    pub read_only_command: Option<String>,
    /// Once the registry is read-only, waits so long for uploads to end that went on; then refuses.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration, env = "HARDPRUNE_DRAIN_UPLOADS")]
    pub drain_uploads: Duration,
}

/// How read-only mode is proved.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Read-only mode")]
pub struct ProbeArgs {
    /// Proves read-only mode: asks the registry at this address to start an upload, before the first listing, between stages
    /// and every 30 s, and takes only the answer of read-only mode. Repeat it for every replica.
    #[arg(
        long = "registry-url",
        value_name = "URL",
        value_delimiter = ',',
        env = "HARDPRUNE_REGISTRY_URL"
    )]
    pub registry_urls: Vec<String>,
    /// Certificates (PEM) to trust besides the system's, for --registry-url.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_CERTIFICATE_AUTHORITY")]
    pub certificate_authority: Option<PathBuf>,
    /// Accepts any certificate of the registry, and http:// to other machines.
    #[arg(long)]
    pub force_insecure: bool,
    /// A user that may push to the probe's repository; the password by --registry-password-file or in
    /// HARDPRUNE_REGISTRY_PASSWORD.
    #[arg(
        long,
        value_name = "NAME",
        env = "HARDPRUNE_REGISTRY_USER",
        conflicts_with = "registry_token_file"
    )]
    pub registry_user: Option<String>,
    /// A file with the user's password.
    #[arg(
        long,
        value_name = "FILE",
        env = "HARDPRUNE_REGISTRY_PASSWORD_FILE",
        requires = "registry_user"
    )]
    pub registry_password_file: Option<PathBuf>,
    /// A file with a bearer token for the registry. The token itself may stand in HARDPRUNE_REGISTRY_TOKEN.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_REGISTRY_TOKEN_FILE")]
    pub registry_token_file: Option<PathBuf>,
    /// The repository to which the probe tries to push. It need not be there.
    #[arg(long, value_name = "NAME", default_value = "hardprune/probe", value_parser = repository, env = "HARDPRUNE_PROBE_REPOSITORY")]
    pub probe_repository: String,
    /// The longest that one request of the probe may take.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, hide = true)]
    pub probe_timeout: Duration,
    /// How often read-only mode is proved again.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, hide = true)]
    pub probe_every: Duration,
}

/// How a registry is switched to read-only mode and back.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Read-only mode")]
pub struct SwitchArgs {
    /// Switches the registry to read-only mode and back: kubernetes://NAMESPACE/deployment/NAME (or statefulset,
    /// deploymentconfig), or openshift-operator. The cluster as kubectl finds it.
    #[arg(long, value_name = "TARGET", value_parser = SwitchTarget::parse, env = "HARDPRUNE_READ_ONLY_VIA")]
    pub read_only_via: Option<SwitchTarget>,
    /// The registry's container, where the workload has several.
    #[arg(long, value_name = "NAME", env = "HARDPRUNE_READ_ONLY_CONTAINER")]
    pub read_only_container: Option<String>,
    /// Lets the registry take writes again: run with `sh -c` at the end, after an error and on a signal; must exit 0. It also
    /// has to clear the registry's cache. It is not kept anywhere: `hardprune read-write` wants it again.
    #[arg(long, value_name = "COMMAND")]
    pub read_write_command: Option<String>,
    /// The longest that a switch may take: a command, or a rollout.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration, env = "HARDPRUNE_READ_ONLY_TIMEOUT")]
    pub read_only_timeout: Duration,
    /// With openshift-operator: suspends the operator's own pruning of images (ImagePruner `cluster`) meanwhile, waits for a job of it
    /// that runs, and puts back what was there. `read-write` puts it back in any case.
    #[arg(long, env = "HARDPRUNE_SUSPEND_IMAGE_PRUNER")]
    pub suspend_image_pruner: bool,
    /// How often a rollout is looked at.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration, hide = true)]
    pub rollout_pause: Duration,
}

/// What is restarted for its cache.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Read-only mode")]
pub struct RestartArgs {
    /// With --cache restart: what runs the registry, where --read-only-via does not say: kubernetes://NAMESPACE/deployment/NAME
    /// (or statefulset, deploymentconfig), or openshift-operator.
    #[arg(long, value_name = "TARGET", value_parser = SwitchTarget::parse, env = "HARDPRUNE_RESTART_VIA")]
    pub restart_via: Option<SwitchTarget>,
}

/// A repository's name: nothing that could change the address that is asked.
fn repository(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let letters = |letter: u8| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, b'.' | b'_' | b'-')
        };
        part.bytes().all(letters)
            && part
                .bytes()
                .next()
                .is_some_and(|first| first.is_ascii_alphanumeric())
            && part
                .bytes()
                .next_back()
                .is_some_and(|last| last.is_ascii_alphanumeric())
    };
    if text.split('/').all(is_part) {
        Ok(text.to_owned())
    } else {
        Err(
            "a repository's name is of lower-case letters, digits, `.`, `_`, `-`, in parts with `/` between"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_for_the_probe() {
        for name in ["hardprune/probe", "a", "a-b/c_d/e.f1"] {
            assert_eq!(repository(name), Ok(name.to_owned()));
        }
        for name in ["", "/a", "a//b", "a/../b", "A", "a?b", "a/ b", "a/%2e", "_a"] {
            assert!(repository(name).is_err(), "{name}");
        }
    }
}
