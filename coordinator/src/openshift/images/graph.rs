//! Everything that decides: images, image streams, uses, limits. Made of what was listed, and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::limits::Limits;
use super::rules::Ages;
use super::uses::{BadReference, Users, Uses};
use crate::openshift::objects::{Image, ImageMetadata, ImageStream, LimitRange};

/// What was listed.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// All images.
    pub images: Vec<Image>,
    /// The image streams, of all namespaces or of one.
    pub streams: Vec<ImageStream>,
    /// What can use images.
    pub users: Users,
    /// The limits of projects.
    pub limit_ranges: Vec<LimitRange>,
}

/// What decides.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// By name.
    pub images: HashMap<String, Image>,
    /// By `namespace/name`.
    pub streams: BTreeMap<String, ImageStream>,
    /// What uses what.
    pub uses: Uses,
    /// The limits of projects.
    pub limits: Limits,
}

/// There is no graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphError {
    /// The metadata of an image does not decode.
    Metadata(String),
    /// References cannot be read.
    References(Vec<BadReference>),
}

impl Graph {
    /// Makes a graph.
    ///
    /// # Errors
    ///
    /// Metadata of an image that does not decode, references that cannot be read unless those are to be ignored.
    pub fn of(lists: Lists, ages: &Ages, ignore_bad_references: bool) -> Result<Self, GraphError> {
        for image in &lists.images {
            if let ImageMetadata::Unreadable(problem) = &image.docker_image_metadata {
                return Err(GraphError::Metadata(format!(
                    "failed to read image metadata for {}: {problem}",
                    image.metadata.name
                )));
            }
        }
        let (uses, bad) = Uses::of(&lists.users, ages);
        if !bad.is_empty() && !ignore_bad_references {
            return Err(GraphError::References(bad));
        }
        let images = lists
            .images
            .into_iter()
            .map(|image| (image.metadata.name.clone(), image));
        let streams = lists
            .streams
            .into_iter()
            .map(|stream| (stream_key(&stream), stream));
        Ok(Self {
            images: images.collect(),
            streams: streams.collect(),
            uses,
            limits: Limits::of(&lists.limit_ranges),
        })
    }

    /// The children of an index, and theirs, whether there are images of them or not.
    #[must_use]
    pub fn descendants<'a>(&'a self, image: &'a Image) -> Vec<&'a str> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut open: Vec<&Image> = vec![image];
        while let Some(index) = open.pop() {
            for child in index.children() {
                if seen.insert(child) {
                    found.push(child);
                    open.extend(self.images.get(child));
                }
            }
        }
        found
    }
}

/// `namespace/name`.
#[must_use]
pub fn stream_key(stream: &ImageStream) -> String {
    format!("{}/{}", stream.metadata.namespace, stream.metadata.name)
}
