//! Owns the registry while it is pruned: takes the lock, renews it, writes the sealed plan's sha256 into it, gives it
//! back.
//!
//! Upholds R10 and R11: the lock is changed by compare-and-set; when it cannot be renewed in time everything stops.
//! On a filesystem an advisory file lock says at once whether the owner still lives; elsewhere, and where workers of other
//! processes delete for it, its lease has to pass. Before it first allows an epoch to delete, it notes that (R5).

mod error;
mod nobody_at_work;
mod owned;
mod without_plan;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hardprune_common::clock;
use hardprune_common::digest::Digest;
use hardprune_common::failpoint;
use hardprune_common::last_delete::{self, LastDelete, Noted};
use hardprune_common::lock::{LOCK_KEY, LockDocument, delete_timeout, renew_every};
use hardprune_common::removal::RemovalStage;
use hardprune_common::run::Epoch;
use hardprune_common::store::{
    DeleteBatch, ExclusiveLock, KeyOutcome, ObjectVersion, PutCondition, Store, StoreError,
};
use hardprune_worker::process::place;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

pub use self::error::{LockError, TakeOver};
pub use self::nobody_at_work::NobodyAtWork;
pub use self::owned::Revoker;
use self::owned::{Held, Owned, rewrite};
pub use self::without_plan::lock_without_plan;
use crate::metrics::CoordinatorMetrics;

/// The file that a process holds an advisory lock on.
const ADVISORY_KEY: &str = "hardprune/lock";
const LARGEST_LOCK: u64 = 1 << 20;
const OWN_FILES_TIMEOUT: Duration = Duration::from_secs(20);

/// What a lock is taken for.
#[derive(Debug, Clone)]
pub struct LockTerms {
    /// How long it is good for without being renewed.
    pub lease: Duration,
    /// Whether other processes will delete for its owner.
    pub workers_elsewhere: bool,
    /// The identity of the state store that the run is kept in.
    pub state: String,
}

/// The registry's lock, held.
#[derive(Debug)]
pub struct RegistryLock {
    owned: Arc<Owned>,
    renewing: JoinHandle<()>,
    metrics: CoordinatorMetrics,
    state: String,
    /// As it was when the lock was taken.
    last_delete: Option<Noted>,
    // Ends with the process, however it ends.
    _advisory: Option<ExclusiveLock>,
}

impl RegistryLock {
    /// Takes the lock for an epoch, and renews it from then on; `stop` is cancelled when that fails.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] and a store that cannot hold a lock.
    pub async fn take(
        registry: Arc<dyn Store>,
        epoch: &Epoch,
        terms: LockTerms,
        metrics: CoordinatorMetrics,
        stop: CancellationToken,
    ) -> Result<Self, LockError> {
        let advisory = lock_advisory(&*registry).await?;
        let asked = clock::monotonic_now();
        let now = registry.now().await?;
        let document = LockDocument {
            version: 1,
            epoch: epoch.clone(),
            owner: place(),
            since: now,
            renewed: now,
            lease_seconds: u32::try_from(terms.lease.as_secs()).unwrap_or(u32::MAX),
            sealed_plan: None,
            stage: None,
            workers_elsewhere: terms.workers_elsewhere,
        };
        let version = match read_lock(&*registry).await? {
            None => {
                if advisory.is_none() {
                    prove_conditions(&*registry, epoch).await?;
                }
                write_lock(&*registry, &document, PutCondition::IfAbsent).await
            }
            Some((found, version)) => {
                refuse_at_work(&*registry, &found, advisory.is_some(), now)?;
                warn!(owner = found.owner, run = %found.epoch.run, since = %found.since, "takes over the lock of a run that died");
                write_lock(&*registry, &document, PutCondition::IfUnchanged(version)).await
            }
        };
        let version = match version {
            Ok(version) => version,
            Err(StoreError::ConditionNotMet { .. }) => {
                let found = read_lock(&*registry).await?;
                let (document, _) = found.unwrap_or((document, ObjectVersion(String::new())));
                let take_over = TakeOver::IfDiedAfter(document.requests_end());
                return Err(held_by(&*registry, &document, take_over));
            }
            Err(error) => return Err(error.into()),
        };
        let held = Mutex::new(Held {
            document,
            version,
            forbids_since: Some(clock::monotonic_now()),
            is_revoked: false,
        });
        let owned = Arc::new(Owned { registry, held });
        metrics.lock_renewed(asked, terms.lease);
        let renewing = tokio::spawn(renew(Arc::clone(&owned), metrics.clone(), stop));
        let mut lock = Self {
            owned,
            renewing,
            metrics,
            state: terms.state,
            last_delete: None,
            _advisory: advisory,
        };
        // Only now: until the lock was taken it could change.
        match last_delete::read(&*lock.owned.registry).await {
            Ok(noted) => lock.last_delete = noted,
            Err(error) => {
                lock.give_back().await;
                return Err(error.into());
            }
        }
        Ok(lock)
    }

