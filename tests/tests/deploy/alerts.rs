//! Alerts use metrics that exist, fire as their unit tests say, and each has a section in the runbook.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::files::{below, document, ensure_keys, read};
use crate::manifests::objects;
use crate::tools;

const ALERTS: &str = "deploy/prometheus/alerts.yaml";
const RUNBOOK: &str = "docs/runbook.md";
const RUNBOOK_URL: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbook.md#");

/// Metrics that the rules may use: those of docs/metrics.md.
fn known_metrics() -> Result<BTreeSet<String>> {
    Ok(metrics_in(&read("docs/metrics.md")?))
}

fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("hardprune_coordinator_") || word.starts_with("hardprune_worker_"))
        .map(str::to_owned)
        .collect()
}

fn alerts() -> Result<Vec<Value>> {
    let document = document(ALERTS)?;
    ensure_keys(ALERTS, &document, &["groups"])?;
    let groups = document["groups"].as_array().context("no groups")?;
    let alerts: Vec<Value> = groups
        .iter()
        .filter_map(|group| group["rules"].as_array())
        .flatten()
        .cloned()
        .collect();
    ensure!(!alerts.is_empty());
    Ok(alerts)
}

fn name(alert: &Value) -> &str {
    alert["alert"].as_str().unwrap_or_default()
}

/// The anchors of a page's headings, as the forge makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|character| character.is_alphanumeric() || *character == ' ' || *character == '-')
                .map(|character| if character == ' ' { '-' } else { character })
                .collect()
        })
        .collect()
}

#[test]
fn alerts_and_the_scaler_use_metrics_that_exist() {
    let known = known_metrics().unwrap();
    for alert in alerts().unwrap() {
        let used = metrics_in(alert["expr"].as_str().unwrap());
        assert!(!used.is_empty(), "{}", name(&alert));
        assert!(
            used.is_subset(&known),
            "{}: {:?}",
            name(&alert),
            used.difference(&known)
        );
    }
    for object in objects("deploy/kubernetes/components/keda").unwrap() {
        let used = metrics_in(&object.value.to_string());
        assert!(
            !used.is_empty() && used.is_subset(&known),
            "{:?}",
            used.difference(&known)
        );
    }
}

#[test]
fn every_alert_says_what_is_wrong_and_where_to_read_on() {
    let runbook = read(RUNBOOK).unwrap();
    let sections: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### Hardprune"))
        .collect();
    let alerts = alerts().unwrap();
    for alert in &alerts {
        let name = name(alert);
        ensure_keys(name, alert, &["alert", "expr", "for", "labels", "annotations"]).unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        for text in ["summary", "description"] {
            assert!(
                alert["annotations"][text]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{name}"
            );
        }
        assert_eq!(
            alert["annotations"]["runbook_url"],
            format!("{RUNBOOK_URL}{}", name.to_lowercase())
        );
    }
    let names: BTreeSet<&str> = alerts
        .iter()
        .filter_map(|alert| name(alert).strip_prefix("Hardprune"))
        .collect();
    assert_eq!(names.len(), alerts.len(), "a name stands twice");
    assert_eq!(names, sections);
}

#[test]
fn links_in_the_runbook_lead_somewhere() {
    let runbook = read(RUNBOOK).unwrap();
    let anchors = anchors(&runbook);
    let links: Vec<&str> = runbook
        .split("](#")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(links.len() > 10);
    for link in links {
        assert!(anchors.contains(link), "#{link}");
    }
    for path in below("deploy").unwrap() {
        for link in read(&path).unwrap().split("docs/runbook.md#").skip(1) {
            let link = link
                .split(|character: char| !character.is_alphanumeric() && character != '-')
                .next();
            assert!(
                link.is_some_and(|link| anchors.contains(link)),
                "{path}: {link:?}"
            );
        }
    }
}

#[test]
fn prometheus_accepts_the_rules_and_they_fire_as_they_should() {
    let unit_tests = read("deploy/prometheus/alerts_test.yaml").unwrap();
    for alert in alerts().unwrap() {
        let name = format!("alertname=\"{}\"", name(&alert));
        assert!(unit_tests.contains(&name), "alerts_test.yaml has no {name}");
    }
    let promtool = |arguments: &[&str]| {
        tools::run("promtool", "prometheus", "deploy/prometheus", arguments, &[]).unwrap();
    };
    promtool(&["check", "rules", "--lint-fatal", "alerts.yaml"]);
    promtool(&["test", "rules", "alerts_test.yaml"]);
}
