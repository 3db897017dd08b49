//! The third pass: joins what is needed with the links and with a listing of the blobs, shard by shard, exactly.
//!
//! Comes in: needs, links, the registry. Goes out: what is broken. What a listing does not show is asked for by itself before it is
//! called missing: the listing of links is older than what was pushed since.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, blob_key, parse_blob_key, repository_key};
use hardprune_common::shard::Shard;
use hardprune_common::store::{ListRange, Store, StoreError, find_one};

use super::passes::{Passes, Seen};
use super::read_link::{LinkSays, read_link};
use super::records::{Broken, Fault, Link, LinkKind, Need, Proof, Role};
use super::sharded::finest;
use crate::error::RunError;

/// Shards in memory at once.
const SHARDS_AT_ONCE: usize = 4;

/// Finds them.
///
/// # Errors
///
/// A registry that cannot be listed or read: nothing is known then.
pub(super) async fn find_missing(passes: &mut Passes) -> Result<(), RunError> {
    let registry = Arc::clone(&passes.registry);
    let looker = Looker {
        registry: &*registry,
        reads_in_flight: passes.reads_in_flight.div_ceil(SHARDS_AT_ONCE),
        looks_at_links: passes.looks_at_links,
        etags_mean_nothing: AtomicBool::new(false),
    };
    let digits = finest(&[passes.needs.digits(), passes.links.digits()]);
    let mut shards = passes.needs.shards(digits);
    shards.extend(passes.links.shards(digits));
    shards.sort_unstable();
    shards.dedup();
    let (needs, links) = (&mut passes.needs, &mut passes.links);
    let mut looks = stream::iter(shards)
        .map(|shard| {
            let taken = needs
                .take(&shard)
                .and_then(|needs| Ok((needs, links.take(&shard)?)));
            let looker = &looker;
            async move {
                let (needs, links) = taken?;
                Ok::<_, RunError>(looker.look(&shard, &needs, &links).await?)
            }
        })
        .buffer_unordered(SHARDS_AT_ONCE);
    while let Some((seen, broken)) = looks.try_next().await? {
        passes.seen.add(&seen);
        for broken in broken {
            passes.broken.push(&broken.manifest, &broken)?;
        }
    }
    Ok(())
}

struct Looker<'r> {
    registry: &'r dyn Store,
    reads_in_flight: usize,
    looks_at_links: bool,
    /// Whether an `ETag` that looks like an MD5 is one. Where encryption makes them up, each would look wrong.
    etags_mean_nothing: AtomicBool,
}

