//! The worker: does one task at a time, on stores that it was started with. As a library for the coordinator's own process,
//! and as the program `hardprune-worker` for others.

mod budget;
mod cluster_says;
mod confirm_manifests;
pub mod context;
mod decide;
mod delete_blobs;
mod keep_copies;
pub mod logging;
mod manifest_cache;
mod mark_garbage;
pub mod mark_limits;
mod mark_range;
mod mark_repository;
pub mod metrics;
pub mod nats_args;
mod plan_shard;
pub mod process;
pub mod program;
mod read_links;
mod read_manifests;
mod repository_keys;
pub mod run_task;
pub mod settle_batches;
pub mod stores;
pub mod trace_images;
mod trace_live;
