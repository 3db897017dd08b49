//! Multipart uploads that nobody completed (`--abort-multipart-older-than`): counted by a check, aborted by a delete.
//!
//! They are no objects, so no plan names them. What a delete aborts is what it counted and said before (R7), judged anew by the
//! same age: that can only be less. Each abort needs a permit of the lock, which allows the sweep by then (R2, R10, R11).

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::authority::{AuthorityError, TracedPlan};
use hardprune_common::clock;
use hardprune_common::layout::ROOT;
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::run::Epoch;
use hardprune_common::store::{
    AbandonedUpload, KeyOutcome, MultipartUpload, MultipartUploads, Store, StoreError, UploadAbort,
};
use jiff::Timestamp;

use crate::error::RunError;
use crate::garbage::MultipartCounts;
use crate::run::Run;

/// Uploads asked about, and aborted, at once.
const AT_ONCE: usize = 8;

/// Makes sure that a registry's storage has such uploads, before anything else happens.
///
/// # Errors
///
/// [`RunError::Usage`].
pub fn check_supported(registry: &dyn Store, is_wanted: bool) -> Result<(), RunError> {
    if is_wanted && registry.multipart_uploads().is_none() {
        return Err(RunError::Usage(format!(
            "--abort-multipart-older-than: {} has no multipart uploads; S3 has",
            registry.identity()
        )));
    }
    Ok(())
}

/// Counts what would be aborted: uploads of the registry's begun before this time, and not touched since.
///
/// # Errors
///
/// The store's.
pub async fn count(registry: &dyn Store, before: Timestamp) -> Result<MultipartCounts, RunError> {
    let mut counts = MultipartCounts::default();
    let Some(store) = registry.multipart_uploads() else {
        return Ok(counts);
    };
    let mut pages = store.list_uploads(ROOT);
    while let Some(page) = pages.try_next().await? {
        for abandoned in judge(store, page, before, &mut counts).await? {
            counts.add(&abandoned);
        }
    }
    Ok(counts)
}

/// Aborts them, with the lock in hand. Returns what went, and the problems with what did not.
///
/// # Errors
///
/// A listing that fails; a right that is gone.
pub async fn abort(
    run: &Run,
    epoch: &Epoch,
    before: Timestamp,
) -> Result<(MultipartCounts, Vec<Problem>), RunError> {
    let (mut counts, mut problems) = (MultipartCounts::default(), Vec::new());
    let Some(store) = run.registry.multipart_uploads() else {
        return Ok((counts, problems));
    };
    let traced = TracedPlan::trace(Arc::clone(&run.registry), run.state.clone(), epoch).await?;
    let mut pages = store.list_uploads(ROOT);
    while let Some(page) = pages.try_next().await? {
        let abandoned = judge(store, page, before, &mut counts).await?;
        let mut aborts = stream::iter(&abandoned)
            .map(|upload| abort_one(run, store, &traced, upload))
            .buffer_unordered(AT_ONCE);
        while let Some((upload, outcome)) = aborts.try_next().await? {
            let message = match outcome {
                KeyOutcome::Deleted => {
                    counts.add(upload);
                    continue;
                }
                KeyOutcome::Failed(message) | KeyOutcome::Unknown(message) => message,
                KeyOutcome::Throttled => "the store has too many requests".to_owned(),
            };
            counts.failed += 1;
            problems.push(Problem {
                repository: None,
                digest: None,
                kind: ProblemKind::DeleteFailed,
                message: format!(
                    "the multipart upload of {} could not be aborted: {message}",
                    upload.upload().key
                ),
            });
        }
        if run.stop.is_cancelled() {
            break;
        }
    }
    Ok((counts, problems))
}

async fn abort_one<'u>(
    run: &Run,
    store: &dyn MultipartUploads,
    traced: &TracedPlan,
    upload: &'u AbandonedUpload,
) -> Result<(&'u AbandonedUpload, KeyOutcome), AuthorityError> {
    if run.stop.is_cancelled() {
        return Ok((upload, KeyOutcome::Failed("the run is stopping".to_owned())));
    }
    let permit = traced.permit(clock::monotonic_now()).await?;
    let outcome = store.abort_upload(UploadAbort::permitted(&permit, upload)).await;
    Ok((upload, outcome))
}

/// Those of a page that are abandoned.
async fn judge(
    store: &dyn MultipartUploads,
    page: Vec<MultipartUpload>,
    before: Timestamp,
    counts: &mut MultipartCounts,
) -> Result<Vec<AbandonedUpload>, StoreError> {
    let (ours, others): (Vec<_>, Vec<_>) = page.into_iter().partition(MultipartUpload::is_of_a_registry);
    counts.unrecognized += others.len() as u64;
    let (old, young): (Vec<_>, Vec<_>) = ours.into_iter().partition(|upload| upload.initiated < before);
    counts.young += young.len() as u64;
    let judged: Vec<_> = stream::iter(old)
        .map(|upload| async move {
            match store.upload_parts(&upload).await {
                Ok(parts) => Ok(Some(AbandonedUpload::of(upload, parts, before))),
                // It ended since it was listed.
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        })
        .buffered(AT_ONCE)
        .try_filter_map(|judged| async move { Ok(judged) })
        .try_collect()
        .await?;
    counts.young += judged.iter().filter(|judged| judged.is_none()).count() as u64;
    Ok(judged.into_iter().flatten().collect())
}
