//! The fourth pass: looks again whether what names something broken still stands, and which indexes are broken by it.
//!
//! Comes in: what is broken. Goes out: what is broken still. Between the listings and now something may have been deleted in good
//! order, links first: then nobody misses what is gone.

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::layout::{RepositoryEntry, repository_key};
use hardprune_common::store::{Store, StoreError};

use super::list_repositories::read_tag;
use super::passes::Passes;
use super::read_link::{LinkSays, read_link};
use super::records::{Broken, BrokenTag, Fault, Role, Sharded, Tagged};
use crate::error::RunError;

/// Looks at all of them.
///
/// # Errors
///
/// A registry that cannot be read.
pub(super) async fn blame(passes: &mut Passes) -> Result<Sharded<Broken>, RunError> {
    let mut confirmed = Sharded::new(&passes.spool_dir)?;
    loop {
        let digits = passes.broken.digits();
        let shards = passes.broken.shards(digits);
        if shards.is_empty() {
            return Ok(confirmed);
        }
        for shard in shards {
            let broken = passes.broken.take(&shard, digits)?;
            let tags = passes.tags.take(&shard, digits)?;
            let children = passes.children.take(&shard, digits)?;
            let groups: Vec<&[Broken]> = broken.chunk_by(is_same_image).collect();
            let registry = &*passes.registry;
            let stand: Vec<&[Broken]> = stream::iter(groups)
                .map(|group| {
                    let tags = tags_of(&group[0], &tags);
                    async move { Ok((stands(registry, &group[0], tags).await?, group)) }
                })
                .buffered(passes.reads_in_flight)
                .try_filter_map(|(stands, group)| async move { Ok::<_, StoreError>(stands.then_some(group)) })
                .try_collect()
                .await?;
            for group in stand {
                for broken in group {
                    confirmed.push(&broken.manifest, broken)?;
                }
                if group.iter().all(is_seen_by_indexes) {
                    continue;
                }
                let Broken {
                    manifest, repository, ..
                } = &group[0];
                let indexes = children
                    .iter()
                    .filter(|need| need.digest == *manifest && need.repository == *repository);
                for need in indexes {
                    passes
                        .broken
                        .push(&need.manifest, &need.broken(Fault::BrokenChild, String::new()))?;
                }
            }
            for tagged in &tags {
                passes.tags.push(&tagged.manifest, tagged)?;
            }
            for need in &children {
                passes.children.push(&need.digest, need)?;
            }
        }
    }
}

/// Whether two are of the same manifest in the same repository.
pub(super) fn is_same_image(a: &Broken, b: &Broken) -> bool {
    a.manifest == b.manifest && a.repository == b.repository
}

/// The tags that name a manifest in its repository, of tags that are sorted.
pub(super) fn tags_of<'t>(broken: &Broken, tags: &'t [Tagged]) -> &'t [Tagged] {
    let place = |tagged: &Tagged| {
        tagged
            .manifest
            .cmp(&broken.manifest)
            .then_with(|| tagged.repository.cmp(&broken.repository))
    };
    let begin = tags.partition_point(|tagged| place(tagged).is_lt());
    let end = tags.partition_point(|tagged| place(tagged).is_le());
    &tags[begin..end]
}

/// What an index that needs it sees for itself: that it is not there, or not served.
fn is_seen_by_indexes(broken: &Broken) -> bool {
    broken.role == Role::Manifest && matches!(broken.fault, Fault::Missing | Fault::NoLink | Fault::BadLink)
}

/// Whether a manifest is still one of its repository.
async fn stands(registry: &dyn Store, broken: &Broken, tags: &[Tagged]) -> Result<bool, StoreError> {
    if broken.repository.is_empty() {
        return Ok(true);
    }
    let revision = RepositoryEntry::RevisionLink(broken.manifest);
    let key = repository_key(&broken.repository, &revision);
    if read_link(registry, &key).await? != LinkSays::Gone {
        return Ok(true);
    }
    for tagged in tags {
        let tag = BrokenTag {
            repository: tagged.repository.clone(),
            tag: tagged.tag.clone(),
        };
        if read_tag(registry, &tag).await? == LinkSays::Names(broken.manifest) {
            return Ok(true);
        }
    }
    Ok(false)
}
