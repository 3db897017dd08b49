//! What the headers of answers tell: the time, and versions.

use std::time::Duration;

use jiff::Timestamp;

use super::super::scripted_server::{Reply, ScriptedServer};
use super::{open, page, ranged};
use crate::store::Versioning;

#[tokio::test]
async fn time_is_the_stores_time() {
    let server = ScriptedServer::start([page(&[], None)]).await;
    let store = open(&server);
    let date: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    for _ in 0..2 {
        let now = store.now().await.unwrap();
        assert!(now >= date && now < date + Duration::from_secs(10), "{now}");
    }
    assert_eq!(
        server.lines(),
        ["GET /b?list-type=2&prefix=root%2F&max-keys=1"],
        "asked once"
    );
}

#[tokio::test]
async fn a_store_without_a_readable_date_has_no_time() {
    for date in [None, Some("yesterday")] {
        let mut reply = Reply::new(
            200,
            "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        );
        if let Some(date) = date {
            reply = reply.header("date", date);
        }
        let server = ScriptedServer::start([reply]).await;
        let error = open(&server).now().await.unwrap_err();
        assert!(error.to_string().contains("Date"), "{error}");
    }
}

#[tokio::test]
async fn versions_are_seen_where_there_are_any() {
    for (id, expected) in [
        ("null", Versioning::NotSeen),
        ("", Versioning::NotSeen),
        ("v1", Versioning::Seen),
    ] {
        let server = ScriptedServer::start([ranged("a", "0-0/1").header("x-amz-version-id", id)]).await;
        let store = open(&server);
        assert_eq!(store.versioning(), Versioning::NotSeen);
        store.get("k", 0, 1).await.unwrap();
        assert_eq!(store.versioning(), expected, "{id:?}");
    }
}
