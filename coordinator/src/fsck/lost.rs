//! Manifests of repositories that the cluster does not know there: looked at again, and made known to it if that is asked for.
//!
//! Not lost are children of indexes that a stream has, and what is young: a push writes a manifest first, and tells the cluster then.

use std::collections::HashSet;
use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, repository_key};
use hardprune_common::store::{Store, StoreError, find_one};
use jiff::Timestamp;

use super::cluster::KnownCluster;
use super::findings::{Finding, FindingKind, Findings, RestoreOutcome};
use super::passes::Passes;
use super::records::{Broken, Lost};
use super::restore::{Image, read_image, restore};
use super::sharded::Sharded;
use crate::error::RunError;

/// What is younger may still be pushed.
const YOUNG: Duration = Duration::from_secs(60 * 60);

/// What is to be done about what is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    None,
    /// Says what would be done.
    DryRun,
    /// Makes it known again.
    Restore,
}

/// Those that no index of a stream lists.
pub(super) fn not_kept(passes: &mut Passes, mut lost: Sharded<Lost>) -> Result<Sharded<Lost>, RunError> {
    let mut left = Sharded::new(&passes.spool_dir)?;
    let digits = lost.digits();
    for shard in lost.shards(digits) {
        let kept: HashSet<(Digest, String)> = passes
            .kept
            .take(&shard)?
            .into_iter()
            .map(|root| (root.manifest, root.repository))
            .collect();
        for lost in lost.take(&shard)? {
            if !kept.contains(&(lost.manifest, lost.repository.clone())) {
                left.push(&lost.manifest, &lost)?;
            }
        }
    }
    Ok(left)
}

/// Says what is lost, and restores what is whole of it: indexes after their children.
pub(super) async fn look_again(
    passes: &mut Passes,
    cluster: &KnownCluster,
    mut lost: Sharded<Lost>,
    broken: &mut Sharded<Broken>,
    remedy: Remedy,
    findings: &mut Findings,
) -> Result<(), RunError> {
    let now = passes.registry.now().await?;
    let registry = std::sync::Arc::clone(&passes.registry);
    let registry = &*registry;
    let mut indexes = Sharded::new(&passes.spool_dir)?;
    let digits = lost.digits();
    for shard in lost.shards(digits) {
        let broken_here = broken.take(&shard)?;
        let broken_images: HashSet<(Digest, &str)> = broken_here
            .iter()
            .filter(|broken| broken.fault != super::records::Fault::NoImage)
            .map(|broken| (broken.manifest, broken.repository.as_str()))
            .collect();
        for lost in lost.take(&shard)? {
            if !is_lost(registry, cluster, &lost, now).await? {
                continue;
            }
            passes.seen.not_in_stream += u64::from(lost.is_known);
            if remedy == Remedy::None && lost.is_known {
                continue;
            }
            let is_whole = !broken_images.contains(&(lost.manifest, lost.repository.as_str()));
            let read = match remedy {
                Remedy::None => Ok(None),
                _ if !is_whole => Err("it is broken itself".to_owned()),
                _ => read_image(registry, cluster, &lost).await?.map(Some),
            };
            match read {
                Ok(Some(image)) if image.is_index && remedy == Remedy::Restore => {
                    indexes.push(&lost.manifest, &lost)?;
                }
                read => findings.push(outcome(cluster, &lost, read, remedy).await)?,
            }
        }
        for broken_one in &broken_here {
            broken.push(&broken_one.manifest, broken_one)?;
        }
    }
    let digits = indexes.digits();
    for shard in indexes.shards(digits) {
        for lost in indexes.take(&shard)? {
            let read = read_image(registry, cluster, &lost).await?.map(Some);
            findings.push(outcome(cluster, &lost, read, remedy).await)?;
        }
    }
    Ok(())
}

async fn outcome(
    cluster: &KnownCluster,
    lost: &Lost,
    read: Result<Option<Image>, String>,
    remedy: Remedy,
) -> Finding {
    let (outcome, detail) = match read {
        Ok(None) => (None, String::new()),
        Err(why) => (
            Some(RestoreOutcome::NotPossible),
            format!("cannot be restored: {why}"),
        ),
        Ok(Some(image)) if remedy == Remedy::DryRun => (
            Some(RestoreOutcome::WouldRestore),
            image.in_words("would be added"),
        ),
        Ok(Some(image)) => match restore(cluster, &image).await {
            Ok(()) => (Some(RestoreOutcome::Restored), image.in_words("added")),
            Err(error) => (
                Some(RestoreOutcome::Failed),
                format!("could not be restored: {error}"),
            ),
        },
    };
    let kind = if lost.is_known {
        FindingKind::NotInStream
    } else {
        FindingKind::MetadataLost
    };
    Finding::of_lost(&lost.repository, lost.manifest, kind, outcome, &detail)
}

/// Whether it is lost still, and long enough.
async fn is_lost(
    registry: &dyn Store,
    cluster: &KnownCluster,
    lost: &Lost,
    now: Timestamp,
) -> Result<bool, RunError> {
    let Some(written) = revision_written(registry, lost).await? else {
        return Ok(false);
    };
    if written > clock::earlier(now, YOUNG) {
        return Ok(false);
    }
    if lost.is_known {
        return Ok(!cluster.is_in_stream(&lost.repository, &lost.manifest).await?);
    }
    Ok(!cluster.has_image(&lost.manifest).await?)
}

/// When the link of a manifest was written. `None`: it is gone.
async fn revision_written(registry: &dyn Store, lost: &Lost) -> Result<Option<Timestamp>, StoreError> {
    let key = repository_key(&lost.repository, &RepositoryEntry::RevisionLink(lost.manifest));
    let link = find_one(registry, &key, true).await?;
    Ok(link.map(|link| link.last_modified))
}
