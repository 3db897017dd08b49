//! The Bloom filter of one shard: which of its digests may be referenced.
//!
//! Upholds R1 and R2: a filter errs only toward keeping, and only one whose bytes and header were checked against
//! the task can be asked. An empty set is a state of its own, not a filter without bits.
//!
//! A low rate is made of several filters of a higher one, each with a seed of its own, and a digest may be referenced if
//! all of them say so. All bit positions of an item come from two hashes, so that two items that agree in both agree in
//! all, which happens about 3.6 · items/bits² times (measured): seldom beside a rate of 1e-3, but not beside 1e-6, where a
//! filter of 1,760 items was wrong 3.4 times as often as asked. The bits together are as many as one filter would need.
//!
//! File: 4 bytes `HPF2`, the header's length (u32, little endian), the header as JSON; then each filter's length and its
//! bits as the `bloomfilter` crate writes them.

use std::hash::{Hash, Hasher};

use bloomfilter::Bloom;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::digest::{Algorithm, Digest};
use crate::run::Epoch;
use crate::shard::Shard;

const MAGIC: &[u8; 4] = b"HPF2";

/// Below this many items the bits are made for this many: few bits do not keep their promised rate.
const LEAST_ITEMS: usize = 1024;
/// No single filter is made for a lower rate.
const LOWEST_RATE: f64 = 1e-3;

/// What a filter's file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterHeader {
    /// The epoch whose references it holds.
    pub epoch: Epoch,
    /// The shard.
    pub shard: Shard,
    /// Digests in it. Zero: nothing of this shard is referenced.
    pub items: u64,
    /// The share of digests outside it that it takes for inside.
    pub false_positive_rate: f64,
    /// New for every run, so that what one run keeps by chance the next one removes.
    pub seed: FilterSeed,
}

/// What makes one run's filters differ from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilterSeed([u8; 32]);

impl FilterSeed {
    /// A seed that nobody could have known.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// A seed of a number, where a run is to be repeated exactly.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        // Hashed, because the two halves of a seed must differ: equal ones make all hash functions alike.
        Self(sha2::Sha256::digest(number.to_le_bytes()).into())
    }

    /// The seed of one of several filters.
    fn of_part(&self, part: u8) -> [u8; 32] {
        sha2::Sha256::new()
            .chain_update(self.0)
            .chain_update([part])
            .finalize()
            .into()
    }
}

/// A digest as the filter hashes it: its bytes and nothing that depends on the machine.
struct Item([u8; 65], usize);

impl From<&Digest> for Item {
    fn from(digest: &Digest) -> Self {
        let mut bytes = [0; 65];
        bytes[0] = match digest.algorithm() {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        };
        let hash = digest.hash();
        bytes[1..=hash.len()].copy_from_slice(hash);
        Self(bytes, hash.len() + 1)
    }
}

impl Hash for Item {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..self.1]);
    }
}

/// Why a filter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It cannot be made.
    #[error("shard {shard}: a filter for {items} digests at a rate of {rate} cannot be made: {detail}")]
    Parameters {
        /// The shard.
        shard: Shard,
        /// Digests to hold.
        items: u64,
        /// The rate asked for.
        rate: f64,
        /// Why.
        detail: &'static str,
    },
    /// Its bytes are no filter.
    #[error("not a filter: {0}")]
    Format(String),
    /// It is a filter, but of something else.
    #[error(
        "a filter of shard {found} in epoch {found_epoch}, where that of {wanted} in {wanted_epoch} was needed"
    )]
    Other {
        /// The header's shard.
        found: Shard,
        /// The header's epoch.
        found_epoch: Epoch,
        /// The task's shard.
        wanted: Shard,
        /// The task's epoch.
        wanted_epoch: Epoch,
    },
}

