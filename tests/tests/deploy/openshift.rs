//! `deploy/openshift`: the CronJob that operators know, and the maintenance procedure, confined and with arguments that the program has.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::command_lines::{Variables, accept, ensure_read};
use crate::files::{document, is_secret, variables};
use crate::manifests::{Object, objects, strictly};
use crate::pods::{confined_container, confined_pod, policies_that_deny_the_rest};

const IMAGES: &str = "deploy/openshift/base/images-cronjob.yaml";
const MAINTENANCE: &str = "deploy/openshift/maintenance/maintenance-cronjob.yaml";
const OPTIONS: &str = "deploy/openshift/maintenance/options.env";
const NETWORK: &str = "deploy/openshift/components/network-policy";
const COMPONENTS: [&str; 2] = [
    "deploy/openshift/components/storage-s3/storage.yaml",
    "deploy/openshift/components/storage-pvc/storage.yaml",
];
pub const SERVICE_CA: &str =
    "--certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/service-ca.crt";

fn cron_job(path: &str) -> Result<CronJobSpec> {
    let cron_job: CronJob = strictly(&document(path)?)?;
    cron_job.spec.context("no spec")
}

fn job(cron_job: &CronJobSpec) -> Result<&JobSpec> {
    cron_job.job_template.spec.as_ref().context("no Job")
}

fn pod(cron_job: &CronJobSpec) -> Result<&PodSpec> {
    job(cron_job)?.template.spec.as_ref().context("no pod")
}

/// Its containers, in the order in which they run.
fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

/// The steps of the maintenance procedure: name and arguments, with this for the storage.
pub fn maintenance_steps(storage: &str) -> Result<Vec<(String, Vec<String>)>> {
    let cron_job = cron_job(MAINTENANCE)?;
    let steps = containers(pod(&cron_job)?);
    let steps = steps.map(|step| {
        let arguments = step.args.iter().flatten();
        let arguments = arguments.map(|argument| argument.replace("$(STORAGE_URL)", storage));
        (step.name.clone(), arguments.collect())
    });
    Ok(steps.collect())
}

/// The arguments of the CronJob for images.
pub fn images_arguments() -> Result<Vec<String>> {
    pod(&cron_job(IMAGES)?)?.containers[0]
        .args
        .clone()
        .context("no arguments")
}

fn confined(pod: &PodSpec) -> Result<()> {
    let context = confined_pod(pod)?;
    // OpenShift's restricted-v2 gives each namespace users of its own, and refuses others.
    ensure!(
        context.run_as_user.is_none() && context.fs_group.is_none(),
        "a user of its own"
    );
    for container in containers(pod) {
        confined_container(container)?;
        ensure!(container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"));
        let image = container.image.as_deref().context("no image")?;
        ensure!(
            image == concat!("hardprune:", env!("CARGO_PKG_VERSION")),
            "{image}"
        );
        ensure!(
            container.env.is_none(),
            "variables come from the options, and secrets from files"
        );
    }
    Ok(())
}

#[test]
fn pods_are_confined() {
    for path in [IMAGES, MAINTENANCE] {
        let confined = confined(pod(&cron_job(path).unwrap()).unwrap());
        assert!(confined.is_ok(), "{path}: {confined:?}");
    }
    for name in variables(OPTIONS).unwrap().keys() {
        assert!(!is_secret(name), "{name}");
    }
}

#[test]
fn the_cron_job_for_images_is_the_one_of_the_documentation() {
    let cron_job = cron_job(IMAGES).unwrap();
    assert_eq!(cron_job.schedule, "0 0 * * *");
    assert_eq!(cron_job.concurrency_policy.as_deref(), Some("Forbid"));
    assert_eq!(
        (
            cron_job.successful_jobs_history_limit,
            cron_job.failed_jobs_history_limit
        ),
        (Some(1), Some(3))
    );
    let pod = pod(&cron_job).unwrap();
    assert_eq!(pod.restart_policy.as_deref(), Some("OnFailure"));
    assert_eq!(pod.service_account_name.as_deref(), Some("pruner"));
    let requests = pod.containers[0].resources.clone().unwrap().requests.unwrap();
    assert_eq!((&*requests["cpu"].0, &*requests["memory"].0), ("1", "1Gi"));
    let expected = [
        "images",
        SERVICE_CA,
        "--keep-tag-revisions=5",
        "--keep-younger-than=96h",
        "--confirm=true",
    ];
    assert_eq!(images_arguments().unwrap(), expected);
}

#[test]
fn the_program_accepts_all_arguments() {
    let options = variables(OPTIONS).unwrap();
    ensure_read(&options).unwrap();
    accept("hardprune", &images_arguments().unwrap(), &Variables::new()).unwrap();
    let steps = maintenance_steps(&options["STORAGE_URL"]).unwrap();
    let names: Vec<_> = steps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["put-back", "images", "check", "delete"]);
    for (name, arguments) in steps {
        assert!(
            !arguments.iter().any(|argument| argument.contains("$(")),
            "{arguments:?}"
        );
        let accepted = accept("hardprune", &arguments, &options);
        assert!(accepted.is_ok(), "{name}: {accepted:?}");
    }
}

