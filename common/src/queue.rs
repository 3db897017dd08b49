//! How tasks reach workers, and reports the coordinator. No stage knows which transport it runs on.

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};

use crate::task::{Task, TaskReport};

/// The other end of a queue is gone.
#[derive(Debug, thiserror::Error)]
#[error("the task queue is closed")]
pub struct QueueClosed;

/// The coordinator's end.
#[async_trait]
pub trait TaskPublisher: Send + Sync {
    /// Hands a task to some worker.
    ///
    /// # Errors
    ///
    /// [`QueueClosed`].
    async fn publish(&self, task: Task) -> Result<(), QueueClosed>;

    /// Waits for the next report, of whatever task.
    ///
    /// # Errors
    ///
    /// [`QueueClosed`].
    async fn next_report(&self) -> Result<TaskReport, QueueClosed>;
}

/// A worker's end.
#[async_trait]
pub trait TaskConsumer: Send + Sync {
    /// Waits for a task. `None` when there will be no more.
    async fn next_task(&self) -> Option<Task>;

    /// Reports what became of an attempt at a task.
    ///
    /// # Errors
    ///
    /// [`QueueClosed`].
    async fn report(&self, report: TaskReport) -> Result<(), QueueClosed>;
}

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
}

/// Makes a queue inside one process.
#[must_use]
pub fn in_process() -> (InProcessPublisher, InProcessConsumer) {
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
        },
    )
}

#[async_trait]
impl TaskPublisher for InProcessPublisher {
    async fn publish(&self, task: Task) -> Result<(), QueueClosed> {
        self.tasks.send(task).map_err(|_| QueueClosed)
    }

    async fn next_report(&self) -> Result<TaskReport, QueueClosed> {
        self.reports.lock().await.recv().await.ok_or(QueueClosed)
    }
}

#[async_trait]
impl TaskConsumer for InProcessConsumer {
    async fn next_task(&self) -> Option<Task> {
        self.tasks.lock().await.recv().await
    }

    async fn report(&self, report: TaskReport) -> Result<(), QueueClosed> {
        self.reports.send(report).map_err(|_| QueueClosed)
    }
}
