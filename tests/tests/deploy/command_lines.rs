//! Every command line that `deploy/` and the runbook write down, with the variables of its environment, is one that the programs
//! accept: it goes through their own parsers.

use hardprune_worker::nats_args::{PASSWORD_VARIABLE, TOKEN_VARIABLE};
use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use clap::CommandFactory;
use serde_json::Value;

use crate::compose::services;
use crate::files::{read, texts, variables};
use crate::pods::{OPTIONS, pods};

pub type Variables = BTreeMap<String, String>;

fn program(name: &str) -> Result<clap::Command> {
    let mut command = match name {
        "hardprune" => hardprune_coordinator::cli::command(),
        "hardprune-worker" => hardprune_worker::program::Cli::command(),
        name => anyhow::bail!("there is no program {name}"),
    };
    command.build();
    Ok(command)
}

/// The (sub)command that a command line is for.
fn subcommand<'a>(command: &'a clap::Command, arguments: &[String]) -> &'a clap::Command {
    match arguments.first().and_then(|name| command.find_subcommand(name)) {
        Some(found) => subcommand(found, &arguments[1..]),
        None => command,
    }
}

fn reads(command: &clap::Command, variable: &str) -> bool {
    let own = command
        .get_arguments()
        .any(|option| option.get_env() == Some(variable.as_ref()));
    own || command.get_subcommands().any(|command| reads(command, variable))
}

/// Parses a command line. What stands in variables is appended as the options that read them: no test can set variables
/// of its own process.
pub fn accept(name: &str, arguments: &[String], variables: &Variables) -> Result<()> {
    let command = program(name)?;
    let mut line = vec![name.to_owned()];
    line.extend_from_slice(arguments);
    for option in subcommand(&command, arguments).get_arguments() {
        let value = option.get_env().and_then(|name| variables.get(name.to_str()?));
        let (Some(value), Some(long)) = (value, option.get_long()) else {
            continue;
        };
        let given = |argument: &String| argument.split('=').next() == Some(&format!("--{long}"));
        if !arguments.iter().any(given) {
            line.push(format!("--{long}={value}"));
        }
    }
    command
        .try_get_matches_from(&line)
        .map(drop)
        .with_context(|| line.join(" "))
}

/// Fails where a variable of ours is read by no program.
pub fn ensure_read(variables: &Variables) -> Result<()> {
    let programs = [program("hardprune")?, program("hardprune-worker")?];
    for name in variables.keys().filter(|name| name.starts_with("HARDPRUNE_")) {
        ensure!(
            [PASSWORD_VARIABLE, TOKEN_VARIABLE].contains(&name.as_str())
                || programs.iter().any(|program| reads(program, name)),
            "nothing reads {name}"
        );
    }
    Ok(())
}

#[test]
fn kubernetes() {
    let options = variables(OPTIONS).unwrap();
    ensure_read(&options).unwrap();
    for pod in pods().unwrap() {
        let container = pod.container().unwrap();
        let image = container.image.clone().unwrap();
        let mut arguments = container.args.clone().unwrap();
        for (name, value) in &options {
            for argument in &mut arguments {
                *argument = argument.replace(&format!("$({name})"), value);
            }
        }
        assert!(
            !arguments.iter().any(|argument| argument.contains("$(")),
            "{arguments:?}"
        );
        accept(image.split(':').next().unwrap(), &arguments, &options).unwrap();
    }
}

fn ours(service: &Value) -> Option<(String, Variables)> {
    let (image, _) = service["image"].as_str()?.split_once(':')?;
    let variables = service["environment"].as_object()?.iter();
    let variables = variables.filter_map(|(name, value)| {
        // What comes from .env, by its default.
        let value = value.as_str()?;
        let default = value
            .strip_prefix("${")
            .and_then(|value| value.split(":-").nth(1)?.strip_suffix('}'));
        Some((name.clone(), default.unwrap_or(value).to_owned()))
    });
    image
        .starts_with("hardprune")
        .then(|| (image.to_owned(), variables.collect()))
}

#[test]
fn compose() {
    let mut seen = 0;
    for (_, service) in services().unwrap() {
        if let Some((program, variables)) = ours(&service) {
            let arguments: Vec<String> = texts(&service["command"])
                .into_iter()
                .map(str::to_owned)
                .collect();
            ensure_read(&variables).unwrap();
            accept(&program, &arguments, &variables).unwrap();
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

/// The words of a documented command, with what a reader would write for its placeholders.
fn words(command: &str) -> Vec<String> {
    let command = command.split(" #").next().unwrap_or_default();
    command
        .split_whitespace()
        .map(|word| match word {
            "RUN" => "01JD0000000000000000000000".to_owned(),
            "URL" => "nats://nats:4222".to_owned(),
            "STORAGE" => "s3://registry".to_owned(),
            word => word.to_owned(),
        })
        .collect()
}

#[test]
fn documented_commands() {
    let services = services().unwrap();
    let mut seen = 0;
    for line in read("deploy/compose/README.md").unwrap().lines() {
        let Some(command) = line.trim().strip_prefix("docker compose run --rm ") else {
            continue;
        };
        let words = words(command);
        let (program, variables) = ours(&services[&words[0]]).unwrap();
        if words.len() > 1 {
            accept(&program, &words[1..], &variables).unwrap();
            seen += 1;
        }
    }
    let runbook = read("docs/runbook.md").unwrap();
    let in_text = runbook.split('`').skip(1).step_by(2);
    for command in runbook.lines().map(str::trim).chain(in_text) {
        let words = words(command);
        // In running text `hardprune` stands alone, or in short: `hardprune runs list`.
        if words.len() > 1 && words[0] == "hardprune" && !command.contains('…') {
            accept("hardprune", &words[1..], &Variables::new()).unwrap();
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn what_no_program_accepts_is_found() {
    let none = Variables::new();
    assert!(accept("hardprune-worker", &["--nats-cerds=x".to_owned()], &none).is_err());
    let wrong = Variables::from([("HARDPRUNE_MAX_MEMORY".to_owned(), "much".to_owned())]);
    assert!(accept("hardprune-worker", &["--store=/srv".to_owned()], &wrong).is_err());
    assert!(
        ensure_read(&Variables::from([(
            "HARDPRUNE_STORAGE".to_owned(),
            String::new()
        )]))
        .is_err()
    );
}
