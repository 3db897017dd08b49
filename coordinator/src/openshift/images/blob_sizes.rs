//! The bytes of blobs as the images of a cluster tell them: an upper bound for each blob that has one. Pure.

use std::collections::HashMap;

use super::graph::Graph;
use crate::openshift::objects::{Image, ImageMetadata};

/// What is more is no config: registries do not take it.
const LARGEST_CONFIG: u64 = 4 << 20;

/// The bytes of layers; of configs (what metadata counts besides the layers); and of manifests: those whose text the cluster keeps,
/// and those that an index names. Where images tell different sizes of a blob the largest counts, and a size of 0 is none: it
/// stands where a size is not known, as it is of layers in schema 1. Blobs that none tells are not in it.
#[must_use]
pub fn blob_sizes(graph: &Graph) -> HashMap<&str, u64> {
    let mut sizes = HashMap::new();
    for (name, image) in &graph.images {
        let layers = image
            .docker_image_layers
            .iter()
            .map(|layer| (layer.name.as_str(), layer.size));
        let children = image
            .docker_image_manifests
            .iter()
            .map(|child| (child.digest.as_str(), child.manifest_size));
        let told = layers
            .chain(children)
            .filter_map(|(digest, size)| Some((digest, u64::try_from(size).ok()?)))
            .chain(image.manifest_bytes.map(|bytes| (name.as_str(), bytes)))
            .chain(config_size(image));
        for (digest, size) in told.filter(|(_, size)| *size > 0) {
            let largest = sizes.entry(digest).or_insert(size);
            *largest = size.max(*largest);
        }
    }
    sizes
}

/// The config, and what the image's metadata counts besides its layers, each once.
fn config_size(image: &Image) -> Option<(&str, u64)> {
    let ImageMetadata::Read { id, size } = &image.docker_image_metadata else {
        return None;
    };
    let layers: HashMap<&str, u64> = image
        .docker_image_layers
        .iter()
        .filter(|layer| layer.name != *id)
        .filter_map(|layer| Some((layer.name.as_str(), u64::try_from(layer.size).ok()?)))
        .collect();
    let of_layers = layers
        .values()
        .fold(0, |sum: u64, size| sum.saturating_add(*size));
    let size = u64::try_from(*size).ok()?.checked_sub(of_layers)?;
    (size <= LARGEST_CONFIG).then_some((id.as_str(), size))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::graph::Lists;
    use super::super::rules::Ages;
    use super::*;

    fn graph(images: Value) -> Graph {
        let images = serde_json::from_value(images).unwrap();
        let lists = Lists {
            images,
            ..Lists::default()
        };
        Graph::of(lists, &Ages::at(None), false).unwrap()
    }

    #[test]
    fn what_images_tell() {
        let graph = graph(json!([
            {
                "metadata": {"name": "image"},
                "dockerImageMetadata": {"Id": "config", "Size": 137},
                // A layer counts once in the metadata's size, however often the image has it.
                "dockerImageLayers": [{"name": "a", "size": 30}, {"name": "b", "size": 100}, {"name": "a", "size": 30}],
                "dockerImageManifest": "{}",
            },
            {
                "metadata": {"name": "index"},
                "dockerImageManifests": [{"digest": "image", "manifestSize": 2}, {"digest": "child", "manifestSize": 461}],
            },
        ]));
        let expected = [("a", 30), ("b", 100), ("config", 7), ("image", 2), ("child", 461)];
        assert_eq!(blob_sizes(&graph), HashMap::from(expected));
    }

    #[test]
    fn of_different_sizes_the_largest_counts() {
        let sizes = [0, 7, 3];
        let images: Value = sizes
            .iter()
            .enumerate()
            .map(|(number, size)| {
                json!({
                    "metadata": {"name": format!("index{number}")},
                    "dockerImageLayers": [{"name": "layer", "size": size}, {"name": "none", "size": 0}],
                    "dockerImageManifests": [{"digest": "child", "manifestSize": size}, {"digest": "untold"}],
                    "dockerImageMetadata": {"Id": "config", "Size": 2 * size},
                })
            })
            .collect();
        let expected = [("layer", 7), ("child", 7), ("config", 7)];
        assert_eq!(blob_sizes(&graph(images)), HashMap::from(expected));
    }

    #[test]
    fn what_cannot_be_a_size_is_none() {
        let graph = graph(json!([
            {"metadata": {"name": "less-than-its-layers"}, "dockerImageMetadata": {"Id": "one", "Size": 1},
             "dockerImageLayers": [{"name": "layer", "size": 2}]},
            {"metadata": {"name": "larger-than-any-config"}, "dockerImageMetadata": {"Id": "two", "Size": 5 << 20}},
            {"metadata": {"name": "negative"}, "dockerImageLayers": [{"name": "negative", "size": -1}]},
        ]));
        assert_eq!(blob_sizes(&graph), HashMap::from([("layer", 2)]));
    }
}
