//! Quarantine: what a run removed, kept beside `docker/` until it is purged, and had back until then.
//!
//! `delete --quarantine` copies before it deletes (`keep_copies.rs` of the workers); [`keeping`] notes what is kept of a run.
//! [`restore`] puts copies back, [`purge`] deletes them like any other delete: with the lock, after a fresh mark, by a sealed plan.
//! [`sort_copies`] tells, exactly, which copies a mark needs again.

pub mod args;
pub mod copies;
pub mod keeping;
pub mod list;
pub mod purge;
pub mod put_back;
pub mod restore;
pub mod select;
pub mod sort_copies;
mod undelete;

pub use args::{PurgeArgs, QuarantineArgs, QuarantineCommand, RestoreArgs};
pub use put_back::PutBackCounts;
