//! How fast a store is asked: as fast as it takes it, and no faster than somebody has said. Below the retries and above HTTP, for all
//! tasks of a process that share a bucket.
//!
//! S3 limits reads by 5,500 and everything else by 3,500 requests a second for each part of the key space that it has split off, and
//! counts each key of a batch of deletes ("Best practices design patterns: optimizing Amazon S3 performance"). Reads go to digests
//! from everywhere, so they have one rate. Deletes go prefix by prefix: each two-digit prefix of blobs is a lane of its own, and all
//! lanes go at one rate, so that a prefix that is begun knows what the last one has found out.
//!
//! hardprune's own files wait for nothing: a lock that is renewed late is lost. They count all the same.

mod adaptive_rate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use self::adaptive_rate::AdaptiveRate;
use crate::layout::BLOBS;
use crate::store::{OWN_FOLDER, RequestKind};

/// Timers are late by so much; what was missed by it is made up for.
const LATE: Duration = Duration::from_millis(5);
/// A lane that was not used for so long is forgotten.
const LANE_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// In [`OWN_FOLDER`].
const QUARANTINE: &str = "quarantine/";
const SECOND: Duration = Duration::from_secs(1);
/// The slowest that reads become, requests a second, and deletes in a lane, keys a second: a store that refuses some at any rate must
/// not bring a run to a stand.
const SLOWEST_READS: f64 = 100.0;
const SLOWEST_WRITES: f64 = 100.0;
/// The slowest at which either begins once the store has asked for less.
const LEAST_GUESS: f64 = 1000.0;

/// The paces of the buckets that a process has opened. Stores that are in one bucket share its pace.
#[derive(Debug, Clone, Default)]
pub struct Paces(Arc<Mutex<HashMap<String, Arc<Pace>>>>);

impl Paces {
    /// The pace of the bucket at an address.
    pub(super) fn of(&self, place_url: &str) -> Arc<Pace> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(paces.entry(place_url.to_owned()).or_default())
    }
}

/// What a request takes of a store's rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    kind: RequestKind,
    class: Class,
    lane: Lane,
    keys: u32,
    requests: u32,
    /// Whether it was waited for already.
    is_due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    /// Listings too.
    Read,
    Write,
    /// Of hardprune's own files.
    Own,
}

/// A part of the key space: a two-digit prefix of blobs, or everything else, which is the empty one.
type Lane = Box<str>;

impl Load {
    /// One request about `key`, which is relative to the store.
    pub(super) fn of(kind: RequestKind, key: &str) -> Self {
        let class = match kind {
            _ if is_own(key) => Class::Own,
            RequestKind::List | RequestKind::Get | RequestKind::Head => Class::Read,
            RequestKind::Put | RequestKind::Copy | RequestKind::Delete => Class::Write,
        };
        let lane = match class {
            Class::Write => lane_of(key),
            Class::Read | Class::Own => "",
        };
        Self {
            kind,
            class,
            lane: lane.into(),
            keys: 1,
            requests: 1,
            is_due: false,
        }
    }

    /// A copy, or a part of one. It counts where it writes.
    pub(super) fn of_copy(from: &str, to: &str) -> Self {
        Self::of(RequestKind::Copy, if is_own(to) { from } else { to })
    }

    /// Deletes of so many keys, neighbours of `key`, with so many requests.
    pub(super) fn of_deletes(key: &str, keys: usize, requests: usize) -> Self {
        Self {
            keys: u32::try_from(keys).unwrap_or(u32::MAX),
            requests: u32::try_from(requests).unwrap_or(u32::MAX),
            ..Self::of(RequestKind::Delete, key)
        }
    }

    /// What the request asks for.
    pub(super) fn kind(&self) -> RequestKind {
        self.kind
    }

    /// The same, of which somebody has waited for the turn.
    pub(super) fn due(self) -> Self {
        Self { is_due: true, ..self }
    }
}

/// Whether a key is of the files by which hardprune works. What it has quarantined is the registry's.
fn is_own(key: &str) -> bool {
    let own = key.strip_prefix(OWN_FOLDER);
    own.is_some_and(|own| !own.starts_with(QUARANTINE))
}

fn lane_of(key: &str) -> &str {
    let lane = || {
        let (algorithm, digits) = key.strip_prefix(BLOBS)?.split_once('/')?;
        let length = BLOBS.len() + algorithm.len() + 1 + 2;
        (digits.len() >= 2).then(|| key.get(..length)).flatten()
    };
    lane().unwrap_or_default()
}

/// How fast one bucket is asked.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    reads: Shared,
    writes: Shared,
    /// Requests a second that are not exceeded.
    ceiling: Option<f64>,
    /// When the next request is due by the ceiling.
    ceiling_due: Instant,
}

/// One class of requests.
#[derive(Debug)]
struct Shared {
    rate: AdaptiveRate,
    /// When the next one is due, whatever its lane.
    due: Instant,
    /// When the last one was due that had to wait.
    last_due: Instant,
    lanes: HashMap<Lane, LaneState>,
    swept: Instant,
}

/// Is given to one after another, in the order of their coming.
type Line = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug)]
struct LaneState {
    line: Line,
    /// When its next request is due.
    due: Instant,
    /// Keys that were taken in the second that began then, and in the one before.
    second: Instant,
    keys: f64,
    keys_before: f64,
}

impl Default for Pace {
    fn default() -> Self {
        let now = Instant::now();
        let shared = |least| Shared {
            rate: AdaptiveRate::new(least, LEAST_GUESS),
            due: now,
            last_due: now,
            lanes: HashMap::new(),
            swept: now,
        };
        Self(Mutex::new(State {
            reads: shared(SLOWEST_READS),
            writes: shared(SLOWEST_WRITES),
            ceiling: None,
            ceiling_due: now,
        }))
    }
}

