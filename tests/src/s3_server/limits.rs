//! What a provider allows a second for each prefix of keys, beyond which it answers 503.
//!
//! S3's numbers, for each partitioned prefix: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html>.
//! Here a prefix is the two hex digits of blobs, or a repository; in S3 they come to be as load does.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use hardprune_common::layout::{BLOBS, REPOSITORIES};

use super::call::{Call, Operation};

/// What is allowed a second for each prefix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Listings, reads and questions.
    pub reads: f64,
    /// Writes and deletes; each key of a `DeleteObjects` request is one.
    pub writes: f64,
}

impl Limits {
    /// What S3 allows.
    pub const S3: Self = Self {
        reads: 5_500.0,
        writes: 3_500.0,
    };
}

/// Reads `s3`, or reads and writes a second: `5500/3500`.
impl FromStr for Limits {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "s3" {
            return Ok(Self::S3);
        }
        let (reads, writes) = text
            .split_once('/')
            .context("limits are s3, or reads and writes a second, such as 5500/3500")?;
        Ok(Self {
            reads: reads.parse()?,
            writes: writes.parse()?,
        })
    }
}

/// A prefix's allowance of one kind: it fills with time, and holds as much as a second gives.
#[derive(Debug)]
struct Allowance {
    rate: f64,
    left: f64,
    filled: Instant,
}

impl Allowance {
    fn of(rate: f64, now: Instant) -> Self {
        Self {
            rate,
            left: rate,
            filled: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let gained = self.rate * now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + gained).min(self.rate);
        self.filled = now;
    }
}

/// Prefixes and whether it is written to them.
type Allowances = HashMap<(String, bool), Allowance>;

/// Prefixes that are remembered. Beyond, those that are full are forgotten, which changes nothing.
const REMEMBERED: usize = 10_000;

/// Holds requests against limits.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: Limits,
    allowances: Mutex<Allowances>,
}

impl Limiter {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            allowances: Mutex::default(),
        }
    }

    /// Whether a request is within the limits. One that is not costs nothing.
    pub fn admits(&self, call: &Call) -> bool {
        self.admits_at(call, Instant::now())
    }

    fn admits_at(&self, call: &Call, now: Instant) -> bool {
        let writes = !matches!(call.operation, Operation::List | Operation::Get | Operation::Head);
        let mut costs: HashMap<&str, f64> = HashMap::new();
        for key in &call.keys {
            *costs.entry(place(key, call.after.as_deref())).or_default() += 1.0;
        }
        let rate = if writes {
            self.limits.writes
        } else {
            self.limits.reads
        };
        let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        if allowances.len() >= REMEMBERED {
            allowances.retain(|_, allowance| {
                allowance.fill(now);
                allowance.left < allowance.rate
            });
        }
        let mut is_within = true;
        for (prefix, cost) in &costs {
            let allowance = allowances
                .entry(((*prefix).to_owned(), writes))
                .or_insert_with(|| Allowance::of(rate, now));
            allowance.fill(now);
            // A request of more keys than a second allows goes where nothing else did, and is paid for later.
            is_within &= allowance.left >= cost.min(rate);
        }
        if is_within {
            for (prefix, cost) in costs {
                if let Some(allowance) = allowances.get_mut(&(prefix.to_owned(), writes)) {
                    allowance.left -= cost;
                }
            }
        }
        is_within
    }
}

/// The prefix that counts for a key; for a listing that goes beyond one, that of where it begins.
fn place<'k>(key: &'k str, after: Option<&'k str>) -> &'k str {
    let key = match after {
        Some(after) if after.starts_with(key) => after,
        _ => key,
    };
    if let Some(rest) = key.strip_prefix(BLOBS) {
        // `sha256/`, and two digits.
        let length = rest.find('/').map_or(rest.len(), |slash| slash + 3);
        return key.get(..BLOBS.len() + length).unwrap_or(key);
    }
    match key.strip_prefix(REPOSITORIES).and_then(|rest| rest.find("/_")) {
        Some(end) => &key[..REPOSITORIES.len() + end],
        None => key,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn delete(prefix: &str, keys: usize) -> Call {
        let key = |number| format!("{BLOBS}sha256/{prefix}/{prefix}{number:062}/data");
        Call {
            operation: Operation::DeleteObjects,
            keys: (0..keys).map(key).collect(),
            after: None,
        }
    }

    #[test]
    fn each_prefix_has_so_many_deletes_a_second() {
        let limiter = Limiter::new(Limits::S3);
        let now = Instant::now();
        let admitted = |prefix, at| {
            (0..5)
                .filter(|_| limiter.admits_at(&delete(prefix, 1000), at))
                .count()
        };
        assert_eq!(admitted("ab", now), 3);
        assert_eq!(admitted("ac", now), 3);
        // 500 were left, and half a second gives 1,750.
        assert_eq!(admitted("ab", now + Duration::from_millis(500)), 2);
    }

    #[test]
    fn places_are_folders_of_blobs_and_repositories() {
        let blob = format!("{BLOBS}sha256/ab/abc/data");
        assert_eq!(place(&blob, None), format!("{BLOBS}sha256/ab"));
        assert_eq!(place(BLOBS, Some(&blob)), format!("{BLOBS}sha256/ab"));
        let link = format!("{REPOSITORIES}a/b/_layers/x");
        assert_eq!(place(&link, None), format!("{REPOSITORIES}a/b"));
        assert_eq!(place(REPOSITORIES, Some(&link)), format!("{REPOSITORIES}a/b"));
        assert_eq!(place("hardprune/lock.json", None), "hardprune/lock.json");
    }

    #[test]
    fn limits_are_read() {
        assert_eq!("s3".parse::<Limits>().unwrap(), Limits::S3);
        let limits: Limits = "10/20".parse().unwrap();
        assert_eq!((limits.reads, limits.writes), (10.0, 20.0));
        assert!("fast".parse::<Limits>().is_err());
    }
}
