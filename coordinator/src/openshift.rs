//! OpenShift: its images and image streams, read from the cluster's API, and what is pruned by them.
//!
//! What is measured of OpenShift's own tools stands beside the code that does as they do; where we do not, on purpose,
//! `docs/openshift-differences.md` says why.

pub mod change_object;
pub mod cluster;
pub mod held_field;
pub mod image_pruner;
pub mod images;
pub mod list_objects;
pub mod objects;
pub mod references;
