//! Digests, validated on entry: a known algorithm and exactly its number of lower-case hex digits. Nothing else
//! names a blob (R3).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// A hash algorithm that a registry stores blobs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256: nearly every blob.
    Sha256,
    /// SHA-512: rare, but allowed by the OCI image specification.
    Sha512,
}

impl Algorithm {
    /// Every known algorithm, ascending.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name in digests and keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The hash's length in bytes.
    #[must_use]
    pub const fn hash_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm of this name, if it is a known one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// What is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `:` in it.
    #[error("{0:?} is no digest: it should be ALGORITHM:HEX")]
    Shape(String),
    /// The part before the `:` is no known algorithm.
    #[error("{0:?} has an algorithm that is not known (sha256, sha512)")]
    Algorithm(String),
    /// The part after it is not the right number of lower-case hex digits.
    #[error("{0:?} does not have the {1} lower-case hex digits of its algorithm")]
    Hex(String, usize),
}

/// The digest of a blob. Ordered as its text is: by algorithm, then by hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    // Zeros behind the hash where the algorithm's is shorter.
    hash: [u8; 64],
}

impl Digest {
    /// Makes a digest of a hash of the right length.
    ///
    /// `None` where the length is not the algorithm's.
    #[must_use]
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        let mut padded = [0; 64];
        if hash.len() != algorithm.hash_len() {
            return None;
        }
        padded[..hash.len()].copy_from_slice(hash);
        Some(Self {
            algorithm,
            hash: padded,
        })
    }

    /// Makes a digest of an algorithm and lower-case hex digits, as keys have them.
    ///
    /// # Errors
    ///
    /// [`DigestError::Hex`].
    pub fn from_hex(algorithm: Algorithm, digits: &str) -> Result<Self, DigestError> {
        let bad = || DigestError::Hex(shorten(digits), algorithm.hash_len() * 2);
        let mut hash = [0; 64];
        let len = algorithm.hash_len();
        if digits.len() != len * 2 || digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(bad());
        }
        hex::decode_to_slice(digits, &mut hash[..len]).map_err(|_| bad())?;
        Ok(Self { algorithm, hash })
    }

    /// Hashes bytes.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hash = [0; 64];
        match algorithm {
            Algorithm::Sha256 => hash[..32].copy_from_slice(&Sha256::digest(bytes)),
            Algorithm::Sha512 => hash.copy_from_slice(&Sha512::digest(bytes)),
        }
        Self { algorithm, hash }
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash, as long as the algorithm's is.
    #[must_use]
    pub fn hash(&self) -> &[u8] {
        &self.hash[..self.algorithm.hash_len()]
    }

    /// The hash as lower-case hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.with_hex(str::to_owned)
    }

    /// Hands the hash's hex digits on without a string for them: every key of a listing is looked at this way.
    fn with_hex<T>(&self, take: impl FnOnce(&str) -> T) -> T {
        let mut digits = [0; 128];
        let digits = &mut digits[..2 * self.algorithm.hash_len()];
        hex::encode_to_slice(self.hash(), digits).expect("two digits for each byte of the hash");
        take(str::from_utf8(digits).expect("hex digits are ASCII"))
    }
}

impl Ord for Digest {
    fn cmp(&self, other: &Self) -> Ordering {
        self.algorithm
            .cmp(&other.algorithm)
            .then_with(|| self.hash.cmp(&other.hash))
    }
}

impl PartialOrd for Digest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, digits) = text
            .split_once(':')
            .ok_or_else(|| DigestError::Shape(shorten(text)))?;
        let algorithm =
            Algorithm::from_name(algorithm).ok_or_else(|| DigestError::Algorithm(shorten(text)))?;
        Self::from_hex(algorithm, digits)
    }
}

/// Keeps an error readable whatever stood in the place of a digest.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        f.write_str(":")?;
        self.with_hex(|digits| f.write_str(digits))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Finds every digest-shaped string in bytes that could not be read as what they should be (R8).
///
/// A match is an algorithm's name, `:` and at least its number of hex digits, of either case; surrounding bytes
/// do not matter. Finds too much rather than too little.
pub fn scan_for_digests(bytes: &[u8]) -> impl Iterator<Item = Digest> + '_ {
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b':')
        .filter_map(move |(colon, _)| {
            Algorithm::ALL.into_iter().find_map(|algorithm| {
                let name = algorithm.name().as_bytes();
                let digits = bytes.get(colon + 1..colon + 1 + algorithm.hash_len() * 2)?;
                if !ends_with_ignoring_case(&bytes[..colon], name) {
                    return None;
                }
                let hash = hex::decode(digits).ok()?;
                Digest::from_hash(algorithm, &hash)
            })
        })
}

fn ends_with_ignoring_case(bytes: &[u8], suffix: &[u8]) -> bool {
    bytes.len() >= suffix.len() && bytes[bytes.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn hashes_and_prints() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
        assert_eq!(Digest::of(Algorithm::Sha512, b"").to_string().len(), 7 + 128);
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:ab",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &EMPTY[1..],
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(EMPTY.to_uppercase().parse::<Digest>().is_err());
        assert!(EMPTY.replace('e', "E").parse::<Digest>().is_err());
        assert!(format!("{EMPTY}0").parse::<Digest>().is_err());
        assert!(format!("{EMPTY} ").parse::<Digest>().is_err());
    }

    #[test]
    fn scanning_finds_digests_in_any_surroundings() {
        let text = format!("x{EMPTY}yz SHA256:{} sha256:short {EMPTY}", "AB".repeat(32));
        let found: Vec<_> = scan_for_digests(text.as_bytes())
            .map(|digest| digest.to_string())
            .collect();
        assert_eq!(
            found,
            [
                EMPTY.to_owned(),
                format!("sha256:{}", "ab".repeat(32)),
                EMPTY.to_owned()
            ]
        );
    }

    proptest! {
        #[test]
        fn text_round_trip_keeps_order(a: [u8; 32], b: [u8; 32]) {
            let a = Digest::from_hash(Algorithm::Sha256, &a).unwrap();
            let b = Digest::from_hash(Algorithm::Sha256, &b).unwrap();
            prop_assert_eq!(a.to_string().parse::<Digest>().unwrap(), a);
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in "\\PC*") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn scanning_never_panics(bytes: Vec<u8>) {
            let _ = scan_for_digests(&bytes).count();
        }
    }
}
