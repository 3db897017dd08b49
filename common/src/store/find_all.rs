//! Looks many keys up by listing: one request for as many as its page covers.

use futures::{StreamExt, TryStreamExt, stream};

use super::{ListRange, ListedObject, Store, StoreError};

/// Look-ups in flight where a listing cannot begin at any key.
const AT_ONCE: usize = 16;

/// Shows what stands at keys as a listing does, in their order: nothing is read, however large it is. `None` where nothing does. Asks
/// for no more pages than there are keys, and for no more than there are between the least and the greatest of them.
///
/// # Errors
///
/// As [`Store::list`].
pub async fn find_all(store: &dyn Store, keys: &[String]) -> Result<Vec<Option<ListedObject>>, StoreError> {
    if !store.starts_listings_anywhere() {
        let looks: Vec<_> = keys.iter().map(|key| find_one(store, key, false)).collect();
        return stream::iter(looks).buffered(AT_ONCE).try_collect().await;
    }
    let mut ascending: Vec<usize> = (0..keys.len()).collect();
    ascending.sort_by_key(|place| &keys[*place]);
    let mut found = vec![None; keys.len()];
    let mut looked_for = 0;
    while let Some(next) = ascending.get(looked_for) {
        let mut pages = store.list(from_key(keys, &ascending, *next));
        let before = looked_for;
        // The first page may hold but keys that are less than the next one.
        while looked_for == before {
            let Some(page) = pages.try_next().await? else {
                return Ok(found);
            };
            let Some(last) = page.last().map(|object| object.key.clone()) else {
                continue;
            };
            let mut objects = page.into_iter().peekable();
            while let Some(place) = ascending.get(looked_for).filter(|place| keys[**place] <= last) {
                let key = &keys[*place];
                while objects.next_if(|object| object.key < *key).is_some() {}
                found[*place] = objects.next_if(|object| object.key == *key);
                looked_for += 1;
            }
        }
    }
    Ok(found)
}

/// The range that begins with a key and has all that come after it.
fn from_key(keys: &[String], ascending: &[usize], next: usize) -> ListRange {
    let prefix = match (ascending.first(), ascending.last()) {
        (Some(first), Some(last)) => common_prefix(&keys[*first], &keys[*last]),
        _ => "",
    };
    // What a key begins with sorts before it.
    let less = keys[next].char_indices().last();
    ListRange {
        after: less.map(|(end, _)| keys[next][..end].to_owned()),
        ..ListRange::prefix(prefix)
    }
}

/// Shows what stands at one key as a listing does, behind symbolic links where they are to be followed. `None` where nothing does.
///
/// # Errors
///
/// As [`Store::list`].
pub async fn find_one(
    store: &dyn Store,
    key: &str,
    follow_symbolic_links: bool,
) -> Result<Option<ListedObject>, StoreError> {
    let mut pages = store.list(ListRange {
        follow_symbolic_links,
        ..ListRange::prefix(key)
    });
    while let Some(page) = pages.try_next().await? {
        if let Some(object) = page.into_iter().find(|object| object.key == key) {
            return Ok(Some(object));
        }
    }
    Ok(None)
}

/// What two keys begin with alike, in whole characters.
fn common_prefix<'k>(first: &'k str, last: &str) -> &'k str {
    let alike = first
        .char_indices()
        .zip(last.chars())
        .find(|((_, ours), theirs)| ours != theirs);
    let end = alike.map_or(first.len().min(last.len()), |((at, _), _)| at);
    &first[..end]
}
