//! The stores against a server that misbehaves on purpose: by S3's language unless a file says otherwise.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;

use super::RetryPolicy;
use super::scripted_server::{Reply, ScriptedServer};
use crate::store::location::{Environment, OpenOptions, Settings, StorageLocation};
use crate::store::{DeleteBatch, ListRange, Store, StoreError};

mod azure;
mod copying;
mod deleting;
mod gcs;
mod listing;
mod reading;
mod time_and_versions;
mod undeleting;
mod writing;

const DATE: &str = "Fri, 02 Jan 2026 03:04:05 GMT";

fn open(server: &ScriptedServer) -> Arc<dyn Store> {
    open_at(&server.endpoint)
}

fn open_at(endpoint: &str) -> Arc<dyn Store> {
    let secrets = [("access_key_id", "AK"), ("secret_access_key", "SECRET")];
    open_with("s3://b/root", endpoint, &secrets)
}

fn open_with(location: &str, endpoint: &str, secrets: &[(&str, &str)]) -> Arc<dyn Store> {
    let mut settings: Settings = secrets.iter().copied().collect();
    settings.set("endpoint", endpoint);
    let options = OpenOptions {
        concurrency: 4,
        retry: RetryPolicy {
            attempts: 3,
            read_timeout: Duration::from_millis(300),
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(5),
        },
        ..OpenOptions::default()
    };
    StorageLocation::parse_in(location, settings, Environment::default())
        .unwrap()
        .open(&options)
        .unwrap()
}

fn page(keys: &[&str], next: Option<&str>) -> Reply {
    let mut body = format!("<ListBucketResult><IsTruncated>{}</IsTruncated>", next.is_some());
    if let Some(next) = next {
        body.push_str(&format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    }
    for key in keys {
        body.push_str(&format!(
            "<Contents><Key>root/{key}</Key><Size>1</Size>\
             <LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
        ));
    }
    body.push_str("</ListBucketResult>");
    Reply::new(200, body).header("date", DATE)
}

async fn keys(store: &dyn Store, range: ListRange) -> Result<Vec<String>, StoreError> {
    let pages: Vec<_> = store.list(range).try_collect().await?;
    Ok(pages.into_iter().flatten().map(|object| object.key).collect())
}

fn own_files(keys: &[&str], timeout: Duration) -> DeleteBatch {
    let keys = keys.iter().map(|key| format!("hardprune/{key}")).collect();
    DeleteBatch::own_files(keys, timeout).unwrap()
}

const LONG: Duration = Duration::from_secs(5);

fn ranged(body: &str, range: &str) -> Reply {
    Reply::new(206, body)
        .header("content-range", format!("bytes {range}"))
        .header("etag", "\"e1\"")
}
