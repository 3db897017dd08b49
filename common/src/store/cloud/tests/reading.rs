//! Reads by range, of what is there, is cut, is not there or may not be read.

use std::sync::Arc;
use std::time::Duration;

use super::super::scripted_server::{Reply, ScriptedServer};
use super::{open, own_files, ranged};
use crate::store::{KeyOutcome, StoreError};

#[tokio::test]
async fn an_object_is_read_by_range() {
    let server = ScriptedServer::start([ranged("cde", "2-4/10")]).await;
    let store = open(&server);
    let object = store.get("x//y z/", 2, 3).await.unwrap();
    assert_eq!((&object.bytes[..], object.size), (&b"cde"[..], 10));
    assert_eq!(object.version.0, "\"e1\"");
    assert_eq!(server.lines(), ["GET /b/root/x//y%20z/"]);
    assert!(server.asked()[0].head.contains("range: bytes=2-4"));
    assert_eq!((store.requests().get, store.requests().head), (1, 0));
}

#[tokio::test]
async fn an_empty_object_and_a_range_behind_the_end_are_read() {
    for (offset, whole) in [(0, ""), (7, "short")] {
        let server = ScriptedServer::start([
            Reply::new(416, "<Error><Code>InvalidRange</Code></Error>"),
            Reply::new(200, whole).header("etag", "\"e\""),
        ])
        .await;
        let object = open(&server).get("k", offset, 100).await.unwrap();
        assert!(object.bytes.is_empty());
        assert_eq!(object.size, whole.len() as u64);
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_borne_with_from_the_start() {
    let server = ScriptedServer::start([Reply::new(200, "abcdef").header("etag", "\"e\"")]).await;
    let object = open(&server).get("k", 0, 2).await.unwrap();
    assert_eq!((&object.bytes[..], object.size), (&b"ab"[..], 6));
    let server = ScriptedServer::start([Reply::new(200, "abcdef").header("etag", "\"e\"")]).await;
    assert!(open(&server).get("k", 2, 2).await.is_err());
}

#[tokio::test]
async fn a_body_cut_short_is_read_again() {
    let cases = [
        Reply::Cut {
            body: b"ab".to_vec(),
            missing: 3,
        },
        ranged("ab", "0-4/5"),
        ranged("ab", "0-1/5"),
        Reply::new(200, "<html>Sign in</html>"),
        Reply::new(404, "<html>Not here</html>"),
    ];
    for case in cases {
        let server = ScriptedServer::start([case, ranged("abcde", "0-4/5")]).await;
        let object = open(&server).get("k", 0, 5).await.unwrap();
        assert_eq!(&object.bytes[..], b"abcde");
        assert_eq!(server.lines().len(), 2);
    }
}

#[tokio::test]
async fn absence_and_denial_of_one_key_are_told_apart() {
    let answer = |status, code| Reply::new(status, format!("<Error><Code>{code}</Code></Error>"));
    let server = ScriptedServer::start([answer(404, "NoSuchKey"), answer(403, "AccessDenied")]).await;
    let store = open(&server);
    assert!(store.get("k", 0, 5).await.unwrap_err().is_not_found());
    let error = store.get("k", 0, 5).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    assert!(store.get("a/../k", 0, 5).await.is_err(), "no address names it");
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn requests_in_flight_are_bounded_and_a_delete_does_not_wait_too_long() {
    let server = ScriptedServer::start((0..20).map(|_| Reply::Hang)).await;
    let store = open(&server);
    for _ in 0..8 {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.get("k", 0, 1).await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.lines().len(), 4, "as many as `open` allows");
    let outcomes = store.delete(own_files(&["a"], Duration::from_millis(50))).await;
    assert_eq!(outcomes, [KeyOutcome::Throttled], "nothing was sent");
    assert_eq!(store.requests().delete, 0);
}
