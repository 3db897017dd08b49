//! Reads, writes and deletes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use futures::future::join_all;
use hardprune_common::clock::machine_now;
use hardprune_common::store::{
    DeleteBatch, KeyOutcome, ListRange, ObjectVersion, PutCondition, StoreError, Versioning,
};

use crate::listing::KEYS;
use crate::opened::Opened;

const PATIENCE: Duration = Duration::from_secs(20);

pub async fn a_part_of_an_object_can_be_read(store: &Opened) -> Result<()> {
    store.put("a/b", "0123456789").await?;
    for (offset, limit, wanted) in [
        (0, 10, "0123456789"),
        (0, 100, "0123456789"),
        (0, 1, "0"),
        (3, 4, "3456"),
        (9, 1, "9"),
        (9, 100, "9"),
        (10, 1, ""),
        (25, 4, ""),
        (0, 0, ""),
        (4, 0, ""),
    ] {
        let object = store.store.get("a/b", offset, limit).await?;
        ensure!(
            object.bytes == wanted && object.size == 10,
            "{limit} from {offset}: {object:?}"
        );
    }
    Ok(())
}

pub async fn an_empty_object_is_an_object(store: &Opened) -> Result<()> {
    store.put("a/empty", "").await?;
    for (offset, limit) in [(0, 0), (0, 1), (0, 100), (3, 3)] {
        let object = store.store.get("a/empty", offset, limit).await?;
        ensure!(object.bytes.is_empty() && object.size == 0, "{object:?}");
    }
    Ok(())
}

async fn is_absent(store: &Opened, key: &str) -> Result<()> {
    match store.store.get(key, 0, 10).await {
        Err(error @ StoreError::NotFound { .. }) => {
            ensure!(error.is_not_found() && error.to_string().contains(key), "{error}");
            Ok(())
        }
        other => anyhow::bail!("{key:?}: {other:?}"),
    }
}

pub async fn an_absent_key_is_not_found(store: &Opened) -> Result<()> {
    store.put_all(&["a/b/c", "b"]).await?;
    for key in ["a", "a/b", "a/b/d", "a/b/c/d", "b/c", "c", "a/b/C", "a/b/%63"] {
        is_absent(store, key).await?;
    }
    Ok(())
}

/// Keys come from messages, too: none may name what is not the store's.
pub async fn no_key_leads_out_of_the_store(store: &Opened) -> Result<()> {
    store.put_all(&["a/b"]).await?;
    for key in ["../a", "a/../../b", "a/../a/b"] {
        let read = store.store.get(key, 0, 10).await;
        ensure!(read.is_err(), "{key:?} was read");
        let written = store.store.put(key, "x".into(), PutCondition::Always).await;
        ensure!(written.is_err(), "{key:?} was written");
        let listed: Result<Vec<_>, _> = store.store.list(ListRange::prefix(key)).try_collect().await;
        let found = listed.map_or(0, |pages: Vec<Vec<_>>| pages.iter().map(Vec::len).sum());
        ensure!(found == 0, "{key:?} was listed");
    }
    Ok(())
}

pub async fn a_write_replaces_the_whole(store: &Opened) -> Result<()> {
    let large = vec![7; 3 << 20];
    store.put("a/b", large.clone()).await?;
    ensure!(store.get("a/b").await? == large);
    store.put("a/b", "short").await?;
    ensure!(store.get("a/b").await? == "short");
    store.put("a/b", "").await?;
    ensure!(store.get("a/b").await?.is_empty());
    let keys = store.keys(&ListRange::default()).await?;
    ensure!(keys == ["a/b"], "something is left beside it: {keys:?}");
    Ok(())
}

fn is_not_met<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::ConditionNotMet { .. }))
}

