//! Lists the objects of a kind, in pages. A token that expires starts the list again; any other error ends it, and what was
//! listed so far is not used.

use std::marker::PhantomData;

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

/// Objects of a page. An image with its metadata has some 10 KiB.
const PAGE: u32 = 500;
/// So often an expired list is begun again in pages; then it is asked for in one piece, which cannot expire.
const MOST_RESTARTS: u32 = 5;
/// What the client says for a reason where the answer was no `Status`.
const NO_STATUS: &str = "Failed to parse error data";

/// A kind of objects, and where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The group and the version.
    pub api_version: &'static str,
    /// The name of one.
    pub kind: &'static str,
    /// The name in paths.
    pub plural: &'static str,
}

const fn kind(api_version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        api_version,
        kind,
        plural,
    }
}

/// `Pod`.
pub const PODS: Kind = kind("v1", "Pod", "pods");
/// `ReplicationController`.
pub const REPLICATION_CONTROLLERS: Kind = kind("v1", "ReplicationController", "replicationcontrollers");
/// `LimitRange`.
pub const LIMIT_RANGES: Kind = kind("v1", "LimitRange", "limitranges");
/// `BuildConfig`.
pub const BUILD_CONFIGS: Kind = kind("build.openshift.io/v1", "BuildConfig", "buildconfigs");
/// `Build`.
pub const BUILDS: Kind = kind("build.openshift.io/v1", "Build", "builds");
/// `DaemonSet`.
pub const DAEMON_SETS: Kind = kind("apps/v1", "DaemonSet", "daemonsets");
/// `Deployment`.
pub const DEPLOYMENTS: Kind = kind("apps/v1", "Deployment", "deployments");
/// `DeploymentConfig`.
pub const DEPLOYMENT_CONFIGS: Kind = kind("apps.openshift.io/v1", "DeploymentConfig", "deploymentconfigs");
/// `ReplicaSet`.
pub const REPLICA_SETS: Kind = kind("apps/v1", "ReplicaSet", "replicasets");
/// `StatefulSet`.
pub const STATEFUL_SETS: Kind = kind("apps/v1", "StatefulSet", "statefulsets");
/// `Job`.
pub const JOBS: Kind = kind("batch/v1", "Job", "jobs");
/// `CronJob`.
pub const CRON_JOBS: Kind = kind("batch/v1", "CronJob", "cronjobs");
/// `CronJob` of a cluster that does not have [`CRON_JOBS`]: OpenShift before 4.8, Kubernetes before 1.21.
pub const BETA_CRON_JOBS: Kind = kind("batch/v1beta1", "CronJob", "cronjobs");
/// `ImageStream`.
pub const IMAGE_STREAMS: Kind = kind("image.openshift.io/v1", "ImageStream", "imagestreams");
/// `ImageStreamMapping`: it is only created, and adds an image to a stream.
pub const IMAGE_STREAM_MAPPINGS: Kind = kind(
    "image.openshift.io/v1",
    "ImageStreamMapping",
    "imagestreammappings",
);
/// `Image`.
pub const IMAGES: Kind = kind("image.openshift.io/v1", "Image", "images");

impl Kind {
    /// The path of all of them, or of those of a namespace.
    #[must_use]
    pub fn path(self, namespace: Option<&str>) -> String {
        let root = if self.api_version.contains('/') {
            "/apis"
        } else {
            "/api"
        };
        match namespace {
            None => format!("{root}/{}/{}", self.api_version, self.plural),
            Some(namespace) => format!(
                "{root}/{}/namespaces/{namespace}/{}",
                self.api_version, self.plural
            ),
        }
    }
}

/// All objects of a kind.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Since when a watch tells what changed.
    pub resource_version: String,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            resource_version: String::new(),
        }
    }
}

/// A request to the cluster that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The cluster refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// Its word for that: `Forbidden`, …
        reason: String,
        /// What it said.
        message: String,
    },
    /// Nobody listens there.
    #[error("nobody answers")]
    Unreachable,
    /// It answered something else than was asked for.
    #[error("{what}: the answer cannot be read: {problem}")]
    Unreadable {
        /// What was asked for.
        what: String,
        /// Why.
        problem: String,
    },
    /// There was no answer.
    #[error("{what}: {problem}")]
    NoAnswer {
        /// What was asked for.
        what: String,
        /// Why.
        problem: String,
    },
}

impl ApiError {
    /// The HTTP status, if there was an answer.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// From what the client says of a request.
    #[must_use]
    pub fn of(error: &kube::Error, what: &str) -> Self {
        if let kube::Error::Api(status) = error {
            if status.reason == NO_STATUS {
                return Self::without_status(status.code, &status.message, what);
            }
            return Self::Refused {
                code: status.code,
                reason: crate::human::printable(&status.reason),
                message: crate::human::printable(&status.message),
            };
        }
        let problem = crate::with_sources(error);
        if problem.contains("Connection refused") {
            return Self::Unreachable;
        }
        Self::NoAnswer {
            what: what.to_owned(),
            problem,
        }
    }

    /// From an answer that is no `Status`: of a path that no API has, or of somebody between. In the words of `oc`'s client.
    fn without_status(code: u16, text: &str, what: &str) -> Self {
        let (reason, message) = match code {
            404 => (
                "NotFound",
                "the server could not find the requested resource".to_owned(),
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request".to_owned(),
            ),
            _ => (
                "InternalError",
                format!("an error on the server ({text:?}) has prevented the request from succeeding"),
            ),
        };
        Self::Refused {
            code,
            reason: reason.to_owned(),
            message: crate::human::printable(&format!("{message} ({what})")),
        }
    }
}

