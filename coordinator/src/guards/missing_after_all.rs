//! Guard: a manifest that marking found missing is missing still.
//!
//! What was not there and is there now means that the storage does not read what was written, or that something writes. In
//! both cases what else was not seen may be there, too. No option overrides that.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, blob_key, parse_repository_key};
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::removal::{Removal, RemovalReason};
use hardprune_common::seal::{MarkDocument, PlanDocument};
use hardprune_common::state::{StateError, StateStore};
use hardprune_common::store::{Store, StoreError};

use super::{Guard, Refusal};
use crate::error::RunError;

/// Manifests looked for again, at most (R9). First come those whose links would go for it (`--prune-broken`).
const MOST: usize = 1_000;
const AT_ONCE: usize = 16;
/// Those that a message names.
const NAMED: usize = 3;

/// Looks again for manifests that were missing. A listing is not asked, nor the object's head: what was missing is what could
/// not be read, so that is done once more, with one byte.
///
/// # Errors
///
/// Stores that fail.
pub async fn look_again(
    registry: &dyn Store,
    state: &StateStore,
    mark: &MarkDocument,
    plan: &PlanDocument,
) -> Result<Option<Refusal>, RunError> {
    let missing = missing(state, mark, plan).await?;
    let looked_for = missing.len();
    let there: Vec<String> = stream::iter(missing)
        .map(|(digest, repository)| async move {
            match registry.get(&blob_key(&digest), 0, 1).await {
                Err(StoreError::NotFound { .. }) => Ok(None),
                // One that may not be read is there.
                Ok(_) | Err(StoreError::Denied { .. }) => Ok(Some(format!("{digest} of {repository}"))),
                Err(error) => Err(error),
            }
        })
        .buffered(AT_ONCE)
        .try_filter_map(|there| async move { Ok(there) })
        .try_collect()
        .await?;
    if there.is_empty() {
        return Ok(None);
    }
    let message = format!(
        "{} of {looked_for} manifests that were missing when their repositories were marked are there now ({}{}). What this \
         storage reads cannot be relied on, or something writes to the registry. Find out which, and run again; no option \
         overrides this",
        there.len(),
        there[..there.len().min(NAMED)].join(", "),
        if there.len() > NAMED { ", …" } else { "" },
    );
    Ok(Some(Refusal {
        guard: Guard::MissingAfterAll,
        message,
    }))
}

/// Manifests that were missing, each with a repository that has a link to it.
async fn missing(
    state: &StateStore,
    mark: &MarkDocument,
    plan: &PlanDocument,
) -> Result<BTreeMap<Digest, String>, StateError> {
    let mut missing = BTreeMap::new();
    for file in &plan.unlink {
        for removal in state.read_lines::<Removal>(file).await? {
            if removal.reason == RemovalReason::ManifestMissing
                && let Some(key) = parse_repository_key(&removal.key)
                && let Some(RepositoryEntry::RevisionLink(digest)) = key.entry
            {
                missing.insert(digest, key.repository.to_owned());
            }
            if missing.len() >= MOST {
                return Ok(missing);
            }
        }
    }
    for file in mark
        .ranges
        .iter()
        .filter_map(|range| range.findings.problems.as_ref())
    {
        for problem in state.read_lines::<Problem>(file).await? {
            if problem.kind == ProblemKind::ManifestMissing
                && let Some(digest) = problem.digest
            {
                missing.insert(digest, problem.repository.unwrap_or_default());
            }
            if missing.len() >= MOST {
                return Ok(missing);
            }
        }
    }
    Ok(missing)
}
