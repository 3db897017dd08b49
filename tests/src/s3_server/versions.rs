//! What a versioned bucket keeps behind its current objects: what was replaced or deleted, and the markers that deletes leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::content::Object;

/// What is kept of a key besides its current object.
#[derive(Clone, Debug)]
pub(super) enum Hidden {
    Object(Arc<Object>),
    Marker { version: u64, at: Timestamp },
}

impl Hidden {
    fn version(&self) -> u64 {
        match self {
            Self::Object(object) => object.version,
            Self::Marker { version, .. } => *version,
        }
    }
}

/// One version in a listing.
#[derive(Clone, Debug)]
pub(super) struct ListedVersion {
    pub key: String,
    pub id: String,
    pub is_newest: bool,
    /// Size and `ETag`; a delete marker has neither.
    pub object: Option<(u64, String)>,
    pub last_modified: Timestamp,
}

/// What was removed by its version id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RemovedVersion {
    pub was_marker: bool,
}

/// By key, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Versions(BTreeMap<String, Vec<Hidden>>);

/// The name of a version in a bucket that keeps versions.
pub(super) fn version_id(version: u64) -> String {
    format!("version-{version:016}")
}

impl Versions {
    pub(super) fn hide(&mut self, key: &str, hidden: Hidden) {
        self.0.entry(key.to_owned()).or_default().push(hidden);
    }

    pub(super) fn bytes(&self) -> u64 {
        let hidden = self.0.values().flatten();
        hidden
            .map(|hidden| match hidden {
                Hidden::Object(object) => object.bytes.len() as u64,
                Hidden::Marker { .. } => 0,
            })
            .sum()
    }

    /// Removes a version for good. What is the newest then is current, if it is an object.
    pub(super) fn remove(
        &mut self,
        objects: &mut BTreeMap<String, Arc<Object>>,
        key: &str,
        id: &str,
    ) -> Option<RemovedVersion> {
        let hidden = self.0.entry(key.to_owned()).or_default();
        let mut removed = None;
        if objects
            .get(key)
            .is_some_and(|current| version_id(current.version) == id)
        {
            objects.remove(key);
            removed = Some(RemovedVersion { was_marker: false });
        } else if let Some(place) = hidden
            .iter()
            .position(|hidden| version_id(hidden.version()) == id)
        {
            let was_marker = matches!(hidden.remove(place), Hidden::Marker { .. });
            removed = Some(RemovedVersion { was_marker });
        }
        if !objects.contains_key(key)
            && let Some(Hidden::Object(_)) = hidden.last()
            && let Some(Hidden::Object(object)) = hidden.pop()
        {
            objects.insert(key.to_owned(), object);
        }
        if hidden.is_empty() {
            self.0.remove(key);
        }
        removed
    }

    /// Returns all versions of the keys under a prefix, in the order of S3: by key, of each the newest first.
    pub(super) fn list(
        &self,
        objects: &BTreeMap<String, Arc<Object>>,
        prefix: &str,
        versioned: bool,
    ) -> Vec<ListedVersion> {
        let under = |key: &&String| key.starts_with(prefix);
        let current = objects.range(prefix.to_owned()..).map(|(key, _)| key);
        let hidden = self.0.range(prefix.to_owned()..).map(|(key, _)| key);
        let keys: BTreeSet<&String> = current
            .take_while(under)
            .chain(hidden.take_while(under))
            .collect();
        let mut listed = Vec::new();
        for key in keys {
            let current = objects.get(key).cloned().map(Hidden::Object);
            let hidden = self.0.get(key).into_iter().flatten().rev().cloned();
            for (place, version) in current.into_iter().chain(hidden).enumerate() {
                let (object, last_modified) = match &version {
                    Hidden::Object(object) => (
                        Some((object.bytes.len() as u64, object.etag.clone())),
                        object.last_modified,
                    ),
                    Hidden::Marker { at, .. } => (None, *at),
                };
                listed.push(ListedVersion {
                    key: key.clone(),
                    id: if versioned {
                        version_id(version.version())
                    } else {
                        "null".to_owned()
                    },
                    is_newest: place == 0,
                    object,
                    last_modified,
                });
            }
        }
        listed
    }
}
