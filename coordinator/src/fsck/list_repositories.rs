//! The first pass: lists all repositories, or those of one namespace, and reads every tag's link.
//!
//! Comes in: the registry. Goes out: its links, its tags, and the manifests that must be whole.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::{REPOSITORIES, RepositoryEntry, parse_repository_key, repository_key};
use hardprune_common::link::{link_fits, link_is_proved};
use hardprune_common::store::{ListRange, ListedObject, Store, StoreError};
use hardprune_common::task::KeyRange;
use tokio::sync::mpsc;

use super::namespace::Namespace;
use super::passes::{Passes, Seen};
use super::read_link::{LinkSays, read_link};
use super::records::{BrokenTag, Link, LinkKind, Need, Proof, Role, Tagged};
use crate::error::RunError;
use crate::mark::cut_ranges;

/// For so many workers ranges are cut: each is listed for itself.
const LISTINGS_AT_ONCE: usize = 16;
/// Pages that wait to be spooled.
const PAGES: usize = 16;

/// What a page of a listing shows.
#[derive(Default)]
struct Page {
    seen: Seen,
    links: Vec<Link>,
    tagged: Vec<Tagged>,
    broken_tags: Vec<BrokenTag>,
    signatures: Vec<Need>,
}

/// Lists them.
///
/// # Errors
///
/// A registry that cannot be listed or read: nothing is known then.
pub(super) async fn list_repositories(passes: &mut Passes) -> Result<(), RunError> {
    let registry = Arc::clone(&passes.registry);
    let below = passes
        .namespace
        .as_ref()
        .map_or_else(|| REPOSITORIES.to_owned(), Namespace::folder);
    let ranges = cut_ranges(&*registry, &below, LISTINGS_AT_ONCE).await?;
    let lister = Lister {
        registry: &*registry,
        below: &below,
        reads_in_flight: passes.reads_in_flight,
        with_tags: passes.looks_at_links,
    };
    let (pages, mut listed) = mpsc::channel(PAGES);
    let list = async move {
        let listings = ranges.into_iter().map(|range| lister.list(range, pages.clone()));
        // The sender above goes with the last of them.
        let mut listings = stream::iter(listings).buffer_unordered(LISTINGS_AT_ONCE);
        while listings.try_next().await?.is_some() {}
        Ok::<_, RunError>(())
    };
    let spool = async {
        while let Some(page) = listed.recv().await {
            take(passes, page)?;
        }
        Ok::<_, RunError>(())
    };
    tokio::try_join!(list, spool)?;
    Ok(())
}

fn take(passes: &mut Passes, page: Page) -> Result<(), RunError> {
    let Page {
        seen,
        links,
        tagged,
        broken_tags,
        signatures,
    } = page;
    passes.seen.add(&seen);
    for link in links {
        if link.kind == LinkKind::Revision {
            passes.revision(link.digest, &link.repository)?;
        }
        passes.links.push(&link.digest, &link)?;
    }
    for tagged in tagged {
        passes.tag(tagged)?;
    }
    for signature in signatures {
        passes.needs.push(&signature.digest, &signature)?;
    }
    for tag in broken_tags {
        passes.broken_tag(tag)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Lister<'r> {
    registry: &'r dyn Store,
    /// The folder that is listed.
    below: &'r str,
    reads_in_flight: usize,
    with_tags: bool,
}

/// Where a listing is.
#[derive(Default)]
struct Place {
    repository: String,
    /// The tag of the last link that says what a tag means now.
    tag: String,
    /// The tag of which entries of its history were found without that.
    headless: String,
}

impl Lister<'_> {
    async fn list(self, range: KeyRange, pages: mpsc::Sender<Page>) -> Result<(), RunError> {
        let mut place = Place::default();
        let mut listing = self.registry.list(ListRange {
            prefix: self.below.to_owned(),
            ..range.listing()
        });
        while let Some(objects) = listing.try_next().await? {
            let mut page = Page::default();
            let mut tags = Vec::new();
            for object in objects {
                sort_in(&object, &mut place, &mut page, &mut tags);
            }
            if self.with_tags {
                self.read_tags(tags, &mut page).await?;
            } else {
                page.broken_tags.clear();
                page.seen.tags = 0;
            }
            if pages.send(page).await.is_err() {
                // Who takes them has failed, and says why.
                return Ok(());
            }
        }
        Ok(())
    }

    async fn read_tags(self, tags: Vec<BrokenTag>, page: &mut Page) -> Result<(), StoreError> {
        page.seen.tags += tags.len() as u64;
        let mut reads = stream::iter(tags)
            .map(|tag| async move { Ok((read_tag(self.registry, &tag).await?, tag)) })
            .buffer_unordered(self.reads_in_flight);
        while let Some((says, tag)) = reads.try_next().await? {
            match says {
                LinkSays::Names(manifest) => page.tagged.push(Tagged {
                    manifest,
                    repository: tag.repository,
                    tag: tag.tag,
                }),
                LinkSays::Nothing(_) => page.broken_tags.push(tag),
                LinkSays::Gone => {}
            }
        }
        Ok(())
    }
}

