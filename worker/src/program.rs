//! The program `hardprune-worker`: takes tasks of any run on the stores that it was started with, until it is told to stop.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hardprune_common::health::{Health, HealthAddress, HealthError, HealthServer, Heartbeat, Readiness};
use hardprune_common::nats::{Nats, NatsConsumer, NatsError, Stores, WorkerIdentity};
use hardprune_common::queue::{GiveBack, TaskConsumer, TaskInHand};
use hardprune_common::state::StateStore;
use hardprune_common::store::location::OpenOptions;
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::budget::{Budget, memory};
use crate::context::WorkerContext;
use crate::logging::{self, LogFormat};
use crate::metrics::WorkerMetrics;
use crate::nats_args::NatsArgs;
use crate::process::{place, stop_on_signal};
use crate::run_task;
use crate::stores::{StoresError, WorkerStores};

/// Threads for work that blocks: reads of files, walks of folders.
const BLOCKING_THREADS: usize = 64;
/// How often a worker looks whether a coordinator has set up what it needs.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often a worker shows that it lives, and after how long without that it counts as dead.
const BEAT_EVERY: Duration = Duration::from_secs(1);
const SILENT_AFTER: Duration = Duration::from_secs(30);
/// The exit status of a command line or a configuration that cannot be used.
const USAGE: u8 = 2;

/// Does what `hardprune check|delete --nats URL` hands out: marks, plans and deletes on the stores that it was started with, and
/// on no others.
#[derive(Debug, Parser)]
#[command(name = "hardprune-worker", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub struct Cli {
    /// NATS.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// A store that it may touch: a registry's storage, or where runs are kept. A folder, s3://bucket/prefix, gs://… or az://….
    /// Credentials and endpoints as the provider's own tools take them. May be given several times.
    #[arg(long, value_name = "URL", env = "HARDPRUNE_STORE", value_delimiter = ',')]
    pub store: Vec<String>,
    /// A YAML file of stores that it may touch, each with settings of its own.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_STORES")]
    pub stores: Option<PathBuf>,
    /// Requests in flight to each store, at most.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096), env = "HARDPRUNE_CONCURRENCY")]
    pub concurrency: u16,
    /// Memory that its tasks may take together: how many it does at once follows from that.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = memory, env = "HARDPRUNE_MAX_MEMORY")]
    pub max_memory: u64,
    /// Serves /healthz, /readyz and /metrics at this address.
    #[arg(long, value_name = "ADDRESS", env = "HARDPRUNE_HEALTH_ADDR")]
    pub health_addr: Option<HealthAddress>,
    /// How logs are written, to standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "HARDPRUNE_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Logs more: -v what is done, -vv every detail.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  hardprune-worker --nats nats://nats:4222 --store s3://registry --store s3://state
      Works for every run on the registry in the bucket `registry` that is kept in the bucket `state`.
  hardprune-worker --nats tls://nats:4222 --nats-creds worker.creds --stores stores.yaml --health-addr :8080
      The same with stores, endpoints and credentials in a file:
        stores:
        - url: s3://registry
          settings: {endpoint: https://s3.example.org, region: eu-1, ca_certificate: /etc/ca.pem}
        - url: /srv/state

It ends on SIGTERM or SIGINT: batches in flight end first, other tasks go back at once. Exit status: 0 ended so; 2 usage or \
configuration.";

/// What keeps a worker from working.
#[derive(Debug, thiserror::Error)]
enum ProgramError {
    #[error("which NATS server? Name it with --nats URL")]
    NoServer,
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error(transparent)]
    Stores(#[from] StoresError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: std::io::Error,
    },
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format, cli.verbose);
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(&cli));
            // A walk that nobody waits for must not hold the program up.
            runtime.shutdown_background();
            result
        }
        Err(source) => Err(ProgramError::System {
            what: "no threads can be started",
            source,
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hardprune-worker: {error}");
            ExitCode::from(USAGE)
        }
    }
}

