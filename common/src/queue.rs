//! How tasks reach workers, and reports the coordinator. No stage knows which transport it runs on: [`in_process`], or
//! NATS JetStream (`nats.rs`).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::store::RequestCounts;
use crate::task::{Findings, RemovedFindings, Task, TaskReport};

/// The other end of a queue is gone, or cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("the task queue is closed: {0}")]
pub struct QueueClosed(pub String);

/// The coordinator's end.
#[async_trait]
pub trait TaskPublisher: Send + Sync {
    /// Hands a task to some worker.
    ///
    /// # Errors
    ///
    /// [`QueueClosed`].
    async fn publish(&self, task: Task) -> Result<(), QueueClosed>;

    /// Waits for the next report, of whatever task. The same report may come more than once.
    ///
    /// # Errors
    ///
    /// [`QueueClosed`].
    async fn next_report(&self) -> Result<TaskReport, QueueClosed>;

    /// Recorded errors after which a task is given up.
    fn most_errors(&self) -> u32;

    /// Whether reports come from nobody but those who made the attempt, and whoever reported a failure has ended it.
    fn hears_all(&self) -> bool;

    /// Halts deletes: from now on no worker gets leave to send another one. Of the tasks named, returns those whose reports are
    /// still to be waited for, and for how long: after that no request of theirs is under way any more, whatever became of
    /// their workers.
    ///
    /// # Errors
    ///
    /// [`QueueClosed`].
    async fn halt(&self, open: Vec<String>) -> Result<Halted, QueueClosed>;
}

/// What is still to be waited for after a halt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halted {
    /// Tasks that some worker has in hand.
    pub in_hand: Vec<String>,
    /// How long to wait for them. `None`: until they report.
    pub at_most: Option<Duration>,
}

/// A worker's end.
#[async_trait]
pub trait TaskConsumer: Send + Sync {
    /// Waits for a task. `None` when there will be no more.
    async fn next_task(&self) -> Option<Box<dyn TaskInHand>>;
}

/// Whether the next delete of a task may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Granted,
    /// Not now; asking again later may help.
    Paused,
    /// The run is to stop: the task is reported as far as it got.
    Halted,
    /// This attempt is over, the task is not: it goes back.
    Withdrawn,
}

/// The right of one attempt to delete for a task, which no other has at the same time (R5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Greater than that of every earlier claim of the task.
    pub number: u64,
    /// Whether there was an earlier one, so that its journal has to be settled first.
    pub has_predecessor: bool,
    /// Whether so much time has passed, or so much is known, that the requests of earlier ones have ended for sure. Otherwise
    /// their holders said so, and batches that are open in the journal say otherwise.
    pub predecessors_ended: bool,
}

/// Why a worker may not delete anything for a task.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another attempt at it is under way.
    #[error("another attempt at the task is under way")]
    Another,
    /// It is done, or its epoch is over.
    #[error("the task is done, or its epoch is over")]
    Over,
    /// The run is to stop.
    #[error("the run is to stop")]
    Halted,
    /// Who has claimed it cannot be found out.
    #[error(transparent)]
    Queue(#[from] QueueClosed),
}

/// What is to become of a task that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveBack {
    /// Others can do it at once.
    Now,
    /// Others may do it, or this worker after a while.
    Later,
    /// Nobody needs to do it any more.
    Over,
}

/// A task that a worker has in hand. Another worker may have it, too, if this one was not heard of for long: what only one may
/// do, deleting, needs [`TaskInHand::claim`] and, before each request, [`TaskInHand::leave`].
#[async_trait]
pub trait TaskInHand: Send + Sync {
    /// The task.
    fn task(&self) -> &Task;

    /// Names this attempt at the task, unlike any other anywhere: part of the keys of the files that it writes.
    fn attempt(&self) -> &str;

    /// Cancelled as soon as it is known that leave will not be granted any more.
    fn stop(&self) -> &CancellationToken;

    /// Makes this attempt the only one that deletes for the task (R5). Returns when the requests of earlier ones must have
    /// ended; `longest_request` is how long one may take.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]: nothing may be deleted.
    async fn claim(&self, longest_request: Duration) -> Result<Claim, ClaimError>;

    /// Whether the next delete may be sent: looked at before a batch, and again between its start in the journal and its
    /// request (R5).
    async fn leave(&self) -> Leave;

    /// Reports what became of this attempt.
    ///
    /// # Errors
    ///
    /// [`QueueClosed`].
    async fn report(&self, result: Result<Findings, String>) -> Result<(), QueueClosed>;

