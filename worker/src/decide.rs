//! What becomes of a blob: a pure function of its listing, the shard's filter and the cutoff.

use hardprune_common::digest::Digest;
use hardprune_common::filter::VerifiedFilter;
use hardprune_common::layout;
use hardprune_common::shard::Shard;
use hardprune_common::store::ListedObject;
use jiff::Timestamp;

/// What becomes of a key of the blob space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Keep(KeepReason),
    /// It is an orphan.
    Delete,
}

/// Why a key stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepReason {
    /// A reference may name it.
    Referenced,
    /// It is as new as the cutoff, or newer.
    Young,
    /// It is not the canonical key of any blob of the shard (R3).
    Unrecognized,
}

/// Decides. In any doubt the answer is keep (R1).
#[must_use]
pub fn decide(blob: &ListedObject, shard: &Shard, filter: &VerifiedFilter, cutoff: Timestamp) -> Decision {
    match recognize(blob, shard) {
        None => Decision::Keep(KeepReason::Unrecognized),
        Some(digest) if filter.may_be_referenced(&digest) => Decision::Keep(KeepReason::Referenced),
        Some(_) if blob.last_modified >= cutoff => Decision::Keep(KeepReason::Young),
        Some(_) => Decision::Delete,
    }
}

/// R3: only an exact, canonical key of this shard names a blob.
fn recognize(blob: &ListedObject, shard: &Shard) -> Option<Digest> {
    layout::parse_blob_key(&blob.key).filter(|digest| blob.exact && shard.contains(digest))
}

#[cfg(test)]
mod tests {
    use hardprune_common::digest::Algorithm;
    use hardprune_common::filter::{FilterHeader, FilterSeed, build_filter};
    use hardprune_common::run::{Epoch, RunId};
    use hardprune_common::shard::ShardDigits;
    use proptest::prelude::*;

    use super::*;

    fn shard_and_filter(referenced: &[Digest], of: &Digest) -> (Shard, VerifiedFilter) {
        let shard = ShardDigits::for_blobs(0).shard_of(of);
        let digests: Vec<_> = referenced
            .iter()
            .filter(|digest| shard.contains(digest))
            .copied()
            .collect();
        let header = FilterHeader {
            epoch: Epoch::first(RunId::nil()),
            shard: shard.clone(),
            items: digests.len() as u64,
            false_positive_rate: 1e-6,
            seed: FilterSeed::of_number(1),
        };
        let file = build_filter(&header, digests.into_iter()).unwrap();
        let filter = VerifiedFilter::open(&file, &shard, &header.epoch).unwrap();
        (shard, filter)
    }

    fn blob(digest: &Digest, last_modified: i64) -> ListedObject {
        ListedObject {
            key: layout::blob_key(digest),
            size: 1,
            last_modified: Timestamp::from_second(last_modified).unwrap(),
            etag: None,
            exact: true,
        }
    }

    proptest! {
        #[test]
        fn referenced_implies_kept(
            contents in prop::collection::vec(any::<u16>(), 1..40),
            chosen: prop::sample::Index,
            age in -100i64..100,
        ) {
            let digests: Vec<_> =
                contents.iter().map(|content| Digest::of(Algorithm::Sha256, &content.to_le_bytes())).collect();
            let digest = digests[chosen.index(digests.len())];
            let (shard, filter) = shard_and_filter(&digests, &digest);
            let decision = decide(&blob(&digest, age), &shard, &filter, Timestamp::from_second(0).unwrap());
            prop_assert_eq!(decision, Decision::Keep(KeepReason::Referenced));
        }

        #[test]
        fn only_what_is_older_than_the_cutoff_goes(content: u16, age in -100i64..100) {
            let digest = Digest::of(Algorithm::Sha256, &content.to_le_bytes());
            let (shard, filter) = shard_and_filter(&[], &digest);
            let decision = decide(&blob(&digest, age), &shard, &filter, Timestamp::from_second(0).unwrap());
            let young = Decision::Keep(KeepReason::Young);
            prop_assert_eq!(decision, if age < 0 { Decision::Delete } else { young });
        }
    }

    #[test]
    fn what_is_not_exactly_a_blob_of_the_shard_stays() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let (shard, filter) = shard_and_filter(&[], &digest);
        let keep = Decision::Keep(KeepReason::Unrecognized);
        let cutoff = Timestamp::from_second(0).unwrap();
        let good = blob(&digest, -1);
        assert_eq!(decide(&good, &shard, &filter, cutoff), Decision::Delete);
        let through_a_link = ListedObject {
            exact: false,
            ..good.clone()
        };
        assert_eq!(decide(&through_a_link, &shard, &filter, cutoff), keep);
        let other_key = ListedObject {
            key: format!("{}/", good.key),
            ..good.clone()
        };
        assert_eq!(decide(&other_key, &shard, &filter, cutoff), keep);
        let other_shard = blob(&Digest::of(Algorithm::Sha256, b"other"), -1);
        assert_eq!(decide(&other_shard, &shard, &filter, cutoff), keep);
    }
}
