//! Which tags and which images are used, and by what: the part of the graph that does not come from image streams.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use super::image_reference;
use super::rules::Ages;
use crate::openshift::objects::{Build, CronJob, From, Metadata, Pod, PodSpec, Workload};

/// Everything in the cluster that can name an image, besides image streams.
#[derive(Debug, Clone, Default)]
pub struct Users {
    /// Pods.
    pub pods: Vec<Pod>,
    /// Whatever has a template of pods, with the word for it.
    pub workloads: Vec<(&'static str, Vec<Workload>)>,
    /// Builds, and build configurations.
    pub builds: Vec<(&'static str, Vec<Build>)>,
    /// Cron jobs.
    pub cron_jobs: Vec<CronJob>,
}

/// An object that names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    kind: &'static str,
    namespace: String,
    name: String,
}

impl Referrer {
    fn of(kind: &'static str, metadata: &Metadata) -> Self {
        Self {
            kind,
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }
}

impl fmt::Display for Referrer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} namespace={}", self.kind, self.name, self.namespace)
    }
}

/// A reference that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadReference {
    referrer: Referrer,
    /// `container c`, or empty.
    part: String,
    target: &'static str,
    reference: String,
    problem: String,
}

impl fmt::Display for BadReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.referrer)?;
        if !self.part.is_empty() {
            write!(f, "{}: ", self.part)?;
        }
        write!(
            f,
            "invalid {} reference {:?}: {}",
            self.target, self.reference, self.problem
        )
    }
}

/// What is used.
#[derive(Debug, Clone, Default)]
pub struct Uses {
    referrers: Vec<Referrer>,
    /// By `namespace/stream:tag`.
    tags: HashMap<String, Vec<usize>>,
    /// By `namespace/stream@digest`.
    images: HashMap<String, Vec<usize>>,
}

impl Uses {
    /// Finds all uses, and all references that cannot be read. The order of the latter is `oc`'s.
    #[must_use]
    pub fn of(users: &Users, ages: &Ages) -> (Self, Vec<BadReference>) {
        let mut uses = Self::default();
        let mut bad = Vec::new();
        for pod in &users.pods {
            uses.add_pod(pod, ages, &mut bad);
        }
        let first = [
            "replicationcontroller",
            "deploymentconfig",
            "replicaset",
            "deployment",
            "daemonset",
        ];
        let workloads = |kinds: &[&str]| {
            let found = kinds
                .iter()
                .flat_map(|wanted| users.workloads.iter().filter(move |(kind, _)| kind == wanted));
            found.collect::<Vec<_>>()
        };
        for (kind, workloads) in workloads(&first) {
            for workload in workloads {
                uses.add_workload(kind, workload, &mut bad);
            }
        }
        for (kind, builds) in &users.builds {
            for build in builds {
                uses.add_build(kind, build, &mut bad);
            }
        }
        for (kind, workloads) in workloads(&["statefulset", "job"]) {
            for workload in workloads {
                uses.add_workload(kind, workload, &mut bad);
            }
        }
        for job in &users.cron_jobs {
            uses.add_cron_job(job, &mut bad);
        }
        (uses, bad)
    }

    /// Adds what a pod uses, unless it has ended and is old.
    pub fn add_pod(&mut self, pod: &Pod, ages: &Ages, bad: &mut Vec<BadReference>) {
        let is_alive = matches!(pod.status.phase.as_str(), "Running" | "Pending");
        if is_alive || !ages.is_older(pod.metadata.creation_timestamp) {
            self.add_pod_spec(Referrer::of("pod", &pod.metadata), &pod.spec, bad);
        }
    }

    /// Adds what a workload's pods use.
    pub fn add_workload(&mut self, kind: &'static str, workload: &Workload, bad: &mut Vec<BadReference>) {
        let referrer = Referrer::of(kind, &workload.metadata);
        self.add_pod_spec(referrer, &workload.spec.template.spec, bad);
    }

    /// Adds what a cron job's pods use.
    pub fn add_cron_job(&mut self, job: &CronJob, bad: &mut Vec<BadReference>) {
        let referrer = Referrer::of("cronjob", &job.metadata);
        self.add_pod_spec(referrer, &job.spec.job_template.spec.template.spec, bad);
    }

    /// Adds what a build begins with.
    pub fn add_build(&mut self, kind: &'static str, build: &Build, bad: &mut Vec<BadReference>) {
        let referrer = Referrer::of(kind, &build.metadata);
        let Some(from) = build.spec.strategy.from() else {
            return;
        };
        if let Err(found) = self.add_build_input(&referrer, from) {
            bad.push(found);
        }
    }

    /// What uses the newest revision of a tag.
    #[must_use]
    pub fn of_tag(&self, namespace: &str, stream: &str, tag: &str) -> Vec<&Referrer> {
        self.named(self.tags.get(&format!("{namespace}/{stream}:{tag}")))
    }

    /// What uses an image of a stream by its digest.
    #[must_use]
    pub fn of_image(&self, namespace: &str, stream: &str, digest: &str) -> Vec<&Referrer> {
        self.named(self.images.get(&format!("{namespace}/{stream}@{digest}")))
    }

    /// Whether anything uses a tag of `namespace/stream`.
    #[must_use]
    pub fn uses_tag(&self, stream: &str, tag: &str) -> bool {
        self.tags.contains_key(&format!("{stream}:{tag}"))
    }

    /// Whether anything uses an image of `namespace/stream` by its digest.
    #[must_use]
    pub fn uses_image(&self, stream: &str, digest: &str) -> bool {
        self.images.contains_key(&format!("{stream}@{digest}"))
    }