/// Builds the filter file of one shard.
///
/// # Errors
///
/// [`FilterError::Parameters`].
pub fn build_filter(
    header: &FilterHeader,
    digests: impl Iterator<Item = Digest>,
) -> Result<Vec<u8>, FilterError> {
    let bad = |detail| FilterError::Parameters {
        shard: header.shard.clone(),
        items: header.items,
        rate: header.false_positive_rate,
        detail,
    };
    let mut bits = Vec::new();
    if header.items > 0 {
        let items = usize::try_from(header.items).map_err(|_| bad("too many digests for this machine"))?;
        let items = items.max(LEAST_ITEMS);
        let (parts, rate) = parts_of(header.false_positive_rate);
        let mut blooms = (0..parts)
            .map(|part| Bloom::<Item>::new_for_fp_rate_with_seed(items, rate, &header.seed.of_part(part)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(bad)?;
        let mut added = 0;
        for digest in digests {
            let item = Item::from(&digest);
            for bloom in &mut blooms {
                bloom.set(&item);
            }
            added += 1;
        }
        if added != header.items {
            return Err(bad("their number is not the one announced"));
        }
        for bloom in blooms {
            let part = bloom.into_bytes();
            let length = u32::try_from(part.len()).map_err(|_| bad("its bits are too many"))?;
            bits.extend_from_slice(&length.to_le_bytes());
            bits.extend_from_slice(&part);
        }
    }
    let header = serde_json::to_vec(header).map_err(|_| bad("its header cannot be written"))?;
    let length = u32::try_from(header.len()).map_err(|_| bad("its header is too long"))?;
    let mut file = Vec::with_capacity(8 + header.len() + bits.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&header);
    file.extend_from_slice(&bits);
    Ok(file)
}

/// How many filters make a rate, and the rate of each.
fn parts_of(rate: f64) -> (u8, f64) {
    let mut parts = 1u8;
    while rate.powf(1.0 / f64::from(parts)) < LOWEST_RATE * 0.999 && parts < u8::MAX {
        parts += 1;
    }
    (parts, rate.powf(1.0 / f64::from(parts)))
}

/// A filter whose file was verified: the only kind that can be asked.
pub struct VerifiedFilter {
    header: FilterHeader,
    /// None: nothing is referenced.
    blooms: Vec<Bloom<Item>>,
}

impl VerifiedFilter {
    /// Opens a filter's file, whose sha256 the caller has checked (see [`crate::state`]), for one shard of one epoch.
    ///
    /// # Errors
    ///
    /// Bytes that are no filter, or one of another shard, run or epoch.
    pub fn open(file: &[u8], shard: &Shard, epoch: &Epoch) -> Result<Self, FilterError> {
        let bad = |detail: &str| FilterError::Format(detail.to_owned());
        let rest = file
            .strip_prefix(MAGIC)
            .ok_or_else(|| bad("it does not begin with HPF2"))?;
        let (length, rest) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| bad("it is cut short"))?;
        let length =
            usize::try_from(u32::from_le_bytes(*length)).map_err(|_| bad("its header is too long"))?;
        let (header, bits) = rest
            .split_at_checked(length)
            .ok_or_else(|| bad("it is cut short"))?;
        let header: FilterHeader =
            serde_json::from_slice(header).map_err(|error| bad(&format!("its header: {error}")))?;
        if header.shard != *shard || header.epoch != *epoch {
            return Err(FilterError::Other {
                found: header.shard,
                found_epoch: header.epoch,
                wanted: shard.clone(),
                wanted_epoch: epoch.clone(),
            });
        }
        if header.items == 0 && !bits.is_empty() {
            return Err(bad("it says that it is empty, but has bits"));
        }
        let mut blooms = Vec::new();
        let mut rest = bits;
        while let Some((length, bits)) = rest.split_first_chunk::<4>() {
            let length =
                usize::try_from(u32::from_le_bytes(*length)).map_err(|_| bad("its bits are too many"))?;
            let (part, after) = bits
                .split_at_checked(length)
                .ok_or_else(|| bad("it is cut short"))?;
            blooms.push(Bloom::from_slice(part).map_err(bad)?);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(bad("it is cut short"));
        }
        if header.items > 0 && blooms.len() != usize::from(parts_of(header.false_positive_rate).0) {
            return Err(bad("it says that it holds digests, but has no bits for them"));
        }
        Ok(Self { header, blooms })
    }

    /// Whether the digest may be referenced. `false` is certain; `true` is not.
    ///
    /// A digest outside this filter's shard may always be referenced: the filter knows nothing of it (R1).
    #[must_use]
    pub fn may_be_referenced(&self, digest: &Digest) -> bool {
        let item = Item::from(digest);
        !self.header.shard.contains(digest)
            || (self.header.items > 0 && self.blooms.iter().all(|bloom| bloom.check(&item)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shard::ShardDigits;

    fn digits() -> ShardDigits {
        ShardDigits::try_from(2).unwrap()
    }

    fn header(items: u64, rate: f64) -> FilterHeader {
        FilterHeader {
            epoch: Epoch::first(ulid::Ulid::from_parts(1, 1)),
            shard: digits().shard_at(Algorithm::Sha256, 0xab),
            items,
            false_positive_rate: rate,
            seed: FilterSeed::of_number(7),
        }
    }

    fn digest(number: u64) -> Digest {
        let mut hash = [0xab; 32];
        hash[1..9].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        Digest::from_hash(Algorithm::Sha256, &hash).unwrap()
    }

    fn filter(items: u64, rate: f64) -> VerifiedFilter {
        let header = header(items, rate);
        let file = build_filter(&header, (0..items).map(digest)).unwrap();
        VerifiedFilter::open(&file, &header.shard, &header.epoch).unwrap()
    }

    #[test]
    fn false_positives_are_as_many_as_asked() {
        let filter = filter(20_000, 1e-3);
        let wrong = (20_000..1_020_000)
            .filter(|number| filter.may_be_referenced(&digest(*number)))
            .count();
        assert!((900..=1_100).contains(&wrong), "{wrong} of a million at 1e-3");
    }

    #[test]
    fn small_filters_of_low_rates_keep_them_too() {
        let filter = filter(1_100, 1e-4);
        let wrong = (2_000..2_002_000)
            .filter(|number| filter.may_be_referenced(&digest(*number)))
            .count();
        assert!((150..=250).contains(&wrong), "{wrong} of two millions at 1e-4");
    }

    #[test]
    fn rates_are_made_of_parts() {
        assert_eq!(parts_of(0.1), (1, 0.1));
        assert_eq!(parts_of(1e-3), (1, 1e-3));
        assert_eq!(parts_of(1e-6).0, 2);
        assert_eq!(parts_of(1e-12).0, 4);
    }

    #[test]
    fn an_empty_filter_knows_that_nothing_is_referenced() {
        assert!(!filter(0, 1e-6).may_be_referenced(&digest(1)));
    }

    #[test]
    fn digests_of_other_shards_are_kept() {
        let other = Digest::from_hash(Algorithm::Sha256, &[0xcd; 32]).unwrap();
        assert!(filter(0, 1e-6).may_be_referenced(&other));
    }

    #[test]
    fn a_filter_of_anything_else_is_refused() {
        let header = header(3, 1e-6);
        let file = build_filter(&header, (0..3).map(digest)).unwrap();
        let other_shard = digits().shard_at(Algorithm::Sha256, 1);
        assert!(VerifiedFilter::open(&file, &other_shard, &header.epoch).is_err());
        assert!(VerifiedFilter::open(&file, &header.shard, &header.epoch.next()).is_err());
        for cut in [0, 3, 8, file.len() - 1] {
            assert!(
                VerifiedFilter::open(&file[..cut], &header.shard, &header.epoch).is_err(),
                "cut at {cut}"
            );
        }
        assert!(
            build_filter(&header, (0..2).map(digest)).is_err(),
            "fewer digests than announced"
        );
    }

    proptest! {
        #[test]
        fn referenced_implies_kept(items in 1u64..2_000, rate in 1e-7f64..0.5) {
            let filter = filter(items, rate);
            for number in 0..items {
                prop_assert!(filter.may_be_referenced(&digest(number)));
            }
        }

        #[test]
        fn any_bytes_open_or_fail_without_a_panic(bytes: Vec<u8>) {
            let header = header(3, 1e-6);
            let _ = VerifiedFilter::open(&bytes, &header.shard, &header.epoch);
            let mut file = build_filter(&header, (0..3).map(digest)).unwrap();
            let keep = file.len() / 2;
            file.truncate(keep);
            file.extend(bytes);
            let _ = VerifiedFilter::open(&file, &header.shard, &header.epoch);
        }
    }
}
