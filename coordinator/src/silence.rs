//! The end of all requests: before books are closed and the lock is given back, nobody may still be deleting.
//!
//! Upholds R5 and R11 whatever NATS says. Claims and what a run is to do can be made up there, and that a task was reported does
//! not say that nobody else has it in hand: a worker whose claim was taken from it reports, too. So the lock forbids deletes, and
//! the time passes in which somebody may still go by an earlier look at it; then the journal says who has sent something.

use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::journal::{JournalFiles, list_journals};
use hardprune_common::lock::{delete_timeout, look_again_after};
use hardprune_common::run::Epoch;
use hardprune_common::state::StateStore;
use tracing::{debug, warn};

use crate::lock_registry::RegistryLock;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Waits until no request of an epoch's tasks can be under way any more.
pub async fn wait_for_silence(lock: &RegistryLock, lease: Duration, state: &StateStore, epoch: &Epoch) {
    let forbidden = match lock.revoke().await {
        Ok(since) => since,
        Err(error) => {
            // Every request ends before the lease does that it was permitted under.
            warn!(%error, "the lock could not be made to forbid deletes; waits until it has lapsed");
            return tokio::time::sleep(lease).await;
        }
    };
    // From then on nobody is permitted another request.
    let last_permit = forbidden + look_again_after(lease);
    tokio::time::sleep_until(last_permit.into()).await;
    // Whoever may have sent one has journaled its start before.
    let last_end = last_permit + delete_timeout(lease);
    while clock::monotonic_now() < last_end && may_have_open_batches(state, epoch).await {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn may_have_open_batches(state: &StateStore, epoch: &Epoch) -> bool {
    match list_journals(state, epoch).await {
        Ok(journals) => journals.values().any(JournalFiles::has_open_batches),
        Err(error) => {
            debug!(%error, "the journal could not be looked at");
            true
        }
    }
}
