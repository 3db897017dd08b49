//! Who names a digest now: the repositories that link it, and the manifests in them that name it. Every blob that a manifest names
//! has a layer link in its repository, so only the manifests of repositories with such a link are read (R8).

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::{self, REPOSITORIES, RepositoryEntry};
use hardprune_common::manifest::{LARGEST_MANIFEST, Manifest};
use hardprune_common::store::{ListRange, ListedObject, Store, StoreError, Wanted, find_one};

const READS_AT_ONCE: usize = 16;

/// One way in which a digest is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Namer {
    /// A manifest of a repository names it.
    Manifest { repository: String, manifest: Digest },
    /// It is itself a manifest of a repository.
    Revision { repository: String },
    /// It is a signature beside a manifest of a repository.
    Signature { repository: String, manifest: Digest },
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Who names it, as many as were asked for.
    pub namers: Vec<Namer>,
    /// Repositories with a layer link to it, whether or not a manifest of theirs names it.
    pub linked_by: Vec<String>,
    /// Those of them of which a manifest could not be read, or not understood.
    pub unreadable: Vec<String>,
    /// Whether the scan ended before its end, because there were enough.
    pub is_cut_short: bool,
}

/// The blob as it is listed now. `None` where it is not there.
///
/// # Errors
///
/// The store's.
pub(super) async fn look_at_blob(
    registry: &dyn Store,
    digest: &Digest,
) -> Result<Option<ListedObject>, StoreError> {
    find_one(registry, &layout::blob_key(digest), false).await
}

/// Scans all repositories, until `most` namers are found.
///
/// # Errors
///
/// The store's.
pub(super) async fn scan_registry(
    registry: &dyn Store,
    digest: &Digest,
    most: usize,
) -> Result<Scan, StoreError> {
    let mut scan = Scan::default();
    let range = ListRange {
        prefix: REPOSITORIES.to_owned(),
        follow_symbolic_links: true,
        ..ListRange::default()
    };
    let mut pages = registry.glance(range, Wanted::LayersAndManifests);
    while let Some(page) = pages.try_next().await? {
        for glimpse in page {
            let Some(found) = layout::parse_repository_key(glimpse.key()) else {
                continue;
            };
            let repository = found.repository.to_owned();
            match found.entry {
                Some(RepositoryEntry::LayerLink(of)) if of == *digest => {
                    read_manifests(registry, &repository, digest, &mut scan).await?;
                    scan.linked_by.push(repository);
                }
                Some(RepositoryEntry::RevisionLink(of)) if of == *digest => {
                    scan.namers.push(Namer::Revision { repository });
                }
                Some(RepositoryEntry::SignatureLink { revision, signature }) if signature == *digest => {
                    let manifest = revision;
                    scan.namers.push(Namer::Signature { repository, manifest });
                }
                _ => {}
            }
            if scan.namers.len() >= most {
                scan.namers.truncate(most);
                scan.is_cut_short = true;
                return Ok(scan);
            }
        }
    }
    Ok(scan)
}

async fn read_manifests(
    registry: &dyn Store,
    repository: &str,
    digest: &Digest,
    scan: &mut Scan,
) -> Result<(), StoreError> {
    let revisions = ListRange {
        prefix: format!("{REPOSITORIES}{repository}/_manifests/revisions/"),
        follow_symbolic_links: true,
        ..ListRange::default()
    };
    let mut pages = registry.list(revisions);
    let mut is_readable = true;
    while let Some(page) = pages.try_next().await? {
        let manifests =
            page.iter()
                .filter_map(|object| match layout::parse_repository_key(&object.key)?.entry? {
                    RepositoryEntry::RevisionLink(manifest) => Some(manifest),
                    _ => None,
                });
        let reads = manifests.map(|manifest| async move {
            let bytes = registry
                .get(&layout::blob_key(&manifest), 0, LARGEST_MANIFEST)
                .await;
            (manifest, bytes)
        });
        let mut reads = stream::iter(reads).buffered(READS_AT_ONCE);
        while let Some((manifest, bytes)) = reads.next().await {
            let Some(read) = bytes.ok().and_then(|object| Manifest::parse(&object.bytes).ok()) else {
                is_readable = false;
                continue;
            };
            if [read.blobs, read.children, read.listed_blobs]
                .iter()
                .any(|named| named.contains(digest))
            {
                let repository = repository.to_owned();
                scan.namers.push(Namer::Manifest { repository, manifest });
            }
        }
    }
    if !is_readable {
        scan.unreadable.push(repository.to_owned());
    }
    Ok(())
}
