//! The copies of a run, from the listing of its quarantine, in the order in which they go back: what is named before what names it.

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use hardprune_common::layout::{BLOBS, REPOSITORIES, RepositoryEntry, parse_repository_key};
use hardprune_common::quarantine::{copy_key, parse_copy_key};
use hardprune_common::run::RunId;
use hardprune_common::store::{ListRange, ListedObject, Store, StoreError};

/// What copies are of, in the order in which they go back (R6, backwards).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Blobs.
    Blob,
    /// Layer links.
    LayerLink,
    /// Revision links, and the signatures beside them.
    RevisionLink,
    /// What tags have meant.
    TagHistory,
    /// What tags mean.
    Tag,
}

impl Class {
    /// All, in their order.
    pub const ALL: [Self; 5] = [
        Self::Blob,
        Self::LayerLink,
        Self::RevisionLink,
        Self::TagHistory,
        Self::Tag,
    ];

    /// What the key of an original is of.
    #[must_use]
    pub fn of(original: &str) -> Self {
        match parse_repository_key(original).and_then(|key| key.entry) {
            None => Self::Blob,
            Some(RepositoryEntry::LayerLink(_)) => Self::LayerLink,
            Some(RepositoryEntry::TagIndexEntry { .. }) => Self::TagHistory,
            Some(RepositoryEntry::TagCurrent { .. }) => Self::Tag,
            Some(_) => Self::RevisionLink,
        }
    }
}

/// Lists a run's copies of one class, page by page; of links only those of one repository, where one is named. What looks like a copy and
/// is none (R3) is left out.
pub fn copies<'s>(
    registry: &'s dyn Store,
    run: RunId,
    class: Class,
    repository: Option<&str>,
) -> BoxStream<'s, Result<Vec<ListedObject>, StoreError>> {
    let original = match (class, repository) {
        (Class::Blob, _) => BLOBS.to_owned(),
        (_, None) => REPOSITORIES.to_owned(),
        (_, Some(repository)) => format!("{REPOSITORIES}{repository}/_"),
    };
    let is_wanted = move |object: &ListedObject| {
        object.exact && parse_copy_key(&object.key).is_some_and(|copy| Class::of(copy.original) == class)
    };
    registry
        .list(ListRange::prefix(copy_key(run, &original)))
        .map_ok(move |page| page.into_iter().filter(is_wanted).collect())
        .boxed()
}
