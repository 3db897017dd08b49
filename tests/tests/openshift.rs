//! OpenShift: pruning by what the cluster says.

#[path = "openshift/images_recorded.rs"]
mod images_recorded;
