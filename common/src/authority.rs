//! The right to delete (R2, R10): a plan that was traced, hash by hash, to the lock in the registry's storage, and
//! permits that are good while the lock's lease is.
//!
//! Nothing here can be made in another way: what deletes takes a [`DeletePermit`] and [`PlannedKey`]s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::clock;
use crate::digest::Digest;
use crate::lock::{LOCK_KEY, LockDocument};
use crate::removal::Removal;
use crate::run::Epoch;
use crate::seal::{PlanDocument, plan_key};
use crate::state::{FileRef, StateError, StateStore};
use crate::store::{Store, StoreError};

/// The longest that a delete request may take. A lease is far longer.
pub const DELETE_TIMEOUT: Duration = Duration::from_secs(20);

/// The store's `Date` has whole seconds, and clocks of two of its machines differ.
const CLOCK_SLACK: Duration = Duration::from_secs(3);

/// The lock is looked at again after this: well within a lease.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

const LARGEST_LOCK: u64 = 1 << 20;

/// Why there is no right to delete.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The lock is not there, or another's.
    #[error("the registry's lock is not held for epoch {wanted}: {found}; nothing more is deleted")]
    NotOurs {
        /// The epoch that wants to delete.
        wanted: Epoch,
        /// What the lock says.
        found: String,
    },
    /// The lock's lease has lapsed, or will before a request must have ended.
    #[error(
        "the registry's lock was not renewed in time (it lapses at {lapses}, now is {now}); nothing more is deleted"
    )]
    Lapsed {
        /// When it lapses.
        lapses: jiff::Timestamp,
        /// The store's time.
        now: jiff::Timestamp,
    },
    /// The lock names no sealed plan, or another one than the state store has.
    #[error(
        "the plan of epoch {epoch} is not the one whose sha256 stands in the registry's lock; nothing is deleted"
    )]
    OtherPlan {
        /// The epoch.
        epoch: Epoch,
    },
    /// A part is not the sealed plan's.
    #[error("{key:?} is no part of the sealed plan; nothing of it is deleted")]
    NotInPlan {
        /// The part's key.
        key: String,
    },
    /// A part names a key that is not canonical (R3).
    #[error(
        "the plan names {key:?}, which is not the canonical key of anything; nothing of that part is deleted"
    )]
    NotCanonical {
        /// The key.
        key: String,
    },
    /// The lock could not be read.
    #[error("the registry's lock could not be read: {0}")]
    Store(#[from] StoreError),
    /// The plan could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl AuthorityError {
    /// Whether the lock was ours and is no longer, so that the epoch is over (R11): no attempt will find it otherwise.
    #[must_use]
    pub fn is_lost_lock(&self) -> bool {
        matches!(self, Self::NotOurs { .. } | Self::Lapsed { .. })
    }
}

/// A sealed plan, traced to the lock.
#[derive(Debug)]
pub struct TracedPlan {
    registry: Arc<dyn Store>,
    state: StateStore,
    epoch: Epoch,
    sealed_plan: Digest,
    parts: BTreeSet<String>,
    document: PlanDocument,
    good_until: Mutex<Option<LookedAt>>,
}

#[derive(Debug, Clone, Copy)]
struct LookedAt {
    at: Instant,
    good_for: Duration,
}

impl TracedPlan {
    /// Reads the lock, and the plan whose sha256 stands in it.
    ///
    /// # Errors
    ///
    /// Any link of the chain that does not hold.
    pub async fn trace(
        registry: Arc<dyn Store>,
        state: StateStore,
        epoch: &Epoch,
    ) -> Result<Self, AuthorityError> {
        let (lock, good_until) = look_at_lock(&*registry, epoch).await?;
        let other_plan = || AuthorityError::OtherPlan { epoch: epoch.clone() };
        let sealed_plan = lock.sealed_plan.ok_or_else(other_plan)?;
        let file = FileRef {
            key: plan_key(epoch),
            sha256: sealed_plan,
            size: 0,
            items: 1,
        };
        let bytes = state.read(&file).await.map_err(|error| match error {
            StateError::Changed { .. } => other_plan(),
            error => error.into(),
        })?;
        let document: PlanDocument = serde_json::from_slice(&bytes).map_err(|error| StateError::Format {
            key: file.key.clone(),
            problem: error.to_string(),
        })?;
        if document.epoch != *epoch || document.registry != registry.identity() {
            return Err(other_plan());
        }
        let shards = document.shards.iter().flat_map(|plan| &plan.findings.parts);
        let parts = document.before_shards().chain(shards).map(part_name).collect();
        Ok(Self {
            registry,
            state,
            epoch: epoch.clone(),
            sealed_plan,
            parts,
            document,
            good_until: Mutex::new(Some(good_until)),
        })
    }

