//! Shards: how the blob space is cut by digest prefix.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, Digest};
use crate::layout::BLOBS;

/// Blobs that a shard should not have many more of.
pub const BLOBS_PER_SHARD: u64 = 100_000;
/// Blobs up to which a registry is cut by the first digit alone. Each shard costs some requests and files, however few
/// blobs it has; beyond this its pages, one after another, would cost more.
const FEW_BLOBS: u64 = 160_000;

/// One digest-prefix range of the blob space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "ShardText", into = "ShardText")]
pub struct Shard {
    algorithm: Algorithm,
    /// Those that the digests of its blobs begin with, as a number.
    leading: usize,
    digits: ShardDigits,
}

/// A shard in JSON.
#[derive(Serialize, Deserialize)]
struct ShardText {
    algorithm: Algorithm,
    hex: String,
}

/// What can be no shard's hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} are no hex digits of a shard")]
struct BadShard(String);

impl TryFrom<ShardText> for Shard {
    type Error = BadShard;

    fn try_from(ShardText { algorithm, hex }: ShardText) -> Result<Self, BadShard> {
        let digits = ShardDigits::try_from(hex.len()).ok();
        let leading = usize::from_str_radix(&hex, 16).ok();
        let shard = digits.zip(leading).map(|(digits, leading)| Self {
            algorithm,
            leading,
            digits,
        });
        // Read as a number, `+a` and `AB` are hex digits, too.
        shard.filter(|shard| shard.hex() == hex).ok_or(BadShard(hex))
    }
}

impl From<Shard> for ShardText {
    fn from(shard: Shard) -> Self {
        Self {
            algorithm: shard.algorithm,
            hex: shard.hex(),
        }
    }
}

/// How many hex digits tell a digest's shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub struct ShardDigits(usize);

/// A number of digits that no shard can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} hex digits a shard: 1 to {most} are possible", most = ShardDigits::MOST)]
pub struct BadShardDigits(usize);

impl TryFrom<usize> for ShardDigits {
    type Error = BadShardDigits;

    fn try_from(digits: usize) -> Result<Self, BadShardDigits> {
        if (Self::LEAST..=Self::MOST).contains(&digits) {
            Ok(Self(digits))
        } else {
            Err(BadShardDigits(digits))
        }
    }
}

impl From<ShardDigits> for usize {
    fn from(digits: ShardDigits) -> Self {
        digits.0
    }
}

impl ShardDigits {
    const LEAST: usize = 1;
    const MOST: usize = 5;

    /// The fewest digits that keep a shard near [`BLOBS_PER_SHARD`] of this many blobs, or well below it where one will do.
    #[must_use]
    pub fn for_blobs(blobs: u64) -> Self {
        if blobs <= FEW_BLOBS {
            return Self(Self::LEAST);
        }
        let enough = |digits: &usize| (1u64 << (4 * digits)).saturating_mul(BLOBS_PER_SHARD) >= blobs;
        Self((2..Self::MOST).find(enough).unwrap_or(Self::MOST))
    }

    /// The shard that a digest belongs to.
    #[must_use]
    pub fn shard_of(self, digest: &Digest) -> Shard {
        self.shard_at(digest.algorithm(), self.index_of(digest))
    }

    /// The place of a digest's shard among those of its algorithm, from 0.
    #[must_use]
    pub fn index_of(self, digest: &Digest) -> usize {
        let hash = digest.hash();
        let leading = usize::from(hash[0]) << 16 | usize::from(hash[1]) << 8 | usize::from(hash[2]);
        leading >> (24 - 4 * self.0)
    }

    /// The number of shards of one algorithm.
    #[must_use]
    pub fn count(self) -> usize {
        1 << (4 * self.0)
    }

    /// The shard at a place among those of its algorithm.
    #[must_use]
    pub fn shard_at(self, algorithm: Algorithm, index: usize) -> Shard {
        Shard {
            algorithm,
            leading: index,
            digits: self,
        }
    }
}

impl Shard {
    /// The hash algorithm of its blobs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The shard that it is, or lies in, where fewer digits tell it.
    #[must_use]
    pub fn within(&self, digits: ShardDigits) -> Self {
        let digits = digits.min(self.digits);
        Self {
            algorithm: self.algorithm,
            leading: self.leading >> (4 * (self.digits.0 - digits.0)),
            digits,
        }
    }

