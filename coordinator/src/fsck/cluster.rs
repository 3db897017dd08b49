//! What the cluster knows: its image streams, then its images. One that a tag names is there before the tag is.
//!
//! Comes in: the cluster, and the manifests that repositories have links to. Goes out: more manifests that must be whole, what their
//! images say that they need, tags that name no image, and manifests that the cluster does not know.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use hardprune_common::digest::Digest;
use hardprune_common::shard::Shard;
use kube::core::Request;
use tracing::warn;

use super::namespace::Namespace;
use super::passes::Passes;
use super::records::{Broken, Fault, Known, Lost, Need, Role, Tagged};
use super::sharded::{Sharded, finest};
use crate::error::RunError;
use crate::openshift::cluster::{Cluster, ClusterArgs};
use crate::openshift::list_objects::{ApiError, IMAGE_STREAMS, IMAGES, Pages, ask};
use crate::openshift::objects::{Image, ImageStream};
use crate::spool::SpoolError;

/// The service of OpenShift 4's own registry.
const REGISTRY_SERVICE: &str = "image-registry.openshift-image-registry.svc:5000";

/// A cluster that is asked.
pub(super) struct KnownCluster {
    pub cluster: Cluster,
    /// `host:port` of the registry, as streams name it.
    pub registry_host: String,
    /// Tags that name what is no digest: repository, tag, name.
    pub bad_items: Vec<(String, String, String)>,
    /// Whether it has any image streams, in the namespace if one was asked for.
    pub has_streams: bool,
    /// By the image.
    items: Sharded<Tagged>,
    images: Sharded<Known>,
    /// What images say that they need, by the image.
    parts: Sharded<Need>,
}

impl KnownCluster {
    /// Finds the cluster, and lists what it knows: all images, and the image streams of a namespace or of all.
    ///
    /// # Errors
    ///
    /// A cluster that cannot be found, or does not say all that it knows.
    pub async fn ask(
        args: &ClusterArgs,
        namespace: Option<&Namespace>,
        spool_dir: &Path,
    ) -> Result<Self, RunError> {
        let cluster = Cluster::find(args)
            .await
            .map_err(|error| RunError::Usage(error.to_string()))?;
        let mut known = Self {
            cluster,
            registry_host: REGISTRY_SERVICE.to_owned(),
            bad_items: Vec::new(),
            has_streams: false,
            items: Sharded::new(spool_dir)?,
            images: Sharded::new(spool_dir)?,
            parts: Sharded::new(spool_dir)?,
        };
        known.list_streams(namespace).await?;
        known.list_images().await?;
        Ok(known)
    }

    async fn list_streams(&mut self, namespace: Option<&Namespace>) -> Result<(), RunError> {
        let client = self.cluster.client.clone();
        let mut pages = Pages::<ImageStream>::of(&client, IMAGE_STREAMS, namespace.map(Namespace::name));
        let failed = |error| failed(&self.cluster, error, "image streams");
        while let Some(page) = pages.next().await.map_err(failed)? {
            // Of a list that is begun again what was listed before comes once more, and counts once.
            self.has_streams |= !page.items.is_empty();
            for stream in page.items {
                take_stream(&mut self.items, &mut self.bad_items, &stream)?;
                let host = stream.status.docker_image_repository.split_once('/');
                if let Some((host, _)) = host.filter(|(host, _)| !host.is_empty()) {
                    host.clone_into(&mut self.registry_host);
                }
            }
        }
        self.bad_items.sort_unstable();
        self.bad_items.dedup();
        Ok(())
    }

    async fn list_images(&mut self) -> Result<(), RunError> {
        let client = self.cluster.client.clone();
        let mut pages = Pages::<Image>::of(&client, IMAGES, None);
        let failed = |error| failed(&self.cluster, error, "images");
        while let Some(page) = pages.next().await.map_err(failed)? {
            for image in page.items {
                take_image(&mut self.images, &mut self.parts, &image)?;
            }
        }
        Ok(())
    }

