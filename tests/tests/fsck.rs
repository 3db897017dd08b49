//! `hardprune fsck`: what of a registry cannot be pulled.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "fsck/bad_input.rs"]
mod bad_input;
#[path = "fsck/damaged.rs"]
mod damaged;
#[path = "fsck/etags.rs"]
mod etags;
#[path = "prune/json_schema.rs"]
mod json_schema;
#[path = "fsck/meanwhile.rs"]
mod meanwhile;
#[path = "fsck/namespace.rs"]
mod namespace;
#[path = "fsck/openshift.rs"]
mod openshift;
#[path = "fsck/oracle.rs"]
mod oracle;
#[path = "fsck/output.rs"]
mod output;
#[path = "fsck/pulled.rs"]
mod pulled;
#[path = "fsck/random_cluster.rs"]
mod random_cluster;
#[path = "fsck/restored.rs"]
mod restored;
#[path = "fsck/scene.rs"]
mod scene;
#[path = "fsck/schema.rs"]
mod schema;
