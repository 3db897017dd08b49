//! A rate that finds what a store takes: multiplicative decrease where it asks for less, increase while all goes well.
//!
//! There is no limit until a store asks for less for the first time. What it took in a second is the first guess then. The increase is
//! that of TCP's CUBIC (RFC 9438), counted in requests: slow near the rate that last was too much, so that the limit is held and
//! seldom met, and ever faster away from it, so that a limit that has risen is found.

use std::time::Duration;

use tokio::time::Instant;

/// By how much a rate falls that was about right.
const SMALL_STEP: f64 = 0.07;
/// By how much it falls where it fell so few requests ago.
const LARGE_STEP: f64 = 0.3;
const FEW_REQUESTS: u64 = 50;
/// Requests for each refusal, until a rate is again what was too much: the share of refusals is bounded, however many are under way
/// when a limit is met.
const RECOVERY: f64 = 400.0;
/// The same of the first guess, which is often too little: a second's worth is few batches.
const RECOVERY_OF_A_GUESS: f64 = 100.0;
/// Of more refusals at one rate the rest tells nothing new.
const MOST_REFUSALS: f64 = 16.0;
/// Requests that are under way when a rate falls are no reason to let it fall again.
const FALLS_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// A store that answers nothing else has another problem than the rate.
const MOST_FALLS_WITHOUT_SUCCESS: u32 = 4;
/// A refusal in so many requests is borne without a fall: some stores refuse one now and then at any rate.
const REQUESTS_A_REFUSAL: f64 = 400.0;
/// Refusals borne at once, at the most.
const MOST_BORNE: f64 = 2.0;

/// The rate of one kind of requests.
#[derive(Debug)]
pub(super) struct AdaptiveRate {
    /// Keys a second; no slower than this.
    least: f64,
    /// No first guess is less.
    least_guess: f64,
    /// `None` until the store has asked for less.
    fallen: Option<Fallen>,
    /// Refusals that would be borne.
    borne: f64,
    falls_without_success: u32,
}

/// A rate after its last fall.
#[derive(Debug)]
struct Fallen {
    at: Instant,
    /// What was too much.
    peak: f64,
    /// Which part of it the rate fell by.
    step: f64,
    /// Whether that is a guess: what was refused was not sent at that rate.
    is_guess: bool,
    /// Requests that were refused at that rate.
    refusals: f64,
    /// Requests carried out since, while there were more than the rate let through.
    requests: u64,
}

impl Fallen {
    fn rate(&self) -> f64 {
        let recovery = match self.is_guess {
            true => RECOVERY_OF_A_GUESS,
            false => RECOVERY * self.refusals,
        };
        #[expect(clippy::cast_precision_loss, reason = "nobody counts so far")]
        let way = self.requests as f64 / recovery - 1.0;
        self.peak * (1.0 + self.step * way.powi(3))
    }
}

impl AdaptiveRate {
    pub(super) fn new(least: f64, least_guess: f64) -> Self {
        Self {
            least,
            least_guess,
            fallen: None,
            borne: MOST_BORNE,
            falls_without_success: 0,
        }
    }

    /// Keys a second. `None` where there is no limit.
    pub(super) fn get(&self) -> Option<f64> {
        Some(self.fallen.as_ref()?.rate().max(self.least))
    }

    /// Notes that a request was carried out. The rate grows by it if it `was_used`: where nobody wants more, more is not known to be
    /// right.
    pub(super) fn succeeded(&mut self, was_used: bool) {
        self.falls_without_success = 0;
        self.borne = (self.borne + 1.0 / REQUESTS_A_REFUSAL).min(MOST_BORNE);
        if let Some(fallen) = &mut self.fallen
            && was_used
        {
            fallen.requests += 1;
        }
    }

    /// Notes that the store had too many requests when it was asked at `sent`; it had taken `taken` keys in a second before. Says
    /// whether the rate fell.
    pub(super) fn refused(&mut self, sent: Instant, now: Instant, taken: f64) -> bool {
        if self.borne >= 1.0 {
            self.borne -= 1.0;
            return false;
        }
        let peak = self.get().unwrap_or(taken.max(self.least_guess));
        let is_guess = self.fallen.is_none();
        let mut step = SMALL_STEP;
        if let Some(fallen) = &mut self.fallen {
            let is_news = sent > fallen.at && now.saturating_duration_since(fallen.at) >= FALLS_AT_MOST_EVERY;
            if !is_news || self.falls_without_success >= MOST_FALLS_WITHOUT_SUCCESS {
                fallen.refusals = (fallen.refusals + 1.0).min(MOST_REFUSALS);
                return false;
            }
            if fallen.requests < FEW_REQUESTS {
                step = LARGE_STEP;
            }
        }
        self.falls_without_success += 1;
        self.fallen = Some(Fallen {
            at: now,
            peak: peak.max(self.least),
            step,
            is_guess,
            refusals: 1.0,
            requests: 0,
        });
        true
    }
}
