//! The configuration of OpenShift's registry operator, with read-only mode and without it again.

use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kubernetes::ANNOTATION;

/// What an annotation keeps of the operator's configuration.
#[derive(Debug, Serialize, Deserialize)]
struct EarlierConfig {
    read_only: Option<bool>,
}

/// Sets `spec.readOnly`, and keeps what was there. Returns whether that changed anything.
///
/// # Errors
///
/// An operator that does not manage the registry.
pub(super) fn to_read_only(config: &mut DynamicObject) -> Result<bool, String> {
    let state = config.data["spec"]["managementState"].as_str();
    if let Some(state) = state.filter(|state| *state != "Managed") {
        return Err(format!(
            "the operator does not manage the registry (managementState {state:?}), so spec.readOnly would do nothing: switch the \
             Deployment that runs it"
        ));
    }
    let annotations = config.metadata.annotations.get_or_insert_default();
    let is_ours = annotations.contains_key(ANNOTATION);
    let earlier = config.data["spec"]["readOnly"].as_bool();
    if is_ours && earlier == Some(true) {
        return Ok(false);
    }
    if !is_ours {
        let earlier = json!(EarlierConfig { read_only: earlier });
        annotations.insert(ANNOTATION.to_owned(), earlier.to_string());
    }
    config.data["spec"]["readOnly"] = true.into();
    Ok(true)
}

/// Puts back what was there. Returns whether there was anything to put back.
///
/// # Errors
///
/// An annotation that cannot be read.
pub(super) fn to_read_write(config: &mut DynamicObject) -> Result<bool, String> {
    let annotations = config.metadata.annotations.get_or_insert_default();
    let Some(earlier) = annotations.remove(ANNOTATION) else {
        return Ok(false);
    };
    let earlier: EarlierConfig = serde_json::from_str(&earlier).map_err(|error| {
        format!("its annotation {ANNOTATION} cannot be read ({error}): set spec.readOnly by hand")
    })?;
    match (earlier.read_only, config.data["spec"].as_object_mut()) {
        (Some(value), Some(spec)) => drop(spec.insert("readOnly".to_owned(), Value::Bool(value))),
        (None, Some(spec)) => drop(spec.remove("readOnly")),
        (_, None) => {}
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(spec: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "imageregistry.operator.openshift.io/v1", "kind": "Config",
            "metadata": {"name": "cluster"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn the_operators_configuration_goes_and_comes_back() {
        for spec in [
            json!({"managementState": "Managed"}),
            json!({"managementState": "Managed", "readOnly": false, "replicas": 2}),
            json!({"managementState": "Managed", "readOnly": true}),
        ] {
            let mut object = config(spec.clone());
            assert!(to_read_only(&mut object).unwrap());
            assert_eq!(object.data["spec"]["readOnly"], true);
            assert!(!to_read_only(&mut object).unwrap(), "it was switched already");
            assert!(to_read_write(&mut object).unwrap());
            assert_eq!(object.data["spec"], spec);
            assert!(!to_read_write(&mut object).unwrap());
        }
        let mut object = config(json!({"managementState": "Unmanaged"}));
        assert!(to_read_only(&mut object).unwrap_err().contains("Unmanaged"));
    }
}
