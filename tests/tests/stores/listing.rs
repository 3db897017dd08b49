//! Listings.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use hardprune_common::clock::machine_now;
use hardprune_common::store::{FolderPage, Glimpse, ListRange, ListedObject, Wanted};
use md5::{Digest as _, Md5};

use crate::opened::Opened;
pub use crate::ranges::any_range_of_any_keys_is_what_the_model_says;

/// In the order of their bytes. `-` < `.` < `/` < `0`, so a folder's keys stand between its neighbours'.
pub const KEYS: [&str; 22] = [
    "a-b",
    "a-b-",
    "a.b",
    "a/b",
    "a/b-c/d",
    "a/b.c",
    "a/c/d/e",
    "a/c0",
    "a0",
    "b/ x",
    "b/!\"$&'()*,",
    "b/#x",
    "b/%",
    "b/%41",
    "b/1+1",
    "b/<&>",
    "b/=?@[]^`{|}~",
    "b/A",
    "b/x y",
    "b/é",
    "b/日本",
    "b0/_x",
];

pub async fn keys_come_in_the_order_of_their_bytes(store: &Opened) -> Result<()> {
    ensure!(KEYS.is_sorted());
    // Written in another order than they are listed in.
    for key in KEYS.iter().rev() {
        store.put(key, "x").await?;
    }
    let keys = store.keys(&ListRange::default()).await?;
    ensure!(keys == KEYS, "{keys:?}");
    Ok(())
}

async fn holds(store: &Opened, range: ListRange) -> Result<()> {
    if store.refuses(&range.prefix, KEYS.into_iter()) {
        ensure!(store.keys(&range).await.is_err(), "{range:?}");
        return Ok(());
    }
    let wanted: Vec<_> = KEYS.into_iter().filter(|key| range.contains(key)).collect();
    let keys = store.keys(&range).await?;
    ensure!(keys == wanted, "{range:?}: {keys:?} instead of {wanted:?}");
    Ok(())
}

pub async fn a_prefix_may_end_inside_a_name(store: &Opened) -> Result<()> {
    store.put_all(&KEYS).await?;
    let mut prefixes = vec![String::new(), "A".to_owned(), "a/b/".to_owned(), "zz".to_owned()];
    for key in KEYS {
        let ends = key
            .char_indices()
            .map(|(at, character)| at + character.len_utf8());
        prefixes.extend(ends.map(|end| key[..end].to_owned()));
    }
    for prefix in prefixes {
        holds(store, ListRange::prefix(prefix)).await?;
    }
    Ok(())
}

pub async fn a_range_may_begin_and_end_anywhere(store: &Opened) -> Result<()> {
    store.put_all(&KEYS).await?;
    let between = [
        "A", "a", "a/", "a/b-", "a/b-c/", "a/c/d/", "b", "b/", "b/é~", "zz",
    ];
    let bounds: Vec<_> = KEYS.into_iter().chain(between).map(str::to_owned).collect();
    for prefix in ["", "a", "a/", "a/b", "b/"] {
        for bound in &bounds {
            let mut range = ListRange::prefix(prefix);
            range.after = Some(bound.clone());
            holds(store, range.clone()).await?;
            for before in ["a/b-c/d", "a/c", "a0", "b/x", "zz"] {
                range.before = Some(before.to_owned());
                holds(store, range.clone()).await?;
            }
            range.after = None;
            range.before = Some(bound.clone());
            holds(store, range).await?;
        }
    }
    Ok(())
}

async fn folder(store: &Opened, folder: &str) -> Result<FolderPage> {
    let mut all = FolderPage::default();
    let pages: Vec<_> = store.store.list_folder(folder).try_collect().await?;
    for page in pages {
        all.folders.extend(page.folders);
        all.objects.extend(page.objects);
    }
    Ok(all)
}

pub async fn a_folder_shows_what_is_directly_in_it(store: &Opened) -> Result<()> {
    store.put_all(&KEYS).await?;
    for name in ["", "a/", "a/c/", "a/c/d/", "b/", "b0/", "a/b-c/"] {
        let found = folder(store, name).await?;
        let below: Vec<_> = KEYS.iter().filter_map(|key| key.strip_prefix(name)).collect();
        let mut folders: Vec<_> = below
            .iter()
            .filter_map(|key| Some(format!("{name}{}/", key.split_once('/')?.0)))
            .collect();
        folders.dedup();
        let objects = below.iter().filter(|key| !key.contains('/'));
        let objects: Vec<_> = objects.map(|key| format!("{name}{key}")).collect();
        let found_objects: Vec<_> = found.objects.iter().map(|object| object.key.clone()).collect();
        ensure!(
            found.folders == folders,
            "{name:?}: {:?}, not {folders:?}",
            found.folders
        );
        ensure!(
            found_objects == objects,
            "{name:?}: {found_objects:?}, not {objects:?}"
        );
    }
    Ok(())
}

