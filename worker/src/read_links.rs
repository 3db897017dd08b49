//! Reads links whose content matters: a tag's, and those whose size or `ETag` does not fit their key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hardprune_common::digest::{Digest, scan_for_digests};
use hardprune_common::link::{LONGEST_LINK, parse_link};
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::store::{Store, StoreError};

use crate::repository_keys::OddLink;

/// What a link's content says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LinkRead {
    /// A digest.
    Names(Digest),
    /// Something else; with every digest-shaped string in it.
    Garbage(String, Vec<Digest>),
    /// The link is gone since it was listed.
    Gone,
}

/// Reads links for one task.
#[derive(Debug)]
pub(crate) struct LinkReader {
    registry: Arc<dyn Store>,
    /// Whether an `ETag` that looks like an MD5 is one. Where encryption makes them up, each would look wrong.
    etags_mean_nothing: AtomicBool,
}

impl LinkReader {
    pub fn new(registry: Arc<dyn Store>) -> Self {
        Self {
            registry,
            etags_mean_nothing: AtomicBool::new(false),
        }
    }

    /// Reads one link.
    ///
    /// # Errors
    ///
    /// A store that fails. A link that may not be read is garbage.
    pub async fn read(&self, key: &str) -> Result<LinkRead, StoreError> {
        let bytes = match self.registry.get(key, 0, LONGEST_LINK).await {
            Ok(object) => object.bytes,
            Err(StoreError::NotFound { .. }) => return Ok(LinkRead::Gone),
            Err(StoreError::Denied { detail, .. }) => return Ok(LinkRead::Garbage(detail, Vec::new())),
            Err(error) => return Err(error),
        };
        Ok(match parse_link(&bytes) {
            Ok(digest) => LinkRead::Names(digest),
            Err(error) => LinkRead::Garbage(error.to_string(), scan_for_digests(&bytes).collect()),
        })
    }

    /// Reads a link that looks odd. Returns what it names beside what its key says, and what is wrong with it.
    ///
    /// # Errors
    ///
    /// A store that fails.
    pub async fn examine(
        &self,
        repository: &str,
        odd: &OddLink,
    ) -> Result<(Vec<Digest>, Option<Problem>), StoreError> {
        // What has the right size and stands beside links that were right for all their odd ETags is right too. Not so a
        // revision's link: what its content says is served, and no tag can tell (R1).
        if odd.only_etag && !odd.is_revision && self.etags_mean_nothing.load(Ordering::Relaxed) {
            return Ok((Vec::new(), None));
        }
        let problem = |kind, message| {
            Some(Problem {
                repository: Some(repository.to_owned()),
                digest: odd.digest,
                kind,
                message,
            })
        };
        Ok(match self.read(&odd.key).await? {
            LinkRead::Names(digest) if Some(digest) == odd.digest => {
                if odd.only_etag {
                    self.etags_mean_nothing.store(true, Ordering::Relaxed);
                }
                (Vec::new(), None)
            }
            LinkRead::Names(digest) => {
                let message = format!("{} names {digest}; both are kept", odd.key);
                (vec![digest], problem(ProblemKind::LinkMismatch, message))
            }
            LinkRead::Garbage(detail, found) => {
                let message = format!("the content of {} cannot be read: {detail}", odd.key);
                (found, problem(ProblemKind::LinkUnreadable, message))
            }
            LinkRead::Gone => (Vec::new(), None),
        })
    }
}
