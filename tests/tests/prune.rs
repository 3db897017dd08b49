//! `hardprune check` and `hardprune delete` from end to end: the built program on registries that Debian's
//! `docker-registry` filled and serves, in folders and on S3.

#[path = "prune/json_schema.rs"]
mod json_schema;
#[path = "prune/kept_and_purged.rs"]
mod kept_and_purged;
#[path = "prune/multipart_uploads.rs"]
mod multipart_uploads;
#[path = "prune/orphans.rs"]
mod orphans;
#[path = "prune/output.rs"]
mod output;
#[path = "prune/registry_config.rs"]
mod registry_config;
#[path = "prune/report_schema.rs"]
mod report_schema;
#[path = "prune/requests.rs"]
mod requests;
#[path = "prune/reviewed.rs"]
mod reviewed;
#[path = "prune/scene.rs"]
mod scene;
#[path = "prune/untagged.rs"]
mod untagged;