    /// The tags that are used: `namespace/stream`, and the tag.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tags.keys().filter_map(|key| key.split_once(':'))
    }

    /// The images that are used by digest: `namespace/stream`, and the digest.
    pub fn images(&self) -> impl Iterator<Item = (&str, &str)> {
        self.images.keys().filter_map(|key| key.split_once('@'))
    }

    /// Adds what was not used before. Of what was, it is enough to know one that uses it.
    pub fn merge(&mut self, other: Self) {
        let Self {
            referrers,
            tags,
            images,
        } = other;
        let mut own = |indexes: Vec<usize>| -> Vec<usize> {
            let own = indexes.into_iter().map(|index| {
                self.referrers.push(referrers[index].clone());
                self.referrers.len() - 1
            });
            own.collect()
        };
        for (key, indexes) in tags {
            if let Entry::Vacant(entry) = self.tags.entry(key) {
                entry.insert(own(indexes));
            }
        }
        for (key, indexes) in images {
            if let Entry::Vacant(entry) = self.images.entry(key) {
                entry.insert(own(indexes));
            }
        }
    }

    fn named(&self, found: Option<&Vec<usize>>) -> Vec<&Referrer> {
        let found = found.into_iter().flatten();
        found.map(|index| &self.referrers[*index]).collect()
    }

    fn add_pod_spec(&mut self, referrer: Referrer, spec: &PodSpec, bad: &mut Vec<BadReference>) {
        let init = spec
            .init_containers
            .iter()
            .map(|container| ("init container", container));
        let containers = spec.containers.iter().map(|container| ("container", container));
        for (what, container) in init.chain(containers) {
            if container.image.trim().is_empty() {
                continue;
            }
            let part = format!("{what} {}", container.name);
            if let Err(found) = self.add_reference(&referrer, part, &container.image) {
                bad.push(found);
            }
        }
    }

    fn add_build_input(&mut self, referrer: &Referrer, from: &From) -> Result<(), BadReference> {
        let bad = |target, problem| BadReference {
            referrer: referrer.clone(),
            part: String::new(),
            target,
            reference: from.name.clone(),
            problem,
        };
        let namespace = match from.namespace.as_str() {
            "" => &referrer.namespace,
            namespace => namespace,
        };
        match from.kind.as_str() {
            "DockerImage" if from.name.trim().is_empty() => Ok(()),
            "DockerImage" => self.add_reference(referrer, String::new(), &from.name),
            "ImageStreamImage" => {
                let target = "ImageStreamImage";
                let (stream, digest) = stream_image(&from.name).map_err(|problem| bad(target, problem))?;
                self.used(referrer, UsedBy::Image, format!("{namespace}/{stream}@{digest}"));
                Ok(())
            }
            "ImageStreamTag" => {
                let target = "ImageStreamTag";
                let (stream, tag) = stream_tag(&from.name).map_err(|problem| bad(target, problem))?;
                self.used(referrer, UsedBy::Tag, format!("{namespace}/{stream}:{tag}"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The host is not looked at: who knows by how many names the registry is reached.
    fn add_reference(&mut self, referrer: &Referrer, part: String, text: &str) -> Result<(), BadReference> {
        let reference = image_reference::parse(text).map_err(|problem| BadReference {
            referrer: referrer.clone(),
            part,
            target: "image",
            reference: text.to_owned(),
            problem,
        })?;
        let (namespace, stream) = (&reference.namespace, &reference.name);
        if reference.registry.is_empty() || namespace.is_empty() || stream.contains('/') {
            return Ok(());
        }
        if reference.digest.is_empty() {
            let tag = match reference.tag.as_str() {
                "" => "latest",
                tag => tag,
            };
            self.used(referrer, UsedBy::Tag, format!("{namespace}/{stream}:{tag}"));
        } else {
            let digest = &reference.digest;
            self.used(referrer, UsedBy::Image, format!("{namespace}/{stream}@{digest}"));
        }
        Ok(())
    }

    fn used(&mut self, referrer: &Referrer, by: UsedBy, what: String) {
        // One object often names the same image several times, and its uses come one after the other.
        let index = match self.referrers.last() {
            Some(last) if last == referrer => self.referrers.len() - 1,
            _ => {
                self.referrers.push(referrer.clone());
                self.referrers.len() - 1
            }
        };
        let found = match by {
            UsedBy::Tag => self.tags.entry(what).or_default(),
            UsedBy::Image => self.images.entry(what).or_default(),
        };
        if found.last() != Some(&index) {
            found.push(index);
        }
    }
}

#[derive(Clone, Copy)]
enum UsedBy {
    Tag,
    Image,
}

fn stream_tag(text: &str) -> Result<(&str, &str), String> {
    if text.contains('@') {
        return Err(format!(
            "{text:?} is an image stream image, not an image stream tag"
        ));
    }
    match text.split_once(':') {
        Some((_, tag)) if tag.contains(':') => None,
        other => other,
    }
    .ok_or_else(|| format!("expected exactly one : delimiter in the istag {text:?}"))
    .and_then(|(name, tag)| match name.is_empty() || tag.is_empty() {
        true => Err(format!(
            "image stream tag name {text:?} must have a name and a tag"
        )),
        false => Ok((name, tag)),
    })
}

fn stream_image(text: &str) -> Result<(&str, &str), String> {
    match text.split_once('@') {
        Some((_, digest)) if digest.contains('@') => None,
        other => other,
    }
    .ok_or_else(|| format!("expected exactly one @ in the isimage name {text:?}"))
    .and_then(|(name, digest)| match name.is_empty() || digest.is_empty() {
        true => Err(format!(
            "image stream image name {text:?} must have a name and ID"
        )),
        false => Ok((name, digest)),
    })
}
