//! What is to become of one image stream: which revisions go, and with them which links of its repository. Pure.

use std::collections::HashMap;

use super::rules::{Decider, Place, Verdict};
use crate::openshift::objects::{ImageStream, TagItem};

/// What goes from a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPlan {
    /// For each tag, the positions that go, ascending.
    pub removed: Vec<Vec<usize>>,
    /// How many revisions go.
    pub removed_items: usize,
    /// Blobs that no revision of the stream needs any longer.
    pub layer_links: Vec<String>,
    /// Manifests that no revision of the stream names any longer.
    pub manifest_links: Vec<String>,
}

/// An image without metadata: what it needs cannot be known, so nothing of its streams goes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tag {tag}: image {image}: failed to read metadata for image {image}")]
pub struct NoMetadata {
    tag: String,
    image: String,
}

/// Plans a stream as it is now, which is not always as it was listed: a revision that came since then stays.
///
/// # Errors
///
/// An image without metadata.
pub fn plan_stream(
    decider: Decider<'_>,
    stream: &ImageStream,
    listed: &ImageStream,
) -> Result<StreamPlan, NoMetadata> {
    let graph = decider.graph;
    let mut blobs: HashMap<&str, usize> = HashMap::new();
    let mut manifests: HashMap<&str, usize> = HashMap::new();
    for tag in &stream.status.tags {
        for item in &tag.items {
            let Some(image) = graph.images.get(&item.image) else {
                continue;
            };
            let needed = image.blobs().ok_or_else(|| NoMetadata {
                tag: tag.tag.clone(),
                image: item.image.clone(),
            })?;
            *manifests.entry(&image.metadata.name).or_default() += 1;
            needed.for_each(|blob| *blobs.entry(blob).or_default() += 1);
        }
    }
    let mut plan = StreamPlan::default();
    for tag in &stream.status.tags {
        let before = listed.status.tags.iter().find(|listed| listed.tag == tag.tag);
        let was_listed = |item: &TagItem| before.is_some_and(|before| before.items.contains(item));
        let mut removed = Vec::new();
        for (position, item) in tag.items.iter().enumerate() {
            let place = Place {
                namespace: &stream.metadata.namespace,
                stream: &stream.metadata.name,
                tag: &tag.tag,
                position,
                item,
            };
            // R1: its image may have come after the images were listed.
            if !was_listed(item) || matches!(decider.decide(place), Verdict::Keep(_)) {
                continue;
            }
            removed.push(position);
            let Some(image) = graph.images.get(&item.image) else {
                continue;
            };
            if is_last(&mut manifests, &image.metadata.name) {
                plan.manifest_links.push(image.metadata.name.clone());
            }
            for blob in image.blobs().into_iter().flatten() {
                if is_last(&mut blobs, blob) {
                    plan.layer_links.push(blob.to_owned());
                }
            }
        }
        plan.removed_items += removed.len();
        plan.removed.push(removed);
    }
    Ok(plan)
}

/// Takes one away; whether none is left.
pub(super) fn is_last(counts: &mut HashMap<&str, usize>, of: &str) -> bool {
    counts.get_mut(of).is_some_and(|count| {
        *count = count.saturating_sub(1);
        *count == 0
    })
}

impl StreamPlan {
    /// The stream's tags without what goes. Tags without revisions go with them.
    #[must_use]
    pub fn remaining(&self, stream: &ImageStream) -> ImageStream {
        let mut stream = stream.clone();
        for (tag, removed) in stream.status.tags.iter_mut().zip(&self.removed) {
            let mut position = 0;
            tag.items.retain(|_| {
                position += 1;
                removed.binary_search(&(position - 1)).is_err()
            });
        }
        stream.status.tags.retain(|tag| !tag.items.is_empty());
        stream
    }
}
