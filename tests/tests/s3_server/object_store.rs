//! What hardprune's own client, `object_store`, asks of the server.

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_tests::s3_server::{Operation, S3Options, S3Server};
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;
use object_store::{Error, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};

use crate::clients::{client, client_with_secret, http_client, server_of_small_pages};

fn keys(listed: &[object_store::ObjectMeta]) -> Vec<&str> {
    listed.iter().map(|meta| meta.location.as_ref()).collect()
}

#[tokio::test]
async fn lists_all_pages_in_order_with_sizes_and_times() {
    let server = server_of_small_pages();
    let time: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    for number in 0..10 {
        server.put(&format!("blobs/{number}"), vec![0; number], Some(time));
    }
    server.put("other", "x", None);
    let store = client(&server, 0);

    let listed: Vec<_> = store
        .list(Some(&Path::from("blobs")))
        .try_collect()
        .await
        .unwrap();
    let expected: Vec<String> = (0..10).map(|number| format!("blobs/{number}")).collect();
    assert_eq!(keys(&listed), expected);
    assert!(
        listed
            .iter()
            .all(|meta| meta.last_modified.timestamp() == time.as_second())
    );
    assert_eq!(listed.iter().map(|meta| meta.size).sum::<u64>(), 45);
    assert_eq!(server.counters().list, 4);

    let offset = Path::from("blobs/6");
    let rest: Vec<_> = store
        .list_with_offset(Some(&Path::from("blobs")), &offset)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(keys(&rest), ["blobs/7", "blobs/8", "blobs/9"]);
}

#[tokio::test]
async fn lists_folders_by_delimiter() {
    let server = server_of_small_pages();
    for key in ["r/a/1", "r/a/2", "r/b", "r/c/1", "r/d/1", "r/e/1/2", "r/f"] {
        server.put(key, "x", None);
    }
    let listed = client(&server, 0)
        .list_with_delimiter(Some(&Path::from("r")))
        .await
        .unwrap();
    let folders: Vec<&str> = listed.common_prefixes.iter().map(AsRef::as_ref).collect();
    assert_eq!(folders, ["r/a", "r/c", "r/d", "r/e"]);
    assert_eq!(keys(&listed.objects), ["r/b", "r/f"]);
}

#[tokio::test]
async fn reads_whole_objects_and_ranges() {
    let server = server_of_small_pages();
    server.put("a key/with ü+%", "0123456789", None);
    let store = client(&server, 0);
    // Not `Path::from`, which would encode the percent sign and make it another key.
    let path = Path::parse("a key/with ü+%").unwrap();

    let whole = store.get(&path).await.unwrap();
    assert_eq!(
        whole.meta.e_tag.as_deref(),
        Some("\"781e5e245d69b566979b86e28d23f2c7\"")
    );
    assert_eq!(whole.bytes().await.unwrap(), "0123456789");
    assert_eq!(store.get_range(&path, 2..5).await.unwrap(), "234");
    assert_eq!(store.head(&path).await.unwrap().size, 10);
    let suffix = GetOptions::new().with_range(Some(object_store::GetRange::Suffix(2)));
    assert_eq!(
        store
            .get_opts(&path, suffix)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        "89"
    );
    assert!(matches!(
        store.get(&Path::from("no")).await,
        Err(Error::NotFound { .. })
    ));
    let counters = server.counters();
    assert_eq!((counters.get, counters.head), (4, 1));
}

#[tokio::test]
async fn writes_under_conditions() {
    let server = server_of_small_pages();
    let store = client(&server, 0);
    let lock = Path::from("lock");
    let first = store
        .put_opts(&lock, "1".into(), PutMode::Create.into())
        .await
        .unwrap();
    let again = store.put_opts(&lock, "2".into(), PutMode::Create.into()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));

    let version = UpdateVersion {
        e_tag: first.e_tag,
        version: None,
    };
    store
        .put_opts(&lock, "3".into(), PutMode::Update(version.clone()).into())
        .await
        .unwrap();
    let stale = store
        .put_opts(&lock, "4".into(), PutMode::Update(version).into())
        .await;
    assert!(matches!(stale, Err(Error::Precondition { .. })));
    assert_eq!(server.get("lock").unwrap(), "3");
    assert_eq!(server.counters().put, 4);
}

#[tokio::test]
async fn a_store_may_ignore_conditions() {
    let server = S3Server::start(S3Options {
        honours_conditions: false,
        ..S3Options::default()
    })
    .unwrap();
    let store = client(&server, 0);
    for text in ["1", "2"] {
        store
            .put_opts(&Path::from("lock"), text.into(), PutMode::Create.into())
            .await
            .unwrap();
    }
    assert_eq!(server.get("lock").unwrap(), "2");
}

