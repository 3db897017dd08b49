//! `--references openshift`: what the cluster's images and image streams say.
//!
//! Comes in: the cluster. Goes out: references (of every image its manifest, config, layers and children, and whatever its manifest in
//! the storage names), and for each range of repositories which of them have an image stream and which revisions its tags name.
//! Asked again before anything is deleted, it says what has come since. Any error of the cluster's ends the run before anything is deleted (R1). In memory are the images' names, of which a cluster's
//! database has room for some hundred thousand, and one buffer for each range (R9).

mod image_segments;
mod stream_segments;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, blob_key, repository_key};
use hardprune_common::state::{FileRef, epoch_folder};
use hardprune_common::task::KeyRange;
use hardprune_worker::trace_images::ImageTracer;
use tokio::sync::Mutex;
use tracing::info;

use self::image_segments::ImageSegments;
use self::stream_segments::{StreamSegments, read_new};
use super::cluster::{Cluster, ClusterArgs};
use super::list_objects::{ApiError, IMAGE_STREAMS, IMAGES, Pages};
use super::objects::{Image, ImageStream};
use crate::error::RunError;
use crate::reference_source::{Asking, News, ReferenceSource, Said};

/// Manifests that are remembered as read: those beyond are read again (R9).
const REMEMBERED_MANIFESTS: usize = 100_000;

/// The cluster as a source of references.
pub struct OpenShift {
    cluster: Cluster,
    seen: Mutex<Seen>,
}

/// What it said when it was asked.
#[derive(Default)]
struct Seen {
    images: HashSet<Digest>,
    ranges: Vec<KeyRange>,
    /// For each of these ranges.
    revisions: Vec<Vec<FileRef>>,
}

impl std::fmt::Debug for OpenShift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenShift")
            .field("server", &self.cluster.server)
            .finish_non_exhaustive()
    }
}

impl OpenShift {
    /// Finds the cluster. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// No configuration, or one that cannot be used.
    pub async fn find(args: &ClusterArgs) -> Result<Self, RunError> {
        let cluster = Cluster::find(args)
            .await
            .map_err(|error| RunError::Usage(error.to_string()))?;
        Ok(Self {
            cluster,
            seen: Mutex::default(),
        })
    }

    /// Lists the image streams. Before the images: one that a tag names is there before the tag is, so that none is missed.
    async fn list_streams<'r>(
        &self,
        asking: &Asking<'_>,
        ranges: &'r [KeyRange],
        folder: &str,
    ) -> Result<StreamSegments<'r>, RunError> {
        let mut streams = StreamSegments::new(asking.state, folder, ranges);
        let mut pages = Pages::<ImageStream>::of(&self.cluster.client, IMAGE_STREAMS, None);
        let list_streams = |error| self.failed(error, "image streams");
        while let Some(page) = pages.next().await.map_err(list_streams)? {
            for stream in page.items {
                streams.push(&stream).await?;
            }
        }
        Ok(streams)
    }

    fn failed(&self, error: ApiError, what: &'static str) -> RunError {
        RunError::Cluster {
            server: self.cluster.server.clone(),
            what,
            source: error,
        }
    }
}

#[async_trait]
impl ReferenceSource for OpenShift {
    async fn ask(&self, asking: &Asking<'_>) -> Result<Said, RunError> {
        let folder = format!("{}cluster/", epoch_folder(asking.epoch));
        let streams = self.list_streams(asking, asking.ranges, &folder).await?;
        let tracer = tracer(asking);
        let mut segments = ImageSegments::new(asking.state, &folder, &tracer);
        let mut images: HashSet<Digest> = HashSet::new();
        let mut pages = Pages::<Image>::of(&self.cluster.client, IMAGES, None);
        let list_images = |error| self.failed(error, "images");
        while let Some(page) = pages.next().await.map_err(list_images)? {
            images.extend(segments.push(&page.items).await?);
        }
        if images.is_empty() && !asking.accept_no_references {
            return Err(RunError::Refused(format!(
                "the cluster {} has no image at all, so nothing of the registry would be needed. Is it the right cluster, and may its \
                 images be seen? If really no image is left, say --accept-no-references",
                self.cluster.server
            )));
        }
        info!(images = images.len(), "the cluster is asked");
        let revisions = streams.finish(&images).await?;
        let mut said = segments.finish().await?;
        said.revisions = Some(revisions.clone());
        *self.seen.lock().await = Seen {
            images,
            ranges: asking.ranges.to_vec(),
            revisions,
        };
        Ok(said)
    }

    /// The cluster is not read-only: images are tagged, and imported, while the registry is.
    async fn ask_again(&self, asking: &Asking<'_>) -> Result<News, RunError> {
        let folder = format!("{}cluster-again/", epoch_folder(asking.epoch));
        let seen = self.seen.lock().await;
        let streams = self.list_streams(asking, &seen.ranges, &folder).await?;
        let mut images: HashSet<Digest> = HashSet::new();
        let mut new_images: HashSet<Digest> = HashSet::new();
        let mut news = News::default();
        let mut pages = Pages::<Image>::of(&self.cluster.client, IMAGES, None);
        let list_images = |error| self.failed(error, "images");
        while let Some(page) = pages.next().await.map_err(list_images)? {
            for image in &page.items {
                let Ok(name) = image.metadata.name.parse::<Digest>() else {
                    continue;
                };
                if !seen.images.contains(&name) {
                    let named = image.layers().chain(image.children()).chain(image.config());
                    let digests = named.filter_map(|text| text.parse().ok());
                    news.keys.extend(digests.map(|digest: Digest| blob_key(&digest)));
                    new_images.insert(name);
                }
                images.insert(name);
            }
        }
        let tracer = tracer(asking);
        let needed = tracer.trace(new_images).await?.references;
        news.keys.extend(needed.iter().map(blob_key));
        let again = streams.finish(&images).await?;
        for (before, now) in seen.revisions.iter().zip(&again) {
            for revision in read_new(asking.state, before, now).await? {
                let Some(manifest) = revision.manifest else {
                    news.repositories.insert(revision.repository);
                    continue;
                };
                // An index's children are revisions, too; that no blob is one does no harm.
                let needed = tracer.trace(HashSet::from([manifest])).await?.references;
                let link =
                    |digest| repository_key(&revision.repository, &RepositoryEntry::RevisionLink(digest));
                news.keys.extend(needed.into_iter().map(link));
            }
        }
        Ok(news)
    }
}

fn tracer(asking: &Asking<'_>) -> ImageTracer {
    ImageTracer::new(
        Arc::clone(asking.registry),
        asking.reads_in_flight,
        REMEMBERED_MANIFESTS,
    )
}
