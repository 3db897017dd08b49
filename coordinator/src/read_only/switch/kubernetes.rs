//! Switches a registry that runs in a Kubernetes or OpenShift cluster: by the variable of its workload, or by the configuration
//! of OpenShift's registry operator.
//!
//! Objects are changed by compare-and-set on their `resourceVersion`. What was there before stands in an annotation of the same
//! object, written in the same request, so that no crash can part the two.

use std::fmt;
use std::time::Duration;

use hardprune_common::clock;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::rollout::{self, MustGo, NotSeen, Wait};
use super::target::{SwitchTarget, WorkloadKind};
use super::{SwitchError, operator, workload};
use crate::human::printable;
use crate::openshift::change_object::{NotChanged, change_object};
use crate::openshift::cluster::ClusterArgs;
use crate::openshift::image_pruner::{ImagePruner, ImagePrunerError};

/// On the object that was changed: what was there before.
pub(super) const ANNOTATION: &str = "hardprune.io/read-only";

/// Where OpenShift's operator runs the registry.
const OPERATED: (&str, &str, &str) = ("openshift-image-registry", "image-registry", "registry");
/// The operator's only configuration.
const OPERATOR_CONFIG: &str = "cluster";

/// What of a cluster is switched.
#[derive(Debug)]
pub(in crate::read_only) struct Cluster {
    target: SwitchTarget,
    container: Option<String>,
    timeout: Duration,
    pause: Duration,
    /// Whether the operator's own pruning is suspended meanwhile.
    suspends_image_pruner: bool,
}

impl Cluster {
    /// Names it. Nothing is asked yet. A switch may take so long, and is looked at so often.
    pub fn new(
        target: SwitchTarget,
        container: Option<String>,
        (timeout, pause): (Duration, Duration),
    ) -> Self {
        Self {
            target,
            container,
            timeout,
            pause,
            suspends_image_pruner: false,
        }
    }

    /// Has the operator's own pruning of images suspended meanwhile, or put back.
    pub fn suspend_image_pruner(&mut self) {
        self.suspends_image_pruner = true;
    }

    /// Whether that is suspended meanwhile.
    pub fn suspends_image_pruner(&self) -> bool {
        self.suspends_image_pruner
    }

    /// What is switched.
    pub fn target(&self) -> &SwitchTarget {
        &self.target
    }

    /// The container that was named.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// Switches to read-only mode, and waits until every pod that is left has it.
    pub async fn to_read_only(&self, stop: &CancellationToken) -> Result<(), SwitchError> {
        let client = self.connect().await?;
        if self.suspends_image_pruner {
            let suspended = self.image_pruner(&client).suspend(stop).await;
            suspended.map_err(|error| self.not_suspended(error))?;
        }
        let (namespace, kind, name) = self.workload();
        let container = match &self.target {
            SwitchTarget::Workload { .. } => {
                let api = workload_api(&client, namespace, kind);
                let asked = Asked::workload(namespace, kind, name);
                let chosen = self.container.as_deref();
                let object = self
                    .change(&api, name, &asked, |object| {
                        workload::to_read_only(object, chosen)
                    })
                    .await?;
                workload::switched_container(&object).unwrap_or_default()
            }
            SwitchTarget::OpenshiftOperator => {
                let api = Api::all_with(client.clone(), &operator_resource());
                self.change(&api, OPERATOR_CONFIG, &Asked::operator(), operator::to_read_only)
                    .await?;
                OPERATED.2.to_owned()
            }
        };
        info!(target = %self.target, container, "is switched to read-only; waits for its pods");
        self.wait(
            (client, namespace, kind, name),
            &MustGo::WithoutReadOnly(container),
            stop,
        )
        .await
    }

