//! Writes: once, and under conditions.

use bytes::Bytes;

use super::super::scripted_server::{Reply, ScriptedServer};
use super::open;
use crate::store::{PutCondition, StoreError};

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
