//! Whatever ends, stops, misleads or hinders a `delete`: nothing live is lost, the accounts are exact, and going on
//! leaves nothing to delete.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "crash/changed_meanwhile.rs"]
mod changed_meanwhile;
#[path = "crash/killed.rs"]
mod killed;
#[path = "crash/lock_lost.rs"]
mod lock_lost;
#[path = "crash/stopped.rs"]
mod stopped;
#[path = "crash/suspended_owner.rs"]
mod suspended_owner;
#[path = "crash/tampered.rs"]
mod tampered;
#[path = "crash/two_state_stores.rs"]
mod two_state_stores;
#[path = "crash/unclear_answers.rs"]
mod unclear_answers;