    /// Gives the task back, and its claim.
    async fn give_back(&self, how: GiveBack, why: &str);
}

/// Recorded errors after which a task is given up inside one process: its stores have retried on their own by then, and
/// there is no other worker to try.
const MOST_ERRORS: u32 = 2;

/// The coordinator's end of a queue inside one process.
#[derive(Debug)]
pub struct InProcessPublisher {
    tasks: mpsc::UnboundedSender<Task>,
    reports: Mutex<mpsc::UnboundedReceiver<TaskReport>>,
}

/// The workers' end of a queue inside one process; shared by all its workers.
#[derive(Debug)]
pub struct InProcessConsumer {
    tasks: Mutex<mpsc::UnboundedReceiver<Task>>,
    reports: mpsc::UnboundedSender<TaskReport>,
    stop: CancellationToken,
    attempts: AtomicU64,
    claimed: Arc<Mutex<HashSet<String>>>,
}

/// Makes a queue inside one process. `stop` halts deletes after the batches in flight.
#[must_use]
pub fn in_process(stop: CancellationToken) -> (InProcessPublisher, InProcessConsumer) {
    let (task_sender, task_receiver) = mpsc::unbounded_channel();
    let (report_sender, report_receiver) = mpsc::unbounded_channel();
    (
        InProcessPublisher {
            tasks: task_sender,
            reports: Mutex::new(report_receiver),
        },
        InProcessConsumer {
            tasks: Mutex::new(task_receiver),
            reports: report_sender,
            stop,
            attempts: AtomicU64::new(1),
            claimed: Arc::default(),
        },
    )
}

fn other_end_gone() -> QueueClosed {
    QueueClosed("its other end is gone".to_owned())
}

#[async_trait]
impl TaskPublisher for InProcessPublisher {
    async fn publish(&self, task: Task) -> Result<(), QueueClosed> {
        self.tasks.send(task).map_err(|_| other_end_gone())
    }

    async fn next_report(&self) -> Result<TaskReport, QueueClosed> {
        self.reports.lock().await.recv().await.ok_or_else(other_end_gone)
    }

    fn most_errors(&self) -> u32 {
        MOST_ERRORS
    }

    fn hears_all(&self) -> bool {
        true
    }

    /// The workers see the same token as the coordinator, and report in any case.
    async fn halt(&self, open: Vec<String>) -> Result<Halted, QueueClosed> {
        Ok(Halted {
            in_hand: open,
            at_most: None,
        })
    }
}

#[async_trait]
impl TaskConsumer for InProcessConsumer {
    async fn next_task(&self) -> Option<Box<dyn TaskInHand>> {
        let task = self.tasks.lock().await.recv().await?;
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(InProcessTask {
            task,
            number,
            attempt: number.to_string(),
            reports: self.reports.clone(),
            stop: self.stop.clone(),
            claimed: Arc::clone(&self.claimed),
        }))
    }
}

#[derive(Debug)]
struct InProcessTask {
    task: Task,
    number: u64,
    attempt: String,
    reports: mpsc::UnboundedSender<TaskReport>,
    stop: CancellationToken,
    claimed: Arc<Mutex<HashSet<String>>>,
}

#[async_trait]
impl TaskInHand for InProcessTask {
    fn task(&self) -> &Task {
        &self.task
    }

    fn attempt(&self) -> &str {
        &self.attempt
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// The queue gives a task to one worker, and again only after its report: then its requests have ended.
    async fn claim(&self, _longest_request: Duration) -> Result<Claim, ClaimError> {
        Ok(Claim {
            number: self.number,
            has_predecessor: !self.claimed.lock().await.insert(self.task.id.clone()),
            predecessors_ended: true,
        })
    }

    async fn leave(&self) -> Leave {
        if self.stop.is_cancelled() {
            Leave::Halted
        } else {
            Leave::Granted
        }
    }

    async fn report(&self, result: Result<Findings, String>) -> Result<(), QueueClosed> {
        let report = TaskReport {
            task: self.task.id.clone(),
            epoch: self.task.epoch.clone(),
            worker: String::new(),
            // The coordinator has the same store, and counts there.
            requests: RequestCounts::default(),
            result,
        };
        self.reports.send(report).map_err(|_| other_end_gone())
    }

    /// There is nobody else to do it: a task that deletes has stopped where it was.
    async fn give_back(&self, _how: GiveBack, why: &str) {
        let result = if self.task.work.deletes() {
            Ok(Findings::Removed(RemovedFindings::stopped()))
        } else {
            Err(why.to_owned())
        };
        // Whoever waited for it is gone where this fails.
        let _ = self.report(result).await;
    }
}
