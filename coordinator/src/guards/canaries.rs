//! Guard: what must survive is there, whole, and nothing of it is in the sealed plan.
//!
//! Looks for itself, past all that marking found: reads links and manifests anew, and every key of the plan that may be one of
//! these. A canary is an image that the operator knows to be live; where it would not be served after this run, or is not
//! served now, something is wrong with all of it.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, blob_key, parse_blob_key, repository_key};
use hardprune_common::link::{LONGEST_LINK, parse_link};
use hardprune_common::manifest::{LARGEST_MANIFEST, Manifest};
use hardprune_common::removal::Removal;
use hardprune_common::seal::PlanDocument;
use hardprune_common::state::{StateError, StateStore};
use hardprune_common::store::{Store, StoreError};
use hardprune_common::task::Scope;

use super::{Canary, Guard, Refusal};
use crate::error::RunError;

const AT_ONCE: usize = 16;
/// Canaries that a message names.
const NAMED: usize = 10;

/// What one canary needs.
#[derive(Debug, Default)]
struct Needs {
    /// Blobs that must be there.
    blobs: BTreeSet<Digest>,
    /// Keys that must not be removed: those of all its blobs and links.
    keys: BTreeSet<String>,
    /// Why it is not whole as it is.
    broken: Option<String>,
}

/// Proves that all canaries are there and stay.
///
/// # Errors
///
/// Stores that fail: then nothing is proved.
pub async fn prove(
    registry: &dyn Store,
    state: &StateStore,
    plan: &PlanDocument,
    canaries: &[Canary],
) -> Result<Option<Refusal>, RunError> {
    if canaries.is_empty() {
        return Ok(None);
    }
    let needs: Vec<Needs> = stream::iter(canaries)
        .map(|canary| trace(registry, canary))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let blobs: BTreeSet<Digest> = needs.iter().flat_map(|needs| &needs.blobs).copied().collect();
    let absent = absent(registry, &blobs).await?;
    let keys = needs.iter().flat_map(|needs| &needs.keys).collect();
    let removed = removed(state, plan, keys).await?;

    let mut problems: Vec<String> = Vec::new();
    for (canary, needs) in canaries.iter().zip(&needs) {
        let absent = needs.blobs.iter().find(|digest| absent.contains(digest));
        let removed = needs.keys.iter().find(|key| removed.contains(*key));
        let problem = if let Some(broken) = &needs.broken {
            broken.clone()
        } else if let Some(digest) = absent {
            format!("blob {digest} is not there")
        } else if let Some(key) = removed {
            format!("the plan would remove {key}")
        } else {
            continue;
        };
        problems.push(format!("{canary}: {problem}"));
    }
    if problems.is_empty() {
        return Ok(None);
    }
    let message = format!(
        "{} of {} that must be kept (--must-keep) are not whole, or would not be: {}{}. Find out why before anything is deleted; \
         what need not be kept does not belong in that file",
        problems.len(),
        canaries.len(),
        problems[..problems.len().min(NAMED)].join("; "),
        if problems.len() > NAMED { "; …" } else { "" },
    );
    Ok(Some(Refusal {
        guard: Guard::MustKeep,
        message,
    }))
}

async fn trace(registry: &dyn Store, canary: &Canary) -> Result<Needs, StoreError> {
    let mut needs = Needs::default();
    let traced = match canary {
        Canary::Blob(digest) => {
            needs.blobs.insert(*digest);
            needs.keys.insert(blob_key(digest));
            Ok(())
        }
        Canary::Revision { repository, digest } => {
            trace_image(registry, repository, *digest, &mut needs).await?
        }
        Canary::Tag { repository, tag } => {
            let key = repository_key(repository, &RepositoryEntry::TagCurrent { tag: tag.clone() });
            match link(registry, &key).await? {
                Ok(digest) => {
                    needs.keys.insert(key);
                    trace_image(registry, repository, digest, &mut needs).await?
                }
                Err(problem) => Err(problem),
            }
        }
    };
    needs.broken = traced.err();
    Ok(needs)
}

