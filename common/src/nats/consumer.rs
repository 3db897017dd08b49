//! A worker's end: finds the runs that there are, and takes tasks of all of them in turn.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::stream::Stream;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use ulid::Ulid;

use super::hand::{HandParts, NatsHand};
use super::messages::{WorkerState, digest_of, read};
use super::runs::Runs;
use super::shares::{self, Shares};
use super::streams::{self, TASKS};
use super::{Nats, NatsError};
use crate::queue::{TaskConsumer, TaskInHand};
use crate::run::RunId;
use crate::state::StateStore;
use crate::store::{RequestCounts, Store};
use crate::task::{MESSAGE_VERSION, Task};
use crate::{clock, failpoint};

/// How often it looks for new runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it looks again whether a run is on its stores that was not.
const LOOK_AT_REFUSED_EVERY: Duration = Duration::from_secs(10);
/// How long a request for a task waits while there are places for other runs' tasks.
const WAIT_AT_LEISURE: Duration = Duration::from_secs(1);
/// How long it waits with the last free place.
const WAIT_WITH_THE_LAST_PLACE: Duration = Duration::from_millis(100);
/// A server that answers at all does so within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often a worker says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// A store that a worker may touch.
#[derive(Debug)]
pub struct Touchable {
    /// The store.
    pub store: Arc<dyn Store>,
    reported: std::sync::Mutex<RequestCounts>,
    shares: Shares,
}

impl Touchable {
    /// Takes a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            reported: std::sync::Mutex::default(),
            shares: Shares::default(),
        }
    }

    /// What runs may ask of it.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The requests made since this was asked last.
    pub(super) fn unreported_requests(&self) -> RequestCounts {
        let mut reported = self
            .reported
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = self.store.requests();
        let unreported = now.since(*reported);
        *reported = now;
        unreported
    }
}

/// The stores that a worker was started with.
pub trait Stores: fmt::Debug + Send + Sync + 'static {
    /// The store of this identity. `None` where the worker may not touch it.
    fn find(&self, identity: &str) -> Option<Arc<Touchable>>;
}

/// Who a worker is.
#[derive(Debug, Clone)]
pub struct WorkerIdentity {
    /// Host and process.
    pub place: String,
    /// The program's version.
    pub program: String,
}

/// A worker's end of the queue.
pub struct NatsConsumer {
    inner: Arc<Inner>,
    hands: Mutex<mpsc::Receiver<NatsHand>>,
}

struct Inner {
    nats: Nats,
    runs: Runs,
    tasks: Stream,
    stores: Arc<dyn Stores>,
    worker: WorkerState,
    slots: Arc<Semaphore>,
    hands: mpsc::Sender<NatsHand>,
    drain: CancellationToken,
    /// Whoever asks the server for tasks.
    followers: TaskTracker,
    said: std::sync::Mutex<HashSet<String>>,
    in_hand: Arc<std::sync::Mutex<Vec<String>>>,
    watcher: Arc<dyn Watcher>,
    began: std::time::Instant,
}

/// Hears of what a worker's end meets, for metrics.
pub trait Watcher: Send + Sync + 'static {
    /// A claim was taken over from a worker that is silent.
    fn claim_taken_over(&self);

    /// A task's store is not the worker's.
    fn store_refused(&self);

    /// A message is of another version.
    fn version_refused(&self);
}

impl fmt::Debug for NatsConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConsumer")
            .field("worker", &self.inner.worker.id)
            .finish_non_exhaustive()
    }
}

impl NatsConsumer {
    /// Begins to take tasks, `places` at a time at most, until `drain` is cancelled.
    ///
    /// # Errors
    ///
    /// [`NatsError::NotSetUp`] before the first coordinator has come; streams that are not hardprune's, a server that refuses.
    pub async fn start(
        nats: &Nats,
        identity: WorkerIdentity,
        stores: Arc<dyn Stores>,
        watcher: Arc<dyn Watcher>,
        places: usize,
        drain: CancellationToken,
    ) -> Result<Self, NatsError> {
        streams::are_set_up_for_workers(nats).await?;
        let (sender, receiver) = mpsc::channel(places.max(1));
        let inner = Arc::new(Inner {
            nats: nats.clone(),
            runs: Runs::open(nats).await?,
            tasks: streams::open(nats, TASKS).await?,
            stores,
            worker: WorkerState {
                version: MESSAGE_VERSION,
                id: Ulid::generate().to_string(),
                place: identity.place,
                program: identity.program,
                tasks: Vec::new(),
            },
            slots: Arc::new(Semaphore::new(places.max(1))),
            hands: sender,
            drain,
            followers: TaskTracker::new(),
            said: std::sync::Mutex::default(),
            in_hand: Arc::default(),
            watcher,
            began: clock::monotonic_now(),
        });
        tokio::spawn(say_it_is_there(Arc::clone(&inner)));
        inner.followers.spawn(look_for_runs(Arc::clone(&inner)));
        Ok(Self {
            inner,
            hands: Mutex::new(receiver),
        })
    }

