//! The options: those of `oc adm prune images`, with its defaults and its messages.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Subcommand};
use jiff::SignedDuration;
use url::Url;

use super::go_values::{boolean, duration, integer};
use super::rules::Rules;
use crate::openshift::cluster::ClusterArgs;

const KEEP_YOUNGER_THAN: SignedDuration = SignedDuration::from_mins(60);
const KEEP_TAG_REVISIONS: i64 = 3;
const WORKERS: usize = 5;

/// Arguments of `images`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ImagesArgs {
    /// Instead of pruning.
    #[command(subcommand)]
    pub command: Option<ImagesCommand>,
    /// What every run takes.
    #[command(flatten)]
    pub rules: RulesArgs,
    /// What pruning takes.
    #[command(flatten)]
    pub prune: PruneArgs,
}

/// What there is besides pruning.
#[derive(Debug, Clone, Subcommand)]
pub enum ImagesCommand {
    /// Says where an image is tagged, what uses it, which rule keeps it, and what would have to change for it to go.
    Why(WhyArgs),
}

/// Arguments of `images why`.
#[derive(Debug, Clone, Args)]
pub struct WhyArgs {
    /// The image: its digest, NAMESPACE/STREAM:TAG, or a pull spec.
    #[arg(value_name = "IMAGE-OR-DIGEST")]
    pub image: String,
    /// As for a run.
    #[command(flatten)]
    pub rules: RulesArgs,
}

/// What counts as no longer needed, and where.
#[derive(Debug, Clone, Args)]
pub struct RulesArgs {
    /// Also images that were imported from other registries; false limits it to those that were pushed to this one.
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean, env = "HARDPRUNE_ALL_IMAGES")]
    pub all: bool,
    /// Keeps images younger than this, and what objects younger than this refer to [default: 60m].
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration, env = "HARDPRUNE_KEEP_YOUNGER_THAN")]
    pub keep_younger_than: Option<SignedDuration>,
    /// Keeps so many revisions of each tag [default: 3].
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = integer, env = "HARDPRUNE_KEEP_TAG_REVISIONS")]
    pub keep_tag_revisions: Option<i64>,
    /// Prunes images over the limit of their project (LimitRange of type openshift.io/Image), instead of by age and
    /// revisions. Never read from the environment: it takes the protection by age away.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub prune_over_size_limit: Option<bool>,
    /// Only the image streams of this namespace. Images themselves are not pruned then.
    #[arg(short, long, value_name = "NAME", env = "HARDPRUNE_NAMESPACE")]
    pub namespace: Option<String>,
    /// Goes on although references to images do not parse. What they meant is then not kept.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub ignore_invalid_refs: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// How it is done.
#[derive(Debug, Clone, Args)]
pub struct PruneArgs {
    /// Does it; otherwise says what would be done. Needs a way to the registry.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub confirm: bool,
    /// false: only objects of the cluster go; the registry's data stays until `hardprune delete`.
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean, env = "HARDPRUNE_PRUNE_REGISTRY")]
    pub prune_registry: bool,
    /// The registry's address, where the one that images and streams name cannot be reached. https:// or http:// in front
    /// forces the protocol; no path, no query.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true,
        env = "HARDPRUNE_REGISTRY_URL"
    )]
    pub registry_url: String,
    /// A file of authorities (PEM) for the registry's certificate. The connection is secure then. Default: those of the
    /// kubeconfig.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "",
        hide_default_value = true,
        env = "HARDPRUNE_CERTIFICATE_AUTHORITY"
    )]
    pub certificate_authority: String,
    /// Lets http and any certificate pass. Better: --certificate-authority.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub force_insecure: bool,
    /// With --confirm: suspends the operator's own pruning of images (ImagePruner `cluster`) meanwhile, waits for a job of it that
    /// runs, and puts back what was there.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean, env = "HARDPRUNE_SUSPEND_IMAGE_PRUNER")]
    pub suspend_image_pruner: bool,
    /// Streams, and then images, that are worked on at the same time.
    #[arg(long, value_name = "N", default_value = "5", allow_hyphen_values = true, value_parser = integer, env = "HARDPRUNE_NUM_WORKERS")]
    pub num_workers: i64,
}