impl Pace {
    /// Bounds requests of every kind, from now on.
    pub(super) fn set_ceiling(&self, requests_a_second: Option<f64>) {
        self.lock().ceiling = requests_a_second;
    }

    /// Waits until a request is due. Who waits goes by what is true when its turn comes: rates and the ceiling may have changed.
    pub(super) async fn turn(&self, load: &Load) {
        let line = self.lock().line(load);
        // Only the first of a lane wakes up when something may be due.
        let _first = match &line {
            Some(line) => Some(line.lock().await),
            None => None,
        };
        loop {
            let due = self.lock().take_turn(load, Instant::now());
            match due {
                None => return,
                Some(due) => sleep_until(due).await,
            }
        }
    }

    /// Notes that a request was carried out, or refused for another reason than its number.
    pub(super) fn succeeded(&self, load: &Load) {
        let now = Instant::now();
        if let Some(shared) = self.lock().shared(load.class) {
            let was_used = now < shared.last_due + SECOND;
            shared.rate.succeeded(was_used);
            shared.lane(&load.lane, now).count(f64::from(load.keys), now);
        }
    }

    /// Notes that the store asked for less when it was asked at `sent`.
    pub(super) fn refused(&self, load: &Load, sent: Instant) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(shared) = state.shared(load.class) else {
            return;
        };
        let taken = shared.lanes.values().map(|lane| lane.taken(now));
        let taken = taken.fold(0.0, f64::max);
        if shared.rate.refused(sent, now, taken) {
            tracing::info!(
                class = ?load.class,
                per_second = shared.rate.get(),
                "the store has too many requests; sends fewer"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shared(&mut self, class: Class) -> Option<&mut Shared> {
        match class {
            Class::Read => Some(&mut self.reads),
            Class::Write => Some(&mut self.writes),
            Class::Own => None,
        }
    }

    /// Where a request has to stand in line. `None` where it waits for nothing.
    fn line(&mut self, load: &Load) -> Option<Line> {
        let has_ceiling = self.ceiling.is_some();
        let shared = self.shared(load.class).filter(|_| !load.is_due)?;
        (has_ceiling || shared.rate.get().is_some())
            .then(|| Arc::clone(&shared.lane(&load.lane, Instant::now()).line))
    }

    /// Takes the turn of a request that is due. Otherwise says when to ask again.
    fn take_turn(&mut self, load: &Load, now: Instant) -> Option<Instant> {
        if load.is_due {
            return None;
        }
        if load.class != Class::Own {
            let by_ceiling = self.ceiling.map(|_| self.ceiling_due);
            let by_rate = self.shared(load.class).and_then(|shared| shared.due(load, now));
            if let Some(due) = by_ceiling.max(by_rate).filter(|due| *due > now) {
                return Some(due);
            }
        }
        if let Some(shared) = self.shared(load.class) {
            shared.take_turn(load, now);
        }
        if let Some(ceiling) = self.ceiling {
            advance(&mut self.ceiling_due, f64::from(load.requests) / ceiling, now);
        }
        None
    }
}

impl Shared {
    /// When a request is due by its lane, and by all lanes together: they do not go all at once. `None` where there is no limit.
    fn due(&mut self, load: &Load, now: Instant) -> Option<Instant> {
        self.rate.get()?;
        let due = self.lane(&load.lane, now).due.max(self.due);
        if due > now {
            self.last_due = self.last_due.max(due);
        }
        Some(due)
    }

    fn take_turn(&mut self, load: &Load, now: Instant) {
        self.forget_lanes(now);
        let Some(rate) = self.rate.get() else { return };
        let wait = f64::from(load.keys) / rate;
        advance(&mut self.lane(&load.lane, now).due, wait, now);
        let is_in_use = |lane: &&LaneState| now < lane.due + SECOND;
        let lanes = self.lanes.values().filter(is_in_use).count();
        advance(
            &mut self.due,
            wait / f64::from(u32::try_from(lanes.max(1)).unwrap_or(u32::MAX)),
            now,
        );
    }

    fn lane(&mut self, lane: &Lane, now: Instant) -> &mut LaneState {
        self.lanes
            .entry(lane.clone())
            .or_insert_with(|| LaneState::new(now))
    }

    fn forget_lanes(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) >= LANE_FORGOTTEN_AFTER {
            self.swept = now;
            self.lanes.retain(|_, lane| {
                lane.due > now || now.saturating_duration_since(lane.second) < LANE_FORGOTTEN_AFTER
            });
        }
    }
}

impl LaneState {
    fn new(now: Instant) -> Self {
        Self {
            line: Line::default(),
            due: now,
            second: now,
            keys: 0.0,
            keys_before: 0.0,
        }
    }

    fn count(&mut self, keys: f64, now: Instant) {
        let age = now.saturating_duration_since(self.second);
        if age >= SECOND {
            self.keys_before = if age < 2 * SECOND { self.keys } else { 0.0 };
            self.keys = 0.0;
            self.second = now;
        }
        self.keys += keys;
    }

    /// Keys that were taken in a second, of late.
    fn taken(&self, now: Instant) -> f64 {
        if now.saturating_duration_since(self.second) >= 2 * SECOND {
            return 0.0;
        }
        self.keys.max(self.keys_before)
    }
}

/// Moves a due time on from where it was, or from now if that is long ago.
fn advance(due: &mut Instant, wait: f64, now: Instant) {
    let from = now.checked_sub(LATE).map_or(*due, |late| (*due).max(late));
    *due = from + seconds(wait);
}

/// A year is as good as never, and no time of a clock overflows by it.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(Duration::from_secs(31_536_000), |duration| {
        duration.min(Duration::from_secs(31_536_000))
    })
}

#[cfg(test)]
mod tests;