    /// Joins it with what repositories have. Returns what the cluster does not know.
    pub fn join(&mut self, passes: &mut Passes) -> Result<Sharded<Lost>, RunError> {
        let mut lost = Sharded::new(&passes.spool_dir)?;
        let digits = finest(&[
            passes.revisions.digits(),
            self.items.digits(),
            self.parts.digits(),
        ]);
        let mut shards = passes.revisions.shards(digits);
        shards.extend(self.images.shards(digits));
        shards.extend(self.items.shards(digits));
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            self.join_shard(passes, &shard, &mut lost)?;
        }
        Ok(lost)
    }

    fn join_shard(
        &mut self,
        passes: &mut Passes,
        shard: &Shard,
        lost: &mut Sharded<Lost>,
    ) -> Result<(), SpoolError> {
        let mut known: HashMap<Digest, bool> = HashMap::new();
        for image in self.images.take(shard)? {
            *known.entry(image.manifest).or_default() |= image.is_managed;
        }
        let mut parts: HashMap<Digest, Vec<Need>> = HashMap::new();
        for part in self.parts.take(shard)? {
            parts.entry(part.manifest).or_default().push(part);
        }
        let mut in_streams: HashSet<(Digest, String)> = HashSet::new();
        for item in self.items.take(shard)? {
            let image = (item.manifest, item.repository.clone());
            passes.seen.tags += 1;
            match known.get(&item.manifest) {
                None => {
                    let broken = Broken {
                        manifest: item.manifest,
                        repository: item.repository.clone(),
                        needs: item.manifest,
                        role: Role::Manifest,
                        fault: Fault::NoImage,
                        detail: String::new(),
                    };
                    passes.broken.push(&broken.manifest, &broken)?;
                    passes.tags.push(&item.manifest, &item)?;
                }
                Some(is_managed) => {
                    if *is_managed && in_streams.insert(image.clone()) {
                        passes.root(item.manifest, &item.repository, true)?;
                        for part in parts.get(&item.manifest).into_iter().flatten() {
                            passes.need(&Need {
                                repository: item.repository.clone(),
                                ..part.clone()
                            })?;
                        }
                    }
                    passes.tags.push(&item.manifest, &item)?;
                    in_streams.insert(image);
                }
            }
        }
        let in_a_stream: HashSet<Digest> = in_streams.iter().map(|(manifest, _)| *manifest).collect();
        // An image that no stream names is in no namespace.
        let is_restricted = passes.namespace.is_some();
        let images = if is_restricted {
            in_a_stream.len()
        } else {
            known.len()
        };
        passes.seen.images += images as u64;
        let alone = known.iter().filter(|(manifest, is_managed)| {
            !is_restricted && **is_managed && !in_a_stream.contains(*manifest)
        });
        for (manifest, _) in alone {
            passes.root(*manifest, "", false)?;
            for part in parts.get(manifest).into_iter().flatten() {
                passes.need(part)?;
            }
        }
        for revision in passes.revisions.take(shard)? {
            let image = (revision.manifest, revision.repository);
            if in_streams.contains(&image) {
                passes.root(image.0, &image.1, true)?;
            } else {
                let is_known = known.contains_key(&image.0);
                let (manifest, repository) = image;
                let one = Lost {
                    manifest,
                    repository,
                    is_known,
                };
                lost.push(&manifest, &one)?;
            }
        }
        Ok(())
    }

    /// Whether the cluster has an image now.
    ///
    /// # Errors
    ///
    /// Any answer but that it has it, or has not.
    pub async fn has_image(&self, manifest: &Digest) -> Result<bool, RunError> {
        let path = IMAGES.path(None);
        let request = Request::new(&path).get(&manifest.to_string(), &kube::api::GetParams::default());
        match ask::<serde_json::Value>(&self.cluster.client, request, &path).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(404) => Ok(false),
            Err(error) => Err(failed(&self.cluster, error, "images")),
        }
    }

    /// Whether the stream of a repository names a manifest now.
    ///
    /// # Errors
    ///
    /// Any answer but the stream, or that it is not there.
    pub async fn is_in_stream(&self, repository: &str, manifest: &Digest) -> Result<bool, RunError> {
        let Some((namespace, name)) = stream_of(repository) else {
            return Ok(false);
        };
        let path = IMAGE_STREAMS.path(Some(namespace));
        let request = Request::new(&path).get(name, &kube::api::GetParams::default());
        match ask::<ImageStream>(&self.cluster.client, request, &path).await {
            Ok(stream) => {
                let mut items = stream.status.tags.iter().flat_map(|tag| &tag.items);
                let manifest = manifest.to_string();
                Ok(items.any(|item| item.image == manifest))
            }
            Err(error) if error.code() == Some(404) => Ok(false),
            Err(error) => Err(failed(&self.cluster, error, "image streams")),
        }
    }
}

fn failed(cluster: &Cluster, error: ApiError, what: &'static str) -> RunError {
    RunError::Cluster {
        server: cluster.server.clone(),
        what,
        source: error,
    }
}

/// Namespace and name of the stream that is a repository.
pub(super) fn stream_of(repository: &str) -> Option<(&str, &str)> {
    repository.split_once('/').filter(|(_, name)| !name.contains('/'))
}

fn take_stream(
    items: &mut Sharded<Tagged>,
    bad_items: &mut Vec<(String, String, String)>,
    stream: &ImageStream,
) -> Result<(), SpoolError> {
    let repository = format!("{}/{}", stream.metadata.namespace, stream.metadata.name);
    for tag in &stream.status.tags {
        for (position, item) in tag.items.iter().enumerate() {
            let tag = match position {
                0 => tag.tag.clone(),
                position => format!("{} in position {position}", tag.tag),
            };
            match item.image.parse::<Digest>() {
                Ok(manifest) => {
                    let item = Tagged {
                        manifest,
                        repository: repository.clone(),
                        tag,
                    };
                    items.push(&manifest, &item)?;
                }
                Err(_) => bad_items.push((repository.clone(), tag, item.image.clone())),
            }
        }
    }
    Ok(())
}

fn take_image(
    images: &mut Sharded<Known>,
    parts: &mut Sharded<Need>,
    image: &Image,
) -> Result<(), SpoolError> {
    let name = &image.metadata.name;
    let Ok(manifest) = name.parse::<Digest>() else {
        warn!(image = name, "its name is no digest: it is in no registry");
        return Ok(());
    };
    let known = Known {
        manifest,
        is_managed: image.metadata.is_managed,
    };
    images.push(&manifest, &known)?;
    if !known.is_managed {
        return Ok(());
    }
    let config = image.config().map(|digest| (Role::Config, digest));
    let layers = image.layers().map(|digest| (Role::Layer, digest));
    let children = image.children().map(|digest| (Role::Child, digest));
    for (role, digest) in layers.chain(children).chain(config) {
        match digest.parse() {
            Ok(digest) => {
                let part = Need {
                    digest,
                    repository: String::new(),
                    manifest,
                    role,
                    size: None,
                };
                parts.push(&manifest, &part)?;
            }
            Err(_) => warn!(image = name, digest, "it names what is no digest"),
        }
    }
    Ok(())
}
