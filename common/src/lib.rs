//! What hardprune's coordinator and workers both speak: digests, layouts, manifests, filters, tasks, queues,
//! stores.

pub mod authority;
pub mod byte_size;
pub mod clock;
pub mod digest;
pub mod failpoint;
pub mod filter;
pub mod health;
pub mod journal;
pub mod last_delete;
pub mod layout;
pub mod link;
pub mod lock;
pub mod manifest;
pub mod mark_cache;
pub mod metrics;
pub mod nats;
pub mod problem;
pub mod quarantine;
pub mod queue;
pub mod removal;
pub mod removal_files;
pub mod run;
pub mod seal;
pub mod segment;
pub mod shard;
pub mod state;
pub mod store;
pub mod task;
