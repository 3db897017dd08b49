//! Digests of layers and configs, in order: the digest at a place among all of them, and the place of a digest.
//!
//! The space of the first 64 bits is cut into as many slots as there are layers, all alike; a layer's digest lies somewhere
//! in its slot. Which layer has which slot is a permutation.

use super::Hash;
use super::mixing::{Permutation, below, mix};

/// The folders of blobs: two hex digits.
pub(super) const FOLDERS: u64 = 256;

#[derive(Debug)]
pub(super) struct Digests {
    seed: u64,
    slot: u64,
    count: u64,
    order: Permutation,
}

impl Digests {
    /// Digests for so many layers, in the first so many of the 256 folders.
    pub fn new(seed: u64, count: u64, folders: u64) -> Self {
        let key = mix(seed, 0x0d16);
        Self {
            seed: key,
            slot: u64::MAX / FOLDERS * folders / count.max(1),
            count,
            order: Permutation::new(mix(key, 1), count),
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The digest at a position among all layers' digests, ascending.
    pub fn at(&self, position: u64) -> Hash {
        let part = |number| mix(self.seed ^ number, position);
        let first = position * self.slot + below(part(2), self.slot);
        let mut hash = [0; 32];
        for (bytes, part) in hash.chunks_exact_mut(8).zip([first, part(3), part(4), part(5)]) {
            bytes.copy_from_slice(&part.to_be_bytes());
        }
        hash
    }

    /// The position of a layer.
    pub fn position_of(&self, layer: u64) -> u64 {
        self.order.forward(layer)
    }

    /// The layer at a position.
    pub fn layer_at(&self, position: u64) -> u64 {
        self.order.backward(position)
    }

    /// The position of a digest, if it is a layer's.
    pub fn find(&self, digest: &Hash) -> Option<u64> {
        let first: [u8; 8] = digest[..8].try_into().expect("the first 8 of 32 bytes are 8");
        let position = u64::from_be_bytes(first) / self.slot;
        (position < self.count && self.at(position) == *digest).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_ascend_and_are_found_again() {
        for (count, folders) in [(1, 256), (2, 256), (100, 3), (5_000, 256)] {
            let digests = Digests::new(9, count, folders);
            let all: Vec<Hash> = (0..count).map(|position| digests.at(position)).collect();
            assert!(all.is_sorted_by(|a, b| a < b));
            assert!(all.iter().all(|digest| u64::from(digest[0]) < folders));
            for (position, digest) in (0..).zip(&all) {
                assert_eq!(digests.find(digest), Some(position));
                let mut other = *digest;
                other[31] ^= 1;
                assert_eq!(digests.find(&other), None);
            }
        }
    }
}
