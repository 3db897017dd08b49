//! Plan: lists a shard, decides per blob, and writes exactly which keys would go (R2).
//!
//! Comes in: the shard's filter, from the sealed mark. Goes out: the parts of the shard's plan. Nothing is written to the
//! registry (R7).

use std::collections::HashSet;

use futures::TryStreamExt;
use hardprune_common::digest::Digest;
use hardprune_common::filter::VerifiedFilter;
use hardprune_common::layout::parse_blob_key;
use hardprune_common::removal::{Removal, RemovalKind, RemovalReason};
use hardprune_common::removal_files::RemovalWriter;
use hardprune_common::segment::read_segment;
use hardprune_common::shard::Shard;
use hardprune_common::state::{FileRef, StateStore, epoch_folder};
use hardprune_common::store::{ListRange, ListedObject};
use hardprune_common::task::{PlanFindings, PlanWork, Scope, ShardTotals, Task};

use crate::confirm_manifests::Confirmation;
use crate::context::{TaskError, WorkerContext};
use crate::decide::{Decision, KeepReason, decide};

pub(crate) async fn plan_shard(
    context: &WorkerContext,
    task: &Task,
    attempt: &str,
    work: &PlanWork,
) -> Result<PlanFindings, TaskError> {
    let reviewed = match &work.reviewed {
        Some(list) => Some(reviewed_keys(&context.state, list).await?),
        None => None,
    };
    let key_prefix = format!("{}plans/{}.{attempt}", epoch_folder(&task.epoch), task.id);
    let mut plan = RemovalWriter::new(context.state.clone(), key_prefix.clone());
    let mut confirmation = Confirmation::open(&context.state, work.manifests.as_ref()).await?;
    let mut totals = ShardTotals::default();
    let may_be_absent: Vec<Digest> = match &work.may_be_absent {
        Some(segment) => read_segment(&context.state, segment).await?,
        None => Vec::new(),
    };
    let (prefix, decider) = match &work.scope {
        Scope::Shard(shard) => (
            shard.key_prefix(),
            Some((shard, open_filter(context, task, work, shard).await?)),
        ),
        Scope::Stray(folder) => (folder.clone(), None),
    };
    let mut pages = context.registry.list(ListRange::prefix(prefix));
    while let Some(page) = pages.try_next().await? {
        for blob in page {
            confirmation.take(&blob);
            let decision = match &decider {
                Some((shard, filter)) => decide(&blob, shard, filter, work.cutoff),
                None => Decision::Keep(KeepReason::Unrecognized),
            };
            if decision == Decision::Keep(KeepReason::Referenced)
                && !may_be_absent.is_empty()
                && parse_blob_key(&blob.key)
                    .is_some_and(|digest| may_be_absent.binary_search(&digest).is_ok())
            {
                totals.may_be_absent += 1;
            }
            if count(&mut totals, &blob, decision, reviewed.as_ref()) {
                plan.push(orphan(blob)).await?;
            }
        }
    }
    let mut findings = PlanFindings {
        parts: plan.finish().await?,
        totals,
        ..PlanFindings::default()
    };
    confirmation
        .finish(&context.state, &key_prefix, &mut findings)
        .await?;
    Ok(findings)
}

async fn open_filter(
    context: &WorkerContext,
    task: &Task,
    work: &PlanWork,
    shard: &Shard,
) -> Result<VerifiedFilter, TaskError> {
    let file = work
        .filter
        .as_ref()
        .ok_or_else(|| TaskError::NotForUs(format!("the task names no filter for shard {shard}")))?;
    let bytes = context.state.read(file).await?;
    VerifiedFilter::open(&bytes, shard, &task.epoch).map_err(|source| TaskError::Filter {
        key: file.key.clone(),
        source,
    })
}

async fn reviewed_keys(state: &StateStore, list: &FileRef) -> Result<HashSet<String>, TaskError> {
    let mut keys = HashSet::new();
    for part in state.read_lines::<FileRef>(list).await? {
        keys.extend(
            state
                .read_lines::<Removal>(&part)
                .await?
                .into_iter()
                .map(|removal| removal.key),
        );
    }
    Ok(keys)
}

/// Counts a blob; returns whether it goes into the plan.
fn count(
    totals: &mut ShardTotals,
    blob: &ListedObject,
    decision: Decision,
    reviewed: Option<&HashSet<String>>,
) -> bool {
    if decision == Decision::Keep(KeepReason::Unrecognized) {
        totals.unrecognized_keys += 1;
        return false;
    }
    totals.scanned += 1;
    totals.scanned_bytes += blob.size;
    match decision {
        Decision::Keep(KeepReason::Young) => {
            totals.young += 1;
            totals.young_bytes += blob.size;
        }
        Decision::Keep(_) => totals.referenced += 1,
        Decision::Delete => {
            totals.orphaned += 1;
            totals.orphaned_bytes += blob.size;
            if reviewed.is_some_and(|keys| !keys.contains(&blob.key)) {
                totals.not_reviewed += 1;
                totals.not_reviewed_bytes += blob.size;
                return false;
            }
            return true;
        }
    }
    false
}

fn orphan(blob: ListedObject) -> Removal {
    Removal {
        kind: RemovalKind::Blob,
        key: blob.key,
        size: blob.size,
        last_modified: Some(blob.last_modified),
        reason: RemovalReason::Orphan,
    }
}
