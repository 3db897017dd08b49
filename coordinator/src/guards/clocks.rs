//! Guard: the machine's clock and the store's agree.
//!
//! Ages are told by the store's clock (R4), so that a wrong one here does no harm to blobs. But one of the two is wrong then,
//! and if it is the store's, what it says of its objects' ages is no better.

use hardprune_common::clock;
use hardprune_common::store::{Store, StoreError};
use jiff::Timestamp;

use super::{Guard, GuardLimits, Refusal};

/// Compares the clocks. On a filesystem there is only one.
///
/// # Errors
///
/// A store that does not tell its time.
pub(crate) async fn compare_clocks(
    registry: &dyn Store,
    limits: &GuardLimits,
) -> Result<Option<Refusal>, StoreError> {
    let store = registry.now().await?;
    Ok(judge(store, clock::machine_now(), limits))
}

fn judge(store: Timestamp, machine: Timestamp, limits: &GuardLimits) -> Option<Refusal> {
    let difference = store.duration_since(machine);
    let limit = limits.max_clock_difference;
    if difference.unsigned_abs() <= limit {
        return None;
    }
    let direction = if difference.is_positive() {
        "behind"
    } else {
        "ahead of"
    };
    let message = format!(
        "this machine's clock ({machine:.0}) is {} seconds {direction} the storage's ({store:.0}), more than the {} that it may be. One of them is \
         wrong, and what counts as young is told by the storage's. Set the clocks right; --max-clock-difference DURATION raises \
         the limit",
        difference.unsigned_abs().as_secs(),
        limit.as_secs(),
    );
    Some(Refusal {
        guard: Guard::ClockDifference,
        message,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clocks_may_differ_by_the_limit_whichever_is_ahead() {
        let limits = GuardLimits::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let limit = i64::try_from(limits.max_clock_difference.as_secs()).unwrap();
        for difference in [0, limit, -limit] {
            assert_eq!(judge(at(1_000_000 + difference), at(1_000_000), &limits), None);
        }
        let behind = judge(at(1_000_000 + limit + 1), at(1_000_000), &limits).unwrap();
        assert!(behind.message.contains("301 seconds behind"), "{behind:?}");
        let ahead = judge(at(1_000_000 - limit - 1), at(1_000_000), &limits).unwrap();
        assert!(ahead.message.contains("301 seconds ahead of"), "{ahead:?}");
        let wide = GuardLimits {
            max_clock_difference: Duration::from_secs(3_600),
            ..limits
        };
        assert_eq!(judge(at(1_003_600), at(1_000_000), &wide), None);
    }
}
