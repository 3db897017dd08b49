//! Which repositories have an image stream, and which revisions its tags name: segments for each range of repositories, so that a
//! worker reads no more than its range's.

use std::collections::{BTreeSet, HashSet};

use hardprune_common::digest::Digest;
use hardprune_common::layout::REPOSITORIES;
use hardprune_common::segment::{ClusterRevision, SegmentWriter, read_segment};
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::task::KeyRange;

use crate::openshift::objects::ImageStream;

/// Writes what image streams name.
pub(super) struct StreamSegments<'r> {
    state: StateStore,
    folder: String,
    ranges: &'r [KeyRange],
    writers: Vec<SegmentWriter<ClusterRevision>>,
}

impl<'r> StreamSegments<'r> {
    pub fn new(state: &StateStore, folder: &str, ranges: &'r [KeyRange]) -> Self {
        let writer = |place| SegmentWriter::new(state.clone(), format!("{folder}streams-{place}"));
        Self {
            state: state.clone(),
            folder: folder.to_owned(),
            ranges,
            writers: (0..ranges.len()).map(writer).collect(),
        }
    }

    /// Takes a stream.
    pub async fn push(&mut self, stream: &ImageStream) -> Result<(), StateError> {
        let repository = format!("{}/{}", stream.metadata.namespace, stream.metadata.name);
        let place = range_of(self.ranges, &repository);
        let Some(writer) = self.writers.get_mut(place) else {
            return Ok(());
        };
        let items = stream.status.tags.iter().flat_map(|tag| &tag.items);
        let manifests = items.filter_map(|item| item.image.parse().ok()).map(Some);
        for manifest in manifests.chain([None]) {
            let repository = repository.clone();
            writer.push(ClusterRevision { repository, manifest }).await?;
        }
        Ok(())
    }

    /// Ends the list. A tag that names none of these images serves nothing. Returns the segments of each range.
    pub async fn finish(self, images: &HashSet<Digest>) -> Result<Vec<Vec<FileRef>>, StateError> {
        let mut ranges = Vec::new();
        for (place, writer) in self.writers.into_iter().enumerate() {
            let prefix = format!("{}revisions-{place}", self.folder);
            let mut kept = SegmentWriter::new(self.state.clone(), prefix);
            for file in writer.finish().await? {
                for revision in read_segment::<ClusterRevision>(&self.state, &file).await? {
                    if revision
                        .manifest
                        .is_none_or(|manifest| images.contains(&manifest))
                    {
                        kept.push(revision).await?;
                    }
                }
            }
            ranges.push(kept.finish().await?);
        }
        Ok(ranges)
    }
}

/// What segments of a range name now and did not before.
pub(super) async fn read_new(
    state: &StateStore,
    before: &[FileRef],
    now: &[FileRef],
) -> Result<BTreeSet<ClusterRevision>, StateError> {
    let mut known = HashSet::new();
    for file in before {
        known.extend(read_segment::<ClusterRevision>(state, file).await?);
    }
    let mut new = BTreeSet::new();
    for file in now {
        let revisions = read_segment::<ClusterRevision>(state, file).await?;
        new.extend(revisions.into_iter().filter(|revision| !known.contains(revision)));
    }
    Ok(new)
}

/// The range that a repository is marked in: they tile the key space, and are cut between repositories.
fn range_of(ranges: &[KeyRange], repository: &str) -> usize {
    let key = format!("{REPOSITORIES}{repository}/_");
    ranges.partition_point(|range| range.to.as_ref().is_some_and(|to| *to < key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_in_the_range_that_lists_its_keys() {
        let cut = |name: &str| format!("{REPOSITORIES}{name}/");
        let cuts = ["a/b", "ns", "ns/is", "ns2"].map(cut);
        let mut after = None;
        let mut ranges: Vec<KeyRange> = Vec::new();
        for to in cuts.into_iter().map(Some).chain([None]) {
            ranges.push(KeyRange {
                after: after.clone(),
                to: to.clone(),
            });
            after = to;
        }
        for name in [
            "a", "a/b", "a/b/c", "ns", "ns/a", "ns/is", "ns/is-2", "ns/IS", "ns-1/x", "ns2", "z",
        ] {
            let place = range_of(&ranges, name);
            for end in [
                "_layers/sha256/0/link",
                "_manifests/tags/a/current/link",
                "_uploads/x",
            ] {
                let key = format!("{REPOSITORIES}{name}/{end}");
                let listed: Vec<bool> = ranges
                    .iter()
                    .map(|range| range.listing().contains(&key))
                    .collect();
                assert!(listed[place], "{key} is not in range {place}: {listed:?}");
            }
        }
    }
}
