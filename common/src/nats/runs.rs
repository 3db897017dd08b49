//! The runs and workers that NATS knows of: for the coordinator, for workers, and for who looks on or steps in.

use futures::{StreamExt, TryStreamExt, stream};

use super::bucket::Bucket;
use super::messages::{RunState, Wanted, WantedDocument, WorkerState, bytes_of, read};
use super::streams::{self, RUNS, RUNS_PREFIX, WORKERS, WORKERS_PREFIX};
use super::{Nats, NatsError};
use crate::run::{Epoch, RunId};
use crate::task::MESSAGE_VERSION;

/// Documents read at once.
const READS_AT_ONCE: usize = 16;
/// Writers that meet at one document try again so often.
const MOST_CONFLICTS: usize = 100;

/// The runs and workers that NATS knows of.
#[derive(Debug, Clone)]
pub struct Runs {
    pub(super) runs: Bucket,
    workers: Bucket,
}

impl Runs {
    /// Opens the buckets.
    ///
    /// # Errors
    ///
    /// [`NatsError::NotSetUp`], buckets of another configuration, a server that does not answer.
    pub async fn open(nats: &Nats) -> Result<Self, NatsError> {
        Ok(Self {
            runs: Bucket::new(nats, streams::open(nats, RUNS).await?, RUNS_PREFIX),
            workers: Bucket::new(nats, streams::open(nats, WORKERS).await?, WORKERS_PREFIX),
        })
    }

    /// The runs, oldest first. Those that cannot be read are left out.
    ///
    /// # Errors
    ///
    /// A server that does not answer.
    pub async fn list(&self) -> Result<Vec<RunState>, NatsError> {
        let keys = self.runs.keys("*.run").await?;
        let ids = keys
            .iter()
            .filter_map(|key| key.strip_suffix(".run")?.parse().ok());
        let runs: Vec<_> = stream::iter(ids)
            .map(|run| self.get(run))
            .buffered(READS_AT_ONCE)
            .filter_map(|run| async move {
                match run {
                    Err(NatsError::Garbage { .. } | NatsError::OtherVersion { .. }) => None,
                    run => run.transpose(),
                }
            })
            .try_collect()
            .await?;
        Ok(runs)
    }

    /// What a run is. `None` where NATS knows of none.
    ///
    /// # Errors
    ///
    /// A server that does not answer, a document of another version.
    pub async fn get(&self, run: RunId) -> Result<Option<RunState>, NatsError> {
        let found = self.runs.get(&run_key(run)).await?;
        found
            .map(|entry| read("the state of a run", &entry.value))
            .transpose()
    }

    /// Writes what a run is.
    pub(super) async fn put(&self, state: &RunState) -> Result<(), NatsError> {
        let key = run_key(state.epoch.run);
        self.runs.put(&key, bytes_of(state).into()).await.map(|_| ())
    }

    /// What a run is to do, and in which epoch. `None` where NATS knows of none.
    ///
    /// # Errors
    ///
    /// A server that does not answer, a document of another version.
    pub async fn wanted(&self, run: RunId) -> Result<Option<(Epoch, Wanted)>, NatsError> {
        let found = self.runs.get(&wanted_key(run)).await?;
        let Some(entry) = found else { return Ok(None) };
        let document: WantedDocument = read("what a run is to do", &entry.value)?;
        Ok(Some((document.epoch, document.wanted)))
    }

    /// Says what a run is to do from now on in the epoch that it is in. `unless` says when it is left as it is. Returns
    /// what it is to do now, or `None` where NATS knows of no such run.
    ///
    /// # Errors
    ///
    /// A server that does not answer, a document of another version, too many writers at once.
    pub async fn want(
        &self,
        run: RunId,
        wanted: Wanted,
        unless: impl Fn(Wanted) -> bool,
    ) -> Result<Option<Wanted>, NatsError> {
        let key = wanted_key(run);
        for _ in 0..MOST_CONFLICTS {
            let Some(entry) = self.runs.get(&key).await? else {
                return Ok(None);
            };
            let mut document: WantedDocument = read("what a run is to do", &entry.value)?;
            if document.wanted == wanted || unless(document.wanted) {
                return Ok(Some(document.wanted));
            }
            document.wanted = wanted;
            if self
                .runs
                .put_if(&key, bytes_of(&document).into(), entry.revision)
                .await?
                .is_some()
            {
                return Ok(Some(wanted));
            }
        }
        Err(NatsError::request(
            format!("change {key:?}"),
            "others kept changing it at the same time",
        ))
    }

    /// Begins an epoch: what an earlier one of the run left is void.
    pub(super) async fn begin(&self, epoch: &Epoch) -> Result<(), NatsError> {
        self.runs.put(&wanted_key(epoch.run), go_on(epoch).into()).await?;
        self.remove_claims(epoch.run).await
    }

    /// Says again that an epoch goes on, where somebody has removed what said so.
    pub(super) async fn begin_unless_known(&self, epoch: &Epoch) -> Result<(), NatsError> {
        self.runs
            .put_if(&wanted_key(epoch.run), go_on(epoch).into(), 0)
            .await
            .map(|_| ())
    }

    pub(super) async fn remove_claims(&self, run: RunId) -> Result<(), NatsError> {
        self.runs.remove(&format!("{run}.claims.>")).await
    }

    /// How many workers have said lately that they are there.
    ///
    /// # Errors
    ///
    /// A server that does not answer.
    pub async fn alive_workers(&self) -> Result<u64, NatsError> {
        Ok(self.workers.keys("*").await?.len() as u64)
    }

    /// The workers that have said lately that they are there. Those that cannot be read are left out.
    ///
    /// # Errors
    ///
    /// A server that does not answer.
    pub async fn workers(&self) -> Result<Vec<WorkerState>, NatsError> {
        let keys = self.workers.keys("*").await?;
        let found: Vec<_> = stream::iter(keys)
            .map(|key| async move { self.workers.get(&key).await })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await?;
        let found = found.into_iter().flatten();
        Ok(found
            .filter_map(|entry| read("a worker", &entry.value).ok())
            .collect())
    }

    /// Says that a worker is there.
    pub(super) async fn is_there(&self, worker: &WorkerState) -> Result<(), NatsError> {
        self.workers
            .put(&worker.id, bytes_of(worker).into())
            .await
            .map(|_| ())
    }

    /// Says that a worker is gone.
    pub(super) async fn is_gone(&self, worker: &str) -> Result<(), NatsError> {
        self.workers.remove(worker).await
    }
}

fn go_on(epoch: &Epoch) -> Vec<u8> {
    bytes_of(&WantedDocument {
        version: MESSAGE_VERSION,
        epoch: epoch.clone(),
        wanted: Wanted::Go,
    })
}

fn run_key(run: RunId) -> String {
    format!("{run}.run")
}

fn wanted_key(run: RunId) -> String {
    format!("{run}.wanted")
}

/// The key of a task's claim.
pub(super) fn claim_key(epoch: &Epoch, task: &str) -> String {
    format!("{}.claims.{}.{task}", epoch.run, epoch.number)
}
