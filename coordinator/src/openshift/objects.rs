//! Objects of the cluster, with nothing but what pruning looks at: a cluster has tens of thousands of them.

mod image_metadata;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

pub use self::image_metadata::ImageMetadata;

/// Media types of indexes: what they name are images, not layers.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Media types of manifests that name a config.
const WITH_CONFIG: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
];
/// On images that were pushed to the cluster's registry.
const MANAGED: &str = "openshift.io/image.managed";

/// A name, and what belongs to it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// Empty for objects without one.
    pub namespace: String,
    /// When it was made; nothing counts as long ago.
    pub creation_timestamp: Option<Timestamp>,
}

/// An `Image`: named by its manifest's digest.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    /// Name and age.
    pub metadata: ImageNames,
    /// Its layers.
    #[serde(deserialize_with = "null_is_default")]
    pub docker_image_layers: Vec<Layer>,
    /// The media type of its manifest.
    #[serde(deserialize_with = "null_is_default")]
    pub docker_image_manifest_media_type: String,
    /// What its config says.
    pub docker_image_metadata: ImageMetadata,
    /// Of an index: its children.
    #[serde(deserialize_with = "null_is_default")]
    pub docker_image_manifests: Vec<Child>,
    /// Where it was pulled from, or pushed to.
    #[serde(deserialize_with = "null_is_default")]
    pub docker_image_reference: String,
    /// The bytes of its manifest, where the cluster keeps them.
    #[serde(rename = "dockerImageManifest", deserialize_with = "length_of_text")]
    pub manifest_bytes: Option<u64>,
}

/// Name and age of an image, and whether it is managed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageNames {
    /// The digest of its manifest.
    pub name: String,
    /// When it was made.
    pub creation_timestamp: Option<Timestamp>,
    /// Whether it was pushed to the cluster's registry.
    #[serde(rename = "annotations", deserialize_with = "is_managed")]
    pub is_managed: bool,
}

/// A layer.
#[derive(Debug, Clone, Deserialize)]
pub struct Layer {
    /// Its digest.
    #[serde(default)]
    pub name: String,
    /// Its bytes.
    #[serde(default)]
    pub size: i64,
}

/// A child of an index.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Child {
    /// The digest of its manifest.
    #[serde(default)]
    pub digest: String,
    /// The bytes of its manifest.
    #[serde(default)]
    pub manifest_size: i64,
}

impl Image {
    /// Whether it is an index.
    #[must_use]
    pub fn is_index(&self) -> bool {
        INDEXES.contains(&self.docker_image_manifest_media_type.as_str())
    }

    /// Its layers and its config, a digest as often as it is named. `None` where it cannot be known, because it has no
    /// metadata.
    #[must_use]
    pub fn blobs(&self) -> Option<impl Iterator<Item = &str>> {
        let is_known = self.is_index() || matches!(self.docker_image_metadata, ImageMetadata::Read { .. });
        is_known.then(|| self.layers().chain(self.config()))
    }

    /// Its config, where it has one and that is known.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        match &self.docker_image_metadata {
            ImageMetadata::Read { id, .. } => {
                let has_config = WITH_CONFIG.contains(&self.docker_image_manifest_media_type.as_str());
                Some(id.as_str()).filter(|id| has_config && !id.is_empty())
            }
            ImageMetadata::Absent | ImageMetadata::Unreadable(_) => None,
        }
    }

    /// Its layers.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.docker_image_layers.iter().map(|layer| layer.name.as_str())
    }

    /// The digests of an index's children.
    pub fn children(&self) -> impl Iterator<Item = &str> {
        self.docker_image_manifests
            .iter()
            .map(|child| child.digest.as_str())
    }
}

/// An `ImageStream`: a repository of the registry, and what its tags named, the newest first.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ImageStream {
    /// Names and age.
    pub metadata: Metadata,
    /// Its tags.
    #[serde(deserialize_with = "null_is_default")]
    pub status: StreamStatus,
}