pub async fn a_write_may_be_bound_to_absence(store: &Opened) -> Result<()> {
    let put = |bytes: &'static str| store.store.put("a/b", bytes.into(), PutCondition::IfAbsent);
    let version = put("first").await?;
    ensure!(is_not_met(&put("second").await));
    ensure!(
        is_not_met(&put("first").await),
        "the same bytes again are another write"
    );
    let object = store.store.get("a/b", 0, 100).await?;
    ensure!(object.bytes == "first" && object.version == version, "{object:?}");
    let keys = store.keys(&ListRange::default()).await?;
    ensure!(keys == ["a/b"], "{keys:?}");
    Ok(())
}

pub async fn a_write_may_be_bound_to_a_version(store: &Opened) -> Result<()> {
    let put = |bytes: &'static str, version: &ObjectVersion| {
        let condition = PutCondition::IfUnchanged(version.clone());
        store.store.put("a/b", bytes.into(), condition)
    };
    let first = store.store.put("a/b", "1".into(), PutCondition::Always).await?;
    let second = put("2", &first).await?;
    ensure!(is_not_met(&put("3", &first).await));
    ensure!(store.get("a/b").await? == "2");
    let read = store.store.get("a/b", 0, 100).await?.version;
    ensure!(read == second, "what a write gives is what a read gives");
    let third = put("3", &read).await?;
    ensure!(is_not_met(&put("4", &second).await));
    remove(store, &["hardprune/none"]).await?;
    let elsewhere = PutCondition::IfUnchanged(third);
    ensure!(
        is_not_met(&store.store.put("a/c", "x".into(), elsewhere).await),
        "it is not there"
    );
    is_absent(store, "a/c").await
}

pub async fn of_writers_at_once_one_makes_the_object(store: &Opened) -> Result<()> {
    for round in 0..10 {
        let key = format!("hardprune/{round}");
        let writers = (0..8).map(|writer| {
            let (store, key) = (Arc::clone(&store.store), key.clone());
            tokio::spawn(async move {
                let put = store.put(&key, format!("{writer}").into(), PutCondition::IfAbsent);
                (writer, put.await)
            })
        });
        let mut won = Vec::new();
        for ended in join_all(writers).await {
            match ended? {
                (writer, Ok(_)) => won.push(writer),
                (_, refused) => ensure!(is_not_met(&refused), "{refused:?}"),
            }
        }
        ensure!(won.len() == 1, "round {round}: {won:?} won");
        ensure!(store.get(&key).await? == won[0].to_string());
    }
    Ok(())
}

pub async fn readers_see_one_write_or_the_other(store: &Opened) -> Result<()> {
    const SIZE: usize = 200_000;
    store.put("a", vec![0; SIZE]).await?;
    let writer = {
        let store = Arc::clone(&store.store);
        tokio::spawn(async move {
            for byte in 1..40_u8 {
                store
                    .put("a", vec![byte; SIZE].into(), PutCondition::Always)
                    .await?;
            }
            Ok::<_, StoreError>(())
        })
    };
    let mut reads = 0;
    while !writer.is_finished() || reads < 5 {
        let bytes = store.get("a").await?;
        let first = *bytes.first().context("nothing was read")?;
        ensure!(
            bytes.len() == SIZE && bytes.iter().all(|byte| *byte == first),
            "a mixture"
        );
        reads += 1;
    }
    writer.await??;
    Ok(())
}

pub async fn odd_names_are_names_like_others(store: &Opened) -> Result<()> {
    store.put_all(&KEYS).await?;
    for key in KEYS {
        ensure!(store.get(key).await? == key, "{key:?} is another object");
    }
    // What they would be if they were decoded, encoded or cut once too often.
    for key in [
        "b/%25",
        "b/1 1",
        "b/1%2B1",
        "b/x%20y",
        "b/x+y",
        "b/",
        "b/%C3%A9",
        "b/&lt;&amp;&gt;",
    ] {
        if key != "b/" {
            is_absent(store, key).await?;
        }
    }
    Ok(())
}

async fn remove(store: &Opened, keys: &[&str]) -> Result<Vec<KeyOutcome>> {
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    Ok(store.store.delete(DeleteBatch::own_files(keys, PATIENCE)?).await)
}

