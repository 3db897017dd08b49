//! `--registry-config`: the registry's own `config.yml` and its `REGISTRY_…` overrides say where the storage is, and what
//! must not be pruned is refused.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use hardprune_tests::docker_registry::{RegistryConfig, S3Settings};
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::program::{Finished, Hardprune};
use hardprune_tests::storage_writer::{Folder, Storage};
use serde_json::{Value, json};

use crate::scene::{Place, SEED, ensure_adds_up, number};

fn written(hardprune: &Hardprune, config: &RegistryConfig) -> Result<String> {
    let path = hardprune.home().join("config.yml");
    config.write(&path, "127.0.0.1:0")?;
    Ok(path.display().to_string())
}

/// As [`written`], changed by the caller. Every JSON document is YAML.
fn changed(
    hardprune: &Hardprune,
    config: &RegistryConfig,
    change: impl FnOnce(&mut Value),
) -> Result<String> {
    let path = written(hardprune, config)?;
    let mut document: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    change(&mut document);
    fs::write(&path, document.to_string())?;
    Ok(path)
}

/// Checks, then deletes, what a configuration names: it must be this place, whose truth has a seed of its own.
fn prunes(hardprune: &Hardprune, place: &Place, config: &str, seed: u64) -> Result<Vec<Finished>> {
    let truth = generate(&Shape::small(seed), place)?;
    let before = place.inventory()?;
    let mut outputs = Vec::new();
    for command in ["check", "delete"] {
        let mut arguments = vec![command, "--registry-config", config, "--output", "json", "-vv"];
        arguments.extend(SEED);
        if command == "delete" {
            arguments.push("--assume-read-only");
        }
        let finished = hardprune.run(&arguments)?;
        ensure!(finished.status == 0, "{finished:?}");
        let report: Value = serde_json::from_str(&finished.stdout)?;
        ensure_adds_up(&report)?;
        ensure!(
            number(&report, "bytes.orphaned")? == truth.orphan_bytes(),
            "{report}"
        );
        outputs.push(finished);
    }
    let difference = before.until(&place.inventory()?);
    ensure!(difference.removed_blobs() == truth.orphans);
    Ok(outputs)
}

#[test]
fn a_configuration_of_a_folder_is_all_that_is_needed() {
    let place = Place::folder().unwrap();
    let hardprune = Hardprune::new().unwrap();
    let config = written(&hardprune, &place.registry_config()).unwrap();
    prunes(&hardprune, &place, &config, 51).unwrap();
}

#[test]
fn the_environment_says_which_folder_as_it_does_for_the_registry() {
    let place = Place::folder().unwrap();
    let hardprune = Hardprune::new()
        .unwrap()
        .with("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", place.argument());
    let config = written(&hardprune, &RegistryConfig::filesystem("/nowhere/at/all")).unwrap();
    prunes(&hardprune, &place, &config, 52).unwrap();
}

#[test]
fn a_configuration_of_s3_is_all_that_is_needed_and_its_secrets_are_shown_nowhere() {
    let place = Place::s3("the/root/").unwrap();
    // Credentials of the machine must not win over those of the registry.
    let hardprune = Hardprune::new()
        .unwrap()
        .with("AWS_ACCESS_KEY_ID", "other")
        .with("AWS_SECRET_ACCESS_KEY", "wrong");
    let config = written(&hardprune, &place.registry_config()).unwrap();
    let outputs = prunes(&hardprune, &place, &config, 53).unwrap();
    no_secret_is_shown(&hardprune, &place, &outputs, &config).unwrap();
}

#[test]
fn the_environment_says_which_bucket_as_it_does_for_the_registry() {
    let place = Place::s3("the/root/").unwrap();
    let server = place.server().unwrap();
    let hardprune = Hardprune::new()
        .unwrap()
        .with("REGISTRY_STORAGE_S3_REGIONENDPOINT", server.endpoint())
        .with("REGISTRY_STORAGE_S3_BUCKET", server.bucket())
        .with("REGISTRY_STORAGE_S3_ROOTDIRECTORY", "/the/root")
        .with("REGISTRY_STORAGE_S3_SECRETKEY", server.secret_key());
    let config = RegistryConfig::s3(S3Settings {
        endpoint: "http://127.0.0.1:1".to_owned(),
        bucket: "another".to_owned(),
        root_directory: String::new(),
        access_key: server.access_key().to_owned(),
        secret_key: "overridden".to_owned(),
    });
    let config = written(&hardprune, &config).unwrap();
    let outputs = prunes(&hardprune, &place, &config, 54).unwrap();
    no_secret_is_shown(&hardprune, &place, &outputs, &config).unwrap();
}

/// Neither in what was printed and logged, nor in what was kept: the runs in the home folder and in the bucket.
fn no_secret_is_shown(
    hardprune: &Hardprune,
    place: &Place,
    outputs: &[Finished],
    config: &str,
) -> Result<()> {
    let secret = place.server()?.secret_key();
    for output in outputs {
        ensure!(
            !output.stdout.contains(secret) && !output.stderr.contains(secret),
            "{output:?}"
        );
    }
    let home = Folder::new(hardprune.home());
    let mut kept = 0;
    for (storage, own) in [(&home as &dyn Storage, ""), (place, "hardprune/")] {
        for key in storage.keys()?.into_keys().filter(|key| key.starts_with(own)) {
            if hardprune.home().join(&key) == Path::new(config) {
                continue;
            }
            let bytes = storage.get(&key)?.context("a file went")?;
            ensure!(
                !String::from_utf8_lossy(&bytes).contains(secret),
                "{key} holds the secret"
            );
            kept += 1;
        }
    }
    ensure!(kept > 2, "nothing was kept");
    Ok(())
}

