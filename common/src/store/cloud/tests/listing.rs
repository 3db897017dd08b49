//! Listings: what passes, what does not, and where they end.

use futures::TryStreamExt;

use super::super::scripted_server::{Reply, ScriptedServer};
use super::{keys, open, page};
use crate::store::{ListRange, StoreError};

#[tokio::test]
async fn a_listing_goes_on_from_page_to_page() {
    let server = ScriptedServer::start([page(&["a/1", "a/2"], Some("t")), page(&["a/3"], None)]).await;
    let store = open(&server);
    assert_eq!(
        keys(&*store, ListRange::prefix("a/")).await.unwrap(),
        ["a/1", "a/2", "a/3"]
    );
    assert_eq!(
        server.lines(),
        [
            "GET /b?list-type=2&prefix=root%2Fa%2F",
            "GET /b?list-type=2&prefix=root%2Fa%2F&continuation-token=t",
        ]
    );
    assert!(server.asked()[0].head.contains("authorization: aws4-hmac-sha256"));
    assert_eq!(store.requests().list, 2);
}

#[tokio::test]
async fn a_range_ends_where_it_was_to_end() {
    let server = ScriptedServer::start([page(&["a/2", "a/3", "a/4"], Some("t"))]).await;
    let store = open(&server);
    let range = ListRange {
        after: Some("a/1".to_owned()),
        before: Some("a/4".to_owned()),
        ..ListRange::prefix("a/")
    };
    assert_eq!(keys(&*store, range).await.unwrap(), ["a/2", "a/3"]);
    assert_eq!(
        server.lines(),
        ["GET /b?list-type=2&prefix=root%2Fa%2F&start-after=root%2Fa%2F1"]
    );
}

#[tokio::test]
async fn a_range_that_holds_nothing_is_not_asked_for() {
    let server = ScriptedServer::start([]).await;
    let store = open(&server);
    for (after, before) in [(Some("b"), None), (None, Some("a/")), (None, Some("a"))] {
        let range = ListRange {
            after: after.map(str::to_owned),
            before: before.map(str::to_owned),
            ..ListRange::prefix("a/")
        };
        assert!(keys(&*store, range).await.unwrap().is_empty());
    }
    assert!(server.lines().is_empty());
}

#[tokio::test]
async fn folders_are_listed() {
    let body = "<ListBucketResult><IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>root/a/b/</Prefix>\
                </CommonPrefixes></ListBucketResult>";
    let server = ScriptedServer::start([Reply::new(200, body)]).await;
    let store = open(&server);
    let pages: Vec<_> = store.list_folder("a/").try_collect().await.unwrap();
    assert_eq!(pages[0].folders, ["a/b/"]);
    assert_eq!(
        server.lines(),
        ["GET /b?list-type=2&prefix=root%2Fa%2F&delimiter=%2F"]
    );
}

#[tokio::test]
async fn a_listing_survives_what_passes() {
    let cases = [
        Reply::new(503, "<Error><Code>SlowDown</Code></Error>").header("retry-after", "0"),
        Reply::new(500, ""),
        Reply::new(200, "<html>Sign in</html>"),
        Reply::new(200, "<Error><Code>InternalError</Code></Error>"),
        Reply::Cut {
            body: b"<ListBucketResult>".to_vec(),
            missing: 100,
        },
        Reply::Hang,
        Reply::Close,
    ];
    for case in cases {
        let server = ScriptedServer::start([case, page(&["a/1"], None)]).await;
        let store = open(&server);
        assert_eq!(keys(&*store, ListRange::prefix("a/")).await.unwrap(), ["a/1"]);
        assert_eq!(store.requests().list, 2, "every attempt counts");
    }
}

#[tokio::test]
async fn tries_are_bounded_and_end_in_an_error_that_names_the_page() {
    let html = || Reply::new(200, "<html></html>");
    let server =
        ScriptedServer::start([page(&["a/1"], Some("t")), html(), html(), html(), page(&[], None)]).await;
    let store = open(&server);
    let error = keys(&*store, ListRange::prefix("a/")).await.unwrap_err();
    assert!(matches!(error, StoreError::BadPage { page: 2, .. }), "{error}");
    assert_eq!(store.requests().list, 4);

    let server = ScriptedServer::start((0..4).map(|_| Reply::new(503, ""))).await;
    let error = keys(&*open(&server), ListRange::prefix("a/")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again() {
    let cases = [
        (403, "AccessDenied"),
        (403, "InvalidAccessKeyId"),
        (404, "NoSuchBucket"),
        (301, "PermanentRedirect"),
    ];
    for (status, code) in cases {
        let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        let reply = Reply::new(status, body).header("location", "http://127.0.0.1:1/elsewhere");
        let server = ScriptedServer::start([reply]).await;
        let error = keys(&*open(&server), ListRange::prefix("a/")).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("SECRET") && !shown.contains("Signature="),
            "{shown}"
        );
        let right = match code {
            "AccessDenied" => matches!(error, StoreError::Denied { .. }),
            "InvalidAccessKeyId" => matches!(error, StoreError::Unauthenticated { .. }),
            "NoSuchBucket" => matches!(error, StoreError::NoSuchPlace { .. }),
            _ => matches!(error, StoreError::Configuration { .. }),
        };
        assert!(right, "{shown}");
        assert_eq!(server.lines().len(), 1, "{code}");
    }
}
