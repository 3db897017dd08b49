//! Content that is the same on every machine: bytes from a seed, and the digests of them.

use sha2::{Digest, Sha256};

/// A stream of numbers from a seed (SplitMix64): equal on every platform and with every version of every crate.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts the stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `from..=to`; the slight unevenness of a remainder does no harm here.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.number() % (to - from + 1)
    }

    /// Bytes that do not compress and do not repeat.
    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(usize::try_from(length).unwrap_or(bytes.len()));
        bytes
    }
}

/// The digest that a registry knows these bytes by: `sha256:` and 64 hexadecimal digits.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(Seeded::new(7).bytes(100), Seeded::new(7).bytes(100));
        assert_ne!(Seeded::new(7).bytes(100), Seeded::new(8).bytes(100));
        assert_eq!(Seeded::new(7).bytes(13).len(), 13);
    }

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(
            digest_of(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
