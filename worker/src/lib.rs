//! The worker: does one task at a time, on stores that it was started with.

pub mod context;
mod decide;
mod delete_blobs;
mod mark_range;
mod mark_repository;
pub mod metrics;
mod plan_shard;
mod read_links;
mod read_manifests;
mod repository_keys;
pub mod run_task;
pub mod settle_batches;
mod trace_live;
