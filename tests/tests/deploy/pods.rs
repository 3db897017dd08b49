//! The pods run confined: as nobody in particular, on a root that cannot be written, without tokens and without secrets in
//! their files; and their probes ask where the program listens.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{
    Container, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::files::{is_secret, read, variables};
use crate::manifests::{Object, objects, strictly};

const BASE: &str = "deploy/kubernetes/base";

/// The template of a workload's pods, and its name.
#[derive(Debug)]
pub struct Pod {
    /// The workload's name.
    pub name: String,
    /// What its pods are like.
    pub template: PodTemplateSpec,
}

impl Pod {
    /// Its only container.
    pub fn container(&self) -> Result<&Container> {
        let spec = self.template.spec.as_ref().context("no spec")?;
        ensure!(
            spec.containers.len() == 1 && spec.init_containers.is_none(),
            "{}: other containers",
            self.name
        );
        Ok(&spec.containers[0])
    }
}

fn template(object: &Object) -> Result<Option<PodTemplateSpec>> {
    Ok(match object.kind.as_str() {
        "Deployment" => {
            let deployment: Deployment = strictly(&object.value)?;
            Some(deployment.spec.context("no spec")?.template)
        }
        "CronJob" => {
            let cron_job: CronJob = strictly(&object.value)?;
            let job = cron_job.spec.context("no spec")?.job_template.spec;
            Some(job.context("no spec")?.template)
        }
        _ => None,
    })
}

/// The pods of the base.
pub fn pods() -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for object in objects(BASE)? {
        if let Some(template) = template(&object)? {
            pods.push(Pod {
                name: object.name,
                template,
            });
        }
    }
    ensure!(pods.len() == 3, "{} workloads", pods.len());
    Ok(pods)
}

/// The options that all pods have in their environment.
pub const OPTIONS: &str = "deploy/kubernetes/base/options.env";

/// Checks what confines every pod of ours. Returns its security context.
pub fn confined_pod(spec: &PodSpec) -> Result<&PodSecurityContext> {
    let host = [spec.host_network, spec.host_pid, spec.host_ipc];
    ensure!(host.iter().all(Option::is_none), "shares the host's namespaces");
    let context = spec.security_context.as_ref().context("no securityContext")?;
    ensure!(context.run_as_non_root == Some(true), "may run as root");
    let seccomp = context.seccomp_profile.as_ref().context("no seccompProfile")?;
    ensure!(seccomp.type_ == "RuntimeDefault", "seccomp: {}", seccomp.type_);
    Ok(context)
}

/// Checks what confines every container of ours. Returns its resources.
pub fn confined_container(container: &Container) -> Result<&ResourceRequirements> {
    let context = container
        .security_context
        .as_ref()
        .context("no securityContext")?;
    ensure!(context.allow_privilege_escalation == Some(false), "may escalate");
    ensure!(
        context.read_only_root_filesystem == Some(true),
        "the root can be written"
    );
    ensure!(context.privileged.is_none(), "privileged is spelled out");
    let capabilities = context.capabilities.as_ref().context("no capabilities")?;
    ensure!(
        capabilities.drop == Some(vec!["ALL".to_owned()]) && capabilities.add.is_none(),
        "capabilities"
    );
    let resources = container.resources.as_ref().context("no resources")?;
    let requests = resources.requests.as_ref().context("no requests")?;
    ensure!(
        requests.contains_key("cpu") && requests.contains_key("memory"),
        "requests"
    );
    Ok(resources)
}

fn confined(pod: &Pod) -> Result<()> {
    let spec = pod.template.spec.as_ref().context("no spec")?;
    ensure!(
        spec.automount_service_account_token == Some(false),
        "a token is mounted"
    );
    ensure!(spec.service_account_name.is_some(), "the default service account");
    let context = confined_pod(spec)?;
    let user = context.run_as_user.context("no runAsUser")?;
    let container_file = read("deploy/containers/Containerfile")?;
    ensure!(
        container_file.contains(&format!("\nUSER {user}:{user}\n")),
        "the image's user is another"
    );
    let container = pod.container()?;
    let resources = confined_container(container)?;
    let limits = resources.limits.as_ref().context("no limits")?;
    ensure!(limits.contains_key("memory"), "memory is not limited");

    // The only places to write to.
    for volume in spec.volumes.iter().flatten() {
        ensure!(
            volume.empty_dir.is_some() != volume.secret.is_some(),
            "volume {} is neither scratch space nor a Secret",
            volume.name
        );
        let mounts = container.volume_mounts.iter().flatten();
        let mount = mounts.clone().find(|mount| mount.name == volume.name);
        let mount = mount.with_context(|| format!("volume {} is not mounted", volume.name))?;
        ensure!(
            volume.empty_dir.is_some() == (mount.mount_path == "/tmp"),
            "{}",
            mount.mount_path
        );
        ensure!(
            volume.empty_dir.is_some() || mount.read_only == Some(true),
            "{}",
            mount.mount_path
        );
    }
    Ok(())
}

#[test]
fn pods_are_confined() {
    for pod in pods().unwrap() {
        let confined = confined(&pod);
        assert!(confined.is_ok(), "{}: {confined:?}", pod.name);
    }
}

