//! Reads a link as a registry does that serves it: its content is a digest's text and nothing else.

use hardprune_common::digest::Digest;
use hardprune_common::link::LONGEST_LINK;
use hardprune_common::store::{Store, StoreError};

/// What a link's content says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkSays {
    /// A digest.
    Names(Digest),
    /// Something that a registry does not take for one: why.
    Nothing(String),
    /// There is no link.
    Gone,
}

/// Reads one.
///
/// # Errors
///
/// A store that fails. A link that may not be read says nothing.
pub(super) async fn read_link(registry: &dyn Store, key: &str) -> Result<LinkSays, StoreError> {
    let bytes = match registry.get(key, 0, LONGEST_LINK).await {
        Ok(object) => object.bytes,
        Err(error) if error.is_not_found() => return Ok(LinkSays::Gone),
        Err(StoreError::Denied { detail, .. }) => {
            return Ok(LinkSays::Nothing(format!("may not be read: {detail}")));
        }
        Err(error) => return Err(error),
    };
    // White space around it makes it unreadable to registries.
    Ok(match String::from_utf8_lossy(&bytes).parse() {
        Ok(digest) => LinkSays::Names(digest),
        Err(_) if bytes.is_empty() => LinkSays::Nothing("is empty".to_owned()),
        Err(error) => LinkSays::Nothing(format!("says {error}")),
    })
}
