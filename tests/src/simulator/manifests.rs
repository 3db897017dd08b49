//! All manifests' digests, by number and in order, and their sizes. Their bytes are made again whenever they are read.

use std::thread;

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256};

use super::Hash;
use super::digests::Digests;
use super::manifest_bytes::{self, Named};
use super::population::{BLOCK, Kind, Population};

#[derive(Debug)]
pub(super) struct Manifests {
    digests: Vec<Hash>,
    sizes: Vec<u32>,
    /// Manifests by their digests, ascending.
    order: Vec<u32>,
}

impl Manifests {
    /// Makes and hashes all manifests, on all processors: those of a block name one another, and none outside of it.
    ///
    /// # Errors
    ///
    /// Two manifests that are the same.
    pub fn make(population: &Population, digests: &Digests) -> Result<Self> {
        let count = as_index(population.shape.manifests);
        let mut made = Self {
            digests: vec![[0; 32]; count],
            sizes: vec![0; count],
            order: Vec::new(),
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let block = as_index(BLOCK);
        let share = count.div_ceil(threads).next_multiple_of(block);
        thread::scope(|scope| {
            let parts = made
                .digests
                .chunks_mut(share)
                .zip(made.sizes.chunks_mut(share))
                .zip((0..).step_by(share));
            for ((hashes, sizes), first) in parts {
                scope.spawn(move || {
                    let blocks = hashes.chunks_mut(block).zip(sizes.chunks_mut(block));
                    for ((hashes, sizes), first) in blocks.zip((first..).step_by(block)) {
                        make_block(population, digests, first, hashes, sizes);
                    }
                });
            }
        });
        made.order = (0..).take(count).collect();
        let hashes = &made.digests;
        made.order
            .sort_unstable_by_key(|manifest| hashes[*manifest as usize]);
        let is_same = |pair: &[u32]| hashes[pair[0] as usize] == hashes[pair[1] as usize];
        if made.order.windows(2).any(is_same) {
            bail!("two manifests are the same: take another seed");
        }
        Ok(made)
    }

    pub fn count(&self) -> u64 {
        self.digests.len() as u64
    }

    pub fn digest(&self, manifest: u64) -> &Hash {
        &self.digests[as_index(manifest)]
    }

    pub fn size(&self, manifest: u64) -> u64 {
        self.sizes[as_index(manifest)].into()
    }

    /// The manifest at a place in the order of digests.
    pub fn at(&self, place: u64) -> u64 {
        self.order[as_index(place)].into()
    }

    /// The manifest of a digest.
    pub fn find(&self, digest: &Hash) -> Option<u64> {
        let place = self
            .order
            .binary_search_by_key(&digest, |manifest| &self.digests[*manifest as usize]);
        Some(self.order[place.ok()?].into())
    }

    /// The bytes of a manifest.
    pub fn bytes(&self, population: &Population, digests: &Digests, manifest: u64) -> Vec<u8> {
        write(population, digests, manifest, |other| {
            (*self.digest(other), self.size(other))
        })
    }
}

fn make_block(
    population: &Population,
    digests: &Digests,
    first: usize,
    hashes: &mut [Hash],
    sizes: &mut [u32],
) {
    for place in 0..hashes.len() {
        let bytes = write(population, digests, (first + place) as u64, |other| {
            let place = as_index(other) - first;
            (hashes[place], sizes[place].into())
        });
        hashes[place] = Sha256::digest(&bytes).into();
        sizes[place] = u32::try_from(bytes.len()).expect("a manifest has a few thousand bytes");
    }
}

/// Writes a manifest; `of` has digest and size of those before it in its block.
fn write(
    population: &Population,
    digests: &Digests,
    manifest: u64,
    of: impl Fn(u64) -> (Hash, u64),
) -> Vec<u8> {
    let kind = Population::kind(manifest);
    if matches!(kind, Kind::OciIndex | Kind::DockerList) {
        return manifest_bytes::index(kind, &[of(manifest - 2), of(manifest - 1)]);
    }
    let named = |layer| {
        (
            digests.at(digests.position_of(layer)),
            population.layer_bytes(layer),
        )
    };
    let own = population.own_layers(manifest);
    let mut layers: Vec<Named> = Vec::with_capacity(16);
    layers.push(named(own.start));
    layers.extend(population.base_layers(manifest).map(named));
    layers.extend((own.start + 1..own.end).map(named));
    let subject = (kind == Kind::Artifact).then(|| of(manifest - 1));
    let withdrawn_form = (manifest / BLOCK).is_multiple_of(4);
    manifest_bytes::image(kind, withdrawn_form, &layers, subject.as_ref())
}

fn as_index(number: u64) -> usize {
    usize::try_from(number).expect("no more manifests than fit into memory")
}
