//! Deletes: once, in time, and answered per key.

use std::time::Duration;

use super::super::scripted_server::{Reply, ScriptedServer};
use super::{LONG, open, open_at, own_files};
use crate::store::{KeyOutcome, RequestCounts, StoreError};

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
async fn nobody_there_is_an_error_without_secrets() {
    let closed = open_at("http://127.0.0.1:1");
    let error = closed.get("k", 0, 10).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{shown}");
    assert!(!shown.contains("SECRET"), "{shown}");
    let outcomes = closed.delete(own_files(&["a"], LONG)).await;
    assert_eq!(outcomes, [KeyOutcome::Throttled], "nothing was sent");
}