#[derive(Deserialize)]
struct Page<T> {
    kind: String,
    #[serde(default)]
    metadata: PageMetadata,
    /// Go writes `null` for none.
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

/// Lists all objects of a kind, or those of a namespace.
///
/// # Errors
///
/// A page that was refused, for another reason than that its token has expired, or that cannot be read.
pub async fn list<T: DeserializeOwned>(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
) -> Result<Listed<T>, ApiError> {
    let mut pages = Pages::of(client, kind, namespace);
    let mut listed = Listed::default();
    while let Some(page) = pages.next().await? {
        if page.is_first {
            listed.items.clear();
        }
        listed.items.extend(page.items);
        listed.resource_version = page.resource_version;
    }
    debug!(kind = kind.plural, objects = listed.items.len(), "listed");
    Ok(listed)
}

/// A page of a list.
#[derive(Debug)]
pub struct PageOf<T> {
    /// Its objects.
    pub items: Vec<T>,
    /// Of the whole list: since when a watch tells what changed.
    pub resource_version: String,
    /// Whether the list begins with it; what was listed before is listed once more then.
    pub is_first: bool,
}

/// The pages of a list, one after another: for lists that need not fit into memory (R9).
pub struct Pages<'c, T> {
    client: &'c Client,
    kind: Kind,
    path: String,
    /// Where the next page begins. `None`: the list begins with it.
    token: Option<String>,
    is_over: bool,
    restarts: u32,
    items: PhantomData<fn() -> T>,
}

impl<'c, T: DeserializeOwned> Pages<'c, T> {
    /// Of all objects of a kind, or those of a namespace. Nothing is asked yet.
    #[must_use]
    pub fn of(client: &'c Client, kind: Kind, namespace: Option<&str>) -> Self {
        Self {
            client,
            kind,
            path: kind.path(namespace),
            token: None,
            is_over: false,
            restarts: 0,
            items: PhantomData,
        }
    }

    /// The next page. `None`: that was all.
    ///
    /// # Errors
    ///
    /// A page that was refused, for another reason than that its token has expired, or that cannot be read.
    pub async fn next(&mut self) -> Result<Option<PageOf<T>>, ApiError> {
        if self.is_over {
            return Ok(None);
        }
        loop {
            match self.page().await {
                Err(error) if error.code() == Some(410) && self.restarts < MOST_RESTARTS => {
                    warn!(
                        kind = self.kind.plural,
                        "a page of the list has expired; begins it again"
                    );
                    self.restarts += 1;
                    self.token = None;
                }
                other => return other.map(Some),
            }
        }
    }

    async fn page(&mut self) -> Result<PageOf<T>, ApiError> {
        let parameters = ListParams {
            limit: (self.restarts < MOST_RESTARTS).then_some(PAGE),
            continue_token: self.token.clone(),
            ..ListParams::default()
        };
        let request = Request::new(&self.path).list(&parameters);
        let page: Page<T> = ask(self.client, request, &self.path).await?;
        // A page that is no list of this kind is not a short one.
        if page.kind != format!("{}List", self.kind.kind) {
            return Err(ApiError::Unreadable {
                what: self.path.clone(),
                problem: format!("it is a {}", crate::human::printable(&page.kind)),
            });
        }
        let is_first = self.token.is_none();
        self.token = page.metadata.r#continue.filter(|token| !token.is_empty());
        self.is_over = self.token.is_none();
        Ok(PageOf {
            items: page.items.unwrap_or_default(),
            resource_version: page.metadata.resource_version.unwrap_or_default(),
            is_first,
        })
    }
}

/// Asks for one document. The client's own decoding would log what it cannot decode, and pods hold secrets.
///
/// # Errors
///
/// A request that was refused, or an answer that cannot be read.
pub async fn ask<T: DeserializeOwned>(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    what: &str,
) -> Result<T, ApiError> {
    let request = request.map_err(|error| ApiError::NoAnswer {
        what: what.to_owned(),
        problem: crate::with_sources(&error),
    })?;
    let text = client.request_text(request).await;
    let text = text.map_err(|error| ApiError::of(&error, what))?;
    serde_json::from_str(&text).map_err(|error| ApiError::Unreadable {
        what: what.to_owned(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_no_status() {
        let said = |code, text: &str| {
            let status = kube::core::Status::failure(text, NO_STATUS).with_code(code);
            let error = ApiError::of(&kube::Error::Api(status.boxed()), "/apis/a/v1/b");
            assert_eq!(error.code(), Some(code));
            error.to_string()
        };
        assert_eq!(
            said(404, "404 page not found"),
            "the server could not find the requested resource (/apis/a/v1/b)"
        );
        assert_eq!(
            said(502, "<html>"),
            "an error on the server (\"<html>\") has prevented the request from succeeding (/apis/a/v1/b)"
        );
    }

    #[test]
    fn paths() {
        assert_eq!(PODS.path(None), "/api/v1/pods");
        assert_eq!(PODS.path(Some("a")), "/api/v1/namespaces/a/pods");
        assert_eq!(IMAGES.path(None), "/apis/image.openshift.io/v1/images");
    }
}