    /// Who was last allowed to delete before this lock was taken. `None` where nobody was.
    #[must_use]
    pub fn last_delete(&self) -> Option<&Noted> {
        self.last_delete.as_ref()
    }

    /// Writes the sha256 of the sealed plan into the lock, and how far it may be carried out from now on (R6).
    ///
    /// # Errors
    ///
    /// A lock that was lost or revoked, or a store that fails.
    pub async fn allow(&self, sealed_plan: Digest, stage: RemovalStage) -> Result<(), LockError> {
        let (epoch, allowed_before) = {
            let document = &self.owned.held.lock().await.document;
            (document.epoch.clone(), document.sealed_plan.is_some())
        };
        if !allowed_before {
            // The lock goes on being renewed meanwhile: this may have to wait for a disk.
            let last = LastDelete {
                version: 1,
                epoch,
                state: self.state.clone(),
                closed: false,
            };
            last_delete::write(&*self.owned.registry, &last, self.last_delete.as_ref()).await?;
        }
        let mut held = self.owned.held.lock().await;
        if held.is_revoked {
            return Err(LockError::Revoked);
        }
        held.document.sealed_plan = Some(sealed_plan);
        held.document.stage = Some(stage);
        rewrite(&*self.owned.registry, &mut held).await
    }

    /// Notes that the books of the lock's epoch are closed. Where that fails they count as open, and are closed once more.
    pub async fn note_closed_books(&self) {
        let epoch = self.owned.held.lock().await.document.epoch.clone();
        if let Err(error) = last_delete::close(&*self.owned.registry, &epoch).await {
            debug!(%error, "it is not noted that this run's books are closed");
        }
    }

    /// Takes the plan out of the lock, for good: whoever looks there from now on deletes nothing. Returns since when that is so.
    ///
    /// # Errors
    ///
    /// A lock that was lost, or a store that fails.
    pub async fn revoke(&self) -> Result<Instant, LockError> {
        self.owned.revoke().await
    }

    /// The right to do that, for who watches over the epoch.
    #[must_use]
    pub fn revoker(&self) -> Revoker {
        Revoker(Arc::clone(&self.owned))
    }

    /// Makes sure that the lock is still ours, by renewing it.
    ///
    /// # Errors
    ///
    /// A lock that was lost, or a store that fails.
    pub async fn make_sure(&self) -> Result<(), LockError> {
        let mut held = self.owned.held.lock().await;
        rewrite(&*self.owned.registry, &mut held).await
    }

    /// Gives the lock back, if it is still ours.
    pub async fn give_back(self) {
        self.renewing.abort();
        self.metrics.lock_given_back();
        let mut held = self.owned.held.lock().await;
        // Written once more, by compare-and-set: only who still owns it may remove it, and only while nobody else may take it.
        let until = clock::monotonic_now() + delete_timeout(held.document.lease());
        held.document.sealed_plan = None;
        let still_ours = rewrite(&*self.owned.registry, &mut held).await;
        failpoint::here("lock-before-removal").await;
        let removed = match still_ours {
            Ok(()) => remove_own(&*self.owned.registry, LOCK_KEY, until).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(problem) = removed {
            warn!(
                problem,
                "the registry's lock could not be given back; it lapses by itself"
            );
        }
    }
}

async fn renew(owned: Arc<Owned>, metrics: CoordinatorMetrics, stop: CancellationToken) {
    let registry = &*owned.registry;
    let (lease, workers_elsewhere) = {
        let document = &owned.held.lock().await.document;
        (document.lease(), document.workers_elsewhere)
    };
    let mut is_revoked = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(renew_every(lease)) => {}
            // Workers that cannot be told to halt read it here.
            () = stop.cancelled(), if workers_elsewhere && !is_revoked => {
                is_revoked = true;
                if let Err(problem) = owned.revoke().await {
                    // The next renewal says so as well.
                    warn!(%problem, "the lock could not be made to forbid deletes yet");
                }
                continue;
            }
        }
        let mut held = owned.held.lock().await;
        let lapses = held.document.lapses();
        let asked = clock::monotonic_now();
        match rewrite(registry, &mut held).await {
            Ok(()) => metrics.lock_renewed(asked, lease),
            Err(
                problem @ (LockError::Lapsed { .. } | LockError::Store(StoreError::ConditionNotMet { .. })),
            ) => {
                error!(%problem, "the registry's lock is lost; stops");
                return stop.cancel();
            }
            Err(problem) => {
                metrics.lock_renewal_failed();
                // Whoever deletes looks at the lease itself; here the epoch ends before it has passed.
                let now = registry.now().await.unwrap_or_else(|_| clock::machine_now());
                warn!(%problem, %lapses, "the registry's lock could not be renewed");
                if clock::later(now, renew_every(lease) + delete_timeout(lease)) >= lapses {
                    error!("the registry's lock is about to lapse; stops");
                    return stop.cancel();
                }
            }
        }
    }
}

