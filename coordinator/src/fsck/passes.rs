//! What all passes share: the registry, and the spools by which they hand records on.

use std::path::PathBuf;
use std::sync::Arc;

use hardprune_common::digest::{Algorithm, Digest};
use hardprune_common::store::Store;
use serde::Serialize;

use super::records::{Broken, BrokenTag, Link, Need, Role, Root, Sharded, Tagged};
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
            dangling,
            unrecognized_keys,
        } = other;
        self.repositories += repositories;
        self.tags += tags;
        self.revisions += revisions;
        self.layer_links += layer_links;
        self.manifests += manifests;
        self.needed_blobs += needed_blobs;
        self.dangling += dangling;
        self.unrecognized_keys += unrecognized_keys;
    }
}

/// The passes' common ground.
pub(super) struct Passes {
    pub registry: Arc<dyn Store>,
    pub reads_in_flight: usize,
    /// Whether a repository serves only what it has links to. OpenShift's registry goes by the cluster's images instead.
    pub looks_at_links: bool,
    pub spool_dir: PathBuf,
    pub seen: Seen,
    /// By the manifest.
    pub roots: Sharded<Root>,
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
        spool_dir: PathBuf,
    ) -> Result<Self, SpoolError> {
        Ok(Self {
            registry,
            reads_in_flight,
            looks_at_links,
            seen: Seen::default(),
            roots: Sharded::new(&spool_dir)?,
            tags: Sharded::new(&spool_dir)?,
            broken_tags: Sharded::new(&spool_dir)?,
            links: Sharded::new(&spool_dir)?,
            needs: Sharded::new(&spool_dir)?,
            children: Sharded::new(&spool_dir)?,
            broken: Sharded::new(&spool_dir)?,
            spool_dir,
        })
    }

    /// A manifest that must be whole.
    pub fn root(&mut self, manifest: Digest, repository: &str) -> Result<(), SpoolError> {
        let root = Root {
            manifest,
            repository: repository.to_owned(),
        };
        self.roots.push(&manifest, &root)
    }

    /// What a manifest needs.
    pub fn need(&mut self, need: &Need) -> Result<(), SpoolError> {
        if need.role == Role::Child {
            self.children.push(&need.digest, need)?;
        }
        self.needs.push(&need.digest, need)
    }

    /// A tag, and what it names.
    pub fn tag(&mut self, tagged: Tagged) -> Result<(), SpoolError> {
        self.root(tagged.manifest, &tagged.repository)?;
        self.tags.push(&tagged.manifest, &tagged)
    }

    /// A tag that names nothing.
    pub fn broken_tag(&mut self, tag: BrokenTag) -> Result<(), SpoolError> {
        let name = format!("{}:{}", tag.repository, tag.tag);
        self.broken_tags
            .push(&Digest::of(Algorithm::Sha256, name.as_bytes()), &tag)
    }
}