impl Looker<'_> {
    async fn look(
        &self,
        shard: &Shard,
        needs: &[Need],
        links: &[Link],
    ) -> Result<(Seen, Vec<Broken>), StoreError> {
        let mut blobs: HashMap<Digest, u64> = HashMap::new();
        let range = ListRange {
            follow_symbolic_links: true,
            ..ListRange::prefix(shard.key_prefix())
        };
        let mut pages = self.registry.list(range);
        while let Some(page) = pages.try_next().await? {
            let asked_for = page.into_iter().filter_map(|object| {
                let digest = parse_blob_key(&object.key)?;
                let is_asked_for = is_needed(&digest, needs) || !of(digest, links).is_empty();
                is_asked_for.then_some((digest, object.size))
            });
            blobs.extend(asked_for);
        }
        let by_digest: Vec<&[Need]> = needs.chunk_by(|a, b| a.digest == b.digest).collect();
        let mut seen = Seen {
            needed_blobs: by_digest.len() as u64,
            dangling: dangling(needs, links, &blobs),
            ..Seen::default()
        };
        // Signatures of what is no revision any more.
        seen.needed_blobs -= by_digest
            .iter()
            .filter(|needs| needs.iter().all(|need| need.role == Role::Signature))
            .count() as u64;
        let mut looks = stream::iter(by_digest)
            .map(|needs| {
                self.look_at(
                    needs,
                    of(needs[0].digest, links),
                    blobs.get(&needs[0].digest).copied(),
                )
            })
            .buffer_unordered(self.reads_in_flight);
        let mut all = Vec::new();
        while let Some(broken) = looks.try_next().await? {
            all.extend(broken);
        }
        Ok((seen, all))
    }

    /// Looks at one digest: its blob, then the links of the repositories that need it.
    async fn look_at(
        &self,
        needs: &[Need],
        links: &[Link],
        listed: Option<u64>,
    ) -> Result<Vec<Broken>, StoreError> {
        let digest = needs[0].digest;
        let size = match listed {
            Some(size) if needs.iter().all(|need| need.size.is_none_or(|said| said == size)) => Some(size),
            // Missing, or of another size than it should have: the object itself must say so.
            _ => size_of(self.registry, &digest).await?,
        };
        let mut broken = Vec::new();
        for needs in needs.chunk_by(|a, b| a.repository == b.repository) {
            let here = in_repository(&needs[0].repository, links);
            // A link by another algorithm than registries use themselves may name the blob by theirs.
            let size = match size {
                None => self.size_behind(here).await?,
                size => size,
            };
            for need in needs {
                match (size, need.size) {
                    (None, _) => broken.push(need.broken(Fault::Missing, String::new())),
                    (Some(is), Some(said)) if is != said => {
                        let detail = format!("it has {is} bytes instead of {said}");
                        broken.push(need.broken(Fault::OtherSize, detail));
                    }
                    _ => {}
                }
            }
            if size.is_some() && self.looks_at_links {
                self.look_at_links(needs, here, &mut broken).await?;
            }
        }
        Ok(broken)
    }

    /// The size of the blob that links name in another way than by their key.
    async fn size_behind(&self, links: &[Link]) -> Result<Option<u64>, StoreError> {
        for link in links.iter().filter(|link| link.kind == LinkKind::Layer) {
            if let LinkSays::Names(digest) = read_link(self.registry, &key_of(link)).await?
                && digest.algorithm() != link.digest.algorithm()
            {
                return size_of(self.registry, &digest).await;
            }
        }
        Ok(None)
    }

    /// A registry serves a blob of a repository by its layer link, and a manifest by its revision link or, as those of before 2.1
    /// wrote it, its layer link.
    async fn look_at_links(
        &self,
        needs: &[Need],
        links: &[Link],
        broken: &mut Vec<Broken>,
    ) -> Result<(), StoreError> {
        for accepted in [&[LinkKind::Revision, LinkKind::Layer][..], &[LinkKind::Layer]] {
            let is_manifest = accepted.contains(&LinkKind::Revision);
            let needs: Vec<&Need> = needs
                .iter()
                .filter(|need| !need.repository.is_empty() && need.role != Role::Signature)
                .filter(|need| matches!(need.role, Role::Manifest | Role::Child) == is_manifest)
                .collect();
            let Some(need) = needs.first() else { continue };
            if let Some((fault, detail)) = self.link_fault(need, accepted, links).await? {
                broken.extend(needs.iter().map(|need| need.broken(fault, detail.clone())));
            }
        }
        Ok(())
    }

    /// What is wrong with the links that serve a digest: nothing, if one of them is right.
    async fn link_fault(
        &self,
        need: &Need,
        accepted: &[LinkKind],
        links: &[Link],
    ) -> Result<Option<(Fault, String)>, StoreError> {
        let mut fault = (Fault::NoLink, String::new());
        for kind in accepted {
            let listed = links.iter().find(|link| link.kind == *kind);
            let proof = listed.map(|link| link.proof);
            let is_doubted = match proof {
                Some(Proof::Fits) => return Ok(None),
                Some(Proof::OnlyEtagOdd) => !self.etags_mean_nothing.load(Ordering::Relaxed),
                // One that was not listed may have come since.
                Some(Proof::MustBeRead) | None => true,
            };
            if !is_doubted {
                return Ok(None);
            }
            let link = Link {
                digest: need.digest,
                repository: need.repository.clone(),
                kind: *kind,
                proof: Proof::MustBeRead,
            };
            let key = key_of(&link);
            match read_link(self.registry, &key).await? {
                LinkSays::Names(digest) if digest == need.digest => {
                    if proof == Some(Proof::OnlyEtagOdd) {
                        self.etags_mean_nothing.store(true, Ordering::Relaxed);
                    }
                    return Ok(None);
                }
                LinkSays::Names(digest) if digest.algorithm() != need.digest.algorithm() => {
                    return Ok(None);
                }
                LinkSays::Names(digest) => fault = (Fault::BadLink, format!("{key} names {digest}")),
                LinkSays::Nothing(why) => fault = (Fault::BadLink, format!("{key} {why}")),
                LinkSays::Gone => {}
            }
        }
        Ok(Some(fault))
    }
}

fn key_of(link: &Link) -> String {
    let entry = match link.kind {
        LinkKind::Layer => RepositoryEntry::LayerLink(link.digest),
        LinkKind::Revision => RepositoryEntry::RevisionLink(link.digest),
    };
    repository_key(&link.repository, &entry)
}

/// The size of a blob as the object itself says. `None` where it is not there.
async fn size_of(registry: &dyn Store, digest: &Digest) -> Result<Option<u64>, StoreError> {
    let key = blob_key(digest);
    match registry.get(&key, 0, 1).await {
        Ok(object) => Ok(Some(object.size)),
        Err(error) if error.is_not_found() => Ok(None),
        // One that may not be read is there. Who serves it may be another.
        Err(StoreError::Denied { .. }) => {
            let blob = find_one(registry, &key, false).await?;
            Ok(blob.map(|blob| blob.size))
        }
        Err(error) => Err(error),
    }
}

/// The links to a digest, of links that are sorted by it.
fn of(digest: Digest, links: &[Link]) -> &[Link] {
    let begin = links.partition_point(|link| link.digest < digest);
    let end = links.partition_point(|link| link.digest <= digest);
    &links[begin..end]
}

/// Those of a repository, of the links to one digest.
fn in_repository<'l>(repository: &str, links: &'l [Link]) -> &'l [Link] {
    let begin = links.partition_point(|link| link.repository.as_str() < repository);
    let end = links.partition_point(|link| link.repository.as_str() <= repository);
    &links[begin..end]
}

/// How many digests layer links name of which there is no blob, and which nothing needs.
fn dangling(needs: &[Need], links: &[Link], blobs: &HashMap<Digest, u64>) -> u64 {
    let by_digest = links.chunk_by(|a, b| a.digest == b.digest);
    let dangling = by_digest.filter(|links| {
        let digest = &links[0].digest;
        !blobs.contains_key(digest) && !is_needed(digest, needs)
    });
    dangling.count() as u64
}

fn is_needed(digest: &Digest, needs: &[Need]) -> bool {
    needs.binary_search_by(|need| need.digest.cmp(digest)).is_ok()
}
