//! Whether the mark cache is used.

use clap::Args;
use hardprune_common::store::Store;

/// The options of the mark cache.
#[derive(Debug, Clone, Copy, Args)]
pub struct MarkCacheArgs {
    /// Reads every manifest again, and keeps none for the next run. Otherwise what the latest run on this registry read is not read
    /// again, if it used the same state store; but on a disk of this machine, where that would save nothing.
    #[arg(long, env = "HARDPRUNE_NO_MARK_CACHE")]
    pub no_mark_cache: bool,
    /// Keeps manifests for the next run on a disk of this machine, too, unless --no-mark-cache is given.
    #[arg(long, env = "HARDPRUNE_MARK_CACHE")]
    pub mark_cache: bool,
}

impl MarkCacheArgs {
    /// Whether manifests of a registry are kept, and what was kept is used.
    #[must_use]
    pub fn is_used(self, registry: &dyn Store) -> bool {
        !self.no_mark_cache && (self.mark_cache || !registry.rereads_are_cheap())
    }
}
