//! Puts copies back where their originals were. Nothing that stands there is overwritten, and a copy goes only when its original was seen
//! in its place ([`PutBack`]). Killed at any point, it goes on when it is asked again.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::failpoint;
use hardprune_common::layout;
use hardprune_common::link::LONGEST_LINK;
use hardprune_common::quarantine::{PutBack, parse_copy_key};
use hardprune_common::store::{
    DeleteBatch, KeyOutcome, ListedObject, PutCondition, Store, StoreError, find_all,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Requests in flight. The store bounds all together.
const AT_ONCE: usize = 64;
const REMOVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages that are kept of what could not be put back.
const FIRST_FAILURES: usize = 10;

/// What was put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBackCounts {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links.
    pub links: u64,
    /// Keys that were in their place already, by a push or because an earlier attempt was killed.
    pub already_there: u64,
    /// Keys in whose place something else stands that was pushed since: it stays, and so does the copy.
    pub left: u64,
    /// Keys that could not be put back; their copies are still there.
    pub failed: u64,
    /// What became of the first of these.
    pub failures: Vec<String>,
}

impl PutBackCounts {
    /// Keys that are in their place now.
    #[must_use]
    pub fn in_place(&self) -> u64 {
        self.blobs + self.links + self.already_there
    }

    /// All that was put back, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "{} blobs ({}) and {} links",
            self.blobs,
            crate::human::bytes(self.bytes),
            self.links
        )
    }

    pub(super) fn fail(&mut self, key: &str, problem: &str) {
        self.failed += 1;
        if self.failures.len() < FIRST_FAILURES {
            self.failures.push(format!("{key}: {problem}"));
        }
    }
}

/// A key that was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The key.
    pub key: String,
    /// What it names, where its key says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// When, by the store's clock.
    pub at: Timestamp,
}

/// Puts copies of one class back. Returns what was.
///
/// # Errors
///
/// A store that fails: what was put back is, and asking again goes on.
pub async fn put_back(
    registry: &Arc<dyn Store>,
    copies: Vec<ListedObject>,
    counts: &mut PutBackCounts,
) -> Result<Vec<Restored>, StoreError> {
    let (blobs, links): (Vec<_>, Vec<_>) = copies.into_iter().partition(|copy| {
        parse_copy_key(&copy.key).is_some_and(|key| layout::parse_blob_key(key.original).is_some())
    });
    let (mut done, mut restored) = put_back_blobs(registry, blobs, counts).await?;
    for (copy, link) in put_back_links(registry, links).await {
        match link {
            Ok(Link::PutBack(proof)) => {
                counts.links += 1;
                restored.push(original_of(&copy.key));
                done.push(proof);
            }
            Ok(Link::AlreadyThere(proof)) => {
                counts.already_there += 1;
                done.push(proof);
            }
            Ok(Link::Other) => counts.left += 1,
            Err(problem) => counts.fail(&original_of(&copy.key), &problem),
        }
    }
    let at = registry.now().await?;
    failpoint::here("put-back-before-copies-go").await;
    remove(&**registry, done, counts).await;
    Ok(restored
        .into_iter()
        .map(|key| Restored {
            digest: layout::digest_of(&key),
            key,
            at,
        })
        .collect())
}

