//! The configuration of OpenShift's registry operator, with read-only mode and without it again.

use kube::api::DynamicObject;

use super::kubernetes::ANNOTATION;
use crate::openshift::held_field::HeldField;

const READ_ONLY: HeldField = HeldField {
    field: "readOnly",
    annotation: ANNOTATION,
    earlier: "read_only",
};

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
    Ok(READ_ONLY.hold(config))
}

/// Puts back what was there. Returns whether there was anything to put back.
///
/// # Errors
///
/// An annotation that cannot be read.
pub(super) fn to_read_write(config: &mut DynamicObject) -> Result<bool, String> {
    let Some(earlier) = READ_ONLY.release(config)? else {
        return Ok(false);
    };
    READ_ONLY.put_back(config, earlier);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
