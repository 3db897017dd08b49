//! S3, Google Cloud Storage and Azure Blob: one implementation of [`Store`], over `object_store`'s credentials,
//! signatures and HTTP client. Requests and answers are our own, because each must prove itself:
//! `connector` sends and retries (R4, R10), `list_objects` lists (R12), `bulk_delete` and its siblings delete (R3).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use tokio::sync::Semaphore;

mod answers;
mod ask_retention;
mod aws_profile;
mod azure;
mod azure_batch;
mod azure_copy;
mod bulk_delete;
mod connector;
mod copy_in_parts;
mod copy_object;
mod gcs;
mod http_client;
mod list_ahead;
mod list_objects;
mod list_page;
mod multipart;
mod open_azure;
mod open_gcs;
mod open_s3;
mod pace;
mod provider;
mod read_object;
mod retry;
mod s3;
#[cfg(test)]
mod scripted_server;
mod single_delete;
#[cfg(test)]
mod tests;
mod undelete;
mod write_object;
mod xml_document;

pub use http_client::{HttpSettings, is_loopback, parse_endpoint};
pub(crate) use open_azure::{AzureConfig, open_azure};
pub(crate) use open_gcs::{GcsConfig, open_gcs};
pub(crate) use open_s3::{S3Config, open_s3};
pub use pace::Paces;
pub use retry::RetryPolicy;

use self::answers::About;
use self::connector::Connector;
use self::pace::Load;
use self::provider::{DeleteStyle, Provider};
use crate::store::location::NAMELESS_FOLDER;
use crate::store::{
    DeleteBatch, FolderPage, Glimpse, KeyOutcome, ListRange, ListedObject, MultipartUploads, Object,
    ObjectVersion, PutCondition, RequestCounts, Store, StoreError, Undeletion, Versioning, Wanted,
};

/// A bucket or container, or a folder in one.
pub(crate) struct CloudStore {
    identity: String,
    /// Before every key; empty, or with a `/` at its end.
    root: String,
    provider: Box<dyn Provider>,
    connector: Connector,
    readers_ahead: Arc<Semaphore>,
}

impl fmt::Debug for CloudStore {
    // By hand: the connector signs with credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CloudStore")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl CloudStore {
    /// `folder` has no slash at either end, or is the [`NAMELESS_FOLDER`].
    fn new(identity: String, folder: &str, provider: Box<dyn Provider>, connector: Connector) -> Self {
        let root = match folder {
            "" | NAMELESS_FOLDER => folder.to_owned(),
            folder => format!("{folder}/"),
        };
        Self {
            identity,
            root,
            provider,
            connector,
            readers_ahead: list_ahead::readers_ahead(),
        }
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    fn relative_key(&self, mut full_key: String) -> String {
        if full_key.starts_with(&self.root) {
            full_key.drain(..self.root.len());
        }
        full_key
    }

    fn about(&self, action: &'static str, key: &str) -> About {
        About {
            store: self.identity.clone(),
            place: self.provider.place(),
            action,
            key: key.to_owned(),
        }
    }
}

#[async_trait]
impl Store for CloudStore {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn delete_batch_limit(&self) -> usize {
        self.provider.delete_style().limit()
    }

    fn starts_listings_anywhere(&self) -> bool {
        self.provider.starts_listings_anywhere()
    }

    fn list(&self, range: ListRange) -> BoxStream<'_, Result<Vec<ListedObject>, StoreError>> {
        self.list_range(range).boxed()
    }

    fn glance(&self, range: ListRange, _wanted: Wanted) -> BoxStream<'_, Result<Vec<Glimpse>, StoreError>> {
        let pages = match self.starts_listings_anywhere() {
            true => self.list_ahead(range).boxed(),
            false => self.list_range(range).boxed(),
        };
        pages
            .map_ok(|page| page.into_iter().map(Glimpse::Listed).collect())
            .boxed()
    }

    fn list_folder(&self, folder: &str) -> BoxStream<'_, Result<FolderPage, StoreError>> {
        self.list_one_folder(folder).boxed()
    }

    async fn get(&self, key: &str, offset: u64, limit: u64) -> Result<Object, StoreError> {
        self.read_object(key, offset, limit).await
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        condition: PutCondition,
    ) -> Result<ObjectVersion, StoreError> {
        self.write_object(key, bytes, &condition).await
    }

    async fn delete(&self, batch: DeleteBatch) -> Vec<KeyOutcome> {
        let style = self.provider.delete_style();
        let (keys, limit) = (batch.keys().len(), style.limit());
        if keys > limit {
            let problem =
                format!("{keys} keys are too many for one request, {limit} is the limit; nothing was sent");
            return vec![KeyOutcome::Failed(problem); keys];
        }
        if keys == 0 {
            return Vec::new();
        }
        match style {
            DeleteStyle::DeleteObjects => self.delete_objects(&batch).await,
            DeleteStyle::AzureBatch => self.delete_azure_batch(&batch).await,
            DeleteStyle::OneByOne => self.delete_one_by_one(&batch).await,
        }
    }

    async fn wait_to_delete(&self, first: &str, keys: usize) {
        let requests = match self.provider.delete_style() {
            DeleteStyle::DeleteObjects | DeleteStyle::AzureBatch => 1,
            DeleteStyle::OneByOne => keys,
        };
        let load = Load::of_deletes(first, keys, requests);
        self.connector.pace().turn(&load).await;
    }

    fn set_ceiling(&self, requests_a_second: Option<f64>) {
        self.connector.pace().set_ceiling(requests_a_second);
    }

    async fn copy(&self, from: &str, to: &str, size: u64) -> Result<(), StoreError> {
        self.copy_object(from, to, size).await
    }

    fn takes_deletes_back(&self) -> bool {
        self.provider.lists_versions()
    }

    async fn undelete(&self, key: &str) -> Result<Undeletion, StoreError> {
        self.remove_delete_markers(key).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        if let Some(now) = self.connector.now() {
            return Ok(now);
        }
        let probed = self.probe().await;
        // Also an answer that refuses has the store's time.
        if let Some(now) = self.connector.now() {
            return Ok(now);
        }
        probed?;
        Err(self
            .about("read", "")
            .unavailable("its answers have no readable Date, so its time is not known"))
    }

    fn requests(&self) -> RequestCounts {
        self.connector.requests()
    }

    fn versioning(&self) -> Versioning {
        self.connector.versioning()
    }

    fn multipart_uploads(&self) -> Option<&dyn MultipartUploads> {
        self.provider.has_multipart_uploads().then_some(self)
    }

    async fn ask_versioning(&self) -> Versioning {
        if let Some(metadata) = self.provider.bucket_metadata() {
            self.ask_retention(metadata).await;
        }
        self.connector.versioning()
    }
}
