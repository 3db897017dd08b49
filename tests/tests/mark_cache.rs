//! The mark cache (decision 0017): a second run reads only what is new, finds the same, and believes nothing.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "mark_cache/damaged.rs"]
mod damaged;
#[path = "mark_cache/doubted.rs"]
mod doubted;
#[path = "mark_cache/economy.rs"]
mod economy;
#[path = "mark_cache/interrupted.rs"]
mod interrupted;
#[path = "mark_cache/ranges.rs"]
mod ranges;
#[path = "mark_cache/same_results.rs"]
mod same_results;
#[path = "mark_cache/scene.rs"]
mod scene;