pub async fn present_and_absent_keys_are_deleted_and_nothing_else(store: &Opened) -> Result<()> {
    let own: Vec<_> = KEYS.iter().map(|key| format!("hardprune/{key}")).collect();
    for key in &own {
        store.put(key, "x").await?;
    }
    let (go, stay): (Vec<_>, Vec<_>) = own.iter().enumerate().partition(|(place, _)| place % 2 == 0);
    let mut batch: Vec<&str> = go.iter().map(|(_, key)| key.as_str()).collect();
    batch.extend([
        "hardprune/absent",
        "hardprune/a/absent/at all",
        "hardprune/b/%4",
        "hardprune/a-",
    ]);
    let outcomes = remove(store, &batch).await?;
    ensure!(outcomes == vec![KeyOutcome::Deleted; batch.len()], "{outcomes:?}");
    let stay: Vec<_> = stay.into_iter().map(|(_, key)| key.clone()).collect();
    let left = store.keys(&ListRange::default()).await?;
    ensure!(left == stay, "{left:?}, not {stay:?}");
    let again = remove(store, &batch).await?;
    ensure!(again == outcomes, "{again:?}");
    ensure!(remove(store, &[]).await?.is_empty());
    Ok(())
}

/// R10: who wakes up too late sends nothing.
pub async fn nothing_is_deleted_once_the_deadline_has_passed(store: &Opened) -> Result<()> {
    let keys = ["hardprune/a".to_owned(), "hardprune/b".to_owned()];
    for key in &keys {
        store.put(key, "x").await?;
    }
    let late = DeleteBatch::own_files(keys.to_vec(), Duration::ZERO)?;
    let outcomes = store.store.delete(late).await;
    ensure!(
        outcomes == [KeyOutcome::Throttled, KeyOutcome::Throttled],
        "{outcomes:?}"
    );
    ensure!(store.keys(&ListRange::default()).await? == keys);
    Ok(())
}

pub async fn as_many_keys_as_the_limit_go_at_once(store: &Opened) -> Result<()> {
    let limit = store.store.delete_batch_limit();
    let keys: Vec<_> = (0..limit)
        .map(|number| format!("hardprune/many/{number:04}"))
        .collect();
    for some in keys.chunks(50) {
        for put in join_all(some.iter().map(|key| store.put(key, "x"))).await {
            put?;
        }
    }
    store.put("hardprune/many/other", "x").await?;
    let before = store.store.requests().delete;
    let outcomes = remove(store, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    ensure!(outcomes.len() == limit && outcomes.iter().all(|outcome| *outcome == KeyOutcome::Deleted));
    ensure!(
        store.store.requests().delete == before + 1,
        "it took several requests"
    );
    let left = store.keys(&ListRange::prefix("hardprune/many/")).await?;
    ensure!(left == ["hardprune/many/other"], "{left:?}");
    Ok(())
}

/// Nothing is ever deleted by prefix (R3).
pub async fn a_folder_of_that_name_is_no_key(store: &Opened) -> Result<()> {
    store.put("hardprune/folder/file", "x").await?;
    let outcomes = remove(store, &["hardprune/folder"]).await?;
    ensure!(outcomes.len() == 1);
    ensure!(store.get("hardprune/folder/file").await? == "x");
    Ok(())
}

pub async fn a_store_says_who_and_when_it_is(store: &Opened) -> Result<()> {
    let identity = store.store.identity();
    ensure!(!identity.is_empty() && !identity.contains("secret"), "{identity}");
    store.put("a", "x").await?;
    let off = Duration::try_from(machine_now().duration_since(store.store.now().await?).abs())?;
    ensure!(off < Duration::from_secs(30), "its clock is off by {off:?}");
    ensure!(store.store.versioning() == Versioning::NotSeen);
    let before = store.store.requests();
    store.get("a").await?;
    store.keys(&ListRange::default()).await?;
    let after = store.store.requests();
    ensure!(
        (after.get, after.list) == (before.get + 1, before.list + 1),
        "{before:?} {after:?}"
    );
    Ok(())
}
