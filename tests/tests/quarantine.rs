//! What `delete --quarantine` removes can be had back exactly, until it is purged; and only a purge frees anything.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "quarantine/killed.rs"]
mod killed;
#[path = "quarantine/online.rs"]
mod online;
#[path = "quarantine/purged.rs"]
mod purged;
#[path = "quarantine/restored.rs"]
mod restored;
#[path = "quarantine/scene.rs"]
mod scene;
#[path = "quarantine/versions.rs"]
mod versions;
