//! What `deploy/` holds, without a cluster and without an image registry: every file parses into what it claims to be, no
//! field is misspelled, and it runs confined, without secrets, with the options that the programs have.

#[path = "deploy/alerts.rs"]
mod alerts;
#[path = "deploy/command_lines.rs"]
mod command_lines;
#[path = "deploy/compose.rs"]
mod compose;
#[path = "deploy/container_files.rs"]
mod container_files;
#[path = "deploy/files.rs"]
mod files;
#[path = "deploy/kustomizations.rs"]
mod kustomizations;
#[path = "deploy/manifests.rs"]
mod manifests;
#[path = "deploy/openshift.rs"]
mod openshift;
#[path = "deploy/openshift_cluster.rs"]
mod openshift_cluster;
#[path = "deploy/openshift_maintenance.rs"]
mod openshift_maintenance;
#[path = "deploy/openshift_roles.rs"]
mod openshift_roles;
#[path = "deploy/pods.rs"]
mod pods;
#[path = "deploy/tools.rs"]
mod tools;
#[path = "deploy/windows.rs"]
mod windows;