async fn read_lock(registry: &dyn Store) -> Result<Option<(LockDocument, ObjectVersion)>, LockError> {
    match registry.get(LOCK_KEY, 0, LARGEST_LOCK).await {
        Ok(object) => match serde_json::from_slice(&object.bytes) {
            Ok(document) => Ok(Some((document, object.version))),
            Err(error) => Err(LockError::Unreadable {
                registry: registry.identity().to_owned(),
                problem: error.to_string(),
            }),
        },
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn write_lock(
    registry: &dyn Store,
    document: &LockDocument,
    condition: PutCondition,
) -> Result<ObjectVersion, StoreError> {
    // A lock's document has no map with keys that are no text: it can always be written.
    let bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
    registry.put(LOCK_KEY, bytes.into(), condition).await
}

/// Tests that of two writers under a condition only one wins.
async fn prove_conditions(registry: &dyn Store, epoch: &Epoch) -> Result<(), LockError> {
    let key = format!("hardprune/probe-{}-{}", epoch.run, epoch.number);
    let not_honoured = || LockError::NotHonoured {
        registry: registry.identity().to_owned(),
    };
    registry.put(&key, "1".into(), PutCondition::IfAbsent).await?;
    let again = registry.put(&key, "2".into(), PutCondition::IfAbsent).await;
    let stale = PutCondition::IfUnchanged(ObjectVersion("\"00000000000000000000000000000000\"".to_owned()));
    let stale = registry.put(&key, "3".into(), stale).await;
    let until = clock::monotonic_now() + OWN_FILES_TIMEOUT;
    if let Err(problem) = remove_own(registry, &key, until).await {
        warn!(problem, key, "a probe could not be removed");
    }
    for answer in [again, stale] {
        match answer {
            Err(StoreError::ConditionNotMet { .. }) => {}
            Ok(_) => return Err(not_honoured()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn remove_own(registry: &dyn Store, key: &str, until: Instant) -> Result<(), String> {
    let timeout = until.saturating_duration_since(clock::monotonic_now());
    let batch = DeleteBatch::own_files(vec![key.to_owned()], timeout).map_err(|error| error.to_string())?;
    match registry.delete(batch).await.as_slice() {
        [KeyOutcome::Deleted] => Ok(()),
        outcomes => Err(format!("{outcomes:?}")),
    }
}

fn held_by(registry: &dyn Store, found: &LockDocument, take_over: TakeOver) -> LockError {
    LockError::Held {
        registry: registry.identity().to_owned(),
        owner: found.owner.clone(),
        run: found.epoch.run.to_string(),
        since: found.since,
        renewed: found.renewed,
        take_over,
    }
}

/// Takes the advisory lock, where the store has such a thing.
async fn lock_advisory(registry: &dyn Store) -> Result<Option<ExclusiveLock>, LockError> {
    match registry.lock_exclusively(ADVISORY_KEY).await {
        Err(StoreError::ConditionNotMet { .. }) => Err(match read_lock(registry).await? {
            Some((document, _)) => {
                let take_over = match document.workers_elsewhere {
                    true => TakeOver::OnceDeadAndWorkersEnded,
                    false => TakeOver::OnceDead,
                };
                held_by(registry, &document, take_over)
            }
            None => LockError::Busy {
                registry: registry.identity().to_owned(),
            },
        }),
        result => Ok(result?),
    }
}

/// Refuses where an owner that left its lock, or its workers, may still be at work (R5). With the advisory lock in hand the
/// owner itself is not.
fn refuse_at_work(
    registry: &dyn Store,
    found: &LockDocument,
    has_advisory: bool,
    now: Timestamp,
) -> Result<(), LockError> {
    let end = found.requests_end();
    if now >= end || has_advisory && !found.workers_elsewhere {
        return Ok(());
    }
    let take_over = match has_advisory {
        true => TakeOver::WorkersEndAt(end),
        false => TakeOver::IfDiedAfter(end),
    };
    Err(held_by(registry, found, take_over))
}
