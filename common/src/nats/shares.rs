//! A worker's share of what a run may ask of the registry's store: its coordinator says how much that is, as workers come and go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::debug;

use super::consumer::{Touchable, lock};
use super::messages::RunState;
use super::runs::Runs;
use crate::clock;
use crate::run::RunId;

/// How often it looks how much its share is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// By then a coordinator that counts once a second has counted a new worker, and the others know of it.
const COUNTED_AFTER: Duration = Duration::from_secs(4);
/// What a worker asks for until then, requests a second.
const UNCOUNTED: f64 = 1.0;

/// What runs may ask of a store, each by itself.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<RunId, Option<f64>>>);

impl Shares {
    /// Notes a run's share, where it has one. Says whether the run is new.
    fn set(&self, run: RunId, share: Option<f64>) -> bool {
        lock(&self.0).insert(run, share).is_none()
    }

    fn forget(&self, run: RunId) {
        lock(&self.0).remove(&run);
    }

    /// What is allowed by all runs.
    fn least(&self) -> Option<f64> {
        let shares = lock(&self.0);
        shares.values().copied().flatten().reduce(f64::min)
    }
}

/// Keeps a worker's requests to the share that a run leaves it, from now on and until the run has ended.
pub(super) fn keep_to(runs: &Runs, state: &RunState, registry: &Arc<Touchable>, began: Instant) {
    if !heed(state, registry, began) {
        return;
    }
    let (runs, run, registry) = (runs.clone(), state.epoch.run, Arc::clone(registry));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match runs.get(run).await {
                Ok(Some(state)) if state.ended.is_none() => {
                    heed(&state, &registry, began);
                }
                Ok(_) => break,
                // What was known goes on to be true: without NATS nobody begins anything.
                Err(error) => debug!(%run, %error, "the share of a run could not be looked at"),
            }
        }
        registry.shares().forget(run);
        registry.store.set_ceiling(registry.shares().least());
    });
}

/// Says whether the run is new.
fn heed(state: &RunState, registry: &Touchable, began: Instant) -> bool {
    let is_counted = clock::since(began) >= COUNTED_AFTER;
    let share = state
        .requests_per_second
        // Whoever reaches NATS could say anything: no rate, or none that ever lets a request through.
        .filter(|share| *share > 0.0)
        .map(|share| if is_counted { share } else { share.min(UNCOUNTED) });
    let is_new = registry.shares().set(state.epoch.run, share);
    registry.store.set_ceiling(registry.shares().least());
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_any_run_allows_counts() {
        let shares = Shares::default();
        let [first, second, third] = [(); 3].map(|()| RunId::generate());
        assert!(shares.set(first, None));
        assert_eq!(shares.least(), None);
        assert!(shares.set(second, Some(5.0)) && shares.set(third, Some(3.0)));
        assert!(!shares.set(third, Some(2.0)), "it is known");
        assert_eq!(shares.least(), Some(2.0));
        shares.forget(third);
        assert_eq!(shares.least(), Some(5.0));
    }
}
