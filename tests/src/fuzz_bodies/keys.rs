//! R3: a key is recognized only if it is, byte for byte, the canonical key of what it names.

use hardprune_common::layout::{
    BLOBS, REPOSITORIES, RepositoryKey, blob_key, parse_blob_key, parse_repository_key, repository_key,
};

/// Checks one key.
///
/// # Panics
///
/// Where a key that is not canonical is recognized.
pub fn check(input: &[u8]) {
    let Ok(key) = std::str::from_utf8(input) else {
        return;
    };
    let blob = parse_blob_key(key);
    if let Some(digest) = blob {
        assert_eq!(blob_key(&digest), key);
        assert!(key.starts_with(BLOBS));
        assert_is_a_plain_path(key);
    }
    let Some(RepositoryKey { repository, entry }) = parse_repository_key(key) else {
        return;
    };
    assert!(blob.is_none(), "{key:?} is both a blob's and a repository's");
    assert!(key[REPOSITORIES.len()..].starts_with(repository));
    assert!(
        !repository.split('/').skip(1).any(|part| part.starts_with('_')),
        "{repository:?}"
    );
    if let Some(entry) = entry {
        assert_eq!(repository_key(repository, &entry), key);
        assert_is_a_plain_path(key);
    }
}

/// What a filesystem and a cloud store take for the same object.
fn assert_is_a_plain_path(key: &str) {
    for part in key.split('/') {
        assert!(!matches!(part, "" | "." | ".."), "{key:?} is recognized");
    }
}
