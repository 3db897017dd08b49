//! Deletes that are taken back: which markers are named, and what is never named.

use super::super::scripted_server::{Reply, ScriptedServer};
use super::{open, open_with};
use crate::store::{StoreError, Undeletion};

fn versions(entries: &[(&str, &str, &str, bool)], more: &str) -> Reply {
    let mut body = format!(
        "<ListVersionsResult><IsTruncated>{}</IsTruncated>{more}",
        !more.is_empty()
    );
    for (kind, key, id, newest) in entries {
        body.push_str(&format!(
            "<{kind}><Key>root/{key}</Key><VersionId>{id}</VersionId><IsLatest>{newest}</IsLatest></{kind}>"
        ));
    }
    body.push_str("</ListVersionsResult>");
    Reply::new(200, body)
}

const MARKER: &str = "DeleteMarker";
const OBJECT: &str = "Version";

#[tokio::test]
async fn the_marker_on_top_is_removed_and_nothing_else() {
    let server = ScriptedServer::start([
        versions(&[(MARKER, "k", "m/1", true), (OBJECT, "k", "v", false)], ""),
        Reply::new(503, ""),
        Reply::new(204, ""),
    ])
    .await;
    let store = open(&server);
    assert_eq!(store.undelete("k").await.unwrap(), Undeletion::Undeleted);
    assert_eq!(
        server.lines(),
        [
            "GET /b?versions=&prefix=root%2Fk",
            "DELETE /b/root/k?versionId=m%2F1",
            "DELETE /b/root/k?versionId=m%2F1",
        ]
    );
}

#[tokio::test]
async fn markers_of_deletes_that_were_sent_again_go_too() {
    let object = (OBJECT, "k", "v", false);
    let server = ScriptedServer::start([
        versions(
            &[(MARKER, "k", "m1", false), (MARKER, "k", "m2", true), object],
            "",
        ),
        Reply::new(204, ""),
        versions(&[(MARKER, "k", "m1", true), object], ""),
        Reply::new(204, ""),
    ])
    .await;
    assert_eq!(open(&server).undelete("k").await.unwrap(), Undeletion::Undeleted);
    let deleted: Vec<_> = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("DELETE"))
        .collect();
    assert_eq!(
        deleted,
        ["DELETE /b/root/k?versionId=m2", "DELETE /b/root/k?versionId=m1"]
    );
}

#[tokio::test]
async fn what_is_there_and_what_never_was_are_left_alone() {
    let more = "<NextKeyMarker>root/k</NextKeyMarker><NextVersionIdMarker>m</NextVersionIdMarker>";
    let behind = "<NextKeyMarker>root/k0</NextKeyMarker><NextVersionIdMarker>m</NextVersionIdMarker>";
    for (pages, expected) in [
        (vec![versions(&[], "")], Undeletion::Nothing),
        (
            vec![versions(&[(OBJECT, "k2", "v", true)], "")],
            Undeletion::Nothing,
        ),
        (
            vec![versions(&[(MARKER, "k", "m", true)], "")],
            Undeletion::Nothing,
        ),
        (
            vec![versions(
                &[(MARKER, "k", "m", false), (OBJECT, "k", "v", true)],
                "",
            )],
            Undeletion::StillThere,
        ),
        (
            vec![
                versions(&[(MARKER, "k", "m", false)], more),
                versions(&[(OBJECT, "k", "v", true)], behind),
            ],
            Undeletion::StillThere,
        ),
    ] {
        let asked = pages.len();
        let server = ScriptedServer::start(pages).await;
        assert_eq!(open(&server).undelete("k").await.unwrap(), expected);
        assert_eq!(server.lines().len(), asked, "no page more, and no delete");
    }
}

/// The next write replaces it, and a request that comes late would delete that.
#[tokio::test]
async fn a_marker_without_an_id_of_its_own_is_never_named() {
    let page = versions(&[(MARKER, "k", "null", true), (OBJECT, "k", "v", false)], "");
    let server = ScriptedServer::start([page]).await;
    let error = open(&server).undelete("k").await.unwrap_err();
    assert!(error.to_string().contains("suspended"), "{error}");
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_page_that_does_not_prove_itself_removes_nothing() {
    let strange = || versions(&[(MARKER, "k", "m", false), (OBJECT, "k", "v", false)], "");
    let server = ScriptedServer::start([strange()]).await;
    assert!(open(&server).undelete("k").await.is_err());
    let server = ScriptedServer::start((0..3).map(|_| Reply::new(200, "<html></html>"))).await;
    let error = open(&server).undelete("k").await.unwrap_err();
    assert!(matches!(error, StoreError::BadPage { .. }), "{error}");
    assert!(server.lines().iter().all(|line| line.starts_with("GET")));
}

#[tokio::test]
async fn other_providers_have_nothing_to_take_back_from() {
    let server = ScriptedServer::start([]).await;
    let store = open_with("gs://b/root", &server.endpoint, &[("bearer_token", "SECRET")]);
    let error = store.undelete("k").await.unwrap_err();
    assert!(matches!(error, StoreError::Configuration { .. }), "{error}");
    assert!(server.lines().is_empty());
}
