//! Fixtures, simulators and the independent checker that hardprune's end-to-end tests and benchmarks stand on.

pub mod fuzz_bodies;