pub async fn what_is_not_there_is_empty(store: &Opened) -> Result<()> {
    for empty in ["", "a", "a/", "hardprune/runs/"] {
        ensure!(
            store.keys(&ListRange::prefix(empty)).await?.is_empty(),
            "{empty:?}"
        );
        ensure!(folder(store, empty.rsplit_once('/').map_or("", |_| empty)).await? == FolderPage::default());
    }
    store.put("a/b", "x").await?;
    ensure!(folder(store, "a/c/").await? == FolderPage::default());
    ensure!(store.keys(&ListRange::prefix("a/c/")).await?.is_empty());
    Ok(())
}

pub async fn an_object_is_listed_as_it_is(store: &Opened) -> Result<()> {
    store.put("a/b", "0123456789").await?;
    store.put("a/empty", "").await?;
    let objects = store.objects(&ListRange::prefix("a/")).await?;
    let sizes: Vec<_> = objects.iter().map(|object| object.size).collect();
    ensure!(sizes == [10, 0], "{sizes:?}");
    ensure!(objects.iter().all(|object| object.exact), "{objects:?}");
    for object in &objects {
        let age = Duration::try_from(machine_now().duration_since(object.last_modified)).unwrap_or_default();
        ensure!(age < Duration::from_secs(60), "{object:?}");
    }
    let direct = folder(store, "a/").await?.objects;
    let first = direct.first().context("nothing is in the folder")?;
    ensure!((first.size, first.exact) == (10, true), "{first:?}");
    Ok(())
}

/// What a registry keeps of one repository, and what is nearly that.
fn repository() -> Vec<String> {
    let root = "docker/registry/v2/repositories/team/app";
    let hex = |digit: &str, length| digit.repeat(length);
    let (a, b, c) = (hex("a", 64), hex("b", 64), hex("c", 128));
    let mut keys = vec![
        format!("{root}/_layers/sha256/{a}/link"),
        format!("{root}/_layers/sha256/{b}/link.bak"),
        format!("{root}/_layers/sha256/{b}/deeper/link"),
        format!("{root}/_layers/sha256/{}/link", hex("d", 63)),
        format!("{root}/_layers/sha256/{}/link", a.to_uppercase()),
        format!("{root}/_layers/sha256/link"),
        format!("{root}/_layers/sha512/{c}/link"),
        format!("{root}/_manifests/revisions/sha256/{a}/link"),
        format!("{root}/_manifests/tags/latest/current/link"),
        format!("{root}/_manifests/tags/latest/current/link~"),
        format!("{root}/_manifests/tags/latest/index/sha256/{b}/link"),
        format!("{root}/_uploads/1/data"),
        format!("{root}/_uploads/1/leftover"),
        format!("{root}-2/_layers/sha256/{b}/link"),
    ];
    keys.sort_unstable();
    keys
}

/// All of a list is there after a glance and a look at what was only named, but for what lies beside the link of a tag that is
/// not wanted; what is wanted was looked at.
pub async fn a_glance_and_a_look_show_what_a_list_does(store: &Opened) -> Result<()> {
    for key in repository() {
        store.put(&key, key.clone()).await?;
    }
    let range = ListRange::prefix("docker/");
    let listed = store.objects(&range).await?;
    for wanted in [Wanted::Everything, Wanted::LayersAndManifests] {
        let pages: Vec<_> = store.store.glance(range.clone(), wanted).try_collect().await?;
        let (mut found, mut named) = (Vec::new(), Vec::new());
        for glimpse in pages.into_iter().flatten() {
            match glimpse {
                Glimpse::Listed(object) => found.push(object),
                Glimpse::Named(key) => named.push(key),
            }
        }
        let may_be_named = |key: &String| {
            let unwanted = key.contains("/tags/") || key.contains("/_uploads/");
            key.contains("/_layers/sha256/") || unwanted && wanted == Wanted::LayersAndManifests
        };
        ensure!(named.iter().all(may_be_named), "{wanted:?}: {named:?}");
        found.extend(store.store.look_at(named).await?);
        found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let has_etags = listed.iter().any(|object| object.etag.is_some());
        for object in found.iter_mut().filter(|_| !has_etags) {
            if let Some(md5) = object.etag.take() {
                // The content of each is its key.
                let is_right = md5 == hex::encode(Md5::digest(&object.key));
                ensure!(
                    is_right && object.key.contains("/revisions/"),
                    "{object:?}: {md5}"
                );
            }
        }
        let shown = |object: &ListedObject| {
            let in_tag = object.key.contains("/_manifests/tags/");
            wanted == Wanted::Everything || !in_tag || object.key.ends_with("/current/link")
        };
        let listed: Vec<_> = listed.iter().filter(|object| shown(object)).cloned().collect();
        found.retain(shown);
        ensure!(found == listed, "{wanted:?}: {found:#?} instead of {listed:#?}");
    }
    Ok(())
}