impl RulesArgs {
    /// What is asked for, where it can be asked for.
    ///
    /// # Errors
    ///
    /// Options that exclude each other, or negative ones.
    pub fn rules(&self) -> Result<Rules, String> {
        if self.prune_over_size_limit.is_some()
            && (self.keep_younger_than.is_some() || self.keep_tag_revisions.is_some())
        {
            return Err(
                "--prune-over-size-limit cannot be specified with --keep-tag-revisions nor --keep-younger-than"
                    .to_owned(),
            );
        }
        // Given, even as false, it takes the defaults of the other two away.
        let by_age = self.prune_over_size_limit.is_none();
        let keep_younger_than = self.keep_younger_than.or(by_age.then_some(KEEP_YOUNGER_THAN));
        let keep_tag_revisions = self
            .keep_tag_revisions
            .or(by_age.then_some(KEEP_TAG_REVISIONS))
            .unwrap_or(0);
        if keep_younger_than.is_some_and(|duration| duration.is_negative()) {
            return Err("--keep-younger-than must be greater than or equal to 0".to_owned());
        }
        let keep_tag_revisions = usize::try_from(keep_tag_revisions)
            .map_err(|_| "--keep-tag-revisions must be greater than or equal to 0".to_owned())?;
        Ok(Rules {
            keep_younger_than,
            keep_tag_revisions,
            over_size_limit: self.prune_over_size_limit.unwrap_or(false),
            all_images: self.all,
        })
    }
}

impl PruneArgs {
    /// Looks at what is asked for of the registry.
    ///
    /// # Errors
    ///
    /// An address that is none, options that exclude each other.
    pub fn validate(&self) -> Result<(), String> {
        if !self.registry_url.is_empty() {
            registry_url(&self.registry_url)
                .map_err(|problem| format!("invalid --registry-url flag: {problem}"))?;
        }
        let has_authority = !self.certificate_authority.is_empty();
        if self.force_insecure && has_authority {
            return Err("--certificate-authority cannot be specified with --force-insecure".to_owned());
        }
        if has_authority && self.registry_url.starts_with("http://") {
            return Err("--certificate-authority cannot be specified for insecure http protocol".to_owned());
        }
        Ok(())
    }

    /// How many streams, or images, are worked on at the same time.
    #[must_use]
    pub fn workers(&self) -> usize {
        usize::try_from(self.num_workers)
            .ok()
            .filter(|workers| *workers > 0)
            .unwrap_or(WORKERS)
    }
}

fn registry_url(text: &str) -> Result<(), String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    if rest.starts_with('[') && !rest.contains(']') {
        return Err(format!("parse {text:?}: missing ']' in host"));
    }
    if !matches!(scheme, "http" | "https") {
        return Err(format!("unsupported scheme: {scheme}"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, after) = rest.split_at(end);
    let (path, query) = after.split_once('?').unwrap_or((after, ""));
    if !matches!(path, "" | "/") {
        return Err("no path after <host>[:<port>] is allowed".to_owned());
    }
    if !query.is_empty() {
        return Err("no query arguments are allowed after <host>[:<port>]".to_owned());
    }
    if host.is_empty() {
        return Err("no host name specified".to_owned());
    }
    // A user and a password in an address would stand in messages.
    if host.contains('@') {
        return Err("no user is allowed before <host>[:<port>]".to_owned());
    }
    let url = Url::parse(&format!("{scheme}://{host}"));
    url.map(drop).map_err(|error| format!("parse {text:?}: {error}"))
}

/// What `oc` says of a command line that cannot be read, if this error is about such a one.
#[must_use]
pub fn usage_message(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    };
    let hint = "See 'hardprune images --help' for usage.";
    let message = match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::NoEquals => {
            let option = text(ContextKind::InvalidArg)?;
            let option = option.split([' ', '=', '[']).next()?.to_owned();
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let problem = std::error::Error::source(error).map(ToString::to_string);
            match problem {
                Some(problem) => format!("invalid argument {value:?} for {option:?} flag: {problem}\n{hint}"),
                None => format!("flag needs an argument: {option}\n{hint}"),
            }
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            let argument = text(ContextKind::InvalidArg).or_else(|| text(ContextKind::InvalidSubcommand))?;
            if argument.starts_with("--") {
                format!("unknown flag: {argument}\n{hint}")
            } else if let Some(letter) = argument.strip_prefix('-') {
                format!("unknown shorthand flag: '{letter}' in {argument}\n{hint}")
            } else {
                "no arguments are allowed to this command\nSee 'hardprune images -h' for help and examples"
                    .to_owned()
            }
        }
        _ => return None,
    };
    Some(format!("error: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["h", "h:5000", "https://h", "http://[::1]:5000/", "h/"] {
            assert_eq!(registry_url(text), Ok(()), "{text}");
        }
        for (text, problem) in [
            ("http://", "no host name specified"),
            ("http://h/p", "no path after <host>[:<port>] is allowed"),
            ("h?x=1", "no query arguments are allowed after <host>[:<port>]"),
            ("ftp://h", "unsupported scheme: ftp"),
            ("http://[::1", "parse \"http://[::1\": missing ']' in host"),
        ] {
            assert_eq!(registry_url(text), Err(problem.to_owned()), "{text}");
        }
        assert!(registry_url("user:secret@h").is_err());
    }
}
