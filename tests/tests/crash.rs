//! Whatever ends, stops, misleads or hinders a `delete`: nothing live is lost, the accounts are exact, and going on
//! leaves nothing to delete.

#[path = "crash/killed.rs"]
mod killed;
