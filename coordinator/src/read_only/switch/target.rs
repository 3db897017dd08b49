//! What `--read-only-via` names.

use std::fmt;

/// Kinds of workloads that run a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// `apps/v1`.
    Deployment,
    /// `apps/v1`.
    StatefulSet,
    /// `apps.openshift.io/v1`.
    DeploymentConfig,
}

impl WorkloadKind {
    /// Its name in an address.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DeploymentConfig => "deploymentconfig",
        }
    }
}

/// What is switched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwitchTarget {
    /// A workload that runs the registry.
    Workload {
        /// Its namespace.
        namespace: String,
        /// Its kind.
        kind: WorkloadKind,
        /// Its name.
        name: String,
    },
    /// The configuration of OpenShift's image registry operator.
    OpenshiftOperator,
}

const OPERATOR: &str = "openshift-operator";

impl SwitchTarget {
    /// Reads `kubernetes://NAMESPACE/deployment/NAME`, or `openshift-operator`.
    ///
    /// # Errors
    ///
    /// What it should look like.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == OPERATOR {
            return Ok(Self::OpenshiftOperator);
        }
        let parts: Vec<&str> = text
            .strip_prefix("kubernetes://")
            .map(|rest| rest.split('/').collect())
            .unwrap_or_default();
        let kind = match parts.get(1) {
            Some(&"deployment") => Some(WorkloadKind::Deployment),
            Some(&"statefulset") => Some(WorkloadKind::StatefulSet),
            Some(&"deploymentconfig") => Some(WorkloadKind::DeploymentConfig),
            _ => None,
        };
        // Names of objects, as Kubernetes has them.
        let is_name = |name: &str| {
            let letters = |letter: u8| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, b'-' | b'.')
            };
            !name.is_empty() && name.len() <= 253 && name.bytes().all(letters) && !name.contains("..")
        };
        match (parts.as_slice(), kind) {
            ([namespace, _, name], Some(kind)) if is_name(namespace) && is_name(name) => Ok(Self::Workload {
                namespace: (*namespace).to_owned(),
                kind,
                name: (*name).to_owned(),
            }),
            _ => Err(format!(
                "write kubernetes://NAMESPACE/deployment/NAME (or statefulset, deploymentconfig), or {OPERATOR}"
            )),
        }
    }
}

impl fmt::Display for SwitchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload {
                namespace,
                kind,
                name,
            } => write!(f, "kubernetes://{namespace}/{}/{name}", kind.as_str()),
            Self::OpenshiftOperator => f.write_str(OPERATOR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_they_are_written() {
        for text in [
            "kubernetes://registry/deployment/registry",
            "kubernetes://a-b/statefulset/c.d",
            "kubernetes://default/deploymentconfig/docker-registry",
            "openshift-operator",
        ] {
            assert_eq!(SwitchTarget::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "registry",
            "kubernetes://a/pod/b",
            "kubernetes://a/deployment/",
            "kubernetes://a/deployment/b/c",
            "kubernetes:///deployment/b",
            "kubernetes://a/deployment/..",
            "kubernetes://A/deployment/b?x",
        ] {
            assert!(SwitchTarget::parse(text).is_err(), "{text}");
        }
    }
}
