//! `check` and `delete`: from the command line to what is ordered.

use std::time::Duration;

use hardprune_common::nats::without_credentials;
use hardprune_common::run::RunId;

use crate::cli::{DeleteArgs, Resume, RunArgs};
use crate::descriptor_cache::CacheArgs;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::open_stores::NamedRegistry;
use crate::quarantine::QuarantineArgs;
use crate::read_only::ReadOnly;
use crate::registry_config::RegistryStorage;
use crate::run_record::{Mode, RunOptions};
use crate::start_run::{Order, start_run};

/// What only `delete` is told.
#[derive(Debug)]
pub struct DeleteChoices {
    /// How it is known that nothing writes to the registry.
    pub read_only: ReadOnly,
    /// The check whose plan is carried out.
    pub plan: Option<RunId>,
    /// The run to continue.
    pub resume: Option<Resume>,
    /// The registry's cache.
    pub cache: CacheArgs,
    /// Whether what goes can be had back.
    pub quarantine: QuarantineArgs,
}

impl DeleteChoices {
    /// Takes them from the command line.
    ///
    /// # Errors
    ///
    /// A delete that insists on read-only mode, and options that cannot be used.
    pub fn of(args: &DeleteArgs) -> Result<Self, RunError> {
        Ok(Self {
            read_only: match args.quarantine.online {
                true => ReadOnly::online(&args.read_only)?,
                false => ReadOnly::of(&args.read_only, &args.cache)?,
            },
            plan: args.plan,
            resume: args.resume,
            cache: args.cache.clone(),
            quarantine: args.quarantine.clone(),
        })
    }
}

/// Checks, or deletes where it is told what only that is told. `arguments` are those of the command line, for the command that a check proposes.
///
/// # Errors
///
/// What ended the run before it deleted anything.
pub async fn prune(
    args: RunArgs,
    choices: Option<DeleteChoices>,
    arguments: &[String],
) -> Result<ExitStatus, RunError> {
    let seconds = |age: Option<Duration>| age.map(|age| age.as_secs());
    let options = RunOptions {
        references: args.references.names(),
        context: args.references.context(),
        keep_younger_than_seconds: args.keep_younger_than.as_secs(),
        delete_untagged: args.delete_untagged,
        accept_untagged_repositories: args.accept_untagged_repositories,
        purge_uploads_older_than_seconds: seconds(args.purge_uploads_older_than),
        abort_multipart_older_than_seconds: seconds(args.abort_multipart_older_than),
        prune_broken: args.prune_broken,
        delete_empty_repositories: args.delete_empty_repositories,
        empty_repositories_older_than_seconds: seconds(args.garbage.empty_repositories_older_than),
        purge_tag_history_older_than_seconds: seconds(args.garbage.purge_tag_history_older_than),
        false_positive_rate: args.false_positive_rate,
        accept_versioned: args.accept_versioned,
        filter_seed: args.filter_seed,
        plan: choices.as_ref().and_then(|choices| choices.plan),
        quarantine: choices
            .as_ref()
            .is_some_and(|choices| choices.quarantine.quarantine),
        online: choices.as_ref().is_some_and(|choices| choices.quarantine.online),
        registry_request_timeout_seconds: choices
            .as_ref()
            .filter(|choices| choices.quarantine.online)
            .map(|choices| choices.quarantine.registry_request_timeout.as_secs()),
        purges: None,
    };
    let (mode, read_only, resume, cache) = match choices {
        Some(choices) => (
            Mode::Delete,
            Some(choices.read_only),
            choices.resume,
            Some(choices.cache),
        ),
        None => (Mode::Check, None, None, None),
    };
    let named = NamedRegistry::of(&args.registry)?;
    refuse_harbor(args.delete_untagged, named.config.as_ref())?;
    let order = Order {
        mode,
        options,
        registry: args.registry,
        named,
        cluster: args.references.cluster,
        execution: args.execution,
        candidates: args.candidates,
        read_only,
        resume,
        cache,
    };
    start_run(order, &delete_command(arguments)).await
}

fn refuse_harbor(delete_untagged: bool, config: Option<&RegistryStorage>) -> Result<(), RunError> {
    if delete_untagged && config.is_some_and(|config| config.looks_like_harbor) {
        return Err(RunError::Refused(
            "the configuration is Harbor's, which keeps tags in its database: --delete-untagged would delete live images. \
             Let Harbor's own retention remove them, and prune without --delete-untagged"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The command that deletes what a check found: this one, with `delete`, and without the secrets that may stand in it.
fn delete_command(arguments: &[String]) -> String {
    let mut words = vec!["hardprune".to_owned()];
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        // The check's own files would be written over.
        if matches!(
            argument.as_str(),
            "--candidates" | "--removals" | "--metrics-file"
        ) {
            arguments.next();
        } else if argument == "--nats" {
            words.push(argument.clone());
            words.extend(
                arguments
                    .next()
                    .map(|servers| quoted(&without_credentials(servers))),
            );
        } else if let Some(servers) = argument.strip_prefix("--nats=") {
            words.push(quoted(&format!("--nats={}", without_credentials(servers))));
        } else if argument == "check" && !words.iter().any(|word| word == "delete") {
            words.push("delete".to_owned());
        } else if !["--candidates=", "--removals=", "--metrics-file="]
            .iter()
            .any(|name| argument.starts_with(name))
        {
            words.push(quoted(argument));
        }
    }
    words.push("--assume-read-only".to_owned());
    words.join(" ")
}

/// Quotes a word for a shell, where it needs that.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quoted("s3://bucket/prefix"), "s3://bucket/prefix");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
