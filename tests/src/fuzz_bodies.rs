//! What each fuzz target checks of one input. Called by `tests/fuzz` (libFuzzer) and by `tests/fuzz_corpora.rs`, which
//! replays the seeds in an ordinary test. A body panics where a rule is broken.

pub mod keys;
pub mod links;
pub mod manifests;
pub mod registry_config;
