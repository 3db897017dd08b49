//! `--references openshift`: what the cluster's images and image streams say.
//!
//! Comes in: the cluster. Goes out: references (of every image its manifest, config, layers and children, and whatever its manifest in
//! the storage names), and for each range of repositories which of them have an image stream and which revisions its tags name.
//! Any error of the cluster's ends the run before anything is deleted (R1). In memory are the images' names, of which a cluster's
//! database has room for some hundred thousand, and one buffer for each range (R9).

mod image_segments;
mod stream_segments;

use std::collections::HashSet;

use async_trait::async_trait;
use hardprune_common::digest::Digest;
use hardprune_common::state::epoch_folder;
use hardprune_worker::trace_images::ImageTracer;
use tracing::info;

use self::image_segments::ImageSegments;
use self::stream_segments::StreamSegments;
use super::cluster::{Cluster, ClusterArgs};
use super::list_objects::{ApiError, IMAGE_STREAMS, IMAGES, Pages};
use super::objects::{Image, ImageStream};
use crate::error::RunError;
use crate::reference_source::{Asking, ReferenceSource, Said};

/// Manifests that are remembered as read: those beyond are read again (R9).
const REMEMBERED_MANIFESTS: usize = 1 << 20;

/// The cluster as a source of references.
pub struct OpenShift {
    cluster: Cluster,
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
        Ok(Self { cluster })
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
        // Streams first: an image that a tag names is there before the tag is, so that none of those named is missed.
        let mut streams = StreamSegments::new(asking.state, &folder, asking.ranges);
        let mut pages = Pages::<ImageStream>::of(&self.cluster.client, IMAGE_STREAMS, None);
        let mut known = 0_u64;
        let list_streams = |error| self.failed(error, "image streams");
        while let Some(page) = pages.next().await.map_err(list_streams)? {
            known += page.items.len() as u64;
            for stream in page.items {
                streams.push(&stream).await?;
            }
        }

        let tracer = ImageTracer::new(
            std::sync::Arc::clone(asking.registry),
            asking.reads_in_flight,
            REMEMBERED_MANIFESTS,
        );
        let mut segments = ImageSegments::new(asking.state, &folder, &tracer);
        let mut names: HashSet<Digest> = HashSet::new();
        let mut pages = Pages::<Image>::of(&self.cluster.client, IMAGES, None);
        let list_images = |error| self.failed(error, "images");
        while let Some(page) = pages.next().await.map_err(list_images)? {
            names.extend(segments.push(&page.items).await?);
        }
        if names.is_empty() && !asking.accept_no_references {
            return Err(RunError::Refused(format!(
                "the cluster {} has no image at all, so nothing of the registry would be needed. Is it the right cluster, and may its \
                 images be seen? If really no image is left, say --accept-no-references",
                self.cluster.server
            )));
        }
        info!(images = names.len(), streams = known, "the cluster is asked");
        let revisions = streams.finish(&names).await?;
        let mut said = segments.finish().await?;
        said.revisions = Some(revisions);
        Ok(said)
    }
}
