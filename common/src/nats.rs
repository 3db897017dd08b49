//! NATS JetStream: the transport between a coordinator and workers of other processes.
//!
//! It carries small messages only: tasks, reports, who is at work. None of them is believed where it matters. What a task found
//! is read from the state store, where only workers can write; what may be deleted is read from the lock in the registry's
//! storage. Who can reach nothing but NATS can waste time, and delete nothing.
//!
//! Works with nats-server 2.9 and later: buckets are plain streams, and nothing of later versions is asked for.

mod bucket;
mod connect;
mod consumer;
mod error;
mod hand;
mod messages;
mod publisher;
mod runs;
mod shares;
mod streams;

pub use connect::{Credentials, Nats, Secret, Settings, without_credentials};
pub use consumer::{NatsConsumer, Stores, Touchable, Watcher, WorkerIdentity};
pub use error::NatsError;
pub use messages::{MESSAGES_READ, RunProgress, RunState, Wanted, WorkerState};
pub use publisher::{NatsPublisher, PublisherOptions};
pub use runs::Runs;
pub use streams::set_up;
