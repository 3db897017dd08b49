//! What the program prints and writes: closing lines, reports, runs, files that were asked for, logs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::program::{Finished, Hardprune, built_program};
use hardprune_tests::storage_writer::{Folder, Storage, revision_link_key};
use serde_json::Value;

use crate::scene::{Place, THREE_DAYS, json_lines, number, report};

/// 1024 and 512 bytes that nothing references.
fn two_orphans(place: &Place) -> Result<()> {
    place.add_orphan(&[1; 1024], Some("some/app"))?;
    place.add_orphan(&[2; 512], None)?;
    Ok(())
}

fn last_lines(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// Runs what a check says, as an operator does who pastes it.
fn paste(hardprune: &Hardprune, command: &str) -> Result<Finished> {
    let program = built_program("hardprune")?;
    let folder = program.parent().context("a program lies in a folder")?;
    let environment = hardprune.command(&[]);
    let environment = environment
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env_clear().envs(environment);
    shell.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    Finished::of(&shell.output()?)
}

fn quoted_command(closing: &str) -> Result<&str> {
    let command = closing
        .strip_prefix("Use `")
        .and_then(|rest| rest.strip_suffix("` to delete them"));
    command.with_context(|| format!("{closing:?} names no command"))
}

#[test]
fn the_closing_lines_are_those_that_operators_know_and_the_command_in_them_deletes() {
    let place = Place::folder().unwrap();
    two_orphans(&place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let checked = hardprune.run(&["check", &place.argument()]).unwrap();
    assert_eq!(checked.status, 0, "{checked:?}");
    let expected = [
        "Would delete 2 blobs".to_owned(),
        "Would free up 1.5 KiB of disk space".to_owned(),
        format!(
            "Use `hardprune delete {} --assume-read-only` to delete them",
            place.argument()
        ),
    ];
    assert_eq!(last_lines(&checked.stdout, 3), expected);
    assert!(checked.stdout.ends_with('\n'));

    let command = quoted_command(&expected[2]).unwrap();
    let deleted = paste(&hardprune, command).unwrap();
    assert_eq!(deleted.status, 0, "{deleted:?}");
    let expected = ["Deleted 2 blobs", "Freed up 1.5 KiB of disk space"];
    assert_eq!(last_lines(&deleted.stdout, 2), expected);
    assert!(deleted.stdout.ends_with('\n'));
    assert!(place.inventory().unwrap().0.is_empty());
    assert!(
        deleted.stderr.contains("cache"),
        "registries remember blobs: {deleted:?}"
    );

    let nothing = hardprune.run(&["check", &place.argument()]).unwrap();
    assert_eq!(
        last_lines(&nothing.stdout, 3)[..2],
        ["Would delete 0 blobs", "Would free up 0 B of disk space"]
    );
}

#[test]
fn the_command_to_paste_survives_names_that_a_shell_would_take_apart_and_leaves_the_checks_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Folder::new(folder.path().join("the registry's $HOME; `x` *"));
    let truth = generate(&Shape::small(41), &storage).unwrap();
    let name = storage.root().display().to_string();
    let hardprune = Hardprune::new().unwrap();
    let [candidates, removals, metrics] =
        ["candidates", "removals", "metrics"].map(|name| hardprune.home().join(name).display().to_string());
    let joined = format!("--removals={removals}");
    let arguments = [
        "-v",
        "check",
        "--delete-untagged",
        "--candidates",
        &candidates,
        &joined,
        &name,
        "--metrics-file",
        &metrics,
        "--filter-seed",
        "7",
    ];
    let checked = hardprune.run(&arguments).unwrap();
    assert_eq!(checked.status, 0, "{checked:?}");
    let files = || [&candidates, &removals, &metrics].map(|path| fs::read_to_string(path).unwrap());
    let written = files();
    let lines = last_lines(&checked.stdout, 3);
    let deleted = paste(&hardprune, quoted_command(lines[2]).unwrap()).unwrap();
    assert_eq!(deleted.status, 0, "{} -> {deleted:?}", lines[2]);
    let going = truth.orphans.len() + truth.untagged.len();
    assert_eq!(lines[0], format!("Would delete {going} blobs"));
    assert_eq!(
        last_lines(&deleted.stdout, 2)[0],
        format!("Deleted {going} blobs")
    );
    assert_eq!(files(), written, "the files of the check were written over");
}

#[test]
fn without_the_promise_that_nothing_is_written_delete_refuses_and_says_why() {
    let place = Place::folder().unwrap();
    two_orphans(&place).unwrap();
    let before = place.snapshot().unwrap();
    let hardprune = place.hardprune().unwrap();
    let refused = hardprune.run(&["delete", &place.argument()]).unwrap();
    assert_eq!(refused.status, 3, "{refused:?}");
    for word in ["--assume-read-only", "REGISTRY_STORAGE_MAINTENANCE_READONLY"] {
        assert!(refused.stderr.contains(word), "{refused:?}");
    }
    assert_eq!(refused.stdout, "");
    assert_eq!(place.snapshot().unwrap(), before);
    // A variable in some forgotten profile must not override a guard.
    let forgotten = place
        .hardprune()
        .unwrap()
        .with("HARDPRUNE_ASSUME_READ_ONLY", "true");
    assert_eq!(forgotten.run(&["delete", &place.argument()]).unwrap().status, 3);
}

#[test]
fn in_a_folder_runs_are_listed_and_shown_as_they_were_reported() {
    runs_are_shown(&Place::folder().unwrap()).unwrap();
}

#[test]
fn on_s3_runs_are_listed_and_shown_as_they_were_reported() {
    runs_are_shown(&Place::s3("a/registry/").unwrap()).unwrap();
}

fn runs_are_shown(place: &Place) -> Result<()> {
    generate(&Shape::small(42), place)?;
    let hardprune = place.hardprune()?;
    let registry = place.argument();
    let checked = report(&hardprune, place, 0, "check", &["--delete-untagged"])?;
    let (check, orphans) = (
        checked["run"].as_str().context("no run")?,
        number(&checked, "blobs.orphaned")?,
    );
    let shown = hardprune.report(0, &["runs", "show", check])?;
    ensure!(shown == checked, "{shown} instead of {checked}");

    // What `runs show` says of a check is as ready to paste as what the check said.
    let text = hardprune.run(&["runs", "show", check])?;
    let lines = last_lines(&text.stdout, 3);
    ensure!(lines[0] == format!("Would delete {orphans} blobs"), "{text:?}");
    let deleted = paste(
        &hardprune,
        &format!("{} --output json", quoted_command(lines[2])?),
    )?;
    ensure!(deleted.status == 0, "{} -> {deleted:?}", lines[2]);
    let deleted: Value = serde_json::from_str(&deleted.stdout)?;
    ensure!(
        number(&deleted, "blobs.deleted")? == orphans,
        "{} deleted {}",
        lines[2],
        deleted["blobs"]
    );

    let delete = deleted["run"].as_str().context("no run")?;
    let shown = hardprune.report(0, &["runs", "show", delete, "--registry", &registry])?;
    ensure!(shown == deleted, "{shown} instead of {deleted}");
    let listed = hardprune.run(&["runs", "list", "--registry", &registry])?;
    let line_of = |run: &str| {
        listed
            .stdout
            .lines()
            .find(|line| line.contains(run))
            .map(str::to_owned)
    };
    let line = line_of(check).with_context(|| format!("{check} is not in {listed:?}"))?;
    ensure!(
        line.contains("check") && line.contains(&format!("{orphans} orphans")),
        "{line}"
    );
    let line = line_of(delete).with_context(|| format!("{delete} is not in {listed:?}"))?;
    ensure!(
        line.contains("delete") && line.contains(&format!("{orphans} deleted")),
        "{line}"
    );

    let unknown = hardprune.run(&["runs", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"])?;
    ensure!(unknown.status == 2 && unknown.stdout.is_empty(), "{unknown:?}");
    Ok(())
}

#[test]
fn the_removals_that_are_written_are_what_would_go_and_what_went() {
    let place = Place::folder().unwrap();
    generate(&Shape::small(43), &place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let file = hardprune.home().join("removals.jsonl");
    let name = file.display().to_string();
    let options = ["--delete-untagged", "--removals", &name];
    let checked = report(&hardprune, &place, 0, "check", &options).unwrap();
    let planned = removals(&file).unwrap();
    let before = place.inventory().unwrap();
    let deleted = report(&hardprune, &place, 0, "delete", &options).unwrap();
    let gone = removals(&file).unwrap();
    let difference = before.until(&place.inventory().unwrap());
    assert!(difference.removed.keys().eq(gone.keys()), "{gone:?}");
    assert_eq!(planned, gone);

    let mut kinds: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (key, (kind, reason)) in &gone {
        let place_of_kind = match kind.as_str() {
            "blob" => "/blobs/",
            "layer_link" => "/_layers/",
            "revision_link" => "/_manifests/revisions/",
            "tag_index_entry" => "/index/",
            other => panic!("{key}: {other} is not expected here"),
        };
        assert!(key.contains(place_of_kind), "{key} is no {kind}");
        *kinds.entry((kind.clone(), reason.clone())).or_default() += 1;
    }
    let count = |kind: &str, reason: &str| kinds.get(&(kind.into(), reason.into())).copied().unwrap_or(0);
    assert_eq!(
        count("blob", "orphan"),
        number(&deleted, "blobs.deleted").unwrap()
    );
    assert_eq!(
        count("layer_link", "dangling"),
        number(&deleted, "links.layer").unwrap()
    );
    assert_eq!(
        count("revision_link", "untagged"),
        number(&deleted, "links.revision").unwrap()
    );
    assert_eq!(
        count("tag_index_entry", "untagged"),
        number(&deleted, "links.tag").unwrap()
    );
    assert_eq!(kinds.values().sum::<u64>(), gone.len() as u64);
    assert!(count("revision_link", "untagged") > 0 && count("layer_link", "dangling") > 0);
    assert_eq!(checked["links"], deleted["links"]);
}

/// Kinds and reasons by key.
fn removals(file: &Path) -> Result<BTreeMap<String, (String, String)>> {
    let mut removals = BTreeMap::new();
    for line in json_lines(file)? {
        let text = |name: &str| {
            line[name]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("{line} has no {name}"))
        };
        let known = removals.insert(text("key")?, (text("kind")?, text("reason")?));
        ensure!(known.is_none(), "{line} is named twice");
    }
    Ok(removals)
}

#[test]
fn the_metrics_file_has_the_figures_of_the_report_in_prometheus_text_format() {
    let place = Place::folder().unwrap();
    generate(&Shape::small(44), &place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let file = hardprune.home().join("hardprune.prom");
    let name = file.display().to_string();
    let deleted = report(&hardprune, &place, 0, "delete", &["--metrics-file", &name]).unwrap();
    let metrics = metrics(&fs::read_to_string(&file).unwrap()).unwrap();
    for (metric, field) in [
        ("scanned_blobs", "blobs.scanned"),
        ("referenced_blobs", "blobs.referenced"),
        ("young_blobs", "blobs.young"),
        ("orphaned_blobs", "blobs.orphaned"),
        ("deleted_blobs", "blobs.deleted"),
        ("failed_blobs", "blobs.failed"),
        ("scanned_bytes", "bytes.scanned"),
        ("orphaned_bytes", "bytes.orphaned"),
        ("freed_bytes", "bytes.freed"),
        ("repositories", "repositories"),
        ("frozen_repositories", "frozen_repositories"),
        ("problems", "problems.total"),
    ] {
        let value = metrics.get(&format!("hardprune_coordinator_{metric}"));
        let expected = number(&deleted, field).unwrap().to_string();
        assert_eq!(value, Some(&expected), "{metric} in {metrics:?}");
    }
    assert_eq!(metrics["hardprune_coordinator_completed"], "1");
    let left: Vec<_> = fs::read_dir(hardprune.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")),
        "{left:?}"
    );
}

#[test]
fn the_metrics_file_of_a_run_that_fails_says_so() {
    let place = Place::folder().unwrap();
    generate(&Shape::small(45), &place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let file = hardprune.home().join("hardprune.prom");
    let name = file.display().to_string();
    // Repositories without any tag are refused once they are marked.
    let hex = "ab".repeat(32);
    let link = place
        .path(&format!(
            "docker/registry/v2/repositories/tagless/_manifests/revisions/sha256/{hex}/link"
        ))
        .unwrap();
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    fs::write(&link, format!("sha256:{hex}")).unwrap();
    report(
        &hardprune,
        &place,
        3,
        "delete",
        &["--delete-untagged", "--metrics-file", &name],
    )
    .unwrap();
    let metrics = metrics(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(metrics["hardprune_coordinator_completed"], "0");
    assert_eq!(metrics["hardprune_coordinator_deleted_blobs"], "0");
}

/// Values by name; every metric must be explained and typed before its value.
fn metrics(text: &str) -> Result<BTreeMap<String, String>> {
    let (mut explained, mut typed, mut values) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("a HELP line without a text")?;
            ensure!(!help.is_empty() && explained.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest
                .strip_suffix(" gauge")
                .with_context(|| format!("{line}: no gauge"))?;
            ensure!(typed.insert(name.to_owned()), "{line}");
        } else {
            let (name, value) = line
                .split_once(' ')
                .with_context(|| format!("{line}: no value"))?;
            ensure!(
                explained.contains(name) && typed.contains(name),
                "{name} comes unexplained"
            );
            value.parse::<f64>().with_context(|| line.to_owned())?;
            ensure!(
                values.insert(name.to_owned(), value.to_owned()).is_none(),
                "{line}"
            );
        }
    }
    Ok(values)
}

/// A state store that is noted and broken now does not hide what the others have.
#[test]
fn runs_are_listed_although_one_of_their_places_cannot_be_read() {
    let place = Place::folder().unwrap();
    two_orphans(&place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let elsewhere = hardprune.home().join("elsewhere");
    let named = elsewhere.display().to_string();
    report(&hardprune, &place, 0, "check", &["--state", &named]).unwrap();
    let kept = report(&hardprune, &place, 0, "check", &[]).unwrap();
    fs::remove_dir_all(elsewhere.join("hardprune")).unwrap();
    fs::write(elsewhere.join("hardprune"), b"no folder").unwrap();
    let listed = hardprune.run(&["runs", "list"]).unwrap();
    assert_eq!(listed.status, 0, "{listed:?}");
    assert!(
        listed.stdout.contains(kept["run"].as_str().unwrap()),
        "{listed:?}"
    );
    assert!(listed.stderr.contains(&named), "{listed:?}");
    // Who names it hears of it.
    let listed = hardprune.run(&["runs", "list", "--state", &named]).unwrap();
    assert_eq!(listed.status, 1, "{listed:?}");
}

/// Whoever can push chooses the names of repositories.
#[test]
fn a_terminal_is_shown_nothing_that_it_would_obey() {
    let place = Place::folder().unwrap();
    let missing = format!("sha256:{}", "ab".repeat(32));
    let link = revision_link_key("odd\u{1b}[31m", &missing);
    let old = SystemTime::now() - THREE_DAYS;
    place.put(&link, missing.as_bytes(), old).unwrap();
    place.add_orphan(b"an orphan", None).unwrap();
    let checked = place
        .hardprune()
        .unwrap()
        .run(&["check", &place.argument()])
        .unwrap();
    assert_eq!(checked.status, 0, "{checked:?}");
    assert!(checked.stdout.contains("odd\u{fffd}[31m"), "{checked:?}");
    assert!(!checked.stdout.contains('\u{1b}'), "{checked:?}");
    // Nor is a file of logs, which none is.
    let logged = place
        .hardprune()
        .unwrap()
        .run(&["check", &place.argument(), "-v"])
        .unwrap();
    assert!(logged.stderr.contains("INFO"), "{logged:?}");
    assert!(!logged.stderr.contains('\u{1b}'), "{logged:?}");
}

#[test]
fn json_logs_are_json_lines_and_stay_off_standard_output() {
    let place = Place::folder().unwrap();
    two_orphans(&place).unwrap();
    let hardprune = place.hardprune().unwrap();
    let arguments = [
        "delete",
        &place.argument(),
        "--assume-read-only",
        "--log-format",
        "json",
        "-vv",
        "--output",
        "json",
    ];
    let deleted = hardprune.run(&arguments).unwrap();
    assert_eq!(deleted.status, 0, "{deleted:?}");
    serde_json::from_str::<Value>(&deleted.stdout).unwrap();
    // Progress and the reminder share standard error, as plain lines that no log line looks like.
    let logs: Vec<Value> = deleted
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!logs.is_empty(), "{}", deleted.stderr);
    for log in &logs {
        assert!(
            log["level"].is_string() && log["fields"]["message"].is_string(),
            "{log}"
        );
        log["timestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
    }
    for level in ["INFO", "DEBUG", "WARN"] {
        let is_text = |line: &str| !line.starts_with('{') && line.contains(&format!(" {level} "));
        assert!(!deleted.stderr.lines().any(is_text), "{}", deleted.stderr);
    }
}

#[test]
fn completions_and_the_manual_page_name_every_command() {
    let hardprune = Hardprune::new().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = hardprune.run(&["completions", shell]).unwrap();
        assert_eq!(script.status, 0, "{script:?}");
        for word in ["hardprune", "check", "delete", "runs", "keep-younger-than"] {
            assert!(script.stdout.contains(word), "{shell}: {word}");
        }
    }
    let script = hardprune.home().join("hardprune.bash");
    fs::write(&script, hardprune.run(&["completions", "bash"]).unwrap().stdout).unwrap();
    let parsed = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(parsed.status.success(), "{parsed:?}");
    assert_eq!(hardprune.run(&["completions", "tcsh"]).unwrap().status, 2);

    let page = hardprune.run(&["man"]).unwrap();
    assert_eq!(page.status, 0, "{page:?}");
    assert!(
        page.stdout.lines().any(|line| line.starts_with(".TH")),
        "{}",
        page.stdout
    );
    for word in ["check", "delete", "runs", "demo", "Exit status"] {
        assert!(page.stdout.contains(word), "{word} is not in the manual page");
    }
}
