//! The right to delete (R2, R10): a plan that was traced, hash by hash, to the lock in the registry's storage, and
//! permits that are good while the lock's lease is.
//!
//! Nothing here can be made in another way: what deletes takes a [`DeletePermit`] and [`PlannedKey`]s. What a task is to
//! remove, and whether its turn has come (R6), is read here as well, never from the task: who can only send tasks has no
//! say in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::clock;
use crate::digest::Digest;
use crate::lock::{LEASE, LOCK_KEY, LockDocument, delete_timeout, look_again_after};
use crate::quarantine::Undo;
use crate::removal::{Removal, RemovalStage};
use crate::run::Epoch;
use crate::seal::{PLAN_VERSION, PlanDocument, plan_key};
use crate::state::{FileRef, StateError, StateStore};
use crate::store::{Store, StoreError};

/// The store's `Date` has whole seconds, and clocks of two of its machines differ.
const CLOCK_SLACK: Duration = Duration::from_secs(3);

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
    /// The sealed plan is of a version of hardprune that this one does not know.
    #[error(
        "the sealed plan of epoch {epoch} has format {version}, and this program knows {PLAN_VERSION}: use one version of hardprune everywhere; \
         nothing is deleted"
    )]
    OtherVersion {
        /// The epoch.
        epoch: Epoch,
        /// The plan's format.
        version: u32,
    },
    /// The sealed plan has no such task.
    #[error("the sealed plan of epoch {epoch} has no task {task:?}; nothing is deleted for it")]
    NoSuchTask {
        /// The epoch.
        epoch: Epoch,
        /// The task's id.
        task: String,
    },
    /// What must go before is not gone (R6).
    #[error("task {task:?} is not due: the registry's lock says {stage:?}; nothing is deleted for it yet")]
    NotDue {
        /// The task's id.
        task: String,
        /// How far the lock allows.
        stage: Option<RemovalStage>,
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
    /// Whether what was asked for is not what the lock allows: a forged task, a changed plan.
    #[must_use]
    pub fn refuses(&self) -> bool {
        match self {
            Self::OtherPlan { .. }
            | Self::OtherVersion { .. }
            | Self::NoSuchTask { .. }
            | Self::NotDue { .. }
            | Self::NotCanonical { .. } => true,
            Self::NotOurs { .. } | Self::Lapsed { .. } | Self::Store(_) => false,
            Self::State(error) => matches!(error, StateError::Changed { .. }),
        }
    }
}

/// A sealed plan, traced to the lock.
#[derive(Debug)]
pub struct TracedPlan {
    registry: Arc<dyn Store>,
    state: StateStore,
    epoch: Epoch,
    sealed_plan: Digest,
    document: PlanDocument,
    latest: Mutex<Option<LookedAt>>,
}

