//! The scripted faults, seen from a client.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options, S3Server};
use md5::{Digest, Md5};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use reqwest::{Client, Response};

use crate::clients::{client, http_client, server_of_small_pages};

/// A server that takes unsigned requests, with the four keys `k/0` to `k/3`, and a client for it.
fn open_server() -> (S3Server, Client) {
    let options = S3Options {
        check_credentials: false,
        ..S3Options::default()
    };
    let server = S3Server::start(options).expect("a port is free");
    for number in 0..4 {
        server.put(&format!("k/{number}"), "0123456789", None);
    }
    (server, http_client())
}

fn url(server: &S3Server, key: &str) -> String {
    format!("{}/{}/{key}", server.endpoint(), server.bucket())
}

async fn delete_objects(server: &S3Server, http: &Client, keys: &[&str]) -> Response {
    let objects: String = keys
        .iter()
        .map(|key| format!("<Object><Key>{key}</Key></Object>"))
        .collect();
    let body = format!("<Delete>{objects}</Delete>");
    let digest = STANDARD.encode(Md5::digest(&body));
    let request = http
        .post(url(server, "?delete"))
        .header("content-md5", digest)
        .body(body);
    request.send().await.expect("the server answers")
}

#[tokio::test]
async fn a_status_comes_as_often_as_scripted() {
    let server = server_of_small_pages();
    server.put("k", "x", None);
    let slow_down = Effect::Status(503, "SlowDown");
    server.faults().add(
        Fault::on(Operation::Get, slow_down)
            .of_keys_with("k")
            .after(1)
            .times(2),
    );
    let store = client(&server, 3);
    for _ in 0..2 {
        assert_eq!(
            store.get(&Path::from("k")).await.unwrap().bytes().await.unwrap(),
            "x"
        );
    }
    assert_eq!((server.counters().get, server.faults().met()), (4, 2));

    server
        .faults()
        .add(Fault::on_all(Effect::Status(403, "AccessDenied")));
    let refused = store.get(&Path::from("k")).await;
    assert!(
        matches!(refused, Err(Error::PermissionDenied { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_answer_may_never_come() {
    let (server, http) = open_server();
    server
        .faults()
        .add(Fault::on(Operation::Get, Effect::Hang).of_keys_with("k/1"));
    let waited = http
        .get(url(&server, "k/1"))
        .timeout(Duration::from_millis(100))
        .send()
        .await;
    assert!(waited.unwrap_err().is_timeout());
    assert!(
        http.get(url(&server, "k/2"))
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
}

#[tokio::test]
async fn an_operation_may_be_executed_long_after_its_client_has_gone() {
    let (server, http) = open_server();
    let delay = Duration::from_millis(300);
    server
        .faults()
        .add(Fault::on(Operation::Delete, Effect::DelayBefore(delay)));
    let waited = http
        .delete(url(&server, "k/1"))
        .timeout(Duration::from_millis(50))
        .send()
        .await;
    assert!(waited.unwrap_err().is_timeout());
    assert!(server.get("k/1").is_some());
    let begun = Instant::now();
    while server.get("k/1").is_some() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the delete was forgotten"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_answer_may_come_long_after_its_operation() {
    let (server, http) = open_server();
    server.faults().add(Fault::on(
        Operation::Delete,
        Effect::DelayAfter(Duration::from_secs(600)),
    ));
    let waited = http
        .delete(url(&server, "k/1"))
        .timeout(Duration::from_millis(500))
        .send()
        .await;
    assert!(waited.unwrap_err().is_timeout());
    assert!(server.get("k/1").is_none());
}

#[tokio::test]
async fn a_connection_may_close_before_or_after_the_operation() {
    let (server, http) = open_server();
    server
        .faults()
        .add(Fault::on(Operation::Delete, Effect::DropConnection).of_keys_with("k/1"));
    server
        .faults()
        .add(Fault::on(Operation::Delete, Effect::DropAfter).of_keys_with("k/2"));
    for key in ["k/1", "k/2"] {
        assert!(
            !http
                .delete(url(&server, key))
                .send()
                .await
                .unwrap_err()
                .is_timeout()
        );
    }
    assert_eq!(
        (server.get("k/1").is_some(), server.get("k/2").is_some()),
        (true, false)
    );
    assert_eq!(server.counters().deleted_keys, 1);
}

#[tokio::test]
async fn a_body_may_be_cut() {
    let (server, http) = open_server();
    server.faults().add(Fault::on(Operation::Get, Effect::CutBody(4)));
    let mut answer = http.get(url(&server, "k/1")).send().await.unwrap();
    assert_eq!(answer.content_length(), Some(10));
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "0123");
    assert!(answer.chunk().await.is_err());
}

#[tokio::test]
async fn status_200_may_carry_a_page_or_an_error() {
    let (server, http) = open_server();
    server
        .faults()
        .add(Fault::on(Operation::List, Effect::Html200).times(1));
    server
        .faults()
        .add(Fault::on(Operation::List, Effect::ErrorDocument200).after(1));
    let mut texts = Vec::new();
    for _ in 0..2 {
        let answer = http.get(url(&server, "?list-type=2")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        texts.push(answer.text().await.unwrap());
    }
    assert!(
        texts[0].starts_with("<!DOCTYPE html>") && texts[1].contains("<Error><Code>"),
        "{texts:?}"
    );
}

#[tokio::test]
async fn pages_may_be_wrong_in_every_way() {
    let (server, http) = open_server();
    let truncated = "<IsTruncated>true</IsTruncated>";
    let token = "<NextContinuationToken>";
    let cases = [
        (Effect::ShortPage, vec!["k/0", "k/1"], true, false),
        (
            Effect::TruncatedWithoutToken,
            vec!["k/0", "k/1", "k/2", "k/3"],
            true,
            false,
        ),
        (
            Effect::TokenWithoutTruncated,
            vec!["k/0", "k/1", "k/2", "k/3"],
            false,
            true,
        ),
        (
            Effect::UnorderedPage,
            vec!["k/3", "k/2", "k/1", "k/0"],
            false,
            false,
        ),
        (
            Effect::ForeignKeyInPage,
            vec!["k/0", "k/1", "k/2", "k/3", "k0foreign"],
            false,
            false,
        ),
    ];
    for (effect, keys, is_truncated, has_token) in cases {
        server.faults().clear();
        server
            .faults()
            .add(Fault::on(Operation::List, effect.clone()).of_keys_with("k/"));
        let url = url(&server, "?list-type=2&prefix=k/");
        let page = http.get(url).send().await.unwrap().text().await.unwrap();
        let listed = page
            .split("<Key>")
            .skip(1)
            .filter_map(|rest| rest.split("</Key>").next());
        assert_eq!(listed.collect::<Vec<_>>(), keys, "{effect:?}");
        assert_eq!(
            (page.contains(truncated), page.contains(token)),
            (is_truncated, has_token),
            "{effect:?}"
        );
    }
}

#[tokio::test]
async fn bulk_deletes_may_fail_for_some_keys() {
    let (server, http) = open_server();
    let error = Effect::KeyError {
        code: "InternalError",
        message: "try again",
    };
    server.faults().add(
        Fault::on(Operation::DeleteObjects, error)
            .of_keys_with("/1")
            .times(1),
    );
    let silent = Fault::on(Operation::DeleteObjects, Effect::KeySilentlyMissing);
    server.faults().add(silent.of_keys_with("/2").times(1));
    server
        .faults()
        .add(Fault::on(Operation::DeleteObjects, Effect::UnexpectedKey("k/9")).times(1));

    let answer = delete_objects(&server, &http, &["k/0", "k/1", "k/2"])
        .await
        .text()
        .await
        .unwrap();
    assert!(answer.contains("<Deleted><Key>k/0</Key></Deleted>"), "{answer}");
    assert!(
        answer.contains("<Code>InternalError</Code><Key>k/1</Key>"),
        "{answer}"
    );
    assert!(
        !answer.contains("k/2") && answer.contains("<Deleted><Key>k/9</Key></Deleted>"),
        "{answer}"
    );
    assert_eq!(
        server.inventory().into_keys().collect::<Vec<_>>(),
        ["k/1", "k/2", "k/3"]
    );

    delete_objects(&server, &http, &["k/1", "k/2"]).await;
    assert_eq!(server.inventory().into_keys().collect::<Vec<_>>(), ["k/3"]);
    assert_eq!(
        (server.counters().delete_objects, server.counters().deleted_keys),
        (2, 3)
    );
}

#[tokio::test]
async fn a_bulk_delete_needs_a_digest_that_fits() {
    let (server, http) = open_server();
    let body = "<Delete><Object><Key>k/0</Key></Object></Delete>";
    for (digest, code) in [(None, "InvalidRequest"), (Some("AAAA"), "BadDigest")] {
        let mut request = http.post(url(&server, "?delete")).body(body);
        if let Some(digest) = digest {
            request = request.header("content-md5", digest);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 400);
        assert!(answer.text().await.unwrap().contains(code));
    }
    assert!(server.get("k/0").is_some());
}