#[test]
fn service_accounts_have_no_token_and_are_those_of_the_pods() {
    let accounts: Vec<ServiceAccount> = objects(BASE)
        .unwrap()
        .iter()
        .filter(|object| object.kind == "ServiceAccount")
        .map(|object| strictly(&object.value).unwrap())
        .collect();
    assert!(
        accounts
            .iter()
            .all(|account| account.automount_service_account_token == Some(false))
    );
    let there: BTreeSet<_> = accounts
        .iter()
        .filter_map(|account| account.metadata.name.clone())
        .collect();
    let used = pods()
        .unwrap()
        .into_iter()
        .filter_map(|pod| pod.template.spec?.service_account_name);
    assert_eq!(used.collect::<BTreeSet<_>>(), there);
}

#[test]
fn secrets_are_named_and_never_contained() {
    let readme = read("deploy/kubernetes/README.md").unwrap();
    for pod in pods().unwrap() {
        let container = pod.container().unwrap();
        assert_eq!(
            container.env, None,
            "{}: variables come from the options and a Secret",
            pod.name
        );
        let mut secrets = Vec::new();
        for source in container.env_from.iter().flatten() {
            if let Some(options) = &source.config_map_ref {
                assert_eq!(options.name, "hardprune-options");
            }
            secrets.extend(source.secret_ref.iter().map(|secret| secret.name.clone()));
        }
        for volume in pod
            .template
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten())
        {
            secrets.extend(
                volume
                    .secret
                    .iter()
                    .filter_map(|secret| secret.secret_name.clone()),
            );
        }
        assert_eq!(secrets.len(), 2, "{}: the store's and NATS'", pod.name);
        for secret in secrets {
            assert!(
                readme.contains(&format!("`{secret}`")),
                "README.md does not name {secret}"
            );
        }
    }
    for name in variables(OPTIONS).unwrap().keys() {
        assert!(!is_secret(name), "{name} belongs in a Secret");
    }
}

fn asks(probe: Option<&Probe>, path: &str) -> bool {
    let request = probe.and_then(|probe| probe.http_get.as_ref());
    request.is_some_and(|request| {
        request.path.as_deref() == Some(path) && request.port == IntOrString::String("health".to_owned())
    })
}

#[test]
fn probes_ask_where_the_program_listens() {
    for pod in pods().unwrap() {
        let container = pod.container().unwrap();
        let ports = container.ports.as_deref().unwrap();
        assert!(ports.len() == 1 && ports[0].name.as_deref() == Some("health"));
        let address = format!("--health-addr=:{}", ports[0].container_port);
        assert!(
            container
                .args
                .iter()
                .flatten()
                .any(|argument| *argument == address),
            "{}",
            pod.name
        );
        assert!(asks(container.startup_probe.as_ref(), "/healthz"), "{}", pod.name);
        assert!(
            asks(container.liveness_probe.as_ref(), "/healthz"),
            "{}",
            pod.name
        );
        let is_worker = container
            .image
            .as_deref()
            .is_some_and(|image| image.starts_with("hardprune-worker:"));
        assert_eq!(
            asks(container.readiness_probe.as_ref(), "/readyz"),
            is_worker,
            "{}",
            pod.name
        );
    }
}

#[test]
fn images_are_those_of_this_version() {
    for pod in pods().unwrap() {
        let image = pod.container().unwrap().image.clone().unwrap();
        let (name, version) = image.split_once(':').unwrap();
        assert!(["hardprune", "hardprune-worker"].contains(&name), "{image}");
        assert_eq!(version, env!("CARGO_PKG_VERSION"), "{image}");
    }
}

/// The network policies of a folder, of which one denies everything, and no other allows something without saying what.
pub fn policies_that_deny_the_rest(folder: &str) -> Result<Vec<NetworkPolicy>> {
    let policies: Vec<NetworkPolicy> = objects(folder)?
        .iter()
        .filter(|object| object.kind == "NetworkPolicy")
        .map(|object| strictly(&object.value))
        .collect::<Result<_>>()?;
    let both = Some(vec!["Ingress".to_owned(), "Egress".to_owned()]);
    let denied = policies
        .iter()
        .filter_map(|policy| policy.spec.as_ref())
        .any(|spec| spec.policy_types == both && spec.ingress.is_none() && spec.egress.is_none());
    ensure!(denied, "{folder}: nothing is denied");
    for spec in policies.iter().filter_map(|policy| policy.spec.as_ref()) {
        for rule in spec.egress.iter().flatten() {
            ensure!(rule.to.is_some() && rule.ports.is_some(), "{rule:?}");
        }
        for rule in spec.ingress.iter().flatten() {
            let health = Some(IntOrString::String("health".to_owned()));
            ensure!(rule.from.is_some(), "{rule:?}");
            ensure!(
                rule.ports.iter().flatten().all(|port| port.port == health),
                "{rule:?}"
            );
        }
    }
    Ok(policies)
}

#[test]
fn everything_is_denied_but_what_is_said() {
    policies_that_deny_the_rest(BASE).unwrap();
}
