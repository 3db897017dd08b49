//! A link is left unread only where its size and `ETag` prove its content.

use hardprune_common::digest::{Algorithm, Digest};
use hardprune_common::link::{link_fits, parse_link};
use md5::{Digest as _, Md5};

/// Checks one link's content.
///
/// # Panics
///
/// Where the content is read as a digest that does not stand in it, or fits one that it is not.
pub fn check(content: &[u8]) {
    let etag = hex::encode(Md5::digest(content));
    let parsed = parse_link(content).ok();
    if let Some(digest) = parsed {
        let text = digest.to_string();
        assert!(
            content
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        );
    }
    let others = Algorithm::ALL.map(|algorithm| Digest::of(algorithm, content));
    for digest in parsed.into_iter().chain(others) {
        let fits = link_fits(&digest, content.len() as u64, Some(&etag));
        assert_eq!(fits, content == digest.to_string().as_bytes(), "{digest}");
        assert!(link_fits(&digest, content.len() as u64, None) || !fits);
    }
}
