//! Definitions of OpenShift's kinds for a cluster that does not know them: they take whatever their objects hold.

use serde_json::{Value, json};

use crate::kubernetes_api::resources::Resource;

/// Where definitions are.
pub(super) const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// OpenShift's kinds that pruning looks at.
pub(super) const KINDS: [&str; 5] = ["Image", "ImageStream", "BuildConfig", "Build", "DeploymentConfig"];

/// The definition's name.
pub(super) fn name(resource: &Resource) -> String {
    format!("{}.{}", resource.plural, resource.group)
}

/// A definition.
pub(super) fn definition(resource: &Resource) -> Value {
    let Resource { plural, kind, .. } = resource;
    let anything =
        json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let mut version = json!({"name": resource.version, "served": true, "storage": true, "schema": anything});
    if *kind == "ImageStream" {
        version["subresources"] = json!({"status": {}});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name(resource)},
        "spec": {
            "group": resource.group,
            "scope": if resource.is_namespaced { "Namespaced" } else { "Cluster" },
            "versions": [version],
            "names": {
                "kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List"),
            },
        },
    })
}
