//! What Azure Blob Storage does differently.

use std::sync::Arc;

use super::super::scripted_server::{Reply, ScriptedServer};
use super::{LONG, keys, open_with, own_files};
use crate::store::{KeyOutcome, ListRange, Store, StoreError, Versioning};

fn open(server: &ScriptedServer) -> Arc<dyn Store> {
    let secrets = [("account_name", "acc"), ("account_key", "U0VDUkVU")];
    open_with("az://c/root", &server.endpoint, &secrets)
}

fn page(keys: &[&str], next: &str) -> Reply {
    let blobs: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Blob><Name>root/{key}</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT\
                 </Last-Modified><Content-Length>1</Content-Length></Properties></Blob>"
            )
        })
        .collect();
    let body = format!(
        "<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>"
    );
    Reply::new(200, body)
}

#[tokio::test]
async fn a_server_that_ignores_where_to_start_is_borne_with() {
    let server = ScriptedServer::start([page(&["a/1", "a/2"], "m"), page(&["a/3", "a/4"], "")]).await;
    let store = open(&server);
    let range = ListRange {
        after: Some("a/3".to_owned()),
        ..ListRange::prefix("a/")
    };
    assert!(!store.starts_listings_anywhere());
    assert_eq!(keys(&*store, range).await.unwrap(), ["a/4"]);
    assert_eq!(
        server.lines(),
        [
            "GET /c?restype=container&comp=list&prefix=root%2Fa%2F&startFrom=root%2Fa%2F3",
            "GET /c?restype=container&comp=list&prefix=root%2Fa%2F&marker=m",
        ]
    );
    assert!(server.asked()[0].head.contains("authorization: sharedkey acc:"));
}

#[tokio::test]
async fn pages_that_do_not_follow_each_other_are_refused() {
    let server = ScriptedServer::start([
        page(&["a/2"], "m"),
        page(&["a/1"], ""),
        page(&["a/1"], ""),
        page(&["a/1"], ""),
    ])
    .await;
    let error = keys(&*open(&server), ListRange::prefix("a/")).await.unwrap_err();
    assert!(matches!(error, StoreError::BadPage { page: 2, .. }), "{error}");
}

/// Distribution 2.x begins its keys with a `/` there.
#[tokio::test]
async fn a_folder_without_a_name_is_in_every_key() {
    let listed = "<EnumerationResults><Blobs><Blob><Name>/docker/a</Name><Properties><Last-Modified>Fri, 02 Jan 2026 \
                  03:04:05 GMT</Last-Modified><Content-Length>1</Content-Length></Properties></Blob></Blobs><NextMarker/>\
                  </EnumerationResults>";
    let read = Reply::new(206, "x")
        .header("content-range", "bytes 0-0/1")
        .header("etag", "\"e\"");
    let server = ScriptedServer::start([Reply::new(200, listed), read, Reply::new(403, "")]).await;
    let secrets = [("account_name", "acc"), ("account_key", "U0VDUkVU")];
    let store = open_with("az://c//", &server.endpoint, &secrets);
    assert_eq!(
        keys(&*store, ListRange::prefix("docker/")).await.unwrap(),
        ["docker/a"]
    );
    store.get("docker/a", 0, 1).await.unwrap();
    store.delete(own_files(&["x"], LONG)).await;
    assert_eq!(
        server.lines(),
        [
            "GET /c?restype=container&comp=list&prefix=%2Fdocker%2F",
            "GET /c//docker/a",
            "POST /c?restype=container&comp=batch",
        ]
    );
    let sent = &server.asked()[2].body;
    assert!(sent.contains("DELETE /c//hardprune/x HTTP/1.1\r\n"), "{sent}");
}

#[tokio::test]
async fn a_batch_names_each_blob_and_is_sent_once() {
    let part = |id: usize, status: &str, head: &str| {
        format!(
            "--r\r\nContent-Type: application/http\r\nContent-ID: {id}\r\n\r\nHTTP/1.1 {status}\r\n{head}\r\n\r\n"
        )
    };
    let body = [
        part(1, "404 Gone", "x-ms-error-code: BlobNotFound\r\n"),
        part(0, "202 Accepted", "x-ms-delete-type-permanent: false\r\n"),
        "--r--".to_owned(),
    ]
    .concat();
    let reply = Reply::new(202, body).header("content-type", "multipart/mixed; boundary=r");
    let server = ScriptedServer::start([reply]).await;
    let store = open(&server);
    let outcomes = store.delete(own_files(&["a b", "c", "d"], LONG)).await;
    assert_eq!(outcomes[..2], [KeyOutcome::Deleted, KeyOutcome::Deleted]);
    assert!(matches!(&outcomes[2], KeyOutcome::Unknown(_)));
    assert_eq!(
        store.versioning(),
        Versioning::KeptForAWhile,
        "the blob is only hidden"
    );
    assert_eq!(server.lines(), ["POST /c?restype=container&comp=batch"]);
    let sent = &server.asked()[0].body;
    assert!(
        sent.contains("Content-ID: 0\r\n\r\nDELETE /c/root/hardprune/a%20b HTTP/1.1\r\n"),
        "{sent}"
    );
    assert_eq!(sent.matches("authorization: SharedKey acc:").count(), 3);
    assert_eq!(store.requests().delete, 1);
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_is_not_repeated() {
    type Expected = fn(&KeyOutcome) -> bool;
    let cases: [(Reply, Expected); 4] = [
        (Reply::new(503, ""), |outcome| *outcome == KeyOutcome::Throttled),
        (Reply::new(403, ""), |outcome| {
            matches!(outcome, KeyOutcome::Failed(_))
        }),
        (Reply::new(202, "<html></html>"), |outcome| {
            matches!(outcome, KeyOutcome::Unknown(_))
        }),
        (Reply::Close, |outcome| matches!(outcome, KeyOutcome::Unknown(_))),
    ];
    for (reply, expected) in cases {
        let server = ScriptedServer::start([reply]).await;
        let outcomes = open(&server).delete(own_files(&["a", "b"], LONG)).await;
        assert!(outcomes.iter().all(expected), "{outcomes:?}");
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn a_signature_in_the_address_is_never_shown() {
    let server = ScriptedServer::start([
        Reply::new(403, "<html></html>"),
        Reply::Close,
        Reply::Close,
        Reply::Close,
    ])
    .await;
    let secrets = [("account_name", "acc"), ("sas_token", "?sv=1&sig=SECRET%2B")];
    let store = open_with("az://c", &server.endpoint, &secrets);
    for _ in 0..2 {
        let error = store.get("k", 0, 1).await.unwrap_err();
        let shown = format!("{error} {error:?} {store:?}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }
    assert_eq!(server.lines()[0], "GET /c/k?sv=1&sig=SECRET%2B");
}
