//! Copies in a bucket that does not answer as it should, and copies in parts.

use hardprune_common::store::StoreError;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};

use crate::opened::{Opened, on_s3_as};

const MIB: usize = 1 << 20;

/// A server that copies no more than 6 MiB at once, and a store that knows.
fn that_copies_in_parts() -> Opened {
    let options = S3Options {
        largest_copy: 6 << 20,
        ..S3Options::default()
    };
    let settings = [
        ("multipart_copy_threshold", "6291456"),
        ("multipart_copy_part_size", "5242880"),
    ];
    on_s3_as("/a folder", options, &settings).expect("a port is free")
}

#[tokio::test]
async fn a_copy_that_fails_for_a_while_is_repeated() {
    let store = on_s3_as("", S3Options::default(), &[]).unwrap();
    store.put("from", "bytes").await.unwrap();
    for effect in [
        Effect::ErrorDocument200,
        Effect::Status(503, "SlowDown"),
        Effect::Html200,
        Effect::CutBody(10),
        Effect::DropConnection,
        Effect::DropAfter,
    ] {
        let fault = Fault::on(Operation::Copy, effect.clone()).times(2);
        store.server().faults().add(fault);
        store.store.copy("from", "to", 5).await.unwrap();
        assert_eq!(store.get("to").await.unwrap(), "bytes", "{effect:?}");
        assert!(store.server().remove("to"));
    }
    assert_eq!(store.server().faults().met(), 12);
}

#[tokio::test]
async fn a_copy_that_the_store_calls_an_error_is_none_whatever_the_status() {
    let store = on_s3_as("", S3Options::default(), &[]).unwrap();
    store.put("from", "bytes").await.unwrap();
    for effect in [
        Effect::ErrorDocument200,
        Effect::Status(503, "SlowDown"),
        Effect::Html200,
    ] {
        store
            .server()
            .faults()
            .add(Fault::on(Operation::Copy, effect.clone()));
        let error = store.store.copy("from", "to", 5).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("\"from\""), "{error}");
        assert!(store.server().get("to").is_none());
        store.server().faults().clear();
    }
}

#[tokio::test]
async fn what_is_too_large_for_one_copy_is_copied_in_parts() {
    let store = that_copies_in_parts();
    let bytes: Vec<u8> = (0..17 * MIB)
        .map(|at| u8::try_from(at / 1000 % 251).unwrap())
        .collect();
    for (size, requests) in [(6 * MIB, 1), (6 * MIB + 1, 4), (15 * MIB, 5), (17 * MIB, 6)] {
        store.put("a+ %/ü", bytes[..size].to_vec()).await.unwrap();
        let before = store.store.requests().copy;
        store.store.copy("a+ %/ü", "b/ü?&", size as u64).await.unwrap();
        assert_eq!(store.store.requests().copy - before, requests, "{size}");
        assert!(store.get("b/ü?&").await.unwrap() == bytes[..size], "{size}");
        assert!(store.server().uploads().is_empty());
    }
}

#[tokio::test]
async fn parts_that_fail_for_a_while_are_repeated() {
    let store = that_copies_in_parts();
    let bytes = vec![3; 12 * MIB];
    store.put("from", bytes.clone()).await.unwrap();
    for effect in [
        Effect::ErrorDocument200,
        Effect::Status(503, "SlowDown"),
        Effect::DropAfter,
    ] {
        // Not the request that begins the upload, which is sent once.
        store
            .server()
            .faults()
            .add(Fault::on(Operation::Multipart, effect).after(1).times(2));
        store.store.copy("from", "to", 12 << 20).await.unwrap();
        assert!(store.get("to").await.unwrap() == bytes);
        assert!(store.server().uploads().is_empty());
        store.server().remove("a folder/to");
    }
    assert_eq!(store.server().faults().met(), 6);
}

#[tokio::test]
async fn a_copy_in_parts_that_fails_leaves_nothing() {
    let store = that_copies_in_parts();
    store.put("from", vec![3; 12 * MIB]).await.unwrap();
    store.put("to", "what was there").await.unwrap();
    for begun in 0..5 {
        // One attempt at each request: the begin, three parts, the end.
        let fault = Fault::on(Operation::Multipart, Effect::Status(403, "AccessDenied"));
        store.server().faults().add(fault.after(begun).times(1));
        let error = store.store.copy("from", "to", 12 << 20).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Denied { action: "copy", .. }),
            "{error}"
        );
        assert_eq!(store.get("to").await.unwrap(), "what was there");
        assert!(store.server().uploads().is_empty(), "after {begun} requests");
    }
}

/// The settings say what a server takes. Where they do not, its refusal is an error that says so.
#[tokio::test]
async fn what_the_server_takes_no_more_of_is_refused() {
    let options = S3Options {
        largest_copy: 6 << 20,
        ..S3Options::default()
    };
    let store = on_s3_as("", options, &[]).unwrap();
    store.put("from", vec![3; 7 * MIB]).await.unwrap();
    let error = store.store.copy("from", "to", 7 << 20).await.unwrap_err();
    assert!(error.to_string().contains("maximum allowable size"), "{error}");
}
