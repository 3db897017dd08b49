//! The kinds that the server knows.

/// A kind, and where its objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub is_namespaced: bool,
    /// Whether the status is written on a path of its own only.
    pub has_status: bool,
}

const fn of(group: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    Resource {
        group,
        version: "v1",
        plural,
        kind,
        is_namespaced: true,
        has_status: true,
    }
}

const fn cluster_wide(resource: Resource) -> Resource {
    Resource {
        is_namespaced: false,
        has_status: false,
        ..resource
    }
}

const RESOURCES: &[Resource] = &[
    of("", "pods", "Pod"),
    of("", "replicationcontrollers", "ReplicationController"),
    of("", "limitranges", "LimitRange"),
    cluster_wide(of("", "namespaces", "Namespace")),
    of("apps", "daemonsets", "DaemonSet"),
    of("apps", "deployments", "Deployment"),
    of("apps", "replicasets", "ReplicaSet"),
    of("apps", "statefulsets", "StatefulSet"),
    of("batch", "jobs", "Job"),
    of("batch", "cronjobs", "CronJob"),
    // The same objects: clusters before 1.21 have this version only.
    Resource {
        version: "v1beta1",
        ..of("batch", "cronjobs", "CronJob")
    },
    of("apps.openshift.io", "deploymentconfigs", "DeploymentConfig"),
    of("build.openshift.io", "builds", "Build"),
    of("build.openshift.io", "buildconfigs", "BuildConfig"),
    of("image.openshift.io", "imagestreams", "ImageStream"),
    of("image.openshift.io", "imagestreammappings", "ImageStreamMapping"),
    cluster_wide(of("image.openshift.io", "images", "Image")),
    cluster_wide(of("imageregistry.operator.openshift.io", "configs", "Config")),
    cluster_wide(of(
        "imageregistry.operator.openshift.io",
        "imagepruners",
        "ImagePruner",
    )),
];

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub resource: Resource,
    /// Empty for all of them, or for a kind without namespaces.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    pub is_status: bool,
}

/// Reads a path without its query.
pub(super) fn target(path: &str) -> Option<Target> {
    let mut parts = path.trim_start_matches('/').split('/').peekable();
    let group = match parts.next()? {
        "api" => "",
        "apis" => parts.next()?,
        _ => return None,
    };
    let version = parts.next()?;
    let mut first = parts.next()?;
    let mut namespace = "";
    if first == "namespaces" {
        // `namespaces/NAME` alone names a namespace itself.
        let name = parts.next();
        match (name, parts.next()) {
            (Some(name), Some(plural)) => (namespace, first) = (name, plural),
            (name, None) => {
                return Some(Target {
                    resource: find(group, version, "namespaces")?,
                    namespace: String::new(),
                    name: name.unwrap_or_default().to_owned(),
                    is_status: false,
                });
            }
            (None, Some(_)) => return None,
        }
    }
    let name = parts.next().unwrap_or_default();
    let is_status = match parts.next() {
        None => false,
        Some("status") => true,
        Some(_) => return None,
    };
    Some(Target {
        resource: find(group, version, first)?,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        is_status,
    })
}

fn find(group: &str, version: &str, plural: &str) -> Option<Resource> {
    let mut found = RESOURCES
        .iter()
        .filter(|resource| (resource.group, resource.version, resource.plural) == (group, version, plural));
    found.next().copied()
}

/// Finds a kind by what an object says of itself; without `apiVersion` by its kind only.
pub(crate) fn of_kind(api_version: Option<&str>, kind: &str) -> Option<Resource> {
    let mut found = RESOURCES.iter().filter(|resource| {
        resource.kind == kind && api_version.is_none_or(|version| version == resource.api_version())
    });
    found.next().copied()
}

impl Resource {
    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The path of all of them, or of those of a namespace that is not empty.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let version = self.api_version();
        match namespace {
            "" => format!("{root}/{version}/{}", self.plural),
            namespace => format!("{root}/{version}/namespaces/{namespace}/{}", self.plural),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let named = |path| {
            let target = target(path)?;
            Some((
                target.resource.kind,
                target.namespace,
                target.name,
                target.is_status,
            ))
        };
        let of = |kind, namespace: &str, name: &str, is_status| {
            Some((kind, namespace.to_owned(), name.to_owned(), is_status))
        };
        assert_eq!(named("/api/v1/pods"), of("Pod", "", "", false));
        assert_eq!(named("/api/v1/namespaces/a/pods/p"), of("Pod", "a", "p", false));
        assert_eq!(named("/api/v1/namespaces/a"), of("Namespace", "", "a", false));
        assert_eq!(
            named("/apis/image.openshift.io/v1/namespaces/a/imagestreams/s/status"),
            of("ImageStream", "a", "s", true)
        );
        assert_eq!(named("/apis/image.openshift.io/v2/images"), None);
        assert_eq!(named("/version"), None);
    }
}