    /// Ends a drained worker's part: gives back the tasks that the server still hands it, and says that it is gone.
    pub async fn say_goodbye(&self) {
        // A request for a task that is under way when the worker is told to stop may still be answered. Nobody else would
        // have that task before its acknowledgement is overdue.
        self.inner.followers.close();
        if tokio::time::timeout(WAIT_AT_LEISURE + 2 * ANSWER_WITHIN, self.inner.followers.wait())
            .await
            .is_err()
        {
            warn!(
                "the server does not answer; tasks that it had handed out come to others after their acknowledgement wait"
            );
        }
        // It is forgotten by itself soon.
        let _ = self.inner.runs.is_gone(&self.inner.worker.id).await;
        self.inner.nats.flush().await;
    }
}

#[async_trait]
impl TaskConsumer for NatsConsumer {
    async fn next_task(&self) -> Option<Box<dyn TaskInHand>> {
        let mut hands = self.hands.lock().await;
        tokio::select! {
            biased;
            () = self.inner.drain.cancelled() => {
                // What waits for its turn goes back at once.
                hands.close();
                while let Some(hand) = hands.recv().await {
                    hand.give_back(crate::queue::GiveBack::Now, "the worker stops").await;
                }
                None
            }
            hand = hands.recv() => Some(Box::new(hand?)),
        }
    }
}

async fn say_it_is_there(inner: Arc<Inner>) {
    loop {
        let mut worker = inner.worker.clone();
        worker.tasks = lock(&inner.in_hand).clone();
        if let Err(error) = inner.runs.is_there(&worker).await {
            debug!(%error, "could not say that it is there");
        }
        tokio::select! {
            () = tokio::time::sleep(BEAT_EVERY) => {}
            () = inner.drain.cancelled() => return,
        }
    }
}

