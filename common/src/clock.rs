//! The one place that reads the machine's clock (R4: time is the store's time; where the store is a
//! filesystem, that is this clock).

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Reads the machine's wall clock.
#[must_use]
pub fn machine_now() -> Timestamp {
    Timestamp::now()
}

/// Reads the machine's monotonic clock, for durations and deadlines.
#[must_use]
pub fn monotonic_now() -> Instant {
    Instant::now()
}

/// Adds a duration to a timestamp; the result stays inside what a timestamp can express.
#[must_use]
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Takes a duration from a timestamp; the result stays inside what a timestamp can express.
#[must_use]
pub fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

/// How long ago an instant was.
#[must_use]
pub fn since(instant: Instant) -> Duration {
    monotonic_now().saturating_duration_since(instant)
}
