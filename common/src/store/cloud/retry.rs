//! How often a read or a copy is tried, and how long to wait in between. Writes and deletes of objects are never retried (R10).

use std::time::Duration;

use crate::store::READ_TIMEOUT;

/// How reads are retried. The default is meant for real stores; tests make it shorter.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Attempts in all, the first one counted. At least 1.
    pub attempts: u32,
    /// The longest that one attempt may take.
    pub read_timeout: Duration,
    /// The wait before the second attempt; each further one is three times as long.
    pub first_pause: Duration,
    /// No wait is longer, whatever a `Retry-After` asks for.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            read_timeout: READ_TIMEOUT,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
        }
    }
}

impl RetryPolicy {
    /// The wait after failed attempt number `attempt` (from 1), where the store asked for `retry_after`. `chance`
    /// lies in 0..1: half of the wait is left to it, so that many workers do not come back at once.
    pub(super) fn pause(&self, attempt: u32, retry_after: Option<Duration>, chance: f64) -> Duration {
        let factor = 3_u32.saturating_pow(attempt.saturating_sub(1));
        let pause = self
            .first_pause
            .saturating_mul(factor)
            .max(retry_after.unwrap_or_default())
            .min(self.longest_pause);
        let spread = pause.mul_f64(0.5);
        let least = retry_after.unwrap_or(spread).min(self.longest_pause);
        (spread + spread.mul_f64(chance.clamp(0.0, 1.0))).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause(1, None, 1.0), Duration::from_millis(250));
        assert_eq!(policy.pause(2, None, 0.0), Duration::from_millis(375));
        assert_eq!(policy.pause(40, None, 1.0), policy.longest_pause);
    }

    #[test]
    fn what_the_store_asks_for_is_honoured_up_to_a_cap() {
        let policy = RetryPolicy::default();
        let asked = Duration::from_secs(3);
        assert!(policy.pause(1, Some(asked), 0.0) >= asked);
        assert_eq!(
            policy.pause(1, Some(Duration::from_secs(3600)), 0.5),
            policy.longest_pause
        );
    }
}