/// Reads the link that says what a tag means now.
pub(super) async fn read_tag(registry: &dyn Store, tag: &BrokenTag) -> Result<LinkSays, StoreError> {
    let entry = RepositoryEntry::TagCurrent { tag: tag.tag.clone() };
    read_link(registry, &repository_key(&tag.repository, &entry)).await
}

fn sort_in(object: &ListedObject, place: &mut Place, page: &mut Page, tags: &mut Vec<BrokenTag>) {
    let Some(key) = parse_repository_key(&object.key) else {
        page.seen.unrecognized_keys += 1;
        return;
    };
    let repository = key.repository.to_owned();
    if place.repository != repository {
        page.seen.repositories += 1;
        *place = Place {
            repository: repository.clone(),
            ..Place::default()
        };
    }
    match key.entry {
        None => page.seen.unrecognized_keys += 1,
        Some(RepositoryEntry::LayerLink(digest)) => {
            page.seen.layer_links += 1;
            page.links.push(link(digest, repository, object, LinkKind::Layer));
        }
        Some(RepositoryEntry::RevisionLink(digest)) => {
            page.seen.revisions += 1;
            page.links
                .push(link(digest, repository, object, LinkKind::Revision));
        }
        Some(RepositoryEntry::SignatureLink { revision, signature }) => page.signatures.push(Need {
            digest: signature,
            repository,
            manifest: revision,
            role: Role::Signature,
            size: None,
        }),
        Some(RepositoryEntry::TagCurrent { tag }) => {
            place.tag.clone_from(&tag);
            tags.push(BrokenTag { repository, tag });
        }
        // In a listing it stands behind the link that says what the tag means now.
        Some(RepositoryEntry::TagIndexEntry { tag, .. }) => {
            if tag != place.tag && tag != place.headless {
                place.headless.clone_from(&tag);
                page.seen.tags += 1;
                page.broken_tags.push(BrokenTag { repository, tag });
            }
        }
        Some(RepositoryEntry::Upload { .. }) => {}
    }
}

fn link(digest: Digest, repository: String, object: &ListedObject, kind: LinkKind) -> Link {
    Link {
        digest,
        repository,
        kind,
        proof: proof(&digest, object, kind),
    }
}

/// What a listing proves of a link. A layer link's content is doubted where the store says nothing of it (on a filesystem), a
/// revision link's wherever it is not proved: there are few, and what they say is served.
fn proof(digest: &Digest, object: &ListedObject, kind: LinkKind) -> Proof {
    let etag = object.etag.as_deref();
    let fits = link_fits(digest, object.size, etag);
    match kind {
        _ if link_is_proved(digest, object.size, etag) => Proof::Fits,
        LinkKind::Layer if fits && etag.is_some() => Proof::Fits,
        LinkKind::Layer if !fits && link_fits(digest, object.size, None) => Proof::OnlyEtagOdd,
        LinkKind::Layer | LinkKind::Revision => Proof::MustBeRead,
    }
}
