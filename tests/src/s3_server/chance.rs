//! Faults that requests meet by chance: what a provider does now and then.

use std::sync::atomic::{AtomicU64, Ordering};

use super::faults::{Effect, MetFault};
use crate::content::Seeded;

/// Numbers for one server, from a fixed seed. Which request has which is up to the order in which they arrive.
#[derive(Debug)]
pub(super) struct Chance {
    fault_rate: f64,
    drawn: AtomicU64,
}

impl Chance {
    pub fn new(fault_rate: f64) -> Self {
        Self {
            fault_rate,
            drawn: AtomicU64::new(0),
        }
    }

    fn number(&self) -> u64 {
        Seeded::new(self.drawn.fetch_add(1, Ordering::Relaxed)).number()
    }

    /// A number in `0..1`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a fraction has")]
    pub fn fraction(&self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The fault that a request meets, if it meets one.
    pub fn meet(&self) -> Option<MetFault> {
        if self.fault_rate <= 0.0 || self.fraction() >= self.fault_rate {
            return None;
        }
        let effect = match self.number() % 6 {
            0 => Effect::Status(503, "SlowDown"),
            1 => Effect::Status(500, "InternalError"),
            2 => Effect::DropConnection,
            3 => Effect::DropAfter,
            4 => Effect::CutBody(100),
            _ => Effect::ErrorDocument200,
        };
        Some(MetFault { effect, text: None })
    }
}
