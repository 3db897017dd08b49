//! Fixtures, simulators and servers for hardprune's end-to-end tests and benchmarks.

pub mod s3_server;
