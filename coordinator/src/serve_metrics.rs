//! What `--health-addr` serves while a run goes on: the coordinator's metrics, and those of the workers of its own process.

use std::time::Duration;

use hardprune_common::health::{Health, HealthAddress, HealthServer, Heartbeat, Readiness};
use hardprune_worker::metrics::WorkerMetrics;
use prometheus::Registry;

use crate::error::RunError;
use crate::metrics::CoordinatorMetrics;

/// How often the program shows that it lives, and after how long without that it counts as dead.
const BEAT_EVERY: Duration = Duration::from_secs(1);
const SILENT_AFTER: Duration = Duration::from_secs(30);

/// The metrics of a run.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The coordinator's.
    pub coordinator: CoordinatorMetrics,
    /// Those of workers of the same process.
    pub worker: WorkerMetrics,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name that is taken.
    pub fn register() -> Result<Self, RunError> {
        let registry = Registry::new();
        let failed = |error| RunError::Usage(format!("metrics cannot be registered: {error}"));
        Ok(Self {
            coordinator: CoordinatorMetrics::register(&registry).map_err(failed)?,
            worker: WorkerMetrics::register(&registry).map_err(failed)?,
            registry,
        })
    }

    /// Serves them, where an address is given. What is returned says whether the run has begun.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened on.
    pub async fn serve(&self, address: Option<HealthAddress>) -> Result<Readiness, RunError> {
        let readiness = Readiness::not_ready("the run has not begun");
        let Some(address) = address else {
            return Ok(readiness);
        };
        let server = HealthServer::bind(address)
            .await
            .map_err(|error| RunError::Usage(error.to_string()))?;
        let heartbeat = Heartbeat::new(SILENT_AFTER);
        let health = Health {
            registry: self.registry.clone(),
            heartbeat: heartbeat.clone(),
            readiness: readiness.clone(),
        };
        tokio::spawn(async move {
            loop {
                heartbeat.beat();
                tokio::time::sleep(BEAT_EVERY).await;
            }
        });
        // Answers as long as the process lives.
        tokio::spawn(server.serve(health, std::future::pending()));
        Ok(readiness)
    }
}