    /// The shards of so many digits that it consists of, ascending: itself, where those are not more than it has.
    pub fn cut(&self, digits: ShardDigits) -> impl Iterator<Item = Self> + use<> {
        let digits = digits.max(self.digits);
        let finer = 4 * (digits.0 - self.digits.0);
        let (algorithm, first) = (self.algorithm, self.leading << finer);
        (first..first + (1 << finer)).map(move |leading| digits.shard_at(algorithm, leading))
    }

    /// The plain string that the keys of all its blobs begin with.
    #[must_use]
    pub fn key_prefix(&self) -> String {
        let hex = self.hex();
        let (algorithm, hex) = (self.algorithm.name(), hex.as_str());
        match hex.split_at_checked(2) {
            // The layout has a folder for the first two digits; keys repeat them in the blob's own.
            Some((folder, "")) => format!("{BLOBS}{algorithm}/{folder}/"),
            Some((folder, _)) => format!("{BLOBS}{algorithm}/{folder}/{hex}"),
            None => format!("{BLOBS}{algorithm}/{hex}"),
        }
    }

    /// Whether a digest belongs to it.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        digest.algorithm() == self.algorithm && self.digits.index_of(digest) == self.leading
    }

    fn hex(&self) -> String {
        format!("{:0width$x}", self.leading, width = self.digits.0)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.algorithm.name(), self.hex())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::blob_key;

    #[test]
    fn as_many_shards_as_keep_one_small() {
        assert_eq!(usize::from(ShardDigits::for_blobs(0)), 1);
        assert_eq!(usize::from(ShardDigits::for_blobs(160_000)), 1);
        assert_eq!(usize::from(ShardDigits::for_blobs(160_001)), 2);
        assert_eq!(usize::from(ShardDigits::for_blobs(25_600_000)), 2);
        assert_eq!(usize::from(ShardDigits::for_blobs(25_600_001)), 3);
        assert_eq!(usize::from(ShardDigits::for_blobs(u64::MAX)), 5);
    }

    #[test]
    fn in_json_a_shard_has_its_digits() {
        let shard = ShardDigits(3).shard_at(Algorithm::Sha256, 10);
        let json = r#"{"algorithm":"sha256","hex":"00a"}"#;
        assert_eq!(serde_json::to_string(&shard).unwrap(), json);
        assert_eq!(serde_json::from_str::<Shard>(json).unwrap(), shard);
        for hex in ["", "+a", "AB", "0g", "000000"] {
            let json = format!(r#"{{"algorithm":"sha256","hex":"{hex}"}}"#);
            assert!(serde_json::from_str::<Shard>(&json).is_err(), "{hex}");
        }
    }

    proptest! {
        #[test]
        fn shards_cover_the_digest_space_and_never_overlap(hash: [u8; 32], digits in 1usize..=5) {
            let digits = ShardDigits::try_from(digits).unwrap();
            let digest = Digest::from_hash(Algorithm::Sha256, &hash).unwrap();
            let shard = digits.shard_of(&digest);
            let index = digits.index_of(&digest);
            prop_assert!(index < digits.count());
            prop_assert_eq!(&digits.shard_at(Algorithm::Sha256, index), &shard);
            prop_assert!(shard.contains(&digest));
            let key = blob_key(&digest);
            prop_assert!(key.starts_with(&shard.key_prefix()));
            let finest = ShardDigits::try_from(ShardDigits::MOST).unwrap();
            prop_assert_eq!(&finest.shard_of(&digest).within(digits), &shard);
            prop_assert_eq!(&shard.within(finest), &shard);
            let parts: Vec<Shard> = shard.cut(finest).collect();
            prop_assert_eq!(parts.len(), finest.count() / digits.count());
            prop_assert!(parts.is_sorted() && parts.iter().all(|part| part.within(digits) == shard));
            prop_assert_eq!(parts.iter().filter(|part| part.contains(&digest)).count(), 1);
            prop_assert!(shard.cut(ShardDigits(1)).eq([shard.clone()]));
            // Its neighbours have no part in it: keys of two shards never begin alike.
            for other in [index.wrapping_sub(1), index + 1] {
                if other < digits.count() {
                    let other = digits.shard_at(Algorithm::Sha256, other);
                    prop_assert!(!other.contains(&digest));
                    prop_assert!(!key.starts_with(&other.key_prefix()));
                }
            }
        }
    }
}
