//! OpenShift: pruning by what the cluster says.
#![allow(
    clippy::unwrap_used,
    reason = "what a scenario shares is a test too, though it has no #[test] of its own"
)]

#[path = "openshift/hard_decides.rs"]
mod hard_decides;
#[path = "openshift/hard_recorded.rs"]
mod hard_recorded;
#[path = "openshift/hard_scene.rs"]
mod hard_scene;
#[path = "openshift/images_changing.rs"]
mod images_changing;
#[path = "openshift/images_recorded.rs"]
mod images_recorded;
#[path = "openshift/images_scene.rs"]
mod images_scene;
