//! Copies: repeated, in one piece or in parts, and no answer believed that does not say how the copy ended.

use std::sync::Arc;

use super::super::scripted_server::{Reply, ScriptedServer};
use super::{open, open_with};
use crate::store::{Store, StoreError};

const COPIED: &str = "<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>";
const ERROR: &str = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>x</Message></Error>";

#[tokio::test]
async fn only_an_answer_that_says_so_is_a_copy() {
    let server = ScriptedServer::start([
        Reply::new(200, ERROR),
        Reply::new(503, "<Error><Code>SlowDown</Code></Error>"),
        Reply::new(200, format!("\n\n{COPIED}")),
    ])
    .await;
    let store = open(&server);
    store.copy("a b+%\u{e9}/c", "x", 1).await.unwrap();
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.line == "PUT /b/root/x"));
    assert!(
        asked[0]
            .head
            .contains("x-amz-copy-source: /b/root/a%20b%2b%25%c3%a9/c"),
        "{}",
        asked[0].head
    );
    assert!(asked[0].head.contains("content-length: 0"));
    let signed = asked[0].head.split("signedheaders=").nth(1).unwrap();
    assert!(signed.split(',').next().unwrap().contains("x-amz-copy-source"));
    assert_eq!(store.requests().copy, 3);
}

#[tokio::test]
async fn a_copy_that_is_never_confirmed_is_a_failure_and_names_its_key() {
    let answers = [
        ERROR,
        "<html></html>",
        "<CopyObjectResult></CopyObjectResult>",
        "<CopyObjectResult><ETag>\"e\"</ETag>",
        "<DeleteResult><ETag>\"e\"</ETag></DeleteResult>",
        "",
    ];
    for answer in answers {
        let server = ScriptedServer::start((0..3).map(|_| Reply::new(200, answer))).await;
        let error = open(&server).copy("from", "to", 1).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("\"from\""), "{error}");
        assert_eq!(server.lines().len(), 3, "{answer:?}");
    }
    let gone = Reply::new(404, "<Error><Code>NoSuchKey</Code></Error>");
    let server = ScriptedServer::start([gone]).await;
    let error = open(&server).copy("from", "to", 1).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

const MIB: u64 = 1 << 20;

fn in_parts(server: &ScriptedServer) -> Arc<dyn Store> {
    let settings = [
        ("access_key_id", "AK"),
        ("secret_access_key", "SECRET"),
        ("multipart_copy_threshold", "6291456"),
        ("multipart_copy_part_size", "5242880"),
    ];
    open_with("s3://b/root", &server.endpoint, &settings)
}

fn source(size: u64) -> Reply {
    Reply::new(206, "x")
        .header("content-range", format!("bytes 0-0/{size}"))
        .header("etag", "\"state\"")
}

fn begun() -> Reply {
    let id = "<UploadId>u&amp;1</UploadId>";
    Reply::new(
        200,
        format!("<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"),
    )
}

fn part(etag: &str) -> Reply {
    Reply::new(
        200,
        format!("<CopyPartResult><ETag>{etag}</ETag></CopyPartResult>"),
    )
}

#[tokio::test]
async fn an_upload_that_cannot_be_completed_is_aborted() {
    let refused = || Reply::new(403, "<Error><Code>AccessDenied</Code></Error>");
    let gone = || Reply::new(204, "");
    // A completion is sent once, whatever comes of it.
    for last in [refused(), Reply::new(200, ERROR), Reply::Close] {
        let server =
            ScriptedServer::start([source(7 * MIB), begun(), part("p"), part("p"), last, gone()]).await;
        let error = in_parts(&server).copy("from", "to", 7 * MIB).await.unwrap_err();
        assert!(error.to_string().contains("\"from\""), "{error}");
        let lines = server.lines();
        assert_eq!(lines[1], "POST /b/root/to?uploads=");
        assert_eq!(lines[4], "POST /b/root/to?uploadId=u%261");
        assert_eq!(lines[5..], ["DELETE /b/root/to?uploadId=u%261"]);
        let asked = server.asked();
        let parts = asked[2..4].iter();
        assert!(
            parts
                .clone()
                .all(|part| part.head.contains("x-amz-copy-source-if-match: \"state\""))
        );
        let sent = |range: &str| parts.clone().any(|part| part.head.contains(range));
        assert!(sent("x-amz-copy-source-range: bytes=0-5242879"));
        assert!(sent("x-amz-copy-source-range: bytes=5242880-7340031"));
    }
}