async fn run(cli: &Cli) -> Result<(), ProgramError> {
    let drain = stop_on_signal(|| info!("stops: batches in flight end first; a second signal ends at once"))
        .map_err(|source| ProgramError::System {
            what: "signals cannot be listened for",
            source,
        })?;
    let registry = Registry::new();
    let metrics = WorkerMetrics::register(&registry)?;
    let readiness = Readiness::not_ready("not connected to NATS yet");
    let heartbeat = serve_health(cli.health_addr, registry, &readiness).await?;
    let budget = Budget::of(cli.max_memory, cli.concurrency);
    let options = OpenOptions {
        concurrency: cli.concurrency.into(),
        ..OpenOptions::default()
    };
    let stores = Arc::new(WorkerStores::open(&cli.store, cli.stores.as_deref(), &options)?);
    for store in stores.iter() {
        metrics.count_requests_of(&store.store);
    }
    let place = place();
    let settings = cli
        .nats
        .settings(&format!("hardprune-worker, {place}"))?
        .ok_or(ProgramError::NoServer)?;
    let nats = Nats::connect(&settings).await?;
    tokio::spawn(watch(nats.clone(), metrics.clone(), readiness.clone(), heartbeat));
    let identity = WorkerIdentity {
        place,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let worker = Worker {
        stores,
        reads_in_flight: budget.reads_of_a_task,
        metrics,
        contexts: HashMap::new(),
    };
    let Some(queue) = start(&nats, &identity, &worker, budget.tasks, &drain).await? else {
        return Ok(());
    };
    info!(
        servers = nats.servers(),
        tasks_at_once = budget.tasks,
        "takes tasks"
    );
    worker.work(&queue).await;
    queue.say_goodbye().await;
    Ok(())
}

/// Serves the health address, if there is one. Returns what has to beat.
async fn serve_health(
    address: Option<HealthAddress>,
    registry: Registry,
    readiness: &Readiness,
) -> Result<Heartbeat, ProgramError> {
    let heartbeat = Heartbeat::new(SILENT_AFTER);
    if let Some(address) = address {
        let server = HealthServer::bind(address).await?;
        let health = Health {
            registry,
            heartbeat: heartbeat.clone(),
            readiness: readiness.clone(),
        };
        // Answers as long as the process lives: also while it drains.
        tokio::spawn(server.serve(health, std::future::pending()));
    }
    Ok(heartbeat)
}

/// Shows whether the worker lives and can work.
async fn watch(nats: Nats, metrics: WorkerMetrics, readiness: Readiness, heartbeat: Heartbeat) {
    let mut reconnects = 0;
    loop {
        heartbeat.beat();
        let is_connected = nats.is_connected();
        metrics.set_nats_connected(is_connected);
        while reconnects < nats.reconnects() {
            reconnects += 1;
            metrics.nats_reconnected();
        }
        if is_connected {
            readiness.set_ready();
        } else {
            readiness.set_not_ready("the connection to NATS is lost");
        }
        tokio::time::sleep(BEAT_EVERY).await;
    }
}

/// Begins to take tasks, as soon as a coordinator has set up what that needs. `None` where the worker is told to stop before.
async fn start(
    nats: &Nats,
    identity: &WorkerIdentity,
    worker: &Worker,
    places: usize,
    drain: &CancellationToken,
) -> Result<Option<NatsConsumer>, ProgramError> {
    let mut said = false;
    loop {
        let stores: Arc<dyn Stores> = worker.stores.clone();
        let watcher = Arc::new(worker.metrics.clone());
        match NatsConsumer::start(nats, identity.clone(), stores, watcher, places, drain.clone()).await {
            Ok(queue) => return Ok(Some(queue)),
            Err(error) if error.may_pass() => {
                if !std::mem::replace(&mut said, true) {
                    warn!(%error, "waits for it");
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN_AFTER) => {}
            () = drain.cancelled() => return Ok(None),
        }
    }
}

/// What a worker works with.
struct Worker {
    stores: Arc<WorkerStores>,
    reads_in_flight: usize,
    metrics: WorkerMetrics,
    /// By the identities of registry and state store.
    contexts: HashMap<(String, String), Arc<WorkerContext>>,
}

impl Worker {
    /// Does tasks until there are no more, and waits for those that are under way.
    async fn work(mut self, queue: &NatsConsumer) {
        let mut running = JoinSet::new();
        while let Some(hand) = queue.next_task().await {
            let context = self.context(&*hand);
            running.spawn(attempt(context, hand));
            while running.try_join_next().is_some() {}
        }
        running.join_all().await;
    }

    fn context(&mut self, hand: &dyn TaskInHand) -> Option<Arc<WorkerContext>> {
        let task = hand.task();
        let key = (task.registry.clone(), task.state.clone());
        if let Some(context) = self.contexts.get(&key) {
            return Some(Arc::clone(context));
        }
        let registry = self.stores.find(&task.registry)?;
        let state = self.stores.find(&task.state)?;
        let context = Arc::new(WorkerContext::new(
            Arc::clone(&registry.store),
            StateStore::new(Arc::clone(&state.store)),
            self.reads_in_flight,
            self.metrics.clone(),
        ));
        self.contexts.insert(key, Arc::clone(&context));
        Some(context)
    }
}

async fn attempt(context: Option<Arc<WorkerContext>>, hand: Box<dyn TaskInHand>) {
    let Some(context) = context else {
        return hand
            .give_back(GiveBack::Later, "its store is not this worker's")
            .await;
    };
    if let Err(error) = run_task::attempt(&context, &*hand).await {
        error!(%error, task = hand.task().id, "nobody could be told of a task; another worker will look what is left of it");
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
