//! Deletes that are taken back in a bucket that keeps versions.

use std::time::Duration;

use hardprune_common::store::{DeleteBatch, KeyOutcome, StoreError, Undeletion};
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};

use crate::listing::KEYS;
use crate::opened::{Opened, in_a_bucket, in_a_folder, on_s3_as};

fn versioned() -> Opened {
    let options = S3Options {
        versioned: true,
        ..S3Options::default()
    };
    on_s3_as("/a folder", options, &[]).expect("a port is free")
}

async fn delete(store: &Opened, key: &str) {
    let batch =
        DeleteBatch::own_files(vec![key.to_owned()], Duration::from_secs(20)).expect("a key of our own");
    assert_eq!(store.store.delete(batch).await, [KeyOutcome::Deleted]);
}

#[tokio::test]
async fn what_was_deleted_is_there_again_as_it_was() {
    let store = versioned();
    let keys = KEYS.map(|key| format!("hardprune/{key}"));
    for key in &keys {
        store.put(key, key.clone()).await.unwrap();
    }
    let before = store.server().inventory();
    for key in &keys {
        delete(&store, key).await;
        delete(&store, key).await;
    }
    assert_eq!(store.server().inventory().len(), before.len() - keys.len());
    for key in &keys {
        assert_eq!(
            store.store.undelete(key).await.unwrap(),
            Undeletion::Undeleted,
            "{key}"
        );
        assert_eq!(
            store.store.undelete(key).await.unwrap(),
            Undeletion::StillThere,
            "{key}"
        );
    }
    assert_eq!(store.server().inventory(), before);
    assert_eq!(store.server().hidden_bytes(), 0);
}

#[tokio::test]
async fn what_was_written_since_is_left_alone() {
    let store = versioned();
    for bytes in ["first", "second"] {
        store.put("hardprune/k", bytes).await.unwrap();
        delete(&store, "hardprune/k").await;
    }
    store.put("hardprune/k", "pushed since").await.unwrap();
    assert_eq!(
        store.store.undelete("hardprune/k").await.unwrap(),
        Undeletion::StillThere
    );
    assert_eq!(store.get("hardprune/k").await.unwrap(), "pushed since");
    delete(&store, "hardprune/k").await;
    assert_eq!(
        store.store.undelete("hardprune/k").await.unwrap(),
        Undeletion::Undeleted
    );
    assert_eq!(
        store.get("hardprune/k").await.unwrap(),
        "pushed since",
        "the newest, not an older one"
    );
}

/// Nothing behind the key's own name is touched, and nothing is made of nothing.
#[tokio::test]
async fn keys_are_exact() {
    let store = versioned();
    for key in ["hardprune/k", "hardprune/k/", "hardprune/k0", "hardprune/kk"] {
        store.put(key, "x").await.unwrap();
        delete(&store, key).await;
    }
    delete(&store, "hardprune/never").await;
    assert_eq!(
        store.store.undelete("hardprune/k").await.unwrap(),
        Undeletion::Undeleted
    );
    for key in ["hardprune", "hardprune/", "hardprune/never", "hardprune/nothing"] {
        assert_eq!(
            store.store.undelete(key).await.unwrap(),
            Undeletion::Nothing,
            "{key}"
        );
    }
    let there: Vec<_> = store.server().inventory().into_keys().collect();
    let ours: Vec<_> = there.iter().filter(|key| key.contains("hardprune")).collect();
    assert_eq!(ours, ["a folder/hardprune/k"]);
}

#[tokio::test]
async fn a_listing_that_goes_wrong_takes_nothing_back() {
    let store = versioned();
    store.put("hardprune/k", "x").await.unwrap();
    delete(&store, "hardprune/k").await;
    for effect in [Effect::Html200, Effect::ErrorDocument200, Effect::CutBody(200)] {
        store.server().faults().add(Fault::on(Operation::List, effect));
        assert!(store.store.undelete("hardprune/k").await.is_err());
        store.server().faults().clear();
    }
    store
        .server()
        .faults()
        .add(Fault::on(Operation::Delete, Effect::DropAfter).times(1));
    assert_eq!(
        store.store.undelete("hardprune/k").await.unwrap(),
        Undeletion::Undeleted
    );
    assert_eq!(store.get("hardprune/k").await.unwrap(), "x");
}

#[tokio::test]
async fn elsewhere_there_is_nothing_to_take_back_from() {
    let folder = in_a_folder().unwrap();
    let error = folder.store.undelete("k").await.unwrap_err();
    assert!(matches!(error, StoreError::Configuration { .. }), "{error}");
    assert!(error.to_string().contains("keep versions"), "{error}");

    let bucket = in_a_bucket().unwrap();
    bucket.put("hardprune/k", "x").await.unwrap();
    assert_eq!(
        bucket.store.undelete("hardprune/k").await.unwrap(),
        Undeletion::StillThere
    );
    delete(&bucket, "hardprune/k").await;
    assert_eq!(
        bucket.store.undelete("hardprune/k").await.unwrap(),
        Undeletion::Nothing
    );
}
