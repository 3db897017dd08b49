//! A registry that is computed, not stored: from a seed, with tenants, repositories, tags, manifests of all kinds, layers and
//! orphans, in the Distribution layout. What costs memory is 40 bytes for each manifest, and a bit for each blob and each
//! layer link, which says whether it was deleted; so a hundred million blobs fit on a laptop.
//!
//! - Layers and configs have digests that were never the hash of anything: nobody reads them. Their digests are made in
//!   order (`digests.rs`), so that a listing can begin anywhere without a sorted list of them.
//! - Manifests have bytes, and their digests are the hashes of these: all are made once, at the start (`manifests.rs`).
//! - Who names what is a matter of arithmetic (`population.rs`): so the truth about each blob is known without a search.

mod blobs;
mod digests;
mod keys;
mod manifest_bytes;
mod manifests;
mod mixing;
mod population;
mod removed;
mod repositories;
mod shape;
mod truth;

use std::collections::{HashSet, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use jiff::Timestamp;
use md5::{Digest as _, Md5};

use self::digests::Digests;
use self::keys::Key;
use self::manifests::Manifests;
use self::population::{Fate, Population};
use self::removed::Removed;
use self::repositories::RepositoryView;

pub use self::mixing::LogNormal;
pub use self::shape::SimulatedShape;
pub use self::truth::{Expected, Verdict};

/// Everything of a simulated registry lies under this.
pub const ROOT: &str = hardprune_common::layout::ROOT;

/// A digest's 32 bytes.
type Hash = [u8; 32];

/// Views of repositories that are kept, because a listing comes back to them page by page.
const VIEWS_KEPT: usize = 256;

/// One object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its length in bytes.
    pub size: u64,
    /// Its `ETag`, without quotes: of links, the MD5 of their content.
    pub etag: String,
    /// When it was written.
    pub last_modified: Timestamp,
}

/// What is read of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// It is a layer, whose bytes nobody knows.
    Layer,
}

/// A simulated registry.
#[derive(Debug)]
pub struct Simulated {
    population: Population,
    digests: Digests,
    manifests: Manifests,
    removed: Removed,
    views: Mutex<VecDeque<Arc<RepositoryView>>>,
    /// Hot layers that no live manifest uses: orphans.
    cold: HashSet<u64>,
}

impl Simulated {
    /// Makes a registry: its manifests are made and hashed, on all processors.
    ///
    /// # Errors
    ///
    /// A shape that cannot be.
    pub fn new(shape: SimulatedShape) -> Result<Self> {
        let population = Population::new(shape)?;
        let digests = Digests::new(population.shape.seed, population.plain, population.shape.folders);
        let manifests = Manifests::make(&population, &digests)?;
        let removed = Removed::none_of(&population);
        let cold = population.cold_layers();
        Ok(Self {
            population,
            digests,
            manifests,
            removed,
            views: Mutex::default(),
            cold,
        })
    }

    /// What it was made from.
    #[must_use]
    pub fn shape(&self) -> &SimulatedShape {
        &self.population.shape
    }

    /// Repositories that have keys or once had.
    #[must_use]
    pub fn repositories(&self) -> u64 {
        self.population.repositories()
    }

    /// Shows the objects from a key on, in the bytewise order of their keys, until the visitor has seen enough.
    pub fn scan(
        &self,
        from: Bound<&str>,
        visit: &mut dyn FnMut(&str, Listed) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.scan_blobs(from, visit)?;
        self.scan_repositories(from, visit)
    }

    /// Finds an object.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Listed> {
        let key = self.existing(key)?;
        Some(self.listed(&key))
    }

    /// Reads an object.
    #[must_use]
    pub fn read(&self, key: &str) -> Option<Content> {
        Some(match self.existing(key)? {
            Key::Layer { .. } => Content::Layer,
            Key::Manifest { manifest } => {
                Content::Bytes(self.manifests.bytes(&self.population, &self.digests, manifest))
            }
            link => Content::Bytes(self.link_text(&link)),
        })
    }

    /// Removes an object; says whether it was there.
    pub fn remove(&self, key: &str) -> bool {
        self.existing(key)
            .is_some_and(|existing| self.removed.remove(&existing, key))
    }

    /// What an object that is there is.
    fn existing(&self, key: &str) -> Option<Key> {
        let found = self.parse(key)?;
        (!self.removed.is_removed(&found, key)).then_some(found)
    }

    fn listed(&self, key: &Key) -> Listed {
        let population = &self.population;
        let (size, etag) = match key {
            // As of an upload in parts: it says nothing about the bytes.
            Key::Layer { position } => {
                let size = population.layer_bytes(self.digests.layer_at(*position));
                (
                    size,
                    format!("{}-1", hex::encode(&self.digests.at(*position)[16..])),
                )
            }
            Key::Manifest { manifest } => (
                self.manifests.size(*manifest),
                hex::encode(&self.manifests.digest(*manifest)[16..]),
            ),
            link => {
                let text = self.link_text(link);
                (text.len() as u64, hex::encode(Md5::digest(&text)))
            }
        };
        Listed {
            size,
            etag,
            last_modified: self.written(key),
        }
    }

    fn link_text(&self, link: &Key) -> Vec<u8> {
        let mut text = b"sha256:".to_vec();
        let mut hex_digits = [0; 64];
        let encoded = hex::encode_to_slice(self.digest_of(link), &mut hex_digits);
        encoded.expect("64 digits are what 32 bytes have");
        text.extend_from_slice(&hex_digits);
        text
    }

    /// The digest that a key names.
    fn digest_of(&self, key: &Key) -> Hash {
        match key {
            Key::Layer { position } | Key::LayerLink { position, .. } => self.digests.at(*position),
            Key::Manifest { manifest } | Key::Revision { manifest, .. } => *self.manifests.digest(*manifest),
            Key::TagCurrent { group, .. } | Key::TagIndex { group, .. } => {
                *self.manifests.digest(self.population.tagged(*group))
            }
        }
    }

    /// When an object was written. What belongs to a young group is less than an hour old, all else more than two days.
    fn written(&self, key: &Key) -> Timestamp {
        let population = &self.population;
        let group = match key {
            Key::Layer { position } | Key::LayerLink { position, .. } => {
                population.owner(self.digests.layer_at(*position))
            }
            Key::Manifest { manifest } => Some(population.group_of(*manifest)),
            Key::Revision { .. } | Key::TagCurrent { .. } | Key::TagIndex { .. } => None,
        };
        let is_young = group.is_some_and(|group| population.fate(group) == Fate::Young);
        population.shape.written(&self.digest_of(key), is_young)
    }

    /// A repository's keys in their order.
    fn view(&self, repository: u64) -> Arc<RepositoryView> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.iter().rev().find(|view| view.repository == repository) {
            return Arc::clone(view);
        }
        drop(views);
        let view = Arc::new(RepositoryView::of(
            &self.population,
            &self.digests,
            &self.manifests,
            repository,
        ));
        views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if views.len() == VIEWS_KEPT {
            views.pop_front();
        }
        views.push_back(Arc::clone(&view));
        view
    }
}
