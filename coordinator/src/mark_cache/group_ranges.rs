//! Which ranges a run is cut into, by what the latest one found in its own.

use hardprune_common::task::{KeyRange, RangeSize};

use super::CachedRange;

/// Brings the pieces of ranges together to `wanted` ranges of about one size: to fewer where there are fewer pieces, to more where
/// they would be beyond the limit otherwise. Sizes may be anything: nobody has checked them.
pub(super) fn group(ranges: &[CachedRange], wanted: usize, limit: RangeSize) -> Vec<KeyRange> {
    let pieces: Vec<(Option<String>, RangeSize)> = ranges.iter().flat_map(pieces).collect();
    let mut left = pieces
        .iter()
        .fold(0_u64, |keys, (_, piece)| keys.saturating_add(piece.keys));
    let mut grouped: Vec<KeyRange> = Vec::new();
    let mut after: Option<String> = None;
    let mut size = RangeSize::default();
    for (number, (to, piece)) in pieces.iter().enumerate() {
        size.keys = size.keys.saturating_add(piece.keys);
        size.revisions = size.revisions.saturating_add(piece.revisions);
        // Of what is left, so that no small range is left over at the end.
        let share = left
            .div_ceil(wanted.saturating_sub(grouped.len()).max(1) as u64)
            .max(1);
        let is_full = match pieces.get(number + 1) {
            None => true,
            // Nearer to its share without the next one than with it.
            Some((_, next)) => {
                size.keys.saturating_add(next.keys / 2) >= share.min(limit.keys)
                    || size.keys.saturating_add(next.keys) > limit.keys
                    || size.revisions.saturating_add(next.revisions) > limit.revisions
            }
        };
        if is_full {
            grouped.push(KeyRange {
                after: after.take(),
                to: to.clone(),
            });
            after.clone_from(to);
            left = left.saturating_sub(size.keys);
            size = RangeSize::default();
        }
    }
    grouped
}

/// What lies between the cuts of a range: where each piece ends, and what it has.
fn pieces(cached: &CachedRange) -> Vec<(Option<String>, RangeSize)> {
    let mut pieces = Vec::new();
    let mut before = RangeSize::default();
    let ends = cached.cuts.iter().map(|cut| (Some(cut.to.clone()), cut.before));
    for (to, size) in ends.chain([(cached.range.to.clone(), cached.size)]) {
        let piece = RangeSize {
            keys: size.keys.saturating_sub(before.keys),
            revisions: size.revisions.saturating_sub(before.revisions),
        };
        pieces.push((to, piece));
        before = size;
    }
    pieces
}
