//! What Google Cloud Storage does differently.

use std::sync::Arc;

use super::super::scripted_server::{Reply, ScriptedServer};
use super::{LONG, keys, open_with, own_files, page};
use crate::store::{KeyOutcome, ListRange, ObjectVersion, PutCondition, Store, StoreError, Versioning};

fn open(server: &ScriptedServer) -> Arc<dyn Store> {
    open_with("gs://b/root", &server.endpoint, &[("bearer_token", "SECRET")])
}

#[tokio::test]
async fn pages_are_those_of_s3_and_requests_bear_a_token() {
    let server = ScriptedServer::start([page(&["a/1"], None)]).await;
    let store = open(&server);
    assert_eq!(keys(&*store, ListRange::prefix("a/")).await.unwrap(), ["a/1"]);
    assert_eq!(server.lines(), ["GET /b?list-type=2&prefix=root%2Fa%2F"]);
    assert!(server.asked()[0].head.contains("authorization: bearer secret"));
}

#[tokio::test]
async fn conditions_are_generations() {
    let written = |generation: &str| Reply::new(200, "").header("x-goog-generation", generation);
    let server = ScriptedServer::start([written("17"), written("18"), Reply::new(412, "")]).await;
    let store = open(&server);
    let put = |condition| store.put("k", "x".into(), condition);
    let version = put(PutCondition::IfAbsent).await.unwrap();
    assert_eq!(version, ObjectVersion("17".to_owned()));
    put(PutCondition::IfUnchanged(version.clone())).await.unwrap();
    for version in [version, ObjectVersion("0".to_owned())] {
        let error = put(PutCondition::IfUnchanged(version)).await.unwrap_err();
        assert!(matches!(error, StoreError::ConditionNotMet { .. }), "{error}");
    }
    let asked = server.asked();
    assert!(asked[0].head.contains("x-goog-if-generation-match: 0"));
    assert!(asked[1].head.contains("x-goog-if-generation-match: 17"));
    assert_eq!(
        asked.len(),
        3,
        "generation 0 would mean that the object is absent"
    );
    assert_eq!(
        store.versioning(),
        Versioning::NotSeen,
        "every object has a generation"
    );
}

#[tokio::test]
async fn a_bucket_is_asked_whether_it_keeps_what_is_deleted() {
    let says = |policy: &str| Reply::new(200, format!("{{\"name\":\"b\"{policy}}}"));
    let cases = [
        (says(""), Versioning::NotSeen),
        (says(",\"versioning\":{\"enabled\":true}"), Versioning::Seen),
        (
            says(",\"softDeletePolicy\":{\"retentionDurationSeconds\":\"604800\"}"),
            Versioning::KeptForAWhile,
        ),
        // Who may prune need not have the right to know.
        (Reply::new(403, "{}"), Versioning::Unknown),
        (Reply::new(404, "<html></html>"), Versioning::Unknown),
        (Reply::new(200, "<html>Sign in</html>"), Versioning::Unknown),
    ];
    for (reply, expected) in cases {
        let server = ScriptedServer::start([reply]).await;
        let store = open(&server);
        assert_eq!(store.ask_versioning().await, expected);
        assert_eq!(store.versioning(), expected);
        assert_eq!(
            server.lines(),
            ["GET /storage/v1/b/b?fields=name%2Cversioning%2CsoftDeletePolicy"]
        );
        assert!(server.asked()[0].head.contains("authorization: bearer secret"));
        assert_eq!(store.requests().get, 1);
    }
}

#[tokio::test]
async fn deletes_go_one_by_one_and_once_each() {
    let refuse = |status, code: &str| Reply::new(status, format!("<Error><Code>{code}</Code></Error>"));
    let cases = [
        (Reply::new(204, ""), "Deleted"),
        (refuse(404, "NoSuchKey"), "Deleted"),
        (refuse(404, "NoSuchBucket"), "Failed"),
        (Reply::new(200, "<html>Sign in</html>"), "Unknown"),
        (refuse(403, "AccessDenied"), "Failed"),
        (Reply::new(429, ""), "Throttled"),
        (Reply::new(500, ""), "Unknown"),
        (Reply::Close, "Unknown"),
    ];
    for (reply, expected) in cases {
        let server = ScriptedServer::start([reply]).await;
        let store = open(&server);
        let outcomes = store.delete(own_files(&["a b"], LONG)).await;
        let outcome = match &outcomes[0] {
            KeyOutcome::Deleted => "Deleted",
            KeyOutcome::Failed(_) => "Failed",
            KeyOutcome::Unknown(_) => "Unknown",
            KeyOutcome::Throttled => "Throttled",
        };
        assert_eq!(outcome, expected, "{outcomes:?}");
        assert_eq!(server.lines(), ["DELETE /b/root/hardprune/a%20b"]);
        assert_eq!(store.requests().delete, 1);
    }
}

#[tokio::test]
async fn outcomes_keep_the_batchs_order() {
    let server = ScriptedServer::start((0..50).map(|_| Reply::new(204, ""))).await;
    let store = open(&server);
    let names: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    names[7] = "a/./b";
    let outcomes = store.delete(own_files(&names, LONG)).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(*outcome == KeyOutcome::Deleted, number != 7, "{number}");
    }
    assert_eq!(server.lines().len(), 49);
}
