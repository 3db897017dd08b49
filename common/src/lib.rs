//! What hardprune's coordinator and workers both speak: digests, layouts, manifests, filters, tasks, queues,
//! stores.

pub mod authority;
pub mod clock;
pub mod store;