/// A pod that was killed must be followed by one that puts back; and a stop must have the time to.
#[test]
fn maintenance_is_tried_again_from_its_first_step() {
    let cron_job = cron_job(MAINTENANCE).unwrap();
    assert_eq!(
        cron_job.suspend,
        Some(true),
        "nothing begins before somebody says so"
    );
    assert_eq!(cron_job.concurrency_policy.as_deref(), Some("Forbid"));
    assert!(
        cron_job
            .starting_deadline_seconds
            .is_some_and(|seconds| seconds <= 900)
    );
    let job = job(&cron_job).unwrap();
    assert!(job.backoff_limit.is_some_and(|tries| tries >= 4));
    let pod = pod(&cron_job).unwrap();
    // A container alone would be started again in the midst.
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    let policy = job.pod_failure_policy.clone().unwrap();
    let [disrupted, ended] = policy.rules.as_slice() else {
        panic!("{policy:?}");
    };
    // Before the exit statuses: a step that was stopped because its node is drained ends with 4.
    let conditions = disrupted.on_pod_conditions.clone().unwrap();
    assert_eq!(
        (&*disrupted.action, &*conditions[0].type_),
        ("Ignore", "DisruptionTarget")
    );
    let codes = ended.on_exit_codes.clone().unwrap();
    assert_eq!(
        (&*codes.operator, codes.values),
        ("In", vec![2, 3, 4]),
        "1, 5 (perhaps still read-only), 7 (the lock of who died) and a kill are tried again"
    );
    // Longer than the rollout may take that puts back.
    assert!(
        pod.termination_grace_period_seconds
            .is_some_and(|seconds| seconds > 600)
    );
    assert!(
        job.active_deadline_seconds
            .is_some_and(|seconds| seconds > 3 * 3600)
    );
}

/// Kustomize puts first what a patch names: a step that it leaves out would run too late.
#[test]
fn storage_is_mounted_and_the_steps_keep_their_order() {
    let base = cron_job(MAINTENANCE).unwrap();
    let names: Vec<_> = containers(pod(&base).unwrap())
        .map(|step| step.name.clone())
        .collect();
    for path in COMPONENTS {
        let patch = cron_job_patch(path).unwrap();
        let steps: Vec<_> = containers(&patch).collect();
        let patched: Vec<_> = steps.iter().map(|step| step.name.clone()).collect();
        assert_eq!(patched, names, "{path}");
        let volumes = patch.volumes.as_ref().unwrap();
        assert_eq!(volumes.len(), 1, "{path}");
        for step in steps {
            let mounted = step
                .volume_mounts
                .iter()
                .flatten()
                .any(|mount| mount.name == volumes[0].name);
            // Images are pruned through the registry.
            assert_eq!(mounted, step.name != "images", "{path}: {}", step.name);
        }
    }
}

