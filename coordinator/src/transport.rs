//! Where a run's tasks are done: by workers of this process, or over NATS by `hardprune-worker` processes anywhere. The stages
//! see a [`TaskPublisher`], and not which.

use std::sync::Arc;
use std::time::Duration;

use hardprune_common::clock;
use hardprune_common::lock::{delete_timeout, look_again_after};
use hardprune_common::nats::{Nats, NatsPublisher, PublisherOptions, RunState, Runs, Wanted};
use hardprune_common::queue::{InProcessPublisher, TaskPublisher, in_process};
use hardprune_common::run::Epoch;
use hardprune_common::store::Store;
use hardprune_common::task::MESSAGE_VERSION;
use hardprune_worker::context::WorkerContext;
use hardprune_worker::process::place;
use hardprune_worker::run_task::work;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::ceiling::Ceiling;
use crate::error::RunError;
use crate::metrics::CoordinatorMetrics;
use crate::progress::Board;
use crate::report::Outcome;
use crate::run::Run;

/// How often a run says in NATS how far it is, and looks what it is to do.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// A NATS server whose workers do the tasks.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// The connection; streams are set up.
    pub nats: Nats,
    /// A task that its worker does not speak of for so long is handed to another.
    pub ack_wait: Duration,
}

/// Where a run's tasks are done.
pub enum Transport {
    /// In this process.
    InProcess {
        /// The queue.
        publisher: InProcessPublisher,
        /// The workers.
        workers: JoinSet<()>,
    },
    /// By workers of other processes.
    Elsewhere {
        /// The queue.
        publisher: Arc<NatsPublisher>,
        /// Says how far the run is, and looks what it is to do.
        herald: JoinHandle<()>,
        /// What the run is.
        state: RunState,
    },
}

impl Transport {
    /// Makes the queue of an epoch.
    ///
    /// # Errors
    ///
    /// A NATS server that does not answer, or refuses.
    pub async fn open(run: &Run, epoch: &Epoch) -> Result<Self, RunError> {
        let Some(Elsewhere { nats, ack_wait }) = &run.elsewhere else {
            return Ok(Self::in_process(run));
        };
        let options = PublisherOptions {
            ack_wait: *ack_wait,
            longest_request: delete_timeout(run.lease),
            look_again_after: look_again_after(run.lease),
        };
        let now = clock::machine_now();
        let state = RunState {
            version: MESSAGE_VERSION,
            epoch: epoch.clone(),
            registry: run.registry.identity().to_owned(),
            state: run.state.identity().to_owned(),
            mode: run.record.mode.as_str().to_owned(),
            coordinator: place(),
            started: now,
            updated: now,
            deadline: run.deadline,
            ended: None,
            requests_per_second: run.ceiling.share(&*run.registry, runs_alive(nats).await?),
            progress: run.progress.board().now(),
        };
        let publisher = Arc::new(NatsPublisher::open(nats, &state, run.state.clone(), options).await?);
        let herald = tokio::spawn(herald(
            Arc::clone(&publisher),
            state.clone(),
            (run.progress.board(), run.progress.metrics().clone()),
            (run.ceiling, Arc::clone(&run.registry)),
            run.stop.clone(),
        ));
        Ok(Self::Elsewhere {
            publisher,
            herald,
            state,
        })
    }

    fn in_process(run: &Run) -> Self {
        let (publisher, consumer) = in_process(run.stop.clone());
        let consumer = Arc::new(consumer);
        let context = Arc::new(WorkerContext::new(
            Arc::clone(&run.registry),
            run.state.clone(),
            run.reads_in_flight,
            run.worker_metrics.clone(),
        ));
        let mut workers = JoinSet::new();
        for _ in 0..run.workers {
            workers.spawn(work(Arc::clone(&context), consumer.clone()));
        }
        Self::InProcess { publisher, workers }
    }

    /// The coordinator's end of the queue.
    #[must_use]
    pub fn publisher(&self) -> &dyn TaskPublisher {
        match self {
            Self::InProcess { publisher, .. } => publisher,
            Self::Elsewhere { publisher, .. } => &**publisher,
        }
    }

    /// Ends the queue; nothing of the run is left to do.
    pub async fn end(self, outcome: Outcome, board: Arc<Board>, stop: CancellationToken) {
        match self {
            Self::InProcess {
                publisher,
                mut workers,
            } => {
                drop(publisher);
                match outcome {
                    Outcome::Completed | Outcome::Stopped => {
                        workers.join_all().await;
                    }
                    // No task that deletes is under way, and nobody waits for what else would be found.
                    Outcome::Refused | Outcome::Failed => workers.shutdown().await,
                }
            }
            Self::Elsewhere {
                publisher,
                herald,
                mut state,
            } => {
                herald.abort();
                // The queue is this end's alone once the herald is gone.
                let _ = herald.await;
                if outcome == Outcome::Stopped {
                    // Workers may have heard before it that the run is to stop; whoever reads this must hear why.
                    heed(publisher.runs(), &state.epoch, &stop, &mut false).await;
                }
                state.ended = Some(outcome.as_str().to_owned());
                state.updated = clock::machine_now();
                state.progress = board.now();
                if let Some(publisher) = Arc::into_inner(publisher) {
                    publisher.end(&state).await;
                }
            }
        }
    }
}

async fn runs_alive(nats: &Nats) -> Result<u64, RunError> {
    Ok(Runs::open(nats).await?.alive_workers().await?)
}

/// Looks what the run is to do, says it, and stops the run where it is to stop.
async fn heed(runs: &Runs, epoch: &Epoch, stop: &CancellationToken, was_paused: &mut bool) {
    match runs.wanted(epoch.run).await {
        Ok(Some((other, _))) if other != *epoch => {
            eprintln!("another coordinator has resumed this run; stops");
            stop.cancel();
        }
        Ok(Some((_, Wanted::Abort))) if !stop.is_cancelled() => {
            eprintln!("aborted by `hardprune runs abort`; batches in flight end first");
            stop.cancel();
        }
        Ok(Some((_, wanted))) => {
            let is_paused = wanted == Wanted::Pause;
            if is_paused != *was_paused {
                let what = if is_paused { "paused" } else { "goes on" };
                eprintln!("{what}, as asked for in NATS");
            }
            *was_paused = is_paused;
        }
        Ok(None) => {}
        Err(error) => debug!(%error, "what to do could not be read"),
    }
}

/// Says in NATS how far the run is, and looks what it is to do there.
async fn herald(
    publisher: Arc<NatsPublisher>,
    mut state: RunState,
    (board, metrics): (Arc<Board>, CoordinatorMetrics),
    (ceiling, registry): (Ceiling, Arc<dyn Store>),
    stop: CancellationToken,
) {
    let mut was_paused = false;
    loop {
        let runs = publisher.runs();
        match runs.alive_workers().await {
            Ok(workers) => {
                board.workers_alive(workers);
                metrics.set_alive_workers(workers);
                state.requests_per_second = ceiling.share(&*registry, workers);
            }
            Err(error) => debug!(%error, "workers could not be counted"),
        }
        match publisher.pending_tasks().await {
            Ok(tasks) => metrics.set_pending_tasks(tasks),
            Err(error) => debug!(%error, "pending tasks could not be counted"),
        }
        heed(runs, &state.epoch, &stop, &mut was_paused).await;
        state.updated = clock::machine_now();
        state.progress = board.now();
        if let Err(error) = publisher.say(&state).await {
            debug!(%error, "how far the run is could not be said");
        }
        tokio::time::sleep(SAY_EVERY).await;
    }
}
