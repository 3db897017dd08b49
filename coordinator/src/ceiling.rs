//! `--max-requests-per-second`: what a live registry may lose of its bucket's rates, split over all who ask it.
//!
//! Each worker that is alive has an equal share, and so has the coordinator; it says in the run's state how much that is, once a
//! second. A worker that has just begun goes by one request a second until it must have been counted, so the sum is kept to when
//! workers come. One that died is counted until it is forgotten: then the rest may have more.

use std::num::NonZeroU32;

use clap::Args;
use hardprune_common::store::Store;

use crate::error::RunError;
use crate::open_stores::NamedRegistry;

/// How much the registry's store may be asked.
#[derive(Debug, Clone, Copy, Args)]
pub struct CeilingArgs {
    /// Requests a second to the registry's bucket, at most, of all workers together; a batch of deletes is one. Without it, as many
    /// as the store takes.
    #[arg(long, value_name = "N", env = "HARDPRUNE_MAX_REQUESTS_PER_SECOND")]
    pub max_requests_per_second: Option<NonZeroU32>,
}

/// A bound on the requests of a run.
#[derive(Debug, Clone, Copy)]
pub struct Ceiling(Option<NonZeroU32>);

impl Ceiling {
    /// What the options say of this registry.
    ///
    /// # Errors
    ///
    /// A folder: nobody counts what is asked of a filesystem.
    pub fn of(args: CeilingArgs, registry: &NamedRegistry) -> Result<Self, RunError> {
        if args.max_requests_per_second.is_some() && registry.is_folder() {
            return Err(RunError::Usage(
                "--max-requests-per-second bounds requests to a bucket, and the registry's storage is a folder; use ionice, or a \
                 lower --concurrency"
                    .to_owned(),
            ));
        }
        Ok(Self(args.max_requests_per_second))
    }

    /// Keeps this process to its share, where so many workers of other processes have theirs. Returns what each of them has.
    pub fn share(self, registry: &dyn Store, workers: u64) -> Option<f64> {
        let share = self.0.map(|requests| {
            let parts = u32::try_from(workers).unwrap_or(u32::MAX).saturating_add(1);
            f64::from(requests.get()) / f64::from(parts)
        });
        registry.set_ceiling(share);
        share
    }
}
