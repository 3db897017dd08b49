//! What was deleted, compactly: a bit for each blob and each layer link; the names of the few others.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::keys::Key;
use super::population::Population;

#[derive(Debug)]
pub(super) struct Removed {
    layers: Bits,
    manifests: Bits,
    /// By the layer's position: what is an image's own has a link in one repository only.
    own_links: Bits,
    /// All else: links to hot layers, revision links, links of tags.
    others: Mutex<HashSet<String>>,
    has_others: AtomicBool,
}

impl Removed {
    pub fn none_of(population: &Population) -> Self {
        Self {
            layers: Bits::of(population.plain),
            manifests: Bits::of(population.shape.manifests),
            own_links: Bits::of(population.plain),
            others: Mutex::default(),
            has_others: AtomicBool::new(false),
        }
    }

    pub fn is_removed(&self, key: &Key, name: &str) -> bool {
        match key {
            Key::Layer { position } => self.layers.get(*position),
            Key::Manifest { manifest } => self.manifests.get(*manifest),
            Key::LayerLink {
                position,
                is_own: true,
                ..
            } => self.own_links.get(*position),
            _ => self.has_others.load(Ordering::Acquire) && self.others().contains(name),
        }
    }

    /// Removes what is there; says whether it was.
    pub fn remove(&self, key: &Key, name: &str) -> bool {
        match key {
            Key::Layer { position } => self.layers.set(*position),
            Key::Manifest { manifest } => self.manifests.set(*manifest),
            Key::LayerLink {
                position,
                is_own: true,
                ..
            } => self.own_links.set(*position),
            _ => {
                self.has_others.store(true, Ordering::Release);
                self.others().insert(name.to_owned())
            }
        }
    }

    pub fn is_layer_removed(&self, position: u64) -> bool {
        self.layers.get(position)
    }

    pub fn is_own_link_removed(&self, position: u64) -> bool {
        self.own_links.get(position)
    }

    pub fn is_manifest_removed(&self, manifest: u64) -> bool {
        self.manifests.get(manifest)
    }

    pub fn others(&self) -> MutexGuard<'_, HashSet<String>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One bit each, set once.
#[derive(Debug)]
struct Bits(Vec<AtomicU64>);

impl Bits {
    fn of(count: u64) -> Self {
        let words = usize::try_from(count.div_ceil(64)).expect("no more bits than fit into memory");
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn get(&self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        word.load(Ordering::Relaxed) & bit != 0
    }

    /// Sets a bit; says whether it was clear.
    fn set(&self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    fn place(&self, number: u64) -> (&AtomicU64, u64) {
        let word = usize::try_from(number / 64).expect("a bit that there is");
        (&self.0[word], 1 << (number % 64))
    }
}