/// What became of an image stream's tags.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamStatus {
    /// `host/namespace/name`.
    #[serde(deserialize_with = "null_is_default")]
    pub docker_image_repository: String,
    /// The tags.
    #[serde(deserialize_with = "null_is_default")]
    pub tags: Vec<Tag>,
}

/// A tag.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Tag {
    /// Its name.
    pub tag: String,
    /// What it named, the newest first.
    #[serde(deserialize_with = "null_is_default")]
    pub items: Vec<TagItem>,
}

/// A revision of a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TagItem {
    /// The image's name.
    pub image: String,
    /// Since when.
    pub created: Option<Timestamp>,
}

/// A `Pod`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Names and age.
    pub metadata: Metadata,
    /// Its containers.
    pub spec: PodSpec,
    /// How far it is.
    pub status: PodStatus,
}

/// How far a pod is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// `Running`, `Pending`, …
    pub phase: String,
}

/// What a pod runs. Ephemeral containers are not looked at, as they are not by `oc`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Containers that run before the others.
    #[serde(deserialize_with = "null_is_default")]
    pub init_containers: Vec<Container>,
    /// The others.
    #[serde(deserialize_with = "null_is_default")]
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    #[serde(deserialize_with = "null_is_default")]
    pub image: String,
}

/// Whatever has a template of pods: replication controllers, deployments, jobs, …
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Names and age.
    pub metadata: Metadata,
    /// The template.
    pub spec: WorkloadSpec,
}

/// Of a workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WorkloadSpec {
    /// The pods.
    #[serde(deserialize_with = "null_is_default")]
    pub template: PodTemplate,
}

/// A template of pods.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    /// What they run.
    pub spec: PodSpec,
}

/// A `CronJob`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CronJob {
    /// Names and age.
    pub metadata: Metadata,
    /// Its jobs.
    pub spec: CronJobSpec,
}

/// Of a cron job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJobSpec {
    /// The jobs.
    pub job_template: JobTemplate,
}

/// A template of jobs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct JobTemplate {
    /// The job.
    pub spec: WorkloadSpec,
}

/// A `Build` or a `BuildConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Names and age.
    pub metadata: Metadata,
    /// How it is built.
    pub spec: BuildSpec,
}

/// How something is built.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BuildSpec {
    /// From which image.
    pub strategy: BuildStrategy,
}

/// One of these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildStrategy {
    source_strategy: Option<StrategyFrom>,
    docker_strategy: Option<StrategyFrom>,
    custom_strategy: Option<StrategyFrom>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct StrategyFrom {
    from: Option<From>,
}

/// What a build begins with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct From {
    /// `DockerImage`, `ImageStreamTag`, `ImageStreamImage`.
    pub kind: String,
    /// The namespace of the stream; empty for the build's own.
    #[serde(deserialize_with = "null_is_default")]
    pub namespace: String,
    /// What is named.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
}

impl BuildStrategy {
    /// What it begins with.
    #[must_use]
    pub fn from(&self) -> Option<&From> {
        let strategies = [
            &self.source_strategy,
            &self.docker_strategy,
            &self.custom_strategy,
        ];
        strategies.into_iter().flatten().next()?.from.as_ref()
    }
}

/// A `LimitRange`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LimitRange {
    /// Names.
    pub metadata: Metadata,
    /// The limits.
    pub spec: LimitRangeSpec,
}

/// Of a limit range.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LimitRangeSpec {
    /// The limits.
    #[serde(deserialize_with = "null_is_default")]
    pub limits: Vec<Limit>,
}

/// A limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Limit {
    /// What it limits.
    #[serde(rename = "type")]
    pub of: String,
    /// Quantities, by resource.
    #[serde(deserialize_with = "null_is_default")]
    pub max: BTreeMap<String, serde_json::Value>,
}

/// Go writes `null` for what is empty.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_managed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let annotations: Option<BTreeMap<String, String>> = Option::deserialize(deserializer)?;
    Ok(annotations.is_some_and(|all| all.get(MANAGED).is_some_and(|value| value == "true")))
}

fn length_of_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(|text| text.len() as u64))
}
