//! Every kustomization names what is there, and what is there is named; patches change objects that exist.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::files::{below, document, ensure_keys, is_secret, place, texts, variables};
use crate::manifests::objects;
use crate::pods::{OPTIONS, pods};

fn folders() -> Result<Vec<String>> {
    let mut files = below("deploy/kubernetes")?;
    files.extend(below("deploy/openshift")?);
    Ok(files
        .iter()
        .filter_map(|file| file.strip_suffix("/kustomization.yaml"))
        .map(str::to_owned)
        .collect())
}

fn check(folder: &str) -> Result<()> {
    let kustomization = document(&format!("{folder}/kustomization.yaml"))?;
    let known = [
        "apiVersion",
        "kind",
        "namespace",
        "resources",
        "components",
        "images",
        "configMapGenerator",
        "patches",
    ];
    ensure_keys(folder, &kustomization, &known)?;
    let is_component = folder.contains("/components/");
    let version = if is_component { "v1alpha1" } else { "v1beta1" };
    ensure!(
        kustomization["kind"]
            == if is_component {
                "Component"
            } else {
                "Kustomization"
            }
    );
    ensure!(kustomization["apiVersion"] == format!("kustomize.config.k8s.io/{version}"));

    let mut named = BTreeSet::from(["kustomization.yaml".to_owned()]);
    for path in texts(&kustomization["resources"])
        .into_iter()
        .chain(texts(&kustomization["components"]))
    {
        if path.ends_with(".yaml") {
            named.insert(path.to_owned());
        } else {
            let other = place(folder).join(path).join("kustomization.yaml");
            ensure!(other.is_file(), "{path} has no kustomization");
        }
    }
    for generator in kustomization["configMapGenerator"]
        .as_array()
        .into_iter()
        .flatten()
    {
        ensure_keys(
            "configMapGenerator",
            generator,
            &["name", "behavior", "envs", "literals"],
        )?;
        named.extend(texts(&generator["envs"]).into_iter().map(str::to_owned));
    }
    for patch in kustomization["patches"].as_array().into_iter().flatten() {
        ensure_keys("patch", patch, &["path"])?;
        named.extend(patch["path"].as_str().map(str::to_owned));
    }
    let there: BTreeSet<String> = below(folder)?
        .iter()
        .filter_map(|file| Some(file.strip_prefix(folder)?.strip_prefix('/')?.to_owned()))
        .collect();
    ensure!(named == there, "named: {named:?}, there: {there:?}");
    Ok(())
}

#[test]
fn what_is_named_is_there_and_what_is_there_is_named() {
    let folders = folders().unwrap();
    assert_eq!(folders.len(), 13);
    for folder in folders {
        let checked = check(&folder);
        assert!(checked.is_ok(), "{folder}: {checked:?}");
    }
}

fn entries<'a>(kustomization: &'a Value, list: &str) -> Vec<&'a Value> {
    kustomization[list].as_array().into_iter().flatten().collect()
}

#[test]
fn the_example_changes_what_exists() {
    let folder = "deploy/kubernetes/overlays/example";
    let base = objects("deploy/kubernetes/base").unwrap();
    for object in objects(folder).unwrap() {
        let there = base
            .iter()
            .any(|base| base.kind == object.kind && base.name == object.name);
        assert!(
            there || object.kind == "Namespace",
            "{} {}",
            object.kind,
            object.name
        );
    }
    let kustomization = document(&format!("{folder}/kustomization.yaml")).unwrap();
    let images: BTreeSet<_> = pods()
        .unwrap()
        .iter()
        .filter_map(|pod| {
            pod.container()
                .ok()?
                .image
                .as_deref()?
                .split(':')
                .next()
                .map(str::to_owned)
        })
        .collect();
    let named = entries(&kustomization, "images");
    let named: BTreeSet<_> = named.iter().filter_map(|image| image["name"].as_str()).collect();
    assert_eq!(named, images.iter().map(String::as_str).collect());
}

#[test]
fn options_of_the_example_are_no_secrets_and_have_the_name_of_the_base() {
    let generator = |path: &str| {
        let kustomization = document(path).unwrap();
        entries(&kustomization, "configMapGenerator")[0].clone()
    };
    let base = generator("deploy/kubernetes/base/kustomization.yaml");
    let example = generator("deploy/kubernetes/overlays/example/kustomization.yaml");
    assert_eq!(example["name"], base["name"]);
    assert_eq!(example["behavior"], "merge");
    let options = variables(OPTIONS).unwrap();
    for literal in texts(&example["literals"]) {
        let (name, _) = literal.split_once('=').unwrap();
        assert!(!is_secret(name), "{name}");
        assert!(
            options.contains_key(name) || name == "AWS_ENDPOINT_URL",
            "{name} is not an option of the base"
        );
    }
}

#[test]
fn keda_scales_the_workers_by_the_tasks_that_wait() {
    let found = objects("deploy/kubernetes/components/keda").unwrap();
    let scaled = &found.first().context("no object").unwrap().value["spec"];
    assert_eq!(scaled["scaleTargetRef"]["name"], "hardprune-worker");
    let query = scaled["triggers"][0]["metadata"]["query"].as_str().unwrap();
    assert!(query.contains("hardprune_coordinator_pending_tasks"));
    // Whoever scales sets the number; a number in the manifest would reset it with every apply.
    let base = objects("deploy/kubernetes/base").unwrap();
    let worker = base.iter().find(|object| object.kind == "Deployment").unwrap();
    assert_eq!(worker.value.pointer("/spec/replicas"), None);
}
