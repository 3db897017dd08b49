//! Prunes over NATS: a real `nats-server`, real workers, and everything that can happen to them.
#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "nats/attacker.rs"]
mod attacker;
#[path = "nats/chaos.rs"]
mod chaos;
#[path = "nats/control.rs"]
mod control;
#[path = "nats/health.rs"]
mod health;
#[path = "nats/messages.rs"]
mod messages;
#[path = "nats/poison.rs"]
mod poison;
#[path = "nats/resume_is_safe.rs"]
mod resume_is_safe;
#[path = "nats/same_result.rs"]
mod same_result;
#[path = "nats/security.rs"]
mod security;
#[path = "nats/strangers.rs"]
mod strangers;
