//! Any range of any keys, against a model: an ordered set.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, ensure};
use hardprune_common::store::ListRange;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::opened::Opened;

const SETS: usize = 12;
const RANGES: usize = 12;

fn part() -> impl Strategy<Value = String> {
    // Beginnings of one another, on both sides of the slash.
    prop_oneof![
        Just("a"),
        Just("a-"),
        Just("a.b"),
        Just("a0"),
        Just("aa"),
        Just("b"),
        Just("_x"),
        Just("a b"),
        Just("%2F"),
        Just("é"),
    ]
    .prop_map(str::to_owned)
}

fn key() -> impl Strategy<Value = String> {
    prop::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/"))
}

/// A key, or what lies just beside one.
fn bound() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        key().prop_map(Some),
        key().prop_map(|key| Some(format!("{key}/"))),
        (key(), 0..3_usize).prop_map(|(key, cut)| {
            let letters: Vec<_> = key.chars().collect();
            Some(
                letters[..letters.len().saturating_sub(cut).max(1)]
                    .iter()
                    .collect(),
            )
        }),
    ]
}

fn range() -> impl Strategy<Value = ListRange> {
    (bound(), bound(), bound()).prop_map(|(prefix, after, before)| ListRange {
        prefix: prefix.unwrap_or_default(),
        after,
        before,
        follow_symbolic_links: false,
    })
}

/// Sets in which no key is a folder of another: a folder cannot hold those.
fn keys() -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set(key(), 0..25).prop_map(|keys| {
        let is_folder = |key: &String| keys.iter().any(|other| other.starts_with(&format!("{key}/")));
        keys.iter().filter(|key| !is_folder(key)).cloned().collect()
    })
}

pub async fn any_range_of_any_keys_is_what_the_model_says(store: &Opened) -> Result<()> {
    // The store is one for all cases, and cases are async: the runner only gives the values, from a fixed seed.
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let value = |error| anyhow!("no value: {error}");
    for set in 0..SETS {
        let root = format!("set-{set}/");
        let keys = keys().new_tree(&mut runner).map_err(value)?.current();
        for key in &keys {
            store.put(&format!("{root}{key}"), "x").await?;
        }
        for _ in 0..RANGES {
            let mut range = range().new_tree(&mut runner).map_err(value)?.current();
            let under = |key: &String| format!("{root}{key}");
            range.prefix.insert_str(0, &root);
            range.after = range.after.as_ref().map(under);
            range.before = range.before.as_ref().map(under);
            let all: Vec<_> = keys.iter().map(under).collect();
            if store.refuses(&range.prefix, all.iter().map(String::as_str)) {
                ensure!(store.keys(&range).await.is_err(), "{range:?}");
                continue;
            }
            let wanted: Vec<_> = all.into_iter().filter(|key| range.contains(key)).collect();
            let found = store.keys(&range).await?;
            ensure!(
                found == wanted,
                "{range:?} of {keys:?}: {found:?}, not {wanted:?}"
            );
        }
    }
    Ok(())
}
