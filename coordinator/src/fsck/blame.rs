//! The fourth pass: looks again whether what names something broken still stands, and which indexes are broken by it.
//!
//! Comes in: what is broken. Goes out: what is broken still. Between the listings and now something may have been deleted in good
//! order, links first: then nobody misses what is gone.

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::layout::{RepositoryEntry, repository_key};
use hardprune_common::store::{Store, StoreError};

use super::cluster::KnownCluster;
use super::list_repositories::read_tag;
use super::passes::Passes;
use super::read_link::{LinkSays, read_link};
use super::records::{Broken, BrokenTag, Fault, Role, Tagged};
use super::sharded::Sharded;
use crate::error::RunError;

/// Looks at all of them.
///
/// # Errors
///
/// A registry that cannot be read.
pub(super) async fn blame(
    passes: &mut Passes,
    cluster: Option<&KnownCluster>,
) -> Result<Sharded<Broken>, RunError> {
    let mut confirmed = Sharded::new(&passes.spool_dir)?;
    loop {
        let digits = passes.broken.digits();
        let shards = passes.broken.shards(digits);
        if shards.is_empty() {
            return Ok(confirmed);
        }
        for shard in shards {
            let broken = passes.broken.take(&shard)?;
            let tags = passes.tags.take(&shard)?;
            let children = passes.children.take(&shard)?;
            let groups: Vec<&[Broken]> = broken.chunk_by(is_same_image).collect();
            let registry = &*passes.registry;
            let stand: Vec<Vec<&Broken>> = stream::iter(groups)
                .map(|group| {
                    let tags = tags_of(&group[0], &tags);
                    async move {
                        match cluster {
                            None if stands(registry, &group[0], tags).await? => Ok(group.iter().collect()),
                            None => Ok(Vec::new()),
                            Some(cluster) => stand_in_cluster(registry, cluster, group, tags).await,
                        }
                    }
                })
                .buffered(passes.reads_in_flight)
                .try_collect::<Vec<Vec<&Broken>>>()
                .await
                .map_err(|error: RunError| error)?;
            for group in stand.iter().filter(|group| !group.is_empty()) {
                for broken in group {
                    confirmed.push(&broken.manifest, broken)?;
                }
                if group.iter().all(|broken| is_seen_by_indexes(broken)) {
                    continue;
                }
                let Broken {
                    manifest, repository, ..
                } = group[0];
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
    use Fault::{BadLink, Missing, NoImage, NoLink};
    broken.role == Role::Manifest && matches!(broken.fault, Missing | NoLink | BadLink | NoImage)
}

/// Of what is broken of an image of the cluster, what stands still.
async fn stand_in_cluster<'b>(
    registry: &dyn Store,
    cluster: &KnownCluster,
    group: &'b [Broken],
    tags: &[Tagged],
) -> Result<Vec<&'b Broken>, RunError> {
    let Broken {
        manifest, repository, ..
    } = &group[0];
    let is_revision = match repository.as_str() {
        "" => false,
        repository => {
            let key = repository_key(repository, &RepositoryEntry::RevisionLink(*manifest));
            read_link(registry, &key).await? != LinkSays::Gone
        }
    };
    let is_tagged = !tags.is_empty() && cluster.is_in_stream(repository, manifest).await?;
    let is_unknown = group.iter().any(|broken| broken.fault == Fault::NoImage);
    let has_image = if is_unknown || repository.is_empty() {
        cluster.has_image(manifest).await?
    } else {
        true
    };
    let stands = |broken: &&Broken| match broken.fault {
        Fault::NoImage => is_tagged && !has_image,
        _ if repository.is_empty() => has_image,
        // What neither has a link nor a tag is the child of an index. That it is not there is said of the index.
        _ => is_revision || is_tagged || tags.is_empty() && !is_seen_by_indexes(broken),
    };
    Ok(group.iter().filter(stands).collect())
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