#[test]
fn wrong_credentials_are_said_to_be_wrong_and_not_shown() {
    let place = Place::s3("").unwrap();
    generate(&Shape::small(55), &place).unwrap();
    let hardprune = Hardprune::new()
        .unwrap()
        .with("REGISTRY_STORAGE_S3_SECRETKEY", "Pl4ntedS3cret");
    let config = written(&hardprune, &place.registry_config()).unwrap();
    let failed = hardprune
        .run(&["check", "--registry-config", &config, "-vv"])
        .unwrap();
    assert_eq!(failed.status, 2, "{failed:?}");
    assert!(
        !failed.stderr.contains("Pl4ntedS3cret") && !failed.stderr.contains("panicked"),
        "{failed:?}"
    );
}

/// Runs `check` and `delete` with a configuration that must be refused, and looks that nothing went.
fn is_refused(change: impl Fn(&mut Value), options: &[&str], says: &str) -> Result<()> {
    let place = Place::folder()?;
    generate(&Shape::small(56), &place)?;
    let hardprune = Hardprune::new()?;
    let before = place.snapshot()?;
    let config = changed(&hardprune, &place.registry_config(), change)?;
    for command in [&["check"][..], &["delete", "--assume-read-only"]] {
        let arguments: Vec<&str> = command
            .iter()
            .copied()
            .chain(["--registry-config", &config])
            .chain(options.iter().copied())
            .collect();
        let refused = hardprune.run(&arguments)?;
        ensure!(refused.status == 3, "{command:?}: {refused:?}");
        ensure!(refused.stderr.contains(says), "{refused:?} does not say {says}");
        ensure!(refused.stdout.is_empty(), "{refused:?}");
    }
    ensure!(place.snapshot()? == before, "something changed");
    Ok(())
}

#[test]
fn a_pull_through_cache_is_refused() {
    let proxy = |config: &mut Value| config["proxy"] = json!({"remoteurl": "https://registry-1.docker.io"});
    is_refused(proxy, &[], "pull-through cache").unwrap();
}

#[test]
fn an_openshift_registry_is_refused_without_its_cluster() {
    let openshift = |config: &mut Value| {
        config["openshift"] =
            json!({"version": 1.0, "server": {"addr": "image-registry.openshift-image-registry.svc"}});
    };
    is_refused(openshift, &[], "--references openshift").unwrap();
}

#[test]
fn harbors_registry_is_refused_with_delete_untagged_and_pruned_without() {
    let harbor = |config: &mut Value| {
        config["auth"] =
            json!({"htpasswd": {"realm": "harbor-registry-basic-realm", "path": "/etc/registry/passwd"}});
    };
    is_refused(harbor, &["--delete-untagged"], "Harbor").unwrap();

    let place = Place::folder().unwrap();
    let hardprune = Hardprune::new().unwrap();
    let config = changed(&hardprune, &place.registry_config(), harbor).unwrap();
    prunes(&hardprune, &place, &config, 57).unwrap();
}

#[test]
fn a_registry_whose_metadata_are_in_a_database_is_refused_however_it_is_named() {
    for place in [Place::folder().unwrap(), Place::s3("git/lab/").unwrap()] {
        generate(&Shape::small(58), &place).unwrap();
        let lock = "docker/registry/lockfiles/database-in-use";
        place.put(lock, b"", SystemTime::now()).unwrap();
        let before = place.snapshot().unwrap();
        let hardprune = place.hardprune().unwrap();
        let config = written(&hardprune, &place.registry_config()).unwrap();
        let argument = place.argument();
        for arguments in [
            &["check", &argument][..],
            &["delete", &argument, "--assume-read-only"],
            &["check", "--registry-config", &config],
            &["delete", "--registry-config", &config, "--assume-read-only"],
        ] {
            let refused = hardprune.run(arguments).unwrap();
            assert_eq!(refused.status, 3, "{refused:?}");
            assert!(refused.stderr.contains("database"), "{refused:?}");
        }
        assert_eq!(place.snapshot().unwrap(), before);
    }
}

#[test]
fn a_storage_and_a_configuration_together_are_no_registry() {
    let place = Place::folder().unwrap();
    let hardprune = Hardprune::new().unwrap();
    let config = written(&hardprune, &place.registry_config()).unwrap();
    let refused = hardprune
        .run(&["check", &place.argument(), "--registry-config", &config])
        .unwrap();
    assert_eq!(refused.status, 2, "{refused:?}");
    let neither = hardprune.run(&["check"]).unwrap();
    assert_eq!(neither.status, 2, "{neither:?}");
}

#[test]
fn the_command_to_paste_names_the_configuration() {
    let place = Place::folder().unwrap();
    let truth = generate(&Shape::small(59), &place).unwrap();
    let hardprune = Hardprune::new().unwrap();
    let config = written(&hardprune, &place.registry_config()).unwrap();
    let checked = hardprune.run(&["check", "--registry-config", &config]).unwrap();
    let said = format!("Use `hardprune delete --registry-config {config} --assume-read-only` to delete them");
    assert_eq!(checked.stdout.lines().last(), Some(said.as_str()));
    assert!(
        checked
            .stdout
            .contains(&format!("Would delete {} blobs", truth.orphans.len())),
        "{checked:?}"
    );
}
