//! What hardprune asks of a place that keeps objects: a registry's storage, or a state store.
//!
//! A key is a path relative to the store's root, with `/` between its parts and none in front
//! (`docker/registry/v2/blobs/…`). Implementations: [`filesystem`] and [`cloud`]. R3, R4, R10 and R12 bind
//! every one of them; `tests/tests/stores.rs` is the suite that each must pass.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub mod cloud;
mod delete_batch;
mod error;
pub mod filesystem;
mod find_all;
pub mod location;
mod multipart;
mod requests;
mod undelete;

pub use delete_batch::{DeleteBatch, KeyOutcome, NotOwnFile, OWN_FOLDER};
pub use error::StoreError;
pub use find_all::{find_all, find_one};
pub use multipart::{AbandonedUpload, MultipartUpload, MultipartUploads, UploadAbort, UploadParts};
pub use requests::{RequestCounter, RequestCounts, RequestKind};
pub use undelete::Undeletion;

/// One object, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The key. Where `exact` is false, only a readable form of it.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// By the store's clock (R4).
    pub last_modified: Timestamp,
    /// As the store gave it, without quotes. `None` where the store has none.
    pub etag: Option<String>,
    /// Whether the object's raw key is exactly `key` and reaches it without a symbolic link. Nothing else may
    /// ever be deleted (R3).
    pub exact: bool,
}

/// What [`Store::glance`] shows of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glimpse {
    /// As a listing shows it. On a filesystem a revision's link may have the MD5 of its content for an `ETag`, where a listing has none.
    Listed(ListedObject),
    /// Only a key, exact and without a symbolic link as far as its folder: that of a layer link, or one that is not wanted. What
    /// stands there has not been looked at, nor, where it is the one file of a digest's folder, whether it is there at all.
    Named(String),
}

impl Glimpse {
    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Listed(object) => &object.key,
            Self::Named(key) => key,
        }
    }

    /// The object's key.
    #[must_use]
    pub fn into_key(self) -> String {
        match self {
            Self::Listed(object) => object.key,
            Self::Named(key) => key,
        }
    }

    /// The object, where it was looked at.
    #[must_use]
    pub fn listed(self) -> Option<ListedObject> {
        match self {
            Self::Listed(object) => Some(object),
            Self::Named(_) => None,
        }
    }
}

/// What a [`Store::glance`] over repositories is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything.
    Everything,
    /// Everything but tags and uploads: of uploads only the keys, and of a tag perhaps only the key of its current link.
    LayersAndManifests,
}

/// The part of the key space that a listing covers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListRange {
    /// Keys begin with this plain string; it need not end at a `/`.
    pub prefix: String,
    /// Keys are greater than this one, bytewise. A range starts with the first key where it is `None`.
    pub after: Option<String>,
    /// Keys are less than this one, bytewise. A range ends with the last key where it is `None`.
    pub before: Option<String>,
    /// Whether directories and files behind symbolic links belong to the listing. Only a filesystem has
    /// them. Where false, a symbolic link is listed as one object that is not `exact`.
    pub follow_symbolic_links: bool,
}

impl ListRange {
    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..Self::default()
        }
    }

    /// Whether `key` lies in this range.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
            && self.after.as_deref().is_none_or(|after| key > after)
            && self.before.as_deref().is_none_or(|before| key < before)
    }
}

/// What lies directly under a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FolderPage {
    /// Keys of the folders, each with a `/` at its end, ascending.
    pub folders: Vec<String>,
    /// Those of them that are symbolic links. Only a filesystem has them.
    pub links: Vec<String>,
    /// The objects, ascending by key.
    pub objects: Vec<ListedObject>,
}

/// The bytes of an object, and what the store says of it.
#[derive(Debug, Clone)]
pub struct Object {
    /// The bytes asked for.
    pub bytes: Bytes,
    /// Size of the whole object in bytes.
    pub size: u64,
    /// What a conditional write may be bound to.
    pub version: ObjectVersion,
}

/// What identifies one written state of an object: the `ETag` of S3 and Azure, the generation of GCS, a
/// content hash on a filesystem. Only good for [`PutCondition::IfUnchanged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectVersion(pub String);

