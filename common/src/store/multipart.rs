//! Multipart uploads that were begun and neither completed nor aborted: their parts are kept and paid for, and no listing of
//! objects shows them.
//!
//! Aborting one deletes no object. But it ends an upload that may still be going on, so it needs the same right as a delete: an
//! [`UploadAbort`] is had only from a permit that stands for a sealed plan in the registry's lock (R2, R10), and only of an
//! [`AbandonedUpload`]: one of an exact key of the registry's, of which nothing is younger than the age asked for (R3, R4).

use std::time::Instant;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;

use super::{KeyOutcome, StoreError};
use crate::authority::DeletePermit;
use crate::layout::{RepositoryEntry, UploadFile, parse_blob_key, parse_repository_key};

/// One upload, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartUpload {
    /// The key that the object would have.
    pub key: String,
    /// As the store calls the upload.
    pub id: String,
    /// When it was begun, by the store's clock.
    pub initiated: Timestamp,
}

impl MultipartUpload {
    /// Whether a registry made it: it writes uploads in parts, and moves large blobs so.
    #[must_use]
    pub fn is_of_a_registry(&self) -> bool {
        let entry = parse_repository_key(&self.key).and_then(|key| key.entry);
        let is_upload = matches!(
            entry,
            Some(RepositoryEntry::Upload {
                file: UploadFile::Data,
                ..
            })
        );
        is_upload || parse_blob_key(&self.key).is_some()
    }
}

/// The parts of an upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadParts {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the latest of them was written, by the store's clock.
    pub latest: Option<Timestamp>,
}

/// An upload of the registry's that nobody has touched for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedUpload {
    upload: MultipartUpload,
    parts: UploadParts,
}

impl AbandonedUpload {
    /// Judges an upload. `None` where it is not the registry's, or where it, or one of its parts, is not older than `before`.
    #[must_use]
    pub fn of(upload: MultipartUpload, parts: UploadParts, before: Timestamp) -> Option<Self> {
        let latest = parts
            .latest
            .map_or(upload.initiated, |latest| latest.max(upload.initiated));
        (upload.is_of_a_registry() && latest < before).then_some(Self { upload, parts })
    }

    /// The upload.
    #[must_use]
    pub fn upload(&self) -> &MultipartUpload {
        &self.upload
    }

    /// What aborting it frees.
    #[must_use]
    pub fn parts(&self) -> UploadParts {
        self.parts
    }
}

/// The right to abort one upload now.
#[derive(Debug)]
pub struct UploadAbort<'u> {
    upload: &'u MultipartUpload,
    deadline: Instant,
}

impl<'u> UploadAbort<'u> {
    /// Of an abandoned upload, while the permit's lease is good.
    #[must_use]
    pub fn permitted(permit: &DeletePermit, abandoned: &'u AbandonedUpload) -> Self {
        Self {
            upload: &abandoned.upload,
            deadline: permit.deadline(),
        }
    }

    /// The upload.
    #[must_use]
    pub fn upload(&self) -> &MultipartUpload {
        self.upload
    }

    /// When the request must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// A store that has multipart uploads.
#[async_trait]
pub trait MultipartUploads: Send + Sync {
    /// Lists the uploads whose keys begin with `prefix`, a page at a time. A page proves itself before it is yielded (R12).
    /// Some servers list nothing unless the prefix is a whole key (`MinIO`).
    ///
    /// # Errors
    ///
    /// A page that could not be had, or does not prove itself, after bounded retries.
    fn list_uploads(&self, prefix: &str) -> BoxStream<'_, Result<Vec<MultipartUpload>, StoreError>>;

    /// Adds up the parts of an upload.
    ///
    /// # Errors
    ///
    /// As [`MultipartUploads::list_uploads`]; [`StoreError::NotFound`] where the upload has ended.
    async fn upload_parts(&self, upload: &MultipartUpload) -> Result<UploadParts, StoreError>;

    /// Aborts an upload, with one request that is not retried (R10). One that has ended counts as deleted.
    async fn abort_upload(&self, abort: UploadAbort<'_>) -> KeyOutcome;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, Digest};
    use crate::layout::{blob_key, repository_key};

    fn upload(key: &str, initiated: i64) -> MultipartUpload {
        MultipartUpload {
            key: key.to_owned(),
            id: "1".to_owned(),
            initiated: at(initiated),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_old_uploads_of_the_registry_are_abandoned() {
        let data = |file| RepositoryEntry::Upload {
            upload: "u".to_owned(),
            file,
        };
        let key = repository_key("a/b", &data(UploadFile::Data));
        let blob = blob_key(&Digest::of(Algorithm::Sha256, b""));
        let judge = |key: &str, initiated, latest: Option<i64>| {
            let parts = UploadParts {
                latest: latest.map(at),
                ..UploadParts::default()
            };
            AbandonedUpload::of(upload(key, initiated), parts, at(100)).is_some()
        };
        assert!(judge(&key, 99, None) && judge(&blob, 99, Some(99)));
        assert!(!judge(&key, 100, None), "it is as young as the age");
        assert!(!judge(&key, 1, Some(100)), "a part of it is young");
        for other in [
            repository_key("a", &data(UploadFile::StartedAt)),
            format!("{key}/x"),
            format!("/{blob}"),
            "backup.tar".to_owned(),
            "hardprune/lock.json".to_owned(),
        ] {
            assert!(!judge(&other, 1, None), "{other}");
        }
    }
}
