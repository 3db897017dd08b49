//! Fixtures, simulators and the independent checker that hardprune's end-to-end tests and benchmarks stand on.

pub mod bench;
pub mod checker;
pub mod content;
pub mod docker_registry;
pub mod fleet;
pub mod free_port;
pub mod fuzz_bodies;
pub mod generate;
pub mod inventory;
pub mod manifests;
pub mod metrics_document;
pub mod nats_client;
pub mod nats_server;
pub mod program;
pub mod pull;
pub mod push;
pub mod redis_server;
pub mod s3_server;
pub mod scene;
pub mod scripted_http;
pub mod simulator;
pub mod storage_writer;
pub mod tcp_proxy;
pub mod truth;
