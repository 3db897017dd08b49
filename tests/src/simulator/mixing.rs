//! Numbers that look random and can be had in any order: hashes of small numbers, a permutation, sizes.

/// Mixes a number with a key (the finisher of SplitMix64).
pub(super) fn mix(key: u64, number: u64) -> u64 {
    let mut mixed = number
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(key)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A mixed number as one in `0..1`.
#[expect(clippy::cast_precision_loss, reason = "53 bits are what a fraction has")]
pub(super) fn fraction(mixed: u64) -> f64 {
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// A mixed number as one in `0..end`.
pub(super) fn below(mixed: u64, end: u64) -> u64 {
    let product = u128::from(mixed) * u128::from(end);
    u64::try_from(product >> 64).expect("the upper half of 128 bits has 64")
}

/// An order of `0..length` that looks random, and can be asked both ways: a Feistel network over the next power of two,
/// applied again where it leads outside.
#[derive(Debug, Clone)]
pub(super) struct Permutation {
    key: u64,
    length: u64,
    low_bits: u32,
    low_mask: u64,
    high_mask: u64,
}

const ROUNDS: u64 = 4;

impl Permutation {
    pub fn new(key: u64, length: u64) -> Self {
        let bits = u64::BITS - length.saturating_sub(1).leading_zeros();
        let bits = bits.max(2);
        let low_bits = bits / 2;
        Self {
            key,
            length,
            low_bits,
            low_mask: (1 << low_bits) - 1,
            high_mask: (1 << (bits - low_bits)) - 1,
        }
    }

    pub fn forward(&self, number: u64) -> u64 {
        let mut at = number;
        loop {
            let (mut low, mut high) = (at & self.low_mask, at >> self.low_bits);
            for round in 0..ROUNDS {
                low ^= mix(self.key ^ (2 * round), high) & self.low_mask;
                high ^= mix(self.key ^ (2 * round + 1), low) & self.high_mask;
            }
            at = high << self.low_bits | low;
            if at < self.length {
                return at;
            }
        }
    }

    pub fn backward(&self, number: u64) -> u64 {
        let mut at = number;
        loop {
            let (mut low, mut high) = (at & self.low_mask, at >> self.low_bits);
            for round in (0..ROUNDS).rev() {
                high ^= mix(self.key ^ (2 * round + 1), low) & self.high_mask;
                low ^= mix(self.key ^ (2 * round), high) & self.low_mask;
            }
            at = high << self.low_bits | low;
            if at < self.length {
                return at;
            }
        }
    }
}

/// Positive numbers whose logarithms are normally distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormal {
    /// Half of them are smaller.
    pub median: f64,
    /// The standard deviation of their logarithms; 0 makes them all the same.
    pub sigma: f64,
}

impl LogNormal {
    /// The number that two numbers in `0..1` stand for (Box and Muller).
    #[must_use]
    pub(crate) fn at(self, first: f64, second: f64) -> f64 {
        let normal = (-2.0 * (1.0 - first).ln()).sqrt() * (std::f64::consts::TAU * second).cos();
        self.median * (self.sigma * normal).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_leads_everywhere_once_and_back() {
        for length in [1, 2, 3, 7, 64, 1000, 4097] {
            let order = Permutation::new(5, length);
            let mut seen = vec![false; usize::try_from(length).unwrap()];
            for number in 0..length {
                let at = order.forward(number);
                assert_eq!(order.backward(at), number);
                assert!(!std::mem::replace(&mut seen[usize::try_from(at).unwrap()], true));
            }
        }
    }

    #[test]
    fn half_of_the_sizes_are_below_the_median() {
        let sizes = LogNormal {
            median: 1000.0,
            sigma: 2.0,
        };
        let below_median = (0..10_000)
            .filter(|number| sizes.at(fraction(mix(1, *number)), fraction(mix(2, *number))) < 1000.0)
            .count();
        assert!((4_800..5_200).contains(&below_median), "{below_median}");
    }
}