/// What a look at the lock showed.
#[derive(Debug, Clone, Copy)]
struct LookedAt {
    at: Instant,
    /// From then on.
    good_for: Duration,
    lease: Duration,
    stage: Option<RemovalStage>,
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
        let (lock, latest) = look_at_lock(&*registry, epoch).await?;
        let other_plan = || AuthorityError::OtherPlan { epoch: epoch.clone() };
        let sealed_plan = lock.sealed_plan.ok_or_else(other_plan)?;
        let document: PlanDocument =
            state
                .read_sealed(&plan_key(epoch), sealed_plan)
                .await
                .map_err(|error| match error {
                    StateError::Changed { .. } => other_plan(),
                    error => error.into(),
                })?;
        if document.epoch != *epoch || document.registry != registry.identity() {
            return Err(other_plan());
        }
        if document.version != PLAN_VERSION {
            return Err(AuthorityError::OtherVersion {
                epoch: epoch.clone(),
                version: document.version,
            });
        }
        Ok(Self {
            registry,
            state,
            epoch: epoch.clone(),
            sealed_plan,
            document,
            latest: Mutex::new(Some(latest)),
        })
    }

    /// How what goes can be had back: it is kept before it is deleted.
    #[must_use]
    pub fn undo(&self) -> Undo {
        self.document.undo
    }

    /// The epoch that the plan is of.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The parts of the plan that a task carries out. They are due: all that goes before them is gone (R6).
    ///
    /// # Errors
    ///
    /// A task that the sealed plan does not have, or whose stage the lock does not allow yet.
    pub async fn parts_due(&self, task: &str) -> Result<Vec<PlanPart>, AuthorityError> {
        let Some((stage, parts)) = self.document.parts_of(task) else {
            return Err(AuthorityError::NoSuchTask {
                epoch: self.epoch.clone(),
                task: task.to_owned(),
            });
        };
        let mut latest = self.latest.lock().await;
        let mut looked_at = self.look(&mut latest).await?;
        if looked_at.stage < Some(stage) {
            // The last look may be older than the lock's next stage.
            *latest = None;
            looked_at = self.look(&mut latest).await?;
        }
        if looked_at.stage < Some(stage) {
            return Err(AuthorityError::NotDue {
                task: task.to_owned(),
                stage: looked_at.stage,
            });
        }
        Ok(parts.iter().cloned().map(PlanPart).collect())
    }

    /// How long a delete request may take, by the lease of the lock when it was last looked at.
    pub async fn longest_request(&self) -> Duration {
        let lease = self.latest.lock().await.map_or(LEASE, |latest| latest.lease);
        delete_timeout(lease)
    }

    /// Reads a part of the plan.
    ///
    /// # Errors
    ///
    /// A file that is not the one that was sealed, or that names a key that is not canonical.
    pub async fn read(&self, part: &PlanPart) -> Result<TracedPart, AuthorityError> {
        let removals: Vec<Removal> = self.state.read_lines(&part.0).await?;
        if let Some(removal) = removals.iter().find(|removal| !removal.is_canonical()) {
            return Err(AuthorityError::NotCanonical {
                key: removal.key.clone(),
            });
        }
        Ok(TracedPart { removals })
    }

    /// Gives the right to send one delete request, after a look at the lock unless the last one was moments ago. The request
    /// must have ended a delete's timeout after `asked`: the moment before the caller began to make sure that it is still to
    /// send it (R5, R10).
    ///
    /// # Errors
    ///
    /// A lock that is gone, another's, for another plan, or about to lapse.
    pub async fn permit(&self, asked: Instant) -> Result<DeletePermit, AuthorityError> {
        let looked_at = self.look(&mut *self.latest.lock().await).await?;
        let deadline = asked + delete_timeout(looked_at.lease);
        // The lease outlasts the request by what remains of it here.
        let lapses = looked_at.at + looked_at.good_for;
        if lapses <= deadline {
            let now = self.registry.now().await?;
            let remaining = lapses.saturating_duration_since(clock::monotonic_now());
            return Err(AuthorityError::Lapsed {
                lapses: clock::later(now, remaining),
                now,
            });
        }
        Ok(DeletePermit { deadline })
    }

    async fn look(&self, latest: &mut Option<LookedAt>) -> Result<LookedAt, AuthorityError> {
        if let Some(looked_at) = *latest
            && clock::since(looked_at.at) < look_again_after(looked_at.lease)
        {
            return Ok(looked_at);
        }
        *latest = None;
        let (lock, looked_at) = look_at_lock(&*self.registry, &self.epoch).await?;
        if lock.sealed_plan != Some(self.sealed_plan) {
            return Err(AuthorityError::OtherPlan {
                epoch: self.epoch.clone(),
            });
        }
        *latest = Some(looked_at);
        Ok(looked_at)
    }
}

/// A part of a sealed plan that was traced to the lock, by its name.
#[derive(Debug, Clone)]
pub struct PlanPart(FileRef);

impl PlanPart {
    /// Its file.
    #[must_use]
    pub fn file(&self) -> &FileRef {
        &self.0
    }
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
    let looked_at = LookedAt {
        at,
        good_for,
        lease: lock.lease(),
        stage: lock.stage,
    };
    Ok((lock, looked_at))
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
