//! The roles of `deploy/openshift` against what the program asks a cluster for: every request is allowed, by `system:image-pruner` or by
//! ours, and no rule of ours is there for nothing.

use std::collections::BTreeSet;
use std::sync::mpsc;

use anyhow::{Context, Result, bail, ensure};
use hardprune_tests::kubernetes_api::Request;
use hardprune_tests::openshift_registry::RegistryFault;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};

use crate::manifests::{objects, strictly};
use crate::openshift::{SERVICE_CA, images_arguments};
use crate::openshift_cluster::Cluster;

const FSCK: &str = "deploy/openshift/fsck";

/// What may be done, or was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Access {
    verb: String,
    group: String,
    /// With its subresource.
    resource: String,
    /// `None`: all of them, or a collection.
    name: Option<String>,
    /// `None`: everywhere.
    namespace: Option<String>,
}

impl Access {
    /// Whether who may do this may do what was asked for.
    fn allows(&self, asked: &Self) -> bool {
        let is_all_or = |mine: &Option<String>, theirs: &Option<String>| mine.is_none() || mine == theirs;
        (&self.verb, &self.group, &self.resource) == (&asked.verb, &asked.group, &asked.resource)
            && is_all_or(&self.name, &asked.name)
            && is_all_or(&self.namespace, &asked.namespace)
    }
}

/// The rules of `system:image-pruner`, as openshift-apiserver makes them since 4.12 (`pkg/bootstrappolicy/policy.go`); the older groups
/// left out.
fn image_pruner() -> Vec<Access> {
    let rules: &[(&[&str], &str, &[&str])] = &[
        (&["get", "list"], "", &["pods", "replicationcontrollers"]),
        (&["list"], "", &["limitranges"]),
        (
            &["get", "list"],
            "build.openshift.io",
            &["buildconfigs", "builds"],
        ),
        (&["get", "list"], "apps.openshift.io", &["deploymentconfigs"]),
        (&["get", "list"], "batch", &["jobs", "cronjobs"]),
        (
            &["get", "list"],
            "apps",
            &["daemonsets", "deployments", "replicasets", "statefulsets"],
        ),
        (&["delete"], "image.openshift.io", &["images"]),
        (
            &["get", "list", "watch"],
            "image.openshift.io",
            &["images", "imagestreams"],
        ),
        (&["update"], "image.openshift.io", &["imagestreams/status"]),
    ];
    let rule = |(verbs, group, resources): &(&[&str], &str, &[&str])| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            verbs: texts(verbs),
            api_groups: Some(texts(&[group])),
            resources: Some(texts(resources)),
            ..PolicyRule::default()
        }
    };
    rules.iter().flat_map(|of| spelled_out(&rule(of), None)).collect()
}

fn spelled_out(rule: &PolicyRule, namespace: Option<&str>) -> Vec<Access> {
    let names = match &rule.resource_names {
        None => vec![None],
        Some(names) => names.iter().cloned().map(Some).collect(),
    };
    let mut all = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                for name in &names {
                    all.push(Access {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                        namespace: namespace.map(str::to_owned),
                    });
                }
            }
        }
    }
    all
}

/// What the roles of a folder allow.
fn ours(folder: &str) -> Result<Vec<Access>> {
    let mut all = Vec::new();
    for object in objects(folder)? {
        let (rules, namespace) = match object.kind.as_str() {
            "ClusterRole" => (strictly::<ClusterRole>(&object.value)?.rules, None),
            "Role" => {
                let role: Role = strictly(&object.value)?;
                (role.rules, role.metadata.namespace)
            }
            _ => continue,
        };
        let rules = rules.context("no rules")?;
        all.extend(
            rules
                .iter()
                .flat_map(|rule| spelled_out(rule, namespace.as_deref())),
        );
    }
    ensure!(!all.is_empty(), "{folder} has no roles");
    Ok(all)
}

fn asked_for(request: &Request) -> Result<Access> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] => (*group, rest),
        _ => bail!("{path} is of no resource"),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let (resource, name) = match rest {
        [resource] => ((*resource).to_owned(), None),
        [resource, name] => ((*resource).to_owned(), Some(*name)),
        [resource, name, subresource] => (format!("{resource}/{subresource}"), Some(*name)),
        _ => bail!("{path} is of no resource"),
    };
    let verb = match (request.method.as_str(), name) {
        ("GET", Some(_)) => "get",
        ("GET", None) if query.contains("watch=") => "watch",
        ("GET", None) => "list",
        ("PUT", Some(_)) => "update",
        ("POST", None) => "create",
        ("DELETE", Some(_)) => "delete",
        (method, _) => bail!("{method} {path}: which verb is that?"),
    };
    Ok(Access {
        verb: verb.to_owned(),
        group: group.to_owned(),
        resource,
        name: name.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
    })
}

