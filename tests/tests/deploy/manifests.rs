//! Every Kubernetes object has a type that is known, and no field that its type does not have.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::files::{below, documents, ensure_keys};

/// An object, or a patch of one.
#[derive(Debug)]
pub struct Object {
    /// The file that it stands in.
    pub file: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// All of it.
    pub value: Value,
}

/// All objects and patches below a folder.
pub fn objects(folder: &str) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for file in below(folder)? {
        if !file.ends_with(".yaml") || file.ends_with("/kustomization.yaml") {
            continue;
        }
        for value in documents(&file)? {
            let text = |pointer: &str| {
                let text = value.pointer(pointer).and_then(Value::as_str);
                text.map(str::to_owned)
                    .with_context(|| format!("{file}: an object without {pointer}"))
            };
            objects.push(Object {
                kind: text("/kind")?,
                name: text("/metadata/name")?,
                file: file.clone(),
                value,
            });
        }
    }
    Ok(objects)
}

/// Reads a value as a type, and fails where it has a field that the type does not have.
pub fn strictly<T: DeserializeOwned>(value: &Value) -> Result<T> {
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(value.clone(), |path| unknown.push(path.to_string()))?;
    ensure!(unknown.is_empty(), "unknown fields: {}", unknown.join(", "));
    Ok(read)
}

fn check(value: &Value) -> Result<()> {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("v1", "Namespace") => strictly::<Namespace>(value).map(drop),
        ("v1", "ServiceAccount") => strictly::<ServiceAccount>(value).map(drop),
        ("apps/v1", "Deployment") => strictly::<Deployment>(value).map(drop),
        ("batch/v1", "CronJob") => strictly::<CronJob>(value).map(drop),
        ("policy/v1", "PodDisruptionBudget") => strictly::<PodDisruptionBudget>(value).map(drop),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => strictly::<ClusterRole>(value).map(drop),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            strictly::<ClusterRoleBinding>(value).map(drop)
        }
        ("rbac.authorization.k8s.io/v1", "Role") => strictly::<Role>(value).map(drop),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => strictly::<RoleBinding>(value).map(drop),
        ("networking.k8s.io/v1", "NetworkPolicy") => strictly::<NetworkPolicy>(value).map(drop),
        ("keda.sh/v1alpha1", "ScaledObject") => scaled_object(value),
        ("monitoring.coreos.com/v1", "PodMonitor") => pod_monitor(value),
        (version, kind) => bail!("{version} {kind} is not an object that is expected here"),
    }
}

// Keys: <https://keda.sh/docs/latest/reference/scaledobject-spec/> and its Prometheus scaler.
fn scaled_object(value: &Value) -> Result<()> {
    ensure_keys("ScaledObject", value, &["apiVersion", "kind", "metadata", "spec"])?;
    let spec = &value["spec"];
    let known = [
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "advanced",
        "triggers",
    ];
    ensure_keys("spec", spec, &known)?;
    ensure_keys("scaleTargetRef", &spec["scaleTargetRef"], &["name"])?;
    ensure_keys("advanced", &spec["advanced"], &["horizontalPodAutoscalerConfig"])?;
    let behaviour = &spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
    strictly::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior>(behaviour)?;
    ensure!(spec["minReplicaCount"] == 0, "without a run there are no workers");
    for trigger in spec["triggers"].as_array().context("no triggers")? {
        ensure_keys("trigger", trigger, &["type", "metadata"])?;
        ensure!(trigger["type"] == "prometheus", "another trigger");
        let known = [
            "serverAddress",
            "query",
            "threshold",
            "activationThreshold",
            "ignoreNullValues",
        ];
        ensure_keys("trigger", &trigger["metadata"], &known)?;
        for (key, value) in trigger["metadata"].as_object().context("no metadata")? {
            ensure!(
                value.is_string(),
                "{key}: a trigger's metadata are texts, in quotes"
            );
        }
    }
    Ok(())
}

// Keys: <https://prometheus-operator.dev/docs/api-reference/api/>, PodMonitorSpec and PodMetricsEndpoint.
fn pod_monitor(value: &Value) -> Result<()> {
    ensure_keys("PodMonitor", value, &["apiVersion", "kind", "metadata", "spec"])?;
    let spec = &value["spec"];
    ensure_keys(
        "spec",
        spec,
        &["selector", "podTargetLabels", "podMetricsEndpoints"],
    )?;
    strictly::<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>(&spec["selector"])?;
    for endpoint in spec["podMetricsEndpoints"].as_array().context("no endpoints")? {
        ensure_keys("endpoint", endpoint, &["port", "path", "interval"])?;
        ensure!(
            endpoint["path"] == "/metrics" && endpoint["port"] == "health",
            "{endpoint}"
        );
    }
    Ok(())
}

#[test]
fn every_object_is_of_a_known_type_and_has_only_its_fields() {
    let mut objects = objects("deploy/kubernetes").unwrap();
    objects.extend(super::manifests::objects("deploy/openshift").unwrap());
    assert!(objects.len() > 20);
    for object in &objects {
        let checked = check(&object.value);
        assert!(
            checked.is_ok(),
            "{}: {} {}: {checked:?}",
            object.file,
            object.kind,
            object.name
        );
    }
}

#[test]
fn a_misspelled_field_is_found() {
    let account = |field: &str| {
        let mut account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
        account[field] = json!(false);
        check(&account)
    };
    assert!(account("automountServiceAccountToken").is_ok());
    let error = account("automountServiceAccountTokens").unwrap_err().to_string();
    assert_eq!(error, "unknown fields: automountServiceAccountTokens");
    assert!(check(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}})).is_err());
}

#[test]
fn every_selector_selects_the_pods_of_hardprune() {
    for object in objects("deploy/kubernetes/base").unwrap() {
        let pointers = ["/spec/selector/matchLabels", "/spec/podSelector/matchLabels"];
        for labels in pointers
            .iter()
            .filter_map(|pointer| object.value.pointer(pointer))
        {
            assert_eq!(labels["app.kubernetes.io/name"], "hardprune", "{}", object.file);
        }
        assert_eq!(
            object.value.pointer("/metadata/labels/app.kubernetes.io~1name"),
            Some(&json!("hardprune")),
            "{}: {} {}",
            object.file,
            object.kind,
            object.name
        );
    }
}
