//! What a worker has at hand for its tasks.

use std::sync::Arc;

use hardprune_common::authority::{AuthorityError, TracedPlan};
use hardprune_common::queue::GiveBack;
use hardprune_common::run::Epoch;
use hardprune_common::state::{StateError, StateStore};
use hardprune_common::store::{Store, StoreError};
use tokio::sync::{Mutex, Semaphore};

use crate::mark_limits::MarkLimits;
use crate::metrics::WorkerMetrics;

/// What can end an attempt at a task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The registry's storage failed.
    #[error("registry: {0}")]
    Registry(#[from] StoreError),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no right to delete, or no longer.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A filter cannot be used.
    #[error("filter {key:?}: {source}")]
    Filter {
        /// The filter's file.
        key: String,
        /// Why.
        source: hardprune_common::filter::FilterError,
    },
    /// The task is not for this worker.
    #[error("{0}")]
    NotForUs(String),
    /// This attempt is over, the task is not: the worker or the run stops, or another has claimed the task.
    #[error("the attempt was withdrawn")]
    Withdrawn,
    /// It cannot be done at this moment.
    #[error("{0}")]
    Busy(String),
    /// Nobody needs to do it any more.
    #[error("the task is done, or its epoch is over")]
    Over,
    /// A thread of the task ended without a result.
    #[error("a part of the task ended without a result: {0}")]
    Lost(String),
}

impl TaskError {
    /// How the task is given back. `None` for an error that is reported.
    #[must_use]
    pub fn gives_back(&self) -> Option<GiveBack> {
        match self {
            Self::Withdrawn => Some(GiveBack::Now),
            Self::NotForUs(_) | Self::Busy(_) => Some(GiveBack::Later),
            Self::Over => Some(GiveBack::Over),
            // R11: a lease that has lapsed stops deletes. Its owner may renew it, and then the task goes on.
            Self::Authority(AuthorityError::Lapsed { .. }) => Some(GiveBack::Later),
            // Another owns the registry: the epoch is over.
            Self::Authority(AuthorityError::NotOurs { .. }) => Some(GiveBack::Over),
            Self::Registry(_) | Self::State(_) | Self::Authority(_) | Self::Filter { .. } | Self::Lost(_) => {
                None
            }
        }
    }
}

/// Manifests whose repositories are marked at once, in all mark tasks together: what they say is in memory until it is written (R9).
/// Many times the reads in flight.
pub(crate) const MANIFESTS_AT_ONCE: usize = 2_000;

/// What a worker has at hand for its tasks.
#[derive(Debug)]
pub struct WorkerContext {
    /// The registry's storage.
    pub registry: Arc<dyn Store>,
    /// The state store.
    pub state: StateStore,
    /// Reads that one task may have in flight. The store bounds all tasks together.
    pub reads_in_flight: usize,
    /// What it counts.
    pub metrics: WorkerMetrics,
    /// How much a mark task takes on.
    pub mark_limits: MarkLimits,
    pub(crate) manifests_at_once: Arc<Semaphore>,
    traced: Mutex<Option<(Epoch, Arc<TracedPlan>)>>,
}

impl WorkerContext {
    /// Makes a context.
    #[must_use]
    pub fn new(
        registry: Arc<dyn Store>,
        state: StateStore,
        reads_in_flight: usize,
        metrics: WorkerMetrics,
    ) -> Self {
        Self {
            registry,
            state,
            reads_in_flight,
            metrics,
            mark_limits: MarkLimits::default(),
            manifests_at_once: Arc::new(Semaphore::new(MANIFESTS_AT_ONCE)),
            traced: Mutex::new(None),
        }
    }

    /// The sealed plan of an epoch, traced to the lock (R2). Traced once; permits look at the lock again.
    pub(crate) async fn traced_plan(&self, epoch: &Epoch) -> Result<Arc<TracedPlan>, AuthorityError> {
        let mut traced = self.traced.lock().await;
        if let Some((of, plan)) = &*traced
            && of == epoch
        {
            return Ok(Arc::clone(plan));
        }
        let plan = TracedPlan::trace(Arc::clone(&self.registry), self.state.clone(), epoch).await?;
        let plan = Arc::new(plan);
        *traced = Some((epoch.clone(), Arc::clone(&plan)));
        Ok(plan)
    }
}
