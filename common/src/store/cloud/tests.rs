//! The S3 store against a server that misbehaves on purpose.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;

use super::RetryPolicy;
use super::scripted_server::{Reply, ScriptedServer};
use crate::store::location::{Environment, OpenOptions, Settings, StorageLocation};
use crate::store::{
    DeleteBatch, KeyOutcome, ListRange, PutCondition, RequestCounts, Store, StoreError, Versioning,
};

const DATE: &str = "Fri, 02 Jan 2026 03:04:05 GMT";

fn open(server: &ScriptedServer) -> Arc<dyn Store> {
    open_at(&server.endpoint)
}

fn open_at(endpoint: &str) -> Arc<dyn Store> {
    let settings: Settings = [
        ("endpoint", endpoint),
        ("access_key_id", "AK"),
        ("secret_access_key", "SECRET"),
    ]
    .into_iter()
    .collect();
    let options = OpenOptions {
        concurrency: 4,
        retry: RetryPolicy {
            attempts: 3,
            read_timeout: Duration::from_millis(300),
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(5),
        },
    };
    StorageLocation::parse_in("s3://b/root", settings, Environment::default())
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

#[tokio::test]
async fn nobody_there_is_an_error_without_secrets() {
    let closed = open_at("http://127.0.0.1:1");
    let error = closed.get("k", 0, 10).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{shown}");
    assert!(!shown.contains("SECRET"), "{shown}");
    let outcomes = closed.delete(own_files(&["a"], LONG)).await;
    assert_eq!(outcomes, [KeyOutcome::Throttled], "nothing was sent");
}

fn ranged(body: &str, range: &str) -> Reply {
    Reply::new(206, body)
        .header("content-range", format!("bytes {range}"))
        .header("etag", "\"e1\"")
}

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
async fn a_write_is_sent_once_and_says_under_which_condition() {
    let server = ScriptedServer::start([
        Reply::new(200, "").header("etag", "\"e1\""),
        Reply::new(412, "<Error><Code>PreconditionFailed</Code></Error>"),
        Reply::new(409, "<Error><Code>ConditionalRequestConflict</Code></Error>"),
        Reply::new(503, "<Error><Code>SlowDown</Code></Error>"),
        Reply::Close,
    ])
    .await;
    let store = open(&server);
    let put = |condition| store.put("k", Bytes::from_static(b"xyz"), condition);
    let version = put(PutCondition::IfAbsent).await.unwrap();
    for _ in 0..2 {
        let error = put(PutCondition::IfUnchanged(version.clone())).await.unwrap_err();
        assert!(matches!(error, StoreError::ConditionNotMet { .. }), "{error}");
    }
    for _ in 0..2 {
        let error = put(PutCondition::Always).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 5, "no write is retried");
    assert_eq!(
        (asked[0].line.as_str(), asked[0].body.as_str()),
        ("PUT /b/root/k", "xyz")
    );
    assert!(asked[0].head.contains("if-none-match: *"));
    assert!(asked[1].head.contains("if-match: \"e1\""));
    assert_eq!(store.requests().put, 5);
}

#[tokio::test]
async fn a_delete_is_sent_once_and_answered_per_key() {
    let answer = "<DeleteResult><Deleted><Key>root/hardprune/a</Key></Deleted><Error><Key>root/hardprune/b</Key>\
                  <Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
    let server = ScriptedServer::start([Reply::new(200, answer)]).await;
    let store = open(&server);
    let outcomes = store.delete(own_files(&["a", "b", "c"], LONG)).await;
    assert_eq!(outcomes[0], KeyOutcome::Deleted);
    assert_eq!(outcomes[1], KeyOutcome::Failed("AccessDenied: no".to_owned()));
    assert!(matches!(&outcomes[2], KeyOutcome::Unknown(_)));
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /b?delete");
    assert!(
        asked[0]
            .body
            .contains("<Object><Key>root/hardprune/a</Key></Object>")
    );
    assert!(asked[0].head.contains("content-md5: ") && asked[0].head.contains("x-amz-checksum-sha256: "));
    assert_eq!(
        store.requests(),
        RequestCounts {
            delete: 1,
            ..RequestCounts::default()
        }
    );
}

#[tokio::test]
async fn a_delete_that_fails_as_a_whole_is_never_repeated() {
    type Expected = fn(&KeyOutcome) -> bool;
    let cases: [(Reply, Expected); 7] = [
        (Reply::new(503, ""), |outcome| *outcome == KeyOutcome::Throttled),
        (Reply::new(429, ""), |outcome| *outcome == KeyOutcome::Throttled),
        (Reply::new(500, ""), |outcome| {
            matches!(outcome, KeyOutcome::Unknown(_))
        }),
        (Reply::new(403, ""), |outcome| {
            matches!(outcome, KeyOutcome::Failed(_))
        }),
        (Reply::new(200, "<html></html>"), |outcome| {
            matches!(outcome, KeyOutcome::Unknown(_))
        }),
        (Reply::Close, |outcome| matches!(outcome, KeyOutcome::Unknown(_))),
        (Reply::Hang, |outcome| matches!(outcome, KeyOutcome::Unknown(_))),
    ];
    for (reply, expected) in cases {
        let server = ScriptedServer::start([reply]).await;
        let store = open(&server);
        let outcomes = store
            .delete(own_files(&["a", "b"], Duration::from_millis(300)))
            .await;
        assert!(outcomes.iter().all(expected), "{outcomes:?}");
        assert_eq!(outcomes.len(), 2);
        assert_eq!(server.lines(), ["POST /b?delete"]);
    }
}

#[tokio::test]
async fn an_empty_batch_sends_nothing_and_too_large_a_batch_fails() {
    let server = ScriptedServer::start([]).await;
    let store = open(&server);
    assert!(store.delete(own_files(&[], LONG)).await.is_empty());
    let names: Vec<_> = (0..1001).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let outcomes = store.delete(own_files(&names, LONG)).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, KeyOutcome::Failed(_)))
    );
    assert_eq!(outcomes.len(), 1001);
    assert!(server.lines().is_empty());
}

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
