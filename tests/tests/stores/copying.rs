//! Copies inside a store.

use anyhow::{Result, ensure};
use hardprune_common::store::ListRange;

use crate::listing::KEYS;
use crate::opened::Opened;

pub async fn a_copy_has_the_bytes_and_the_source_stays(store: &Opened) -> Result<()> {
    let large = vec![7; 3 << 20];
    for (key, bytes) in [
        ("a/b/large", large),
        ("a/b/small", b"x".to_vec()),
        ("a/b/empty", vec![]),
    ] {
        store.put(key, bytes.clone()).await?;
        let to = format!("hardprune/quarantine/r/{key}");
        store.store.copy(key, &to, bytes.len() as u64).await?;
        ensure!(
            store.get(&to).await? == bytes && store.get(key).await? == bytes,
            "{key}"
        );
    }
    let keys = store.keys(&ListRange::default()).await?;
    ensure!(keys.len() == 6, "something is left beside them: {keys:?}");
    Ok(())
}

pub async fn a_copy_takes_the_place_of_what_is_there(store: &Opened) -> Result<()> {
    store.put_all(&["a/from", "b/to"]).await?;
    // As often as anybody likes: it may have been interrupted anywhere.
    for _ in 0..3 {
        store.store.copy("a/from", "b/to", 6).await?;
        ensure!(store.get("b/to").await? == "a/from");
    }
    let keys = store.keys(&ListRange::default()).await?;
    ensure!(keys == ["a/from", "b/to"], "{keys:?}");
    // What replaces the source does not reach the copy.
    store.put("a/from", "another").await?;
    ensure!(store.get("b/to").await? == "a/from");
    Ok(())
}

pub async fn odd_names_are_copied_to_odd_names(store: &Opened) -> Result<()> {
    store.put_all(&KEYS).await?;
    for key in KEYS {
        let to = format!("hardprune/q/{key}");
        store.store.copy(key, &to, key.len() as u64).await?;
    }
    for key in KEYS {
        let copied = store.get(&format!("hardprune/q/{key}")).await?;
        ensure!(copied == key, "{key:?} became {copied:?}");
    }
    let copies = store.keys(&ListRange::prefix("hardprune/q/")).await?;
    ensure!(copies.len() == KEYS.len(), "{copies:?}");
    Ok(())
}

pub async fn what_is_not_there_is_not_copied(store: &Opened) -> Result<()> {
    store.put_all(&["a/b/c", "b/to"]).await?;
    for from in ["a/absent", "absent", "a/b/d", "absent/x/y"] {
        let copied = store.store.copy(from, "b/to", 1).await;
        let error = copied.expect_err("nothing can be copied");
        ensure!(
            error.is_not_found() && error.to_string().contains(from),
            "{error}"
        );
    }
    ensure!(store.get("b/to").await? == "b/to", "what was there is gone");
    Ok(())
}

pub async fn no_copy_leads_out_of_the_store(store: &Opened) -> Result<()> {
    store.put_all(&["a/b"]).await?;
    for (from, to) in [
        ("a/b", "../c"),
        ("../a/b", "c"),
        ("a/b", "a/../../c"),
        ("a/../a/b", "c"),
    ] {
        ensure!(store.store.copy(from, to, 3).await.is_err(), "{from:?} to {to:?}");
    }
    let keys = store.keys(&ListRange::default()).await?;
    ensure!(keys == ["a/b"], "{keys:?}");
    Ok(())
}

pub async fn a_copy_is_counted_as_one(store: &Opened) -> Result<()> {
    store.put("a/b", "x").await?;
    let before = store.store.requests();
    store.store.copy("a/b", "c", 1).await?;
    let made = store.store.requests().since(before);
    ensure!((made.copy, made.put, made.get) == (1, 0, 0), "{made:?}");
    Ok(())
}
