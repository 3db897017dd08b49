//! `hardprune check` and `hardprune delete` from end to end: the built program on registries that Debian's
//! `docker-registry` filled and serves, in folders and on S3.

#[path = "prune/orphans.rs"]
mod orphans;
#[path = "prune/scene.rs"]
mod scene;