/// The pod of a patch, which lacks what its type must have besides.
fn cron_job_patch(path: &str) -> Result<PodSpec> {
    let mut patch = document(path)?;
    let pod = patch
        .pointer_mut("/spec/jobTemplate/spec/template/spec")
        .context("no pod")?;
    strictly(&pod.take())
}

#[test]
fn accounts_are_bound_in_their_namespace() {
    let folders = [
        &["deploy/openshift/base"][..],
        &["deploy/openshift/maintenance"],
        &[
            "deploy/openshift/fsck",
            "deploy/openshift/components/fsck-restore",
        ],
    ];
    for folders in folders {
        let objects = folders.iter().flat_map(|folder| objects(folder).unwrap());
        let objects: Vec<Object> = objects.collect();
        let named = |kind: &'static str| objects.iter().filter(move |object| object.kind == kind);
        let account = named("ServiceAccount").next().unwrap();
        assert_eq!(account.value["metadata"]["namespace"], "openshift-image-registry");
        let bindings = objects
            .iter()
            .filter(|object| object.kind.ends_with("RoleBinding"));
        for binding in bindings {
            let subjects = binding.value["subjects"].as_array().unwrap();
            assert_eq!(subjects.len(), 1, "{}", binding.name);
            assert_eq!(subjects[0]["name"], account.name, "{}", binding.name);
            assert_eq!(subjects[0]["namespace"], "openshift-image-registry");
            let role = binding.value["roleRef"]["name"].as_str().unwrap();
            let kind = binding.value["roleRef"]["kind"].as_str().unwrap();
            let is_it = |object: &Object| object.kind == kind && object.name == role;
            assert!(
                role == "system:image-pruner" || objects.iter().any(is_it),
                "{}: there is no {kind} {role}",
                binding.name
            );
        }
        for cron_job in named("CronJob") {
            let cron_job: CronJob = strictly(&cron_job.value).unwrap();
            let spec = cron_job.spec.unwrap();
            assert_eq!(
                pod(&spec).unwrap().service_account_name.as_ref(),
                Some(&account.name)
            );
        }
    }
}

/// The names of the policies that let a pod with these labels out.
fn ways_out(labels: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for policy in policies_that_deny_the_rest(NETWORK)? {
        let spec = policy.spec.context("no spec")?;
        let wanted = spec.pod_selector.unwrap_or_default().match_labels;
        let wanted = wanted.context("it selects all pods of the namespace")?;
        ensure!(
            wanted
                .get("app.kubernetes.io/name")
                .is_some_and(|name| name == "hardprune"),
            "it selects others' pods: {wanted:?}"
        );
        ensure!(
            policy.metadata.namespace.as_deref() == Some("openshift-image-registry"),
            "in another namespace"
        );
        ensure!(spec.ingress.is_none(), "nothing has to reach these pods");
        if spec.egress.is_some() && wanted.iter().all(|(name, value)| labels.get(name) == Some(value)) {
            names.extend(policy.metadata.name);
        }
    }
    Ok(names)
}

#[test]
fn pods_reach_what_they_need_and_nothing_more() {
    let everyone = ["hardprune-dns", "hardprune-api", "hardprune-registry"];
    let maintenance = [&everyone[..], &["hardprune-storage"]].concat();
    for (path, expected) in [(IMAGES, &everyone[..]), (MAINTENANCE, &maintenance)] {
        let cron_job = cron_job(path).unwrap();
        let template = &job(&cron_job).unwrap().template;
        let labels = template.metadata.clone().unwrap().labels.unwrap();
        assert_eq!(ways_out(&labels).unwrap(), expected, "{path}");
    }
    let others = BTreeMap::from([("docker-registry".to_owned(), "default".to_owned())]);
    assert_eq!(ways_out(&others).unwrap(), Vec::<String>::new());
}
