//! Read-only mode: proved by asking, brought about and ended again, held while a run goes on.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "read_only/any_cluster.rs"]
mod any_cluster;
#[path = "read_only/cluster.rs"]
mod cluster;
#[path = "read_only/commands.rs"]
mod commands;
#[path = "read_only/credentials.rs"]
mod credentials;
#[path = "read_only/held.rs"]
mod held;
#[path = "read_only/kubernetes.rs"]
mod kubernetes;
#[path = "read_only/probed.rs"]
mod probed;
#[path = "read_only/pushes.rs"]
mod pushes;
#[path = "read_only/restarted.rs"]
mod restarted;
#[path = "read_only/scripted.rs"]
mod scripted;
#[path = "read_only/uploads.rs"]
mod uploads;
