//! OpenShift: pruning by what the cluster says.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "nats/security/certificates.rs"]
mod certificates;
#[path = "openshift/hard_decides.rs"]
mod hard_decides;
#[path = "openshift/hard_recorded.rs"]
mod hard_recorded;
#[path = "openshift/hard_scene.rs"]
mod hard_scene;
#[path = "openshift/images_changing.rs"]
mod images_changing;
#[path = "openshift/images_connection.rs"]
mod images_connection;
#[path = "openshift/images_freed.rs"]
mod images_freed;
#[path = "openshift/images_large.rs"]
mod images_large;
#[path = "openshift/images_lists.rs"]
mod images_lists;
#[path = "openshift/images_properties.rs"]
mod images_properties;
#[path = "openshift/images_recorded.rs"]
mod images_recorded;
#[path = "openshift/images_scene.rs"]
mod images_scene;
#[path = "openshift/real_cluster.rs"]
mod real_cluster;
