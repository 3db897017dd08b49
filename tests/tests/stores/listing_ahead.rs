//! Listings that lead through large folders of digests, where several places are listed at once.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use hardprune_common::digest::{Algorithm, Digest};
use hardprune_common::store::{ListRange, StoreError, Wanted};
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::opened::{Opened, PAGE, on_s3_as};

const ROOT: &str = "docker/registry/v2/repositories/";
const LARGE: usize = 1500;
/// Pages until a folder counts as large, and those of a stretch of it.
const STRETCH_PAGES: usize = 12;

fn links(repository: &str, folder: &str, count: usize) -> impl Iterator<Item = String> + use<> {
    let folder = format!("{ROOT}{repository}/{folder}/sha256/");
    let seed = folder.clone();
    (0..count).map(move |number| {
        let digest = Digest::of(Algorithm::Sha256, format!("{seed}{number}").as_bytes());
        format!("{folder}{}/link", digest.hex())
    })
}

/// Large folders beside small ones, with keys in them and between them that are no digest's, and digests that are not spread evenly.
fn keys() -> BTreeSet<String> {
    let mut keys: BTreeSet<String> = links("large", "_layers", LARGE)
        .chain(links("large", "_manifests/revisions", 200))
        .chain(links("large/too", "_layers", LARGE))
        .chain((0..40).flat_map(|number| links(&format!("small/{number}"), "_layers", 7)))
        .collect();
    let odd = [
        "0",
        "00/x",
        "8",
        "80000000000000000",
        "ffffffffffffffffff/y",
        "g",
        "zz/link",
        "é",
    ];
    keys.extend(odd.map(|name| format!("{ROOT}large/_layers/sha256/{name}")));
    // All with the same beginning, and none of them elsewhere.
    keys.extend((0..300).map(|number| format!("{ROOT}narrow/_layers/sha256/{number:064x}/link")));
    // Two thirds of the folder are in a hundredth of its width.
    keys.extend((0..400).map(|number| {
        format!(
            "{ROOT}uneven/_layers/sha256/00{:062x}/link",
            u128::MAX / 400 * number
        )
    }));
    keys.extend(links("uneven", "_layers", 200));
    keys
}

fn store_of(keys: &BTreeSet<String>) -> Opened {
    let options = S3Options {
        keeps_log: true,
        ..S3Options::default()
    };
    let store = on_s3_as("/a folder", options, &[]).expect("a port is free");
    for key in keys {
        store.server().put(&format!("a folder/{key}"), "x", None);
    }
    store.server().reset_counters();
    store
}

/// What a glance shows until its end, or until it fails.
async fn glance(store: &Opened, range: ListRange) -> (Vec<String>, Result<(), StoreError>) {
    let mut found = Vec::new();
    let mut pages = store.store.glance(range, Wanted::LayersAndManifests);
    loop {
        match pages.try_next().await {
            Ok(Some(page)) => found.extend(page.into_iter().map(|glimpse| glimpse.into_key())),
            Ok(None) => return (found, Ok(())),
            Err(error) => return (found, Err(error)),
        }
    }
}

#[tokio::test]
async fn what_is_listed_ahead_is_what_is_there_in_its_order() {
    let keys = keys();
    let store = store_of(&keys);
    let (found, end) = glance(&store, ListRange::prefix(ROOT)).await;
    end.unwrap();
    assert!(found.iter().eq(&keys), "{} of {} keys", found.len(), keys.len());
}

#[tokio::test]
async fn any_range_is_listed_ahead_as_the_model_says() {
    let keys = keys();
    let store = store_of(&keys);
    let all: Vec<_> = keys.iter().collect();
    let mut random = SmallRng::seed_from_u64(6);
    for number in 0..10 {
        let mut bound = || {
            let key = (*all.choose(&mut random).unwrap()).clone();
            let end = random.random_range(ROOT.len()..=key.len());
            // Anywhere in a key that is cut between two letters.
            key.get(..end).map_or_else(|| key.clone(), str::to_owned)
        };
        let (one, other) = (bound(), bound());
        let range = ListRange {
            after: (number % 3 != 0).then(|| one.clone().min(other.clone())),
            before: (number % 3 != 1).then(|| one.max(other)),
            ..ListRange::prefix(ROOT)
        };
        let (found, end) = glance(&store, range.clone()).await;
        end.unwrap();
        let wanted = keys.iter().filter(|key| range.contains(key));
        assert!(found.iter().eq(wanted), "{range:?}: {} keys", found.len());
    }
}

#[tokio::test]
async fn a_large_folder_is_listed_in_several_places_for_few_requests_more() {
    let keys: BTreeSet<String> = links("large", "_layers", LARGE).collect();
    let store = store_of(&keys);
    let (found, end) = glance(&store, ListRange::prefix(ROOT)).await;
    end.unwrap();
    assert!(found.iter().eq(&keys));
    let log = store.server().log();
    let starts: Vec<_> = log
        .iter()
        .filter_map(|request| request.after.as_deref())
        .collect();
    assert!(!starts.is_sorted(), "one page after another");
    let pages = LARGE / PAGE;
    let most = pages + pages / STRETCH_PAGES + 1;
    assert!(log.len() <= most, "{} requests for {pages} pages", log.len());
}

#[tokio::test]
async fn a_page_that_cannot_be_had_ends_the_listing_with_what_came_before_it() {
    let keys: BTreeSet<String> = links("large", "_layers", LARGE).collect();
    let store = store_of(&keys);
    let fault = Fault::on(Operation::List, Effect::Status(500, "InternalError"));
    store.server().faults().add(fault.after(40));
    let (found, end) = glance(&store, ListRange::prefix(ROOT)).await;
    assert!(matches!(end, Err(StoreError::Unavailable { .. })), "{end:?}");
    assert!(!found.is_empty() && found.len() < keys.len());
    assert!(found.iter().eq(keys.iter().take(found.len())));
}