async fn put_back_blobs(
    registry: &Arc<dyn Store>,
    copies: Vec<ListedObject>,
    counts: &mut PutBackCounts,
) -> Result<(Vec<PutBack>, Vec<String>), StoreError> {
    let (mut done, mut restored) = (Vec::new(), Vec::new());
    let originals = keys(&copies);
    let mut missing = Vec::new();
    for (copy, in_place) in copies.into_iter().zip(find_all(&**registry, &originals).await?) {
        match in_place {
            None => missing.push(copy),
            Some(in_place) => match PutBack::seen(&copy, &in_place) {
                Some(proof) => {
                    counts.already_there += 1;
                    done.push(proof);
                }
                None => counts.left += 1,
            },
        }
    }
    let work: Vec<_> = missing
        .into_iter()
        .map(|copy| {
            let registry = Arc::clone(registry);
            async move {
                let copied = registry.copy(&copy.key, &original_of(&copy.key), copy.size).await;
                (copy, copied)
            }
        })
        .collect();
    let mut copied = Vec::new();
    let mut work = stream::iter(work).buffered(AT_ONCE);
    while let Some((copy, result)) = work.next().await {
        match result {
            Ok(()) => copied.push(copy),
            Err(error) => counts.fail(&original_of(&copy.key), &error.to_string()),
        }
    }
    // What was put back must outlast a power failure that the end of its copy outlasts.
    registry.flush().await?;
    failpoint::here("put-back-copied").await;
    let originals = keys(&copied);
    for (copy, in_place) in copied.into_iter().zip(find_all(&**registry, &originals).await?) {
        let seen = in_place.and_then(|in_place| PutBack::seen(&copy, &in_place));
        let Some(proof) = seen else {
            counts.fail(&original_of(&copy.key), "it was copied back and is not there");
            continue;
        };
        counts.blobs += 1;
        counts.bytes += copy.size;
        restored.push(original_of(&copy.key));
        done.push(proof);
    }
    Ok((done, restored))
}

/// What became of a link.
enum Link {
    PutBack(PutBack),
    AlreadyThere(PutBack),
    /// Something else was pushed there since.
    Other,
}

async fn put_back_links(
    registry: &Arc<dyn Store>,
    copies: Vec<ListedObject>,
) -> Vec<(ListedObject, Result<Link, String>)> {
    let work: Vec<_> = copies
        .into_iter()
        .map(|copy| {
            let registry = Arc::clone(registry);
            async move {
                let link = put_back_link(&*registry, &copy.key).await;
                (copy, link)
            }
        })
        .collect();
    let links = stream::iter(work).buffered(AT_ONCE).collect().await;
    if let Err(error) = registry.flush().await {
        // Without that no copy may go.
        let unflushed = |(copy, _)| (copy, Err(error.to_string()));
        return Vec::from_iter(links).into_iter().map(unflushed).collect();
    }
    links
}

/// A link is read and written, not copied: so nothing that was pushed meanwhile can be overwritten.
async fn put_back_link(registry: &dyn Store, copy: &str) -> Result<Link, String> {
    let text = |error: StoreError| error.to_string();
    let original = original_of(copy);
    let bytes = registry.get(copy, 0, LONGEST_LINK).await.map_err(text)?.bytes;
    let put = registry
        .put(&original, bytes.clone(), PutCondition::IfAbsent)
        .await;
    let was_there = match put {
        Ok(_) => false,
        Err(StoreError::ConditionNotMet { .. }) => true,
        Err(error) => return Err(error.to_string()),
    };
    let in_place = registry
        .get(&original, 0, LONGEST_LINK)
        .await
        .map_err(text)?
        .bytes;
    Ok(match PutBack::read(copy, &bytes, &in_place) {
        None => Link::Other,
        Some(proof) if was_there => Link::AlreadyThere(proof),
        Some(proof) => Link::PutBack(proof),
    })
}

/// Removes copies whose originals are in their place. One that stays is removed when it is asked again.
async fn remove(registry: &dyn Store, mut done: Vec<PutBack>, counts: &mut PutBackCounts) {
    while !done.is_empty() {
        let rest = done.split_off(done.len().min(registry.delete_batch_limit()));
        let batch = DeleteBatch::put_back(std::mem::replace(&mut done, rest), REMOVE_TIMEOUT);
        let copies = batch.keys().to_vec();
        for (copy, outcome) in copies.iter().zip(registry.delete(batch).await) {
            if outcome != KeyOutcome::Deleted {
                counts.fail(copy, "it is back, and its copy could not be removed");
            }
        }
    }
}

fn keys(copies: &[ListedObject]) -> Vec<String> {
    copies.iter().map(|copy| original_of(&copy.key)).collect()
}

/// The original's key. Only copies come here.
fn original_of(copy: &str) -> String {
    parse_copy_key(copy).map_or_else(|| copy.to_owned(), |key| key.original.to_owned())
}