    /// The plan.
    #[must_use]
    pub fn document(&self) -> &PlanDocument {
        &self.document
    }

    /// Reads a part of the plan.
    ///
    /// # Errors
    ///
    /// A file that the sealed plan does not list by this sha256, or that names a key that is not canonical.
    pub async fn part(&self, file: &FileRef) -> Result<TracedPart, AuthorityError> {
        if !self.parts.contains(&part_name(file)) {
            return Err(AuthorityError::NotInPlan {
                key: file.key.clone(),
            });
        }
        let removals: Vec<Removal> = self.state.read_lines(file).await?;
        if let Some(removal) = removals.iter().find(|removal| !removal.is_canonical()) {
            return Err(AuthorityError::NotCanonical {
                key: removal.key.clone(),
            });
        }
        Ok(TracedPart { removals })
    }

    /// Gives the right to send one delete request now, after a look at the lock unless the last one was moments ago.
    ///
    /// # Errors
    ///
    /// A lock that is gone, another's, for another plan, or about to lapse.
    pub async fn permit(&self) -> Result<DeletePermit, AuthorityError> {
        let mut good_until = self.good_until.lock().await;
        let looked_at = match *good_until {
            Some(looked_at) if clock::since(looked_at.at) < LOOK_AGAIN_AFTER => looked_at,
            _ => {
                *good_until = None;
                let (lock, looked_at) = look_at_lock(&*self.registry, &self.epoch).await?;
                if lock.sealed_plan != Some(self.sealed_plan) {
                    return Err(AuthorityError::OtherPlan {
                        epoch: self.epoch.clone(),
                    });
                }
                *good_until = Some(looked_at);
                looked_at
            }
        };
        // The lease outlasts the request by what remains of it here.
        let now = clock::monotonic_now();
        let remaining = looked_at
            .good_for
            .saturating_sub(now.saturating_duration_since(looked_at.at));
        if remaining <= DELETE_TIMEOUT {
            let now = self.registry.now().await?;
            return Err(AuthorityError::Lapsed {
                lapses: clock::later(now, remaining),
                now,
            });
        }
        Ok(DeletePermit {
            deadline: now + DELETE_TIMEOUT,
        })
    }
}

fn part_name(file: &FileRef) -> String {
    format!("{} {}", file.key, file.sha256)
}

async fn look_at_lock(
    registry: &dyn Store,
    epoch: &Epoch,
) -> Result<(LockDocument, LookedAt), AuthorityError> {
    // Taken before the request: what it says can only be older than that.
    let at = clock::monotonic_now();
    let not_ours = |found: String| AuthorityError::NotOurs {
        wanted: epoch.clone(),
        found,
    };
    let bytes = match registry.get(LOCK_KEY, 0, LARGEST_LOCK).await {
        Ok(object) => object.bytes,
        Err(error) if error.is_not_found() => return Err(not_ours("there is no lock".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let lock: LockDocument = serde_json::from_slice(&bytes)
        .map_err(|error| not_ours(format!("the lock cannot be read ({error})")))?;
    if lock.epoch != *epoch {
        return Err(not_ours(format!("{} holds it for {}", lock.owner, lock.epoch)));
    }
    let now = clock::later(registry.now().await?, CLOCK_SLACK);
    let lapses = lock.lapses();
    let good_for =
        Duration::try_from(lapses.duration_since(now)).map_err(|_| AuthorityError::Lapsed { lapses, now })?;
    Ok((lock, LookedAt { at, good_for }))
}

/// A part of a sealed plan, traced to the lock.
#[derive(Debug)]
pub struct TracedPart {
    removals: Vec<Removal>,
}

impl TracedPart {
    /// What it removes.
    #[must_use]
    pub fn removals(&self) -> &[Removal] {
        &self.removals
    }

    /// The key of the removal at a place of [`TracedPart::removals`]. `None` outside.
    #[must_use]
    pub fn planned_key(&self, index: usize) -> Option<PlannedKey> {
        self.removals
            .get(index)
            .map(|removal| PlannedKey(removal.key.clone()))
    }
}

/// A key of a sealed plan that was traced to the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedKey(String);

impl PlannedKey {
    /// The key as text.
    #[must_use]
    pub fn into_key(self) -> String {
        self.0
    }
}

/// The right to send one delete request now.
#[derive(Debug)]
pub struct DeletePermit {
    deadline: Instant,
}

impl DeletePermit {
    /// When the request must have ended; before the lease does (R10). A point in time, not a duration: a process that is
    /// suspended between the permit and the request wakes up without the right to send it.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}
