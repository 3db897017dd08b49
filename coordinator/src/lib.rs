//! hardprune's coordinator: plans a run, gathers what the workers found, seals it, guards it, accounts for it and
//! reports it.

pub mod registry_config;