    /// Puts back what was there before, and waits for the rollout; with `restarts` in any case for one, and until every pod of
    /// before is gone with what it remembers.
    pub async fn to_read_write(&self, restarts: bool) -> Result<(), SwitchError> {
        let client = self.connect().await?;
        let (namespace, kind, name) = self.workload();
        let must_go = if restarts {
            self.pods_of_before(&client).await?
        } else {
            MustGo::None
        };
        match &self.target {
            SwitchTarget::Workload { .. } => {
                let now = clock::machine_now().to_string();
                let back = |object: &mut DynamicObject| {
                    let is_back = workload::to_read_write(object)?;
                    if restarts {
                        workload::restart(object, &now);
                    }
                    Ok(is_back || restarts)
                };
                let api = workload_api(&client, namespace, kind);
                self.change(&api, name, &Asked::workload(namespace, kind, name), back)
                    .await?;
            }
            SwitchTarget::OpenshiftOperator => {
                if restarts {
                    // The operator rolls out only what its configuration changes, and that may have been read-only before.
                    self.begin_restart(&client).await?;
                }
                let api = Api::all_with(client.clone(), &operator_resource());
                self.change(&api, OPERATOR_CONFIG, &Asked::operator(), operator::to_read_write)
                    .await?;
            }
        }
        info!(target = %self.target, "is switched back; waits for its rollout");
        // Whoever wants to stop wants this to end, too.
        self.wait(
            (client.clone(), namespace, kind, name),
            &must_go,
            &CancellationToken::new(),
        )
        .await?;
        if self.suspends_image_pruner {
            // Only now: before, it would meet a registry that is read-only.
            self.put_back_image_pruner(&client).await?;
        }
        Ok(())
    }

    /// Lets the operator's own pruning go on, where it was suspended.
    pub async fn to_pruning_again(&self) -> Result<(), SwitchError> {
        let client = self.connect().await?;
        self.put_back_image_pruner(&client).await
    }

    async fn put_back_image_pruner(&self, client: &Client) -> Result<(), SwitchError> {
        let put_back = self.image_pruner(client).put_back().await;
        put_back.map_err(|error| self.not_suspended(error))
    }

    fn image_pruner(&self, client: &Client) -> ImagePruner {
        ImagePruner::of(client.clone(), (self.timeout, self.pause))
    }

    fn not_suspended(&self, error: ImagePrunerError) -> SwitchError {
        match error {
            ImagePrunerError::Stopped => SwitchError::Stopped,
            error => self.problem(error.to_string()),
        }
    }

    /// Restarts every pod, and waits until those of before are gone with what they remember.
    pub async fn restart(&self) -> Result<(), SwitchError> {
        let client = self.connect().await?;
        let must_go = self.pods_of_before(&client).await?;
        self.begin_restart(&client).await?;
        let (namespace, kind, name) = self.workload();
        info!(target = %self.target, "is restarted; waits for its pods");
        self.wait(
            (client, namespace, kind, name),
            &must_go,
            &CancellationToken::new(),
        )
        .await
    }

    async fn begin_restart(&self, client: &Client) -> Result<(), SwitchError> {
        let (namespace, kind, name) = self.workload();
        let now = clock::machine_now().to_string();
        let restart = |object: &mut DynamicObject| {
            workload::restart(object, &now);
            Ok(true)
        };
        let api = workload_api(client, namespace, kind);
        self.change(&api, name, &Asked::workload(namespace, kind, name), restart)
            .await?;
        Ok(())
    }

    /// The pods that there are now.
    async fn pods_of_before(&self, client: &Client) -> Result<MustGo, SwitchError> {
        let (namespace, kind, name) = self.workload();
        let pods = Api::namespaced(client.clone(), namespace);
        let found = rollout::running(&workload_api(client, namespace, kind), name, &pods).await;
        match found.map_err(|error| self.not_seen(&error))? {
            Some(uids) => Ok(MustGo::Before(uids)),
            None => Err(self.problem("its selector is not understood: which pods are its own?".to_owned())),
        }
    }

    /// The workload that runs the registry.
    fn workload(&self) -> (&str, WorkloadKind, &str) {
        match &self.target {
            SwitchTarget::Workload {
                namespace,
                kind,
                name,
            } => (namespace, *kind, name),
            SwitchTarget::OpenshiftOperator => (OPERATED.0, WorkloadKind::Deployment, OPERATED.1),
        }
    }

    async fn wait(
        &self,
        (client, namespace, kind, name): (Client, &str, WorkloadKind, &str),
        must_go: &MustGo,
        stop: &CancellationToken,
    ) -> Result<(), SwitchError> {
        let api = workload_api(&client, namespace, kind);
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let wait = Wait {
            target: &self.target,
            timeout: self.timeout,
            pause: self.pause,
            stop,
        };
        rollout::wait(wait, (&api, name), (&pods, must_go), |error| self.not_seen(error)).await
    }

    fn not_seen(&self, (error, verb, what): &NotSeen) -> SwitchError {
        let (namespace, kind, name) = self.workload();
        let mut asked = Asked::workload(namespace, kind, name);
        if *what == "pods" {
            asked.resource = "pods".to_owned();
        }
        self.failed(error, verb, &asked)
    }

