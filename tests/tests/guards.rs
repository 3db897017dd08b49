//! What stands between a plan and the first delete: each guard, both ways, through the real program.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "guards/canaries.rs"]
mod canaries;
#[path = "guards/clocks.rs"]
mod clocks;
#[path = "guards/missing_after_all.rs"]
mod missing_after_all;
#[path = "guards/present.rs"]
mod present;
#[path = "guards/resumed.rs"]
mod resumed;
#[path = "guards/scene.rs"]
mod scene;
#[path = "guards/totals.rs"]
mod totals;
