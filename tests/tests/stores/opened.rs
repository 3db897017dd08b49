//! The stores that the suite runs on, each empty.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::TryStreamExt;
use hardprune_common::store::cloud::RetryPolicy;
use hardprune_common::store::filesystem::FilesystemStore;
use hardprune_common::store::location::{Environment, OpenOptions, Settings, StorageLocation};
use hardprune_common::store::{ListRange, ListedObject, PutCondition, Store};
use hardprune_tests::s3_server::{S3Options, S3Server};
use hardprune_tests::scene::fast_folder;
use tempfile::TempDir;

/// Small, so that most listings have several pages.
pub const PAGE: usize = 4;

/// A store, and what it stands on.
pub struct Opened {
    pub store: Arc<dyn Store>,
    server: Option<S3Server>,
    _folder: Option<TempDir>,
}

pub fn in_a_folder() -> Result<Opened> {
    let folder = fast_folder()?;
    Ok(Opened {
        store: Arc::new(FilesystemStore::open(folder.path())?),
        server: None,
        _folder: Some(folder),
    })
}

pub fn in_a_bucket() -> Result<Opened> {
    on_s3("")
}

/// The bucket holds other things, too, on both sides of the folder.
pub fn in_a_folder_of_a_bucket() -> Result<Opened> {
    on_s3("/some folder/of + ours")
}

fn on_s3(folder: &str) -> Result<Opened> {
    on_s3_as(folder, S3Options::default(), &[])
}

/// A store in a folder (with a `/` in front) of a bucket of a server with `options`, whose pages are small whatever they say.
pub fn on_s3_as(folder: &str, options: S3Options, more_settings: &[(&str, &str)]) -> Result<Opened> {
    let options = S3Options {
        page_size: PAGE,
        ..options
    };
    let server = S3Server::start(options)?;
    if !folder.is_empty() {
        for other in [
            "some folder/",
            "some folder/of + our",
            "some folder/of + ours0",
            "zz",
        ] {
            server.put(&format!("{other}/docker/x"), "of others", None);
        }
    }
    let mut settings: Settings = [
        ("access_key_id", server.access_key()),
        ("secret_access_key", server.secret_key()),
        ("region", "us-east-1"),
    ]
    .into_iter()
    .collect();
    settings.set("endpoint", server.endpoint());
    for (name, value) in more_settings {
        settings.set(*name, *value);
    }
    let name = format!("s3://{}{folder}", server.bucket());
    let location = StorageLocation::parse_in(&name, settings, Environment::default())?;
    let retry = RetryPolicy {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let options = OpenOptions {
        retry,
        ..OpenOptions::default()
    };
    Ok(Opened {
        store: location.open(&options)?,
        server: Some(server),
        _folder: None,
    })
}

impl Opened {
    /// The server that the store stands on.
    ///
    /// # Panics
    ///
    /// If it stands on a folder.
    pub fn server(&self) -> &S3Server {
        self.server.as_ref().expect("the store stands on a server")
    }

    /// Writes an object whatever is there.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let put = self.store.put(key, bytes.into(), PutCondition::Always).await;
        put.with_context(|| format!("writing {key:?}"))?;
        Ok(())
    }

    /// Writes objects whose bytes are their own keys.
    pub async fn put_all(&self, keys: &[&str]) -> Result<()> {
        for key in keys {
            self.put(key, (*key).to_owned()).await?;
        }
        Ok(())
    }

    /// Reads an object whole.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        let object = self.store.get(key, 0, u64::MAX / 2).await;
        Ok(object.with_context(|| format!("reading {key:?}"))?.bytes)
    }

    /// Lists a range.
    pub async fn objects(&self, range: &ListRange) -> Result<Vec<ListedObject>> {
        let pages: Vec<_> = self
            .store
            .list(range.clone())
            .try_collect()
            .await
            .with_context(|| format!("listing {range:?}"))?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// Whether a prefix leads through an object as if it were a folder. A bucket has no objects there; in a folder of the
    /// filesystem something is wrong then, and a list is an error rather than empty.
    pub fn refuses<'k>(&self, prefix: &str, mut keys: impl Iterator<Item = &'k str>) -> bool {
        let leads_through = |key: &str| prefix.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'));
        self.server.is_none() && keys.any(leads_through)
    }

    /// Lists the keys of a range.
    pub async fn keys(&self, range: &ListRange) -> Result<Vec<String>> {
        let objects = self.objects(range).await?;
        Ok(objects.into_iter().map(|object| object.key).collect())
    }
}
