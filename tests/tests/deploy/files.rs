//! Finds and reads the files of `deploy/`, by their path in the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A file's place on this machine.
pub fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file's text.
pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(place(path)).with_context(|| path.to_owned())
}

/// The paths of all files below a folder, in order.
pub fn below(folder: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(place(folder)).with_context(|| folder.to_owned())? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .ok()
            .context("a name that is no text")?;
        let path = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() {
            found.extend(below(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The documents of a YAML file. A key that stands twice is an error.
pub fn documents(path: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(&read(path)?).with_context(|| path.to_owned())
}

/// The only document of a YAML file.
pub fn document(path: &str) -> Result<Value> {
    let mut documents = documents(path)?;
    ensure!(documents.len() == 1, "{path} has {} documents", documents.len());
    documents.pop().context("no document")
}

/// The `NAME=value` lines of an environment file.
pub fn variables(path: &str) -> Result<BTreeMap<String, String>> {
    read(path)?
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.split_once('=').with_context(|| format!("{path}: {line}"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The texts of a list; empty where there is none.
pub fn texts(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Fails where a mapping has other keys than these.
pub fn ensure_keys(place: &str, mapping: &Value, known: &[&str]) -> Result<()> {
    let mapping = mapping
        .as_object()
        .with_context(|| format!("{place} is no mapping"))?;
    for key in mapping.keys() {
        ensure!(
            known.contains(&key.as_str()),
            "{place}: {key} is not a key that is known here"
        );
    }
    Ok(())
}

/// Whether a variable of this name holds something that must not stand in a file.
pub fn is_secret(name: &str) -> bool {
    ["KEY", "PASSWORD", "SECRET", "TOKEN", "CREDENTIAL"]
        .iter()
        .any(|word| name.to_ascii_uppercase().contains(word))
}
