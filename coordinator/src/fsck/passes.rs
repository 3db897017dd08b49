//! What all passes share: the registry, and the spools by which they hand records on.

use std::path::PathBuf;
use std::sync::Arc;

use hardprune_common::digest::{Algorithm, Digest};
use hardprune_common::store::Store;
use serde::Serialize;

use super::namespace::Namespace;
use super::records::{Broken, BrokenTag, Link, Need, Role, Root, Tagged};
use super::sharded::Sharded;
use crate::spool::SpoolError;

/// What was looked at.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Seen {
    pub repositories: u64,
    pub tags: u64,
    pub revisions: u64,
    pub layer_links: u64,
    /// Manifests that were read.
    pub manifests: u64,
    /// Blobs that are needed.
    pub needed_blobs: u64,
    /// Images that the cluster knows.
    #[serde(skip_serializing_if = "is_zero")]
    pub images: u64,
    /// Manifests that the cluster knows, and not in the stream of the repository that they are in: tags that were deleted.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_in_stream: u64,
    /// Blobs that layer links name which nothing needs, and that are not there: no harm.
    pub dangling: u64,
    pub unrecognized_keys: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        let Self {
            repositories,
            tags,
            revisions,
            layer_links,
            manifests,
            needed_blobs,
            images,
            not_in_stream,
            dangling,
            unrecognized_keys,
        } = other;
        self.repositories += repositories;
        self.tags += tags;
        self.revisions += revisions;
        self.layer_links += layer_links;
        self.manifests += manifests;
        self.needed_blobs += needed_blobs;
        self.images += images;
        self.not_in_stream += not_in_stream;
        self.dangling += dangling;
        self.unrecognized_keys += unrecognized_keys;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde hands it over")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The passes' common ground.
pub(super) struct Passes {
    pub registry: Arc<dyn Store>,
    pub reads_in_flight: usize,
    /// Whether a repository serves only what it has links to. OpenShift's registry goes by the cluster's images instead.
    pub looks_at_links: bool,
    /// Only what is in it is looked at. `None`: all.
    pub namespace: Option<Namespace>,
    pub spool_dir: PathBuf,
    pub seen: Seen,
    /// By the manifest.
    pub roots: Sharded<Root>,
    /// Manifests that repositories have links to, where a cluster is asked, by the manifest.
    pub revisions: Sharded<Root>,
    /// Those that indexes of a stream list, by the manifest.
    pub kept: Sharded<Root>,
    /// By the manifest.
    pub tags: Sharded<Tagged>,
    /// By what names them.
    pub broken_tags: Sharded<BrokenTag>,
    /// By what they name.
    pub links: Sharded<Link>,
    /// By what is needed.
    pub needs: Sharded<Need>,
    /// Needs of indexes, by the child.
    pub children: Sharded<Need>,
    /// By the manifest.
    pub broken: Sharded<Broken>,
}

impl Passes {
    pub fn new(
        registry: Arc<dyn Store>,
        reads_in_flight: usize,
        looks_at_links: bool,
        namespace: Option<Namespace>,
        spool_dir: PathBuf,
    ) -> Result<Self, SpoolError> {
        Ok(Self {
            registry,
            reads_in_flight,
            looks_at_links,
            namespace,
            seen: Seen::default(),
            roots: Sharded::new(&spool_dir)?,
            revisions: Sharded::new(&spool_dir)?,
            kept: Sharded::new(&spool_dir)?,
            tags: Sharded::new(&spool_dir)?,
            broken_tags: Sharded::new(&spool_dir)?,
            links: Sharded::new(&spool_dir)?,
            needs: Sharded::new(&spool_dir)?,
            children: Sharded::new(&spool_dir)?,
            broken: Sharded::new(&spool_dir)?,
            spool_dir,
        })
    }

    /// A manifest that must be whole. Returns its record.
    pub fn root(&mut self, manifest: Digest, repository: &str, in_stream: bool) -> Result<Root, SpoolError> {
        let root = Root {
            manifest,
            repository: repository.to_owned(),
            in_stream,
        };
        self.roots.push(&manifest, &root)?;
        Ok(root)
    }

    /// A manifest that a repository has a link to.
    pub fn revision(&mut self, manifest: Digest, repository: &str) -> Result<(), SpoolError> {
        let revision = self.root(manifest, repository, false)?;
        if self.looks_at_links {
            return Ok(());
        }
        self.revisions.push(&manifest, &revision)
    }

    /// What a manifest needs.
    pub fn need(&mut self, need: &Need) -> Result<(), SpoolError> {
        if need.role == Role::Child {
            self.children.push(&need.digest, need)?;
        }
        self.needs.push(&need.digest, need)
    }

    /// The child of an index, where it need not have a link of its own.
    pub fn child(&mut self, need: &Need, in_stream: bool) -> Result<(), SpoolError> {
        let kept = self.root(need.digest, &need.repository, in_stream)?;
        if !in_stream {
            return Ok(());
        }
        self.kept.push(&need.digest, &kept)
    }

    /// A tag, and what it names.
    pub fn tag(&mut self, tagged: Tagged) -> Result<(), SpoolError> {
        self.root(tagged.manifest, &tagged.repository, false)?;
        self.tags.push(&tagged.manifest, &tagged)
    }

    /// A tag that names nothing.
    pub fn broken_tag(&mut self, tag: BrokenTag) -> Result<(), SpoolError> {
        let name = format!("{}:{}", tag.repository, tag.tag);
        self.broken_tags
            .push(&Digest::of(Algorithm::Sha256, name.as_bytes()), &tag)
    }
}