/// Under which condition a write takes place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutCondition {
    /// Whatever is there.
    Always,
    /// Only where no object has the key.
    IfAbsent,
    /// Only where the object is in this state.
    IfUnchanged(ObjectVersion),
}

/// Whether deletes in a store free anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Versioning {
    /// No answer so far said anything else.
    #[default]
    NotSeen,
    /// The bucket would have to say, and did not.
    Unknown,
    /// What is deleted stays for a while, and is paid for as long (soft delete). Then it is freed by itself.
    KeptForAWhile,
    /// Versions are kept: a delete only hides the object.
    Seen,
}

impl Versioning {
    /// Whether what is deleted frees nothing, or not yet.
    #[must_use]
    pub fn only_hides(self) -> bool {
        matches!(self, Self::Seen | Self::KeptForAWhile)
    }
}

/// A place that keeps objects.
///
/// Every method may be called many times at once. Reads and copies are retried a bounded number of times inside;
/// writes and deletes never are (R10).
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Names the store without secrets: `s3://bucket/prefix`, `/srv/registry`. Two stores with one identity
    /// are one store.
    fn identity(&self) -> &str;

    /// The most keys that one [`DeleteBatch`] may hold.
    fn delete_batch_limit(&self) -> usize;

    /// Lists the objects of `range`, ascending by key, a page at a time.
    ///
    /// A page proves itself before it is yielded (R12). After an error the stream ends: what came before it
    /// is true, but not all. Objects that appear or vanish meanwhile may or may not be seen.
    ///
    /// # Errors
    ///
    /// A page that could not be had, or does not prove itself, after bounded retries. On a filesystem, a folder or
    /// file that cannot be read, and a prefix that leads through a file as if it were a folder. A range without any object is no error.
    fn list(&self, range: ListRange) -> BoxStream<'_, Result<Vec<ListedObject>, StoreError>>;

    /// Whether a listing of a range begins at the range. Where it does not, its pages begin at the prefix's first key, and what
    /// lies before the range is asked for in vain: right, but the more ranges, the more pages.
    fn starts_listings_anywhere(&self) -> bool {
        true
    }

    /// Whether what was read is read again for less than it costs to keep it: on a disk of this machine.
    fn rereads_are_cheap(&self) -> bool {
        false
    }

    /// Lists as [`Store::list`] does, but may show layer links, and what is not wanted, by their keys only, where a listing
    /// would have to look at each by itself: on a filesystem. [`Store::look_at`] does then.
    ///
    /// # Errors
    ///
    /// As [`Store::list`].
    fn glance(&self, range: ListRange, _wanted: Wanted) -> BoxStream<'_, Result<Vec<Glimpse>, StoreError>> {
        let pages = self.list(range);
        pages
            .map_ok(|page| page.into_iter().map(Glimpse::Listed).collect())
            .boxed()
    }

    /// Lists what stands at keys that [`Store::glance`] only named, with all that a listing finds beside it in its
    /// folder where it is not an ordinary file. What is gone is left out.
    ///
    /// # Errors
    ///
    /// As [`Store::list`].
    async fn look_at(&self, _keys: Vec<String>) -> Result<Vec<ListedObject>, StoreError> {
        Ok(Vec::new())
    }

    /// Lists what lies directly under `folder` (which ends in `/`, or is empty for the root), ascending, a page at
    /// a time. Folders behind symbolic links are listed as folders.
    ///
    /// # Errors
    ///
    /// As [`Store::list`]; a folder that is not there is empty.
    fn list_folder(&self, folder: &str) -> BoxStream<'_, Result<FolderPage, StoreError>>;

    /// Reads the bytes of `key` from `offset`, at most `limit` of them. Symbolic links are followed.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Denied`] where only this key cannot be read, and failures of the
    /// store.
    async fn get(&self, key: &str, offset: u64, limit: u64) -> Result<Object, StoreError>;

    /// Writes an object whole. Readers see the old or the new bytes, never a mixture.
    ///
    /// # Errors
    ///
    /// [`StoreError::ConditionNotMet`]; any other failure leaves open whether the object was written.
    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        condition: PutCondition,
    ) -> Result<ObjectVersion, StoreError>;

    /// Deletes exactly the batch's keys, in one request where the provider has one for that, and says for each
    /// what became of it, in the batch's order. An absent key counts as deleted. On a filesystem symbolic links
    /// are never followed, and the folders that the batch emptied go too (see `filesystem`).
    ///
    /// Nothing is retried, and the request ends within the batch's timeout (R10).
    async fn delete(&self, batch: DeleteBatch) -> Vec<KeyOutcome>;

    /// Waits until a delete of so many keys, neighbours of `first`, is due by the rates that the store is found to take, and by its
    /// ceiling. Who deletes what a plan names waits here before asking for a permit, whose time passes meanwhile; [`Store::delete`]
    /// itself waits for nothing.
    async fn wait_to_delete(&self, _first: &str, _keys: usize) {}

    /// Bounds the requests of all stores of this process in this bucket, from now on. hardprune's own files count, and wait for
    /// nothing: a lock that is renewed late is lost. A filesystem has no such bound.
    fn set_ceiling(&self, _requests_a_second: Option<f64>) {}

    /// Copies the object at `from`, of `size` bytes, to `to`, on the store's side, in place of whatever is there. Readers of `to` see
    /// what was there before or the whole copy. To copy again what was copied changes nothing. The copy's time of modification may be
    /// that of the source or the copy's own.
    ///
    /// Some requests are repeated after a failure, and one whose answer was lost may still be carried out later: the caller must know
    /// that until then nothing but this copy belongs at `to`. On a filesystem the two may be one file with two names: who writes
    /// into one of them in place, as Distribution 2.x rewrites links, writes into both. [`Store::flush`] before `from` is deleted.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] where there is nothing at `from`; on a filesystem also where it is no regular file, or a symbolic link
    /// is on the way to either; failures of the store. They name `from`. What is at `to` then is what was there, or the whole copy.
    async fn copy(&self, from: &str, to: &str, size: u64) -> Result<(), StoreError>;

    /// Whether a delete can be taken back here, as far as versions are kept. Where it cannot, [`Store::undelete`] only fails.
    fn takes_deletes_back(&self) -> bool {
        false
    }

    /// Takes back the delete of exactly `key` in a bucket that keeps versions: removes the delete markers that hide its newest object.
    /// Once more changes nothing. What was written since is left alone, and hides the older object as before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Configuration`] where this store has no versions to take a delete back from; a listing of versions that does not
    /// prove itself (R12); failures of the store, after which some of several markers may be gone.
    async fn undelete(&self, _key: &str) -> Result<Undeletion, StoreError> {
        Err(StoreError::Configuration {
            store: self.identity().to_owned(),
            problem: undelete::NOT_HERE.to_owned(),
        })
    }

    /// The store's time (R4): for a cloud store the `Date` of its answers, for a filesystem the machine's clock.
    ///
    /// # Errors
    ///
    /// Failures of the store, or an answer without a readable `Date`.
    async fn now(&self) -> Result<Timestamp, StoreError>;

    /// The requests made so far. On a filesystem `list` counts folders read.
    fn requests(&self) -> RequestCounts;

    /// What the answers so far said about versions.
    fn versioning(&self) -> Versioning;

    /// Asks whether what is deleted stays, where answers do not say so by themselves (Google's). A refusal is no failure: then
    /// it is not known. [`Store::versioning`] has the answer, too.
    async fn ask_versioning(&self) -> Versioning {
        self.versioning()
    }

    /// Its multipart uploads, where it has such: S3 has.
    fn multipart_uploads(&self) -> Option<&dyn MultipartUploads> {
        None
    }

    /// Makes what was written so far outlast a power failure, where a write alone does not: on a filesystem.
    ///
    /// # Errors
    ///
    /// A filesystem that cannot write.
    async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes an advisory lock that ends with this process, where the store has such a thing: a filesystem has.
    /// `None` where it has not.
    ///
    /// # Errors
    ///
    /// [`StoreError::ConditionNotMet`] where another process holds it.
    async fn lock_exclusively(&self, _key: &str) -> Result<Option<ExclusiveLock>, StoreError> {
        Ok(None)
    }

    /// Removes the folders of repositories that hold no file at all, where folders exist by themselves: on a
    /// filesystem. Returns how many repositories went.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read.
    async fn remove_empty_repositories(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// An advisory lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct ExclusiveLock(#[expect(dead_code, reason = "held for its Drop")] std::fs::File);

/// The longest that one read may take, its retries not counted.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
