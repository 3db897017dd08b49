//! The Compose file: what it names is there, all of it runs confined, and its secrets come from outside.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::files::{document, ensure_keys, is_secret, read, texts, variables};
use crate::tools;

const COMPOSE: &str = "deploy/compose/compose.yaml";

/// The services.
pub fn services() -> Result<Map<String, Value>> {
    let compose = document(COMPOSE)?;
    compose["services"].as_object().cloned().context("no services")
}

fn names(mapping: &Value) -> BTreeSet<String> {
    mapping
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

// Keys: <https://github.com/compose-spec/compose-spec/blob/main/spec.md>.
fn check(compose: &Value, name: &str, service: &Value) -> Result<()> {
    let known = [
        "build",
        "cap_add",
        "cap_drop",
        "command",
        "depends_on",
        "entrypoint",
        "environment",
        "healthcheck",
        "image",
        "network_mode",
        "networks",
        "ports",
        "profiles",
        "read_only",
        "restart",
        "scale",
        "security_opt",
        "stop_grace_period",
        "tmpfs",
        "user",
        "volumes",
    ];
    ensure_keys(name, service, &known)?;
    ensure!(service["read_only"] == true, "the root can be written");
    ensure!(texts(&service["cap_drop"]) == ["ALL"], "has capabilities");
    ensure!(
        texts(&service["security_opt"]) == ["no-new-privileges:true"],
        "may gain privileges"
    );
    if name == "folders" {
        ensure!(texts(&service["cap_add"]) == ["CHOWN"] && service["network_mode"] == "none");
    } else {
        ensure!(
            service["user"] == "65532:65532" && service["cap_add"].is_null(),
            "runs as another user"
        );
        ensure!(texts(&service["networks"]).contains(&"inside"), "is not inside");
    }
    let image = service["image"].as_str().context("no image")?;
    let (image, tag) = image.split_once(':').context("an image without a version")?;
    ensure!(
        tag.starts_with(|first: char| first.is_ascii_digit()),
        "{image}:{tag} is no version"
    );
    if let Some(build) = service.get("build") {
        ensure_keys("build", build, &["context", "dockerfile", "target"])?;
        ensure!(
            tag == env!("CARGO_PKG_VERSION"),
            "another version of hardprune: {tag}"
        );
        ensure!(build["target"] == image, "builds another image");
        let file = read(build["dockerfile"].as_str().context("no dockerfile")?)?;
        ensure!(file.contains(&format!(" AS {image}\n")), "no such target");
    }
    for (other, condition) in service["depends_on"].as_object().into_iter().flatten() {
        let other = &compose["services"][other];
        match condition["condition"].as_str() {
            Some("service_healthy") => ensure!(other["healthcheck"].is_object(), "has no health check"),
            Some("service_completed_successfully") => ensure!(other["restart"] == "no", "never completes"),
            condition => anyhow::bail!("depends on {condition:?}"),
        }
    }
    let volumes = names(&compose["volumes"]);
    for volume in service["volumes"].as_array().into_iter().flatten() {
        let source = volume.as_str().and_then(|volume| volume.split(':').next());
        let source = source
            .or(volume["source"].as_str())
            .context("a volume without a source")?;
        ensure!(
            volumes.contains(source) || source == "./nats.conf",
            "no volume {source}"
        );
    }
    let networks = names(&compose["networks"]);
    ensure!(
        texts(&service["networks"])
            .into_iter()
            .all(|network| networks.contains(network))
    );
    for (name, value) in service["environment"].as_object().into_iter().flatten() {
        let value = value.as_str().context("a variable that is no text")?;
        ensure!(
            !is_secret(name) || value.trim_matches('"').starts_with("${"),
            "{name} stands in the file"
        );
    }
    Ok(())
}

#[test]
fn services_are_confined_and_name_what_is_there() {
    let compose = document(COMPOSE).unwrap();
    let services = services().unwrap();
    let expected = ["check", "delete", "folders", "nats", "registry", "worker"];
    assert_eq!(
        services.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from(expected)
    );
    for (name, service) in &services {
        let checked = check(&compose, name, service);
        assert!(checked.is_ok(), "{name}: {checked:?}");
    }
    assert_eq!(compose["networks"]["inside"]["internal"], true);
    assert_eq!(services["worker"]["scale"], 2);
    // Only when asked for: neither runs with `up`.
    for name in ["check", "delete"] {
        assert_eq!(texts(&services[name]["profiles"]), [name]);
    }
    let check_volumes = texts(&services["check"]["volumes"]);
    assert!(check_volumes.contains(&"registry:/registry:ro"), "R7");
}

#[test]
fn the_example_environment_has_every_variable_and_no_secret() {
    let variables = variables("deploy/compose/.env.example").unwrap();
    for (name, value) in &variables {
        assert!(!is_secret(name) || value.is_empty(), "{name}");
    }
    let compose = read(COMPOSE).unwrap();
    let used: BTreeSet<_> = compose
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split([':', '}']).next())
        .collect();
    assert_eq!(used, variables.keys().map(String::as_str).collect());
}

#[test]
fn nats_accepts_its_configuration() {
    let variables = [
        ("HARDPRUNE_NATS_USER", "hardprune"),
        // As compose.yaml quotes it; of digits, which NATS would otherwise take for a number.
        ("HARDPRUNE_NATS_PASSWORD", "\"0123456789\""),
    ];
    tools::run(
        "nats-server",
        "nats-server",
        "deploy/compose",
        &["-t", "-c", "nats.conf"],
        &variables,
    )
    .unwrap();
}
