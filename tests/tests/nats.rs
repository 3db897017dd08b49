//! Prunes over NATS: a real `nats-server`, real workers, and everything that can happen to them.
#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "nats/chaos.rs"]
mod chaos;
#[path = "nats/health.rs"]
mod health;
#[path = "nats/same_result.rs"]
mod same_result;
