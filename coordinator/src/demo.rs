//! `demo`: makes a small registry in a temporary folder, prunes it with the same commands that a user would type, and
//! shows what happened.

mod registry;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use clap::Parser;
use hardprune_common::digest::Digest;
use hardprune_common::layout::{REPOSITORIES, blob_key, parse_blob_key};
use hardprune_common::link::parse_link;
use hardprune_common::manifest::Manifest;
use hardprune_common::removal::{Removal, RemovalKind};

use crate::cli::{Cli, Command};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::prune::{DeleteChoices, prune};
use crate::{human, print};
use registry::DemoRegistry;

/// Runs the demo.
///
/// # Errors
///
/// A temporary folder that cannot be used, and anything that a prune can fail with.
pub async fn demo() -> Result<ExitStatus, RunError> {
    let folder = tempfile::tempdir().map_err(|source| failed(Path::new("a temporary folder"), source))?;
    let root = folder.path().join("registry");
    let registry = DemoRegistry::build(&root).map_err(|source| failed(&root, source))?;
    let (files, bytes) = count_blobs(&root)?;
    print(&format!(
        "A registry with {files} blobs ({}) was made in {}:\n\
         \n  shop/web      v1, v2 (signed), latest moved from an earlier image; v0 was deleted; a push broke off\
         \n  shop/api      1.0, for amd64 and arm64\
         \n  shop/worker   a push is under way\
         \n  team/ci       nothing but a push that broke off\n\n",
        human::bytes(bytes),
        root.display()
    ))?;

    let path = root.display().to_string();
    let state = folder.path().join("state").display().to_string();
    let removals = folder.path().join("removals.jsonl");
    // A good half of the bytes is garbage here, which a guard would stop.
    let allow = ["--max-delete-percent", "60"];
    type_command(&[&["check", &path, "--state", &state], &allow[..]].concat()).await?;
    let removals_path = removals.display().to_string();
    let delete = [
        "delete",
        &path,
        "--assume-read-only",
        "--removals",
        &removals_path,
    ];
    let status = type_command(&[&delete[..], &allow].concat()).await?;

    print(&format!(
        "\nWhat went, and why:\n{}",
        what_went(&removals, &registry.names)?
    ))?;
    let (live, problems) = verify(&root)?;
    if !problems.is_empty() {
        let problems = problems.join("\n  ");
        return Err(RunError::Refused(format!(
            "the demo's registry is damaged, please report this:\n  {problems}"
        )));
    }
    print(&format!(
        "\nWhat stayed: every tag is complete, each blob read and its digest checked.\n{live}\
         The untagged image that latest named before stays too (--delete-untagged removes such), and the layer that was \
         pushed a moment ago: its link is younger than 24 h (--keep-younger-than), which counts as a reference.\n\n\
         Your own registry: hardprune check /var/lib/registry (or s3://bucket/prefix). It changes nothing.\n"
    ))?;
    Ok(status)
}

/// Runs a command just as if it had been typed.
async fn type_command(words: &[&str]) -> Result<ExitStatus, RunError> {
    print(&format!("$ hardprune {}\n", words.join(" ")))?;
    let arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let cli = Cli::try_parse_from(["hardprune"].iter().chain(words))
        .map_err(|error| RunError::Usage(error.to_string()))?;
    let status = match cli.command {
        Command::Check(args) => prune(args.run, None, &arguments).await?,
        Command::Delete(args) => {
            let choices = DeleteChoices::of(&args)?;
            prune(args.run, Some(choices), &arguments).await?
        }
        _ => return Err(RunError::Usage("the demo knows check and delete".to_owned())),
    };
    print("\n")?;
    Ok(status)
}

fn what_went(removals: &Path, names: &BTreeMap<String, String>) -> Result<String, RunError> {
    let lines = fs::read_to_string(removals).map_err(|source| failed(removals, source))?;
    let mut text = String::new();
    let mut links = 0;
    for line in lines.lines() {
        let removal: Removal = serde_json::from_str(line).map_err(|error| failed(removals, error.into()))?;
        match removal.blob() {
            Some(digest) => {
                let name = names.get(&digest.to_string()).map_or("?", String::as_str);
                text += &format!(
                    "  {:>10}  {name}: no manifest names it any more\n",
                    human::bytes(removal.size)
                );
            }
            None => links += usize::from(removal.kind == RemovalKind::LayerLink),
        }
    }
    Ok(format!(
        "{text}  and {links} layer links in repositories that led to nothing but these\n"
    ))
}

fn count_blobs(root: &Path) -> Result<(u64, u64), RunError> {
    let (mut files, mut bytes) = (0, 0);
    for path in files_below(root)? {
        let key = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        if parse_blob_key(&key).is_some() {
            files += 1;
            bytes += fs::metadata(&path).map_err(|source| failed(&path, source))?.len();
        }
    }
    Ok((files, bytes))
}

/// Reads every tag's image whole. Returns what is complete, and what is not.
fn verify(root: &Path) -> Result<(String, Vec<String>), RunError> {
    let (mut text, mut problems) = (String::new(), Vec::new());
    for path in files_below(&root.join(REPOSITORIES))? {
        let Some(tag) = path
            .strip_prefix(root.join(REPOSITORIES))
            .ok()
            .and_then(Path::to_str)
        else {
            continue;
        };
        let Some(tag) = tag.strip_suffix("/current/link") else {
            continue;
        };
        let link = fs::read(&path).map_err(|source| failed(&path, source))?;
        let mut blobs = 0;
        let name = tag.replace("/_manifests/tags/", ":");
        let complete = parse_link(&link)
            .map_err(|error| error.to_string())
            .and_then(|digest| read_whole(root, &digest, true, &mut blobs));
        match complete {
            Ok(()) => text += &format!("  {name}: {blobs} blobs\n"),
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    Ok((text, problems))
}

fn read_whole(root: &Path, digest: &Digest, is_manifest: bool, blobs: &mut u64) -> Result<(), String> {
    let bytes = fs::read(root.join(blob_key(digest))).map_err(|error| format!("{digest}: {error}"))?;
    if Digest::of(digest.algorithm(), &bytes) != *digest {
        return Err(format!("{digest}: its bytes have changed"));
    }
    *blobs += 1;
    if is_manifest {
        let manifest = Manifest::parse(&bytes).map_err(|error| format!("{digest}: {error}"))?;
        for blob in &manifest.blobs {
            read_whole(root, blob, false, blobs)?;
        }
        for child in &manifest.children {
            read_whole(root, child, true, blobs)?;
        }
    }
    Ok(())
}

fn files_below(folder: &Path) -> Result<Vec<std::path::PathBuf>, RunError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|source| failed(&folder, source))? {
            let entry = entry.map_err(|source| failed(&folder, source))?;
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn failed(path: &Path, source: io::Error) -> RunError {
    RunError::Output {
        path: path.to_owned(),
        source,
    }
}
