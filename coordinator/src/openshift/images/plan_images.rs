//! What is to become of the images, once the streams have lost what they lose: those that no stream names go, and with them
//! the blobs that no other image names. Pure.

use std::collections::{HashMap, HashSet};

use super::graph::Graph;
use super::plan_stream::is_last;
use super::rules::{Ages, Rules};
use crate::openshift::objects::{Image, ImageStream};

/// An image that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    /// The image.
    pub name: String,
    /// The blobs that go with it: layers, config, and its manifest at the end.
    pub blobs: Vec<String>,
}

/// An image without metadata: what it needs cannot be known, so no image goes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image {0}: failed to read metadata for image {0}")]
pub struct NoMetadata(String);

/// What keeps an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptImage {
    /// A tag of a stream names it, or an index that has it for a child.
    Used,
    /// It was not pushed to this registry, and `--all=false`.
    External,
    /// It is younger than `--keep-younger-than`.
    Young,
}

/// The digests that streams name, with the children of indexes, and theirs.
#[must_use]
pub fn used_digests<'a>(
    graph: &'a Graph,
    streams: impl IntoIterator<Item = &'a ImageStream>,
) -> HashSet<&'a str> {
    let mut used = HashSet::new();
    let tags = streams.into_iter().flat_map(|stream| &stream.status.tags);
    for item in tags.flat_map(|tag| &tag.items) {
        if used.insert(item.image.as_str())
            && let Some(image) = graph.images.get(&item.image)
        {
            used.extend(graph.descendants(image));
        }
    }
    used
}

/// Why an image stays; `None` if it goes.
#[must_use]
pub fn keeps(image: &Image, used: &HashSet<&str>, rules: &Rules, ages: &Ages) -> Option<KeptImage> {
    if used.contains(image.metadata.name.as_str()) {
        Some(KeptImage::Used)
    } else if !rules.all_images && !image.metadata.is_managed {
        Some(KeptImage::External)
    } else if !rules.over_size_limit && ages.is_younger(image.metadata.creation_timestamp) {
        Some(KeptImage::Young)
    } else {
        None
    }
}

/// Plans all images. With `blobs` the plan says which blobs go, too.
///
/// # Errors
///
/// An image without metadata.
pub fn plan_images(
    graph: &Graph,
    used: &HashSet<&str>,
    rules: &Rules,
    ages: &Ages,
    with_blobs: bool,
) -> Result<Vec<ImagePlan>, NoMetadata> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (name, image) in &graph.images {
        *counts.entry(name).or_default() += 1;
        let blobs = image.blobs().ok_or_else(|| NoMetadata(name.clone()))?;
        blobs.for_each(|blob| *counts.entry(blob).or_default() += 1);
    }
    let mut doomed: Vec<&Image> = graph.images.values().collect();
    doomed.retain(|image| keeps(image, used, rules, ages).is_none());
    // The same plan of the same lists.
    doomed.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    let plans = doomed.into_iter().map(|image| {
        let name = image.metadata.name.as_str();
        let named = image.blobs().into_iter().flatten().chain([name]);
        let blobs = named.filter(|blob| with_blobs && is_last(&mut counts, blob));
        ImagePlan {
            name: name.to_owned(),
            blobs: blobs.map(str::to_owned).collect(),
        }
    });
    Ok(plans.collect())
}
