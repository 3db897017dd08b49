//! The S3 server of the tests against the clients that it is for.

#[path = "s3_server/clients.rs"]
mod clients;
#[path = "s3_server/docker_registry.rs"]
mod docker_registry;
#[path = "s3_server/faults.rs"]
mod faults;
#[path = "s3_server/object_store.rs"]
mod object_store_client;