    /// Finds the cluster as `kubectl` does.
    async fn connect(&self) -> Result<Client, SwitchError> {
        let found = crate::openshift::cluster::Cluster::find(&ClusterArgs::default()).await;
        found
            .map(|cluster| cluster.client)
            .map_err(|error| self.problem(error.to_string()))
    }

    /// Changes an object by compare-and-set. `change` says whether there is anything to change.
    async fn change(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        asked: &Asked,
        change: impl Fn(&mut DynamicObject) -> Result<bool, String>,
    ) -> Result<DynamicObject, SwitchError> {
        let changed = change_object(api, name, change).await;
        changed.map_err(|error| match error {
            NotChanged::Api(error, verb) => self.failed(&error, verb, asked),
            NotChanged::Unfit(problem) => self.problem(problem),
            NotChanged::Conflicts => self.problem(NotChanged::conflicts()),
        })
    }

    fn problem(&self, problem: String) -> SwitchError {
        SwitchError::Cluster {
            target: self.target.to_string(),
            problem,
        }
    }

    /// Says what was refused, and what would allow it.
    fn failed(&self, error: &kube::Error, verb: &str, asked: &Asked) -> SwitchError {
        let problem = match error {
            kube::Error::Api(status) => {
                let said = printable(&status.message);
                match status.code {
                    401 => format!("the cluster does not accept these credentials ({said})"),
                    403 => format!(
                        "permission is missing to {verb} {asked} ({said}). It takes {}; \
                         {} has the roles",
                        self.permissions(),
                        self.roles()
                    ),
                    404 => format!("{asked} is not there ({said})"),
                    code => format!("{verb} {asked} was answered with {code} ({said})"),
                }
            }
            error => format!("{verb} {asked}: {}", crate::with_sources(error)),
        };
        self.problem(problem)
    }

    /// Where those are written down.
    fn roles(&self) -> &'static str {
        match &self.target {
            SwitchTarget::Workload { .. } => "deploy/kubernetes/registry-role",
            SwitchTarget::OpenshiftOperator => "deploy/openshift",
        }
    }

    /// All that a switch needs.
    fn permissions(&self) -> String {
        match &self.target {
            SwitchTarget::Workload {
                namespace,
                kind,
                name,
            } => format!(
                "`get` and `update` on {} {name:?}, and `list` on pods, in namespace {namespace}",
                resource_name(*kind)
            ),
            SwitchTarget::OpenshiftOperator => format!(
                "`get` and `update` on configs.imageregistry.operator.openshift.io {OPERATOR_CONFIG:?}, and in namespace {} `get` on \
                 deployments.apps (for --cache restart also `update`) and `list` on pods",
                OPERATED.0
            ),
        }
    }
}

/// What a request is about, for messages.
struct Asked {
    resource: String,
    name: String,
    namespace: Option<String>,
}

impl Asked {
    fn workload(namespace: &str, kind: WorkloadKind, name: &str) -> Self {
        Self {
            resource: resource_name(kind).to_owned(),
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
        }
    }

    fn operator() -> Self {
        Self {
            resource: "configs.imageregistry.operator.openshift.io".to_owned(),
            name: OPERATOR_CONFIG.to_owned(),
            namespace: None,
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.namespace, self.resource.as_str()) {
            (Some(namespace), "pods") => write!(f, "pods in namespace {namespace}"),
            (Some(namespace), resource) => write!(f, "{resource} {:?} in namespace {namespace}", self.name),
            (None, resource) => write!(f, "{resource} {:?}", self.name),
        }
    }
}

fn resource_name(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => "deployments.apps",
        WorkloadKind::StatefulSet => "statefulsets.apps",
        WorkloadKind::DeploymentConfig => "deploymentconfigs.apps.openshift.io",
    }
}

fn workload_api(client: &Client, namespace: &str, kind: WorkloadKind) -> Api<DynamicObject> {
    let (group, kind, plural) = match kind {
        WorkloadKind::Deployment => ("apps", "Deployment", "deployments"),
        WorkloadKind::StatefulSet => ("apps", "StatefulSet", "statefulsets"),
        WorkloadKind::DeploymentConfig => ("apps.openshift.io", "DeploymentConfig", "deploymentconfigs"),
    };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn operator_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("imageregistry.operator.openshift.io", "v1", "Config");
    ApiResource::from_gvk_with_plural(&kind, "configs")
}