/// Its beginning would be a whole object to whoever finds it.
#[tokio::test]
async fn an_object_of_another_size_is_not_copied_in_parts() {
    for actual in [7 * MIB - 1, 7 * MIB + 1] {
        let server = ScriptedServer::start([source(actual)]).await;
        let error = in_parts(&server).copy("from", "to", 7 * MIB).await.unwrap_err();
        assert!(error.to_string().contains("another object"), "{error}");
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn google_names_the_source_in_its_own_header() {
    let server = ScriptedServer::start([Reply::new(200, COPIED)]).await;
    let store = open_with("gs://b/root", &server.endpoint, &[("bearer_token", "SECRET")]);
    store.copy("a b", "c", 10 << 30).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].line, "PUT /b/root/c");
    assert!(asked[0].head.contains("x-goog-copy-source: /b/root/a%20b"));
}

fn azure(server: &ScriptedServer, secret: (&str, &str)) -> Arc<dyn Store> {
    open_with(
        "az://c/root",
        &server.endpoint,
        &[("account_name", "acc"), secret],
    )
}

fn status(status: u16, copy: &str) -> Reply {
    Reply::new(status, "").header("x-ms-copy-status", copy)
}

#[tokio::test]
async fn azure_is_asked_until_its_copy_has_ended() {
    let pending = Reply::new(409, "").header("x-ms-error-code", "PendingCopyOperation");
    for (begin, then) in [
        (status(202, "success"), vec![]),
        (
            status(202, "pending"),
            vec![status(200, "pending"), status(200, "success")],
        ),
        (pending, vec![status(200, "success")]),
    ] {
        let asked_after = then.len();
        let server = ScriptedServer::start([begin].into_iter().chain(then)).await;
        let store = azure(&server, ("account_key", "U0VDUkVU"));
        store.copy("a b", "c", 1).await.unwrap();
        let asked = server.asked();
        assert_eq!(asked[0].line, "PUT /c/root/c");
        let source = format!("x-ms-copy-source: {}/c/root/a%20b\r\n", server.endpoint);
        assert!(asked[0].head.contains(&source), "{}", asked[0].head);
        assert!(!asked[0].head.contains("x-ms-blob-type"));
        assert!(asked[1..].iter().all(|asked| asked.line == "HEAD /c/root/c"));
        assert_eq!(asked.len(), 1 + asked_after);
    }
}

#[tokio::test]
async fn a_copy_of_azures_that_ends_otherwise_is_a_failure() {
    let server = ScriptedServer::start([status(202, "pending"), status(200, "aborted")]).await;
    let error = azure(&server, ("account_key", "U0VDUkVU"))
        .copy("from", "to", 1)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("aborted"), "{error}");
}

#[tokio::test]
async fn a_signature_that_is_part_of_an_address_is_part_of_the_sources_too() {
    let server =
        ScriptedServer::start([status(202, "success"), Reply::Close, Reply::Close, Reply::Close]).await;
    let store = azure(&server, ("sas_token", "?sv=1&sig=SECRET%2B"));
    store.copy("a", "b", 1).await.unwrap();
    let head = &server.asked()[0].head;
    assert!(head.contains("/c/root/a?sv=1&sig=secret%2b\r\n"), "{head}");
    let error = store.copy("a", "b", 1).await.unwrap_err();
    assert!(
        !format!("{error} {error:?} {store:?}").contains("SECRET"),
        "{error}"
    );
}