/// Finds runs by their consumers, and takes tasks of each.
async fn look_for_runs(inner: Arc<Inner>) {
    let followed: Arc<std::sync::Mutex<HashSet<RunId>>> = Arc::default();
    while !inner.drain.is_cancelled() {
        let names: Result<Vec<String>, _> = inner.tasks.consumer_names().try_collect().await;
        match names {
            Ok(names) => {
                for run in names.iter().filter_map(|name| streams::run_of_consumer(name)) {
                    if !lock(&followed).insert(run) {
                        continue;
                    }
                    let (inner, followed) = (Arc::clone(&inner), Arc::clone(&followed));
                    inner.followers.clone().spawn(async move {
                        if let Err(error) = follow(&inner, run).await {
                            debug!(%run, %error, "follows a run no longer");
                            inner.say_once(&error);
                        }
                        lock(&followed).remove(&run);
                    });
                }
            }
            Err(error) => debug!(%error, "runs could not be looked for"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = inner.drain.cancelled() => {}
        }
    }
}

/// Takes tasks of one run for as long as it is there.
async fn follow(inner: &Arc<Inner>, run: RunId) -> Result<(), NatsError> {
    let name = streams::consumer_name(run);
    let failed =
        |problem: &dyn ToString| NatsError::request(format!("take tasks of run {run}"), problem.to_string());
    let Some(state) = inner.runs.get(run).await? else {
        return Ok(());
    };
    for identity in [&state.registry, &state.state] {
        if inner.stores.find(identity).is_none() {
            inner.refuse_store(identity);
            tokio::select! {
                () = tokio::time::sleep(LOOK_AT_REFUSED_EVERY) => {}
                () = inner.drain.cancelled() => {}
            }
            return Ok(());
        }
    }
    if let Some(registry) = inner.stores.find(&state.registry) {
        shares::keep_to(&inner.runs, &state, &registry, inner.began);
    }
    let consumer: PullConsumer = inner
        .tasks
        .get_consumer(&name)
        .await
        .map_err(|error| failed(&error))?;
    let config = &consumer.cached_info().config;
    streams::compare_consumer(run, config)?;
    let ack_wait = config.ack_wait;
    info!(%run, registry = state.registry, "takes tasks of a run");
    while !inner.drain.is_cancelled() {
        let slot = tokio::select! {
            slot = Arc::clone(&inner.slots).acquire_owned() => slot,
            () = inner.drain.cancelled() => return Ok(()),
        };
        let Ok(slot) = slot else { return Ok(()) };
        // A place that waits for one run is not there for the others.
        let wait = if inner.slots.available_permits() > 0 {
            WAIT_AT_LEISURE
        } else {
            WAIT_WITH_THE_LAST_PLACE
        };
        let message = match next_message(&consumer, wait).await {
            Ok(Some(message)) => message,
            Ok(None) => continue,
            // Mostly the run has ended, and its consumer with it. One that is still there is found again in a moment.
            Err(error) => {
                debug!(%run, %error, "takes no more tasks of the run for now");
                return Ok(());
            }
        };
        failpoint::here("worker-handed-a-task").await;
        let (message, acker) = message.split();
        let Some(task) = inner.open(run, &message.payload, &acker, ack_wait).await else {
            continue;
        };
        let (Some(registry), Some(state)) =
            (inner.stores.find(&task.registry), inner.stores.find(&task.state))
        else {
            inner.refuse_store(&format!("{} with {}", task.registry, task.state));
            nak(&acker, ack_wait).await;
            continue;
        };
        let hand = NatsHand::take(
            HandParts {
                nats: inner.nats.clone(),
                runs: inner.runs.clone(),
                task,
                digest: digest_of(&message.payload),
                attempt: Ulid::generate().to_string(),
                worker: inner.worker.id.clone(),
                registry,
                state: StateStore::new(Arc::clone(&state.store)),
                ack_wait,
                drain: inner.drain.clone(),
                watcher: Arc::clone(&inner.watcher),
                in_hand: Arc::clone(&inner.in_hand),
            },
            acker,
            slot,
        );
        // Whoever waited is gone, or the worker stops: it goes back.
        if let Err(mpsc::error::SendError(hand)) = inner.hands.send(hand).await {
            hand.give_back(crate::queue::GiveBack::Now, "the worker stops")
                .await;
        }
    }
    Ok(())
}

async fn next_message(
    consumer: &PullConsumer,
    wait: Duration,
) -> Result<Option<async_nats::jetstream::Message>, async_nats::Error> {
    let next = async {
        let mut batch = consumer.batch().max_messages(1).expires(wait).messages().await?;
        batch.next().await.transpose()
    };
    // A server does not answer for a consumer that is gone.
    tokio::time::timeout(wait + ANSWER_WITHIN, next).await?
}

async fn nak(acker: &async_nats::jetstream::message::Acker, ack_wait: Duration) {
    if let Err(error) = acker.ack_with(AckKind::Nak(Some(ack_wait / 3))).await {
        debug!(%error, "a task could not be given back");
    }
}

impl Inner {
    /// Reads a task. What is none, or of another run, is thrown away; one of another version is given back.
    async fn open(
        &self,
        run: RunId,
        payload: &[u8],
        acker: &async_nats::jetstream::message::Acker,
        ack_wait: Duration,
    ) -> Option<Task> {
        let task = match read::<Task>("a task", payload) {
            Ok(task) if task.epoch.run == run && is_plain(&task.id) => return Some(task),
            Ok(task) => NatsError::Garbage {
                what: "a task".to_owned(),
                problem: format!("{:?} is none of run {run}", task.id),
            },
            Err(error) => error,
        };
        self.say_once(&task);
        if matches!(task, NatsError::OtherVersion { .. }) {
            self.watcher.version_refused();
            nak(acker, ack_wait).await;
        } else if let Err(error) = acker.ack_with(AckKind::Term).await {
            debug!(%error, "a message could not be thrown away");
        }
        None
    }

    fn refuse_store(&self, identity: &str) {
        self.watcher.store_refused();
        if lock(&self.said).insert(identity.to_owned()) {
            warn!(
                store = identity,
                "there are tasks on a store that this worker was not started with; it leaves them to others"
            );
        }
    }

    fn say_once(&self, error: &NatsError) {
        if lock(&self.said).insert(error.to_string()) {
            warn!(%error, "a message or a run is left to others");
        }
    }
}

/// Whether an id is a plain name: it becomes a part of keys.
fn is_plain(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !id.is_empty() && id.len() <= 200 && id.bytes().all(is_plain)
}

pub(super) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