/// Follows an image from its revision to all that it needs, as a registry does that serves it.
async fn trace_image(
    registry: &dyn Store,
    repository: &str,
    root: Digest,
    needs: &mut Needs,
) -> Result<Result<(), String>, StoreError> {
    let mut open = vec![root];
    let mut seen = BTreeSet::new();
    while let Some(digest) = open.pop() {
        if !seen.insert(digest) {
            continue;
        }
        let revision = repository_key(repository, &RepositoryEntry::RevisionLink(digest));
        match link(registry, &revision).await? {
            Ok(named) if named == digest => {}
            Ok(named) => return Ok(Err(format!("revision link {digest} names {named}"))),
            // A child that was never pushed here is not served now either: an index may be sparse.
            Err(_) if digest != root => continue,
            Err(problem) => return Ok(Err(problem)),
        }
        needs.keys.insert(revision);
        needs.keys.insert(blob_key(&digest));
        let bytes = match registry.get(&blob_key(&digest), 0, LARGEST_MANIFEST).await {
            Ok(object) => object.bytes,
            Err(error) if error.is_not_found() => {
                return Ok(Err(format!("manifest {digest} is not there")));
            }
            Err(StoreError::Denied { detail, .. }) => {
                return Ok(Err(format!("manifest {digest} may not be read: {detail}")));
            }
            Err(error) => return Err(error),
        };
        if Digest::of(digest.algorithm(), &bytes) != digest {
            return Ok(Err(format!(
                "manifest {digest} has other bytes than its digest says"
            )));
        }
        let manifest = match Manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(Err(format!("manifest {digest} is {error}"))),
        };
        for blob in manifest.blobs.iter().chain(&manifest.listed_blobs) {
            // Of a foreign layer there need be no blob; if there is one it stays.
            if !manifest.foreign.contains(blob) {
                needs.blobs.insert(*blob);
            }
            needs.keys.insert(blob_key(blob));
            needs
                .keys
                .insert(repository_key(repository, &RepositoryEntry::LayerLink(*blob)));
        }
        open.extend(manifest.children);
    }
    Ok(Ok(()))
}

async fn link(registry: &dyn Store, key: &str) -> Result<Result<Digest, String>, StoreError> {
    Ok(match registry.get(key, 0, LONGEST_LINK).await {
        Ok(object) => parse_link(&object.bytes).map_err(|error| format!("{key} cannot be read: {error}")),
        Err(error) if error.is_not_found() => Err(format!("{key} is not there")),
        Err(StoreError::Denied { detail, .. }) => Err(format!("{key} may not be read: {detail}")),
        Err(error) => return Err(error),
    })
}

/// Those of these blobs that are not there: each is asked for one byte.
async fn absent(registry: &dyn Store, blobs: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, StoreError> {
    stream::iter(blobs)
        .map(|digest| async move {
            match registry.get(&blob_key(digest), 0, 1).await {
                // One that may not be read is there, and served by who may.
                Ok(_) | Err(StoreError::Denied { .. }) => Ok(None),
                Err(error) if error.is_not_found() => Ok(Some(*digest)),
                Err(error) => Err(error),
            }
        })
        .buffered(AT_ONCE)
        .try_filter_map(|absent| async move { Ok(absent) })
        .try_collect()
        .await
}

/// Those of these keys that the plan removes. One part of the plan is in memory at a time (R9).
pub(super) async fn removed(
    state: &StateStore,
    plan: &PlanDocument,
    keys: BTreeSet<&String>,
) -> Result<BTreeSet<String>, StateError> {
    let digests: Vec<Digest> = keys.iter().filter_map(|key| parse_blob_key(key)).collect();
    // Of the shards only those that hold a blob of a canary.
    let shards = plan.shards.iter().filter(|plan| match &plan.scope {
        Scope::Shard(shard) => digests.iter().any(|digest| shard.contains(digest)),
        Scope::Stray(_) => true,
    });
    let files = plan
        .before_shards()
        .chain(shards.flat_map(|shard| &shard.findings.parts));
    let mut removed = BTreeSet::new();
    for file in files {
        let removals: Vec<Removal> = state.read_lines(file).await?;
        removed.extend(
            removals
                .into_iter()
                .map(|removal| removal.key)
                .filter(|key| keys.contains(key)),
        );
    }
    Ok(removed)
}