#[tokio::test]
async fn deletes_one_key_and_many() {
    let server = server_of_small_pages();
    let store = client(&server, 0);
    for number in 0..5 {
        server.put(&format!("k/{number}"), "x", None);
    }
    store.delete(&Path::from("k/0")).await.unwrap();
    let paths: Vec<_> = (1..6)
        .map(|number| Ok(Path::from(format!("k/{number}"))))
        .collect();
    let deleted: Vec<_> = store
        .delete_stream(stream::iter(paths).boxed())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(deleted.len(), 5);
    assert!(server.inventory().is_empty());

    let counters = server.counters();
    assert_eq!(counters.deleted_keys, 5);
    assert_eq!(counters.delete_single + counters.delete_objects, 2);
    assert_eq!(
        server.log().last().map(|entry| entry.key.clone()),
        Some("k/5".to_owned())
    );
    assert_eq!(
        server.log().last().map(|entry| entry.operation),
        Some(Operation::DeleteObjects)
    );
}

#[tokio::test]
async fn copies_and_uploads_in_parts() {
    let server = server_of_small_pages();
    let store = client(&server, 0);
    let big = Path::from("big");
    let mut upload = store.put_multipart(&big).await.unwrap();
    upload.put_part(vec![1; 5 << 20].into()).await.unwrap();
    upload.put_part("end".into()).await.unwrap();
    let etag = upload.complete().await.unwrap().e_tag.unwrap();
    assert!(etag.trim_matches('"').ends_with("-2"), "{etag}");

    store.copy(&big, &Path::from("copy")).await.unwrap();
    assert_eq!(server.get("copy").unwrap(), server.get("big").unwrap());
    assert_eq!((server.counters().multipart, server.counters().copy), (4, 1));
}

#[tokio::test]
async fn odd_keys_are_stored_and_listed() {
    let open = S3Server::start(S3Options {
        check_credentials: false,
        ..S3Options::default()
    })
    .unwrap();
    let http = http_client();
    for key in ["d/", "d//x", "/d", "a&b<c>"] {
        let url = format!("{}/{}/{key}", open.endpoint(), open.bucket());
        assert!(
            http.put(&url)
                .body("x")
                .send()
                .await
                .unwrap()
                .status()
                .is_success(),
            "{key}"
        );
        assert_eq!(
            http.get(&url).send().await.unwrap().text().await.unwrap(),
            "x",
            "{key}"
        );
    }
    let keys: Vec<String> = open.inventory().into_keys().collect();
    assert_eq!(keys, ["/d", "a&b<c>", "d/", "d//x"]);
    let url = format!(
        "{}/{}?list-type=2&prefix=d/&encoding-type=url",
        open.endpoint(),
        open.bucket()
    );
    let page = http.get(url).send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("<Key>d/</Key>") && page.contains("<Key>d//x</Key>"),
        "{page}"
    );
}

#[tokio::test]
async fn a_versioned_bucket_says_so_and_hides_what_is_deleted() {
    let server = S3Server::start(S3Options {
        versioned: true,
        ..S3Options::default()
    })
    .unwrap();
    let store = client(&server, 0);
    let path = Path::from("k");
    assert!(store.put(&path, "12345".into()).await.unwrap().version.is_some());
    assert!(store.put(&path, "123".into()).await.unwrap().version.is_some());
    assert!(store.head(&path).await.unwrap().version.is_some());
    store.delete(&path).await.unwrap();
    assert_eq!(server.hidden_bytes(), 8);
    assert!(server.inventory().is_empty());
}

#[tokio::test]
async fn the_stores_time_is_not_the_machines() {
    let day = SignedDuration::from_hours(24);
    for clock_offset in [day, -day] {
        let server = S3Server::start(S3Options {
            clock_offset,
            ..S3Options::default()
        })
        .unwrap();
        client(&server, 0)
            .put(&Path::from("k"), "x".into())
            .await
            .unwrap();
        let written = server.inventory()["k"].1;
        assert!(
            written.duration_since(Timestamp::now()).as_hours().abs() >= 23,
            "{written}"
        );

        let answer = http_client().get(server.endpoint()).send().await.unwrap();
        let date = answer.headers()["date"].to_str().unwrap();
        let date = jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(date)
            .unwrap();
        assert!(
            date.duration_since(written).abs() < SignedDuration::from_secs(60),
            "{date}"
        );
    }
}

#[tokio::test]
async fn wrong_keys_and_buckets_are_refused() {
    let server = server_of_small_pages();
    let refused = client_with_secret(&server, 0, "wrong")
        .get(&Path::from("k"))
        .await;
    assert!(
        matches!(refused, Err(Error::PermissionDenied { .. })),
        "{refused:?}"
    );
    let url = format!("{}/{}/k", server.endpoint(), server.bucket());
    assert_eq!(http_client().get(url).send().await.unwrap().status(), 403);

    let open = S3Server::start(S3Options {
        check_credentials: false,
        ..S3Options::default()
    })
    .unwrap();
    let missing = http_client()
        .get(format!("{}/nothing?list-type=2", open.endpoint()))
        .send()
        .await
        .unwrap();
    assert_eq!(missing.status(), 404);
    assert!(
        missing
            .text()
            .await
            .unwrap()
            .contains("<Code>NoSuchBucket</Code>")
    );
}