/// Fails where a request is allowed neither by what an account may do anyway nor by the roles of a folder, or a rule of those is not
/// needed.
fn ensure_smallest(anyway: &[Access], folder: &str, cluster: &Cluster) -> Result<()> {
    let requests = cluster.api.requests();
    let asked: BTreeSet<Access> = requests.iter().map(asked_for).collect::<Result<_>>()?;
    let ours = ours(folder)?;
    let allowed = |rules: &[Access], asked: &Access| rules.iter().any(|rule| rule.allows(asked));
    for asked in &asked {
        ensure!(
            allowed(anyway, asked) || allowed(&ours, asked),
            "not allowed: {asked:?}"
        );
    }
    for rule in &ours {
        let needs = |asked: &&Access| rule.allows(asked) && !allowed(anyway, asked);
        ensure!(asked.iter().any(|asked| needs(&asked)), "not needed: {rule:?}");
    }
    Ok(())
}

/// Prunes images, and holds that up until all that is watched is watched: a short run might end before.
fn prune_images(arguments: &[String], before: impl FnOnce(&Cluster) -> Result<()>) -> Result<Cluster> {
    let (release, held) = mpsc::channel();
    let cluster = Cluster::start(vec![RegistryFault::hold("DELETE", "^/v2/", held)])?;
    before(&cluster)?;
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| *argument != SERVICE_CA)
        .collect();
    let mut running = hardprune_tests::scene::Running::of(
        cluster.scene.program.start(&arguments)?,
        cluster.scene.folder().join("no-hold"),
    )?;
    let watched = |cluster: &Cluster| {
        let requests = cluster.api.requests();
        let watches = requests.iter().filter(|request| request.path.contains("watch="));
        watches
            .map(|request| request.path.split('?').next().map(str::to_owned))
            .collect::<BTreeSet<_>>()
            .len()
    };
    // All kinds but limit ranges.
    running.wait_until("watches", |_| Ok(watched(&cluster) == 13))?;
    drop(release);
    let finished = running.finish()?;
    ensure!(finished.status == 0, "{finished:?}");
    cluster.follow_registry()?;
    Ok(cluster)
}

#[test]
fn the_cron_job_for_images_may_do_what_it_does_and_nothing_more() -> Result<()> {
    let cluster = prune_images(&images_arguments()?, |_| Ok(()))?;
    ensure_smallest(&image_pruner(), "deploy/openshift/base", &cluster)
}

#[test]
fn maintenance_may_do_what_it_does_and_nothing_more() -> Result<()> {
    let images = Cluster::start(Vec::new())?.arguments("images")?;
    let cluster = prune_images(&images, |cluster| {
        let finished = cluster.run("put-back")?;
        ensure!(finished.status == 0, "{finished:?}");
        Ok(())
    })?;
    for step in ["check", "delete"] {
        let finished = cluster.run(step)?;
        ensure!(finished.status == 0, "{step}: {finished:?}");
    }
    ensure_smallest(&image_pruner(), "deploy/openshift/maintenance", &cluster)
}

/// A registry with an image that no stream of its repository names, and a manifest of which the cluster has no image.
fn checked(restore: &[&str]) -> Result<Cluster> {
    let cluster = Cluster::start(Vec::new())?;
    cluster.push("ns/again", &cluster.tagged()?[0])?;
    let storage = cluster.scene.store_names().remove(0);
    let arguments = [&["fsck", &storage, "--references", "openshift"], restore].concat();
    let finished = cluster.scene.program.run(&arguments)?;
    ensure!(finished.status == 6, "{finished:?}");
    Ok(cluster)
}

#[test]
fn fsck_may_read_what_it_reads_and_nothing_more() -> Result<()> {
    ensure_smallest(&[], FSCK, &checked(&[])?)?;
    // Nor does a dry run need more.
    ensure_smallest(&[], FSCK, &checked(&["--restore"])?)
}

#[test]
fn fsck_may_restore_what_it_restores_and_nothing_more() -> Result<()> {
    let cluster = checked(&["--restore", "--confirm"])?;
    ensure_smallest(&ours(FSCK)?, "deploy/openshift/components/fsck-restore", &cluster)
}

#[test]
fn what_is_allowed_to_others_is_not_allowed_here() {
    let access = |verb: &str, name: Option<&str>, namespace: Option<&str>| Access {
        verb: verb.to_owned(),
        group: "apps".to_owned(),
        resource: "deployments".to_owned(),
        name: name.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
    };
    let rule = access("update", Some("a"), Some("n"));
    assert!(rule.allows(&access("update", Some("a"), Some("n"))));
    assert!(!rule.allows(&access("update", Some("b"), Some("n"))));
    assert!(!rule.allows(&access("update", Some("a"), Some("m"))));
    assert!(!rule.allows(&access("update", None, None)));
    assert!(!rule.allows(&access("get", Some("a"), Some("n"))));
    assert!(access("get", None, None).allows(&access("get", Some("a"), Some("n"))));
}
