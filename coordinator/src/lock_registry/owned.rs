//! What is owned of a registry while its lock is held: the lock's document, changed by compare-and-set only (R10), and the one way to
//! take the plan out of it (R11).

use std::sync::Arc;
use std::time::{Duration, Instant};

use hardprune_common::clock;
use hardprune_common::failpoint;
use hardprune_common::lock::LockDocument;
use hardprune_common::store::{ObjectVersion, PutCondition, Store};
use tokio::sync::Mutex;

use super::{LockError, read_lock, write_lock};

/// A store's `Date` has whole seconds: it may be this much later than it says.
const WHOLE_SECONDS: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Held {
    pub document: LockDocument,
    pub version: ObjectVersion,
    /// Since when it has named no plan to carry out. `None` while it names one.
    pub forbids_since: Option<Instant>,
    /// Whether it may name none any more.
    pub is_revoked: bool,
}

/// What is owned of a registry: the lock's document, changed by compare-and-set only.
#[derive(Debug)]
pub(super) struct Owned {
    pub registry: Arc<dyn Store>,
    pub held: Mutex<Held>,
}

impl Owned {
    /// Takes the plan out of the lock, for good: the one way in which permits to delete end before the lock does. Returns since
    /// when no plan has stood there.
    pub async fn revoke(&self) -> Result<Instant, LockError> {
        let mut held = self.held.lock().await;
        // Whatever becomes of this write: every later one says so, too.
        held.is_revoked = true;
        held.document.sealed_plan = None;
        if let Some(since) = held.forbids_since {
            return Ok(since);
        }
        rewrite(&*self.registry, &mut held).await?;
        Ok(held.forbids_since.unwrap_or_else(clock::monotonic_now))
    }
}

/// Ends the permits of an epoch, for who watches over it.
#[derive(Debug, Clone)]
pub struct Revoker(pub(super) Arc<Owned>);

impl Revoker {
    /// As [`super::RegistryLock::revoke`].
    ///
    /// # Errors
    ///
    /// As [`super::RegistryLock::revoke`].
    pub async fn revoke(&self) -> Result<Instant, LockError> {
        self.0.revoke().await
    }
}

/// Writes the document as it is held, renewed.
///
/// # Errors
///
/// A lock that has lapsed or is another's, and a store that fails.
pub(super) async fn rewrite(registry: &dyn Store, held: &mut Held) -> Result<(), LockError> {
    let mut document = held.document.clone();
    let lapsed = held.document.lapses();
    let has_lapsed = || LockError::Lapsed {
        registry: registry.identity().to_owned(),
        lapsed,
    };
    let asked = clock::monotonic_now();
    document.renewed = registry.now().await?;
    // R11: even if nobody took it since, somebody could have, and written. So a write that comes late must not bring it back.
    let good_for = Duration::try_from(lapsed.duration_since(document.renewed)).unwrap_or_default();
    let until = asked + good_for.saturating_sub(WHOLE_SECONDS);
    failpoint::here("lock-before-write").await;
    if clock::monotonic_now() >= until {
        return Err(has_lapsed());
    }
    let condition = PutCondition::IfUnchanged(held.version.clone());
    let written = tokio::time::timeout_at(until.into(), write_lock(registry, &document, condition));
    let version = match written.await.map_err(|_| has_lapsed())? {
        Ok(version) => version,
        Err(error) => {
            // Our own write may have happened without an answer: then the lock says exactly what we wrote.
            match read_lock(registry).await {
                Ok(Some((found, version))) if found == document => version,
                _ => return Err(error.into()),
            }
        }
    };
    let forbids_since = match document.sealed_plan {
        Some(_) => None,
        None => held.forbids_since.or_else(|| Some(clock::monotonic_now())),
    };
    *held = Held {
        document,
        version,
        forbids_since,
        is_revoked: held.is_revoked,
    };
    if clock::monotonic_now() >= until {
        // Held as it is now, so that it can still be revoked.
        return Err(has_lapsed());
    }
    Ok(())
}
