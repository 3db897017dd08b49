//! Quarantine: where a run keeps what it removes until it is purged (`delete --quarantine`).
//!
//! ```text
//! hardprune/quarantine/RUN.json                 what is kept of the run: see [`Keeping`]
//! hardprune/quarantine/RUN/docker/registry/v2/… what was removed, each under its own key
//! ```
//!
//! A copy's key says all that a restore needs. A copy may be all that is left of a blob, so it is none of the files that
//! hardprune removes by itself: it goes by a sealed plan that names it (R2), or as [`PutBack`], when what it is a copy of was
//! seen in its place.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::layout::{self, RepositoryEntry, RepositoryKey};
use crate::run::RunId;
use crate::store::ListedObject;

/// Where copies are kept, beside `docker/`.
pub const QUARANTINE: &str = "hardprune/quarantine/";

/// How what a run removes can be had back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// Not at all.
    #[default]
    Nothing,
    /// A copy is made of it first.
    Copies,
    /// The bucket keeps versions: a delete only puts a marker before them.
    Versions,
}

impl Undo {
    /// Whether there is none. For documents that were written before there was any.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

/// What is kept of a run: its file in the quarantine. The copies themselves are what counts; this says what they are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// The format's version: 1.
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// The identity of the registry's storage.
    pub registry: String,
    /// The identity of the state store with the run's books.
    pub state: String,
    /// How it can be had back.
    pub undo: Undo,
    /// Whether the registry took writes meanwhile.
    pub online: bool,
    /// When the run began to move, by the store's clock.
    pub began: Timestamp,
    /// When it had ended, by the store's clock. `None`: it has not, or died.
    pub ended: Option<Timestamp>,
    /// Blobs moved, by the run's books when it ended.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links moved.
    pub links: u64,
}

/// The key of what is kept of a run.
#[must_use]
pub fn keeping_key(run: RunId) -> String {
    format!("{QUARANTINE}{run}.json")
}

/// What all keys of a run's copies begin with.
#[must_use]
pub fn copies_of(run: RunId) -> String {
    format!("{QUARANTINE}{run}/")
}

/// The key of a run's copy of what has this key.
#[must_use]
pub fn copy_key(run: RunId, original: &str) -> String {
    format!("{}{original}", copies_of(run))
}

/// The key of a copy, taken apart. Its original's key is the canonical one of a blob or a link (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyKey<'k> {
    /// The run that made it.
    pub run: RunId,
    /// The key of what it is a copy of.
    pub original: &'k str,
}

impl fmt::Display for CopyKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&copy_key(self.run, self.original))
    }
}

/// Takes the key of a copy apart. `None` for any other key.
#[must_use]
pub fn parse_copy_key(key: &str) -> Option<CopyKey<'_>> {
    let (run, original) = key.strip_prefix(QUARANTINE)?.split_once('/')?;
    let run: RunId = run.parse().ok()?;
    let is_canonical = layout::parse_blob_key(original).is_some() || is_link(original);
    let parsed = CopyKey { run, original };
    (is_canonical && parsed.to_string() == key).then_some(parsed)
}

fn is_link(key: &str) -> bool {
    let entry = layout::parse_repository_key(key).and_then(|RepositoryKey { entry, .. }| entry);
    entry.is_some_and(|entry| !matches!(entry, RepositoryEntry::Upload { .. }))
}

/// Whether a key is that of a tag's current link: what it means stands in it, not in its key.
#[must_use]
pub fn is_of_a_tag(key: &str) -> bool {
    let entry = layout::parse_repository_key(key).and_then(|RepositoryKey { entry, .. }| entry);
    matches!(entry, Some(RepositoryEntry::TagCurrent { .. }))
}

/// Whether a key is one of the quarantine's copies, or looks like one.
#[must_use]
pub(crate) fn is_among_copies(key: &str) -> bool {
    key.strip_prefix(QUARANTINE)
        .is_some_and(|rest| rest.contains('/'))
}

/// A copy whose original is in its place again: nothing is lost with it (R1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack(String);

impl PutBack {
    /// Compares a copy with what a listing shows in its original's place. `None`: that is something else, or its key does not say what
    /// stands there, as a tag's current link does not, and the copy stays.
    #[must_use]
    pub fn seen(copy: &ListedObject, in_place: &ListedObject) -> Option<Self> {
        let parsed = parse_copy_key(&copy.key)?;
        let is_same = in_place.exact && in_place.key == parsed.original && in_place.size == copy.size;
        (is_same && copy.exact && !is_of_a_tag(parsed.original)).then(|| Self(copy.key.clone()))
    }

    /// Compares what stands in a copy and in its original's place. `None`: something else, and the copy stays.
    #[must_use]
    pub fn read(copy: &str, bytes: &[u8], in_place: &[u8]) -> Option<Self> {
        (parse_copy_key(copy).is_some() && bytes == in_place).then(|| Self(copy.to_owned()))
    }

    /// The copy's key.
    #[must_use]
    pub fn into_key(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, Digest};

    fn run() -> RunId {
        "01J8X3M4Q5V6W7X8Y9Z0A1B2C3".parse().unwrap()
    }

    fn object(key: &str, size: u64) -> ListedObject {
        ListedObject {
            key: key.to_owned(),
            size,
            last_modified: Timestamp::UNIX_EPOCH,
            etag: None,
            exact: true,
        }
    }

    #[test]
    fn only_copies_of_what_a_registry_keeps_are_copies() {
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let link = layout::repository_key("a/b", &RepositoryEntry::LayerLink(digest));
        for original in [layout::blob_key(&digest), link.clone()] {
            let key = copy_key(run(), &original);
            let parsed = parse_copy_key(&key).unwrap();
            assert_eq!((parsed.run, parsed.original), (run(), original.as_str()));
        }
        let upload = "docker/registry/v2/repositories/a/_uploads/1/data";
        let lower = copy_key(run(), &link).replace("01J", "01j");
        for key in [
            keeping_key(run()),
            copies_of(run()),
            copy_key(run(), upload),
            copy_key(run(), "x"),
            lower,
            link,
        ] {
            assert_eq!(parse_copy_key(&key), None, "{key}");
        }
    }

    #[test]
    fn a_copy_goes_only_when_its_original_is_there_again() {
        let original = layout::blob_key(&Digest::of(Algorithm::Sha256, b"x"));
        let copy = object(&copy_key(run(), &original), 7);
        assert!(PutBack::seen(&copy, &object(&original, 7)).is_some());
        assert_eq!(PutBack::seen(&copy, &object(&original, 6)), None);
        let other = layout::blob_key(&Digest::of(Algorithm::Sha256, b"y"));
        assert_eq!(PutBack::seen(&copy, &object(&other, 7)), None);
        let behind_a_link = ListedObject {
            exact: false,
            ..object(&original, 7)
        };
        assert_eq!(PutBack::seen(&copy, &behind_a_link), None);
    }
}
