//! Bad input: a clear error, an exit status that scripts can rely on, and nothing lost.

#[path = "bad_input/clocks.rs"]
mod clocks;
#[path = "bad_input/command_line.rs"]
mod command_line;
#[path = "bad_input/credentials.rs"]
mod credentials;
#[path = "bad_input/deletes.rs"]
mod deletes;
#[path = "bad_input/endpoints.rs"]
mod endpoints;
#[path = "bad_input/full_disks.rs"]
mod full_disks;
#[path = "bad_input/links.rs"]
mod links;
#[path = "bad_input/listings.rs"]
mod listings;
#[path = "bad_input/locks.rs"]
mod locks;
#[path = "bad_input/manifests.rs"]
mod manifests;
#[path = "bad_input/odd_keys.rs"]
mod odd_keys;
#[path = "bad_input/places.rs"]
mod places;
#[path = "bad_input/scene.rs"]
mod scene;
#[path = "bad_input/symbolic_links.rs"]
mod symbolic_links;
#[path = "bad_input/versions_and_conditions.rs"]
mod versions_and_conditions;
