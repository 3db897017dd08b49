//! `runs clear-cache`: removes the entries of what a run deleted from the registry's cache, where the run itself could not.

use clap::Args;
use hardprune_common::run::RunId;

use crate::cli::RunsPlace;
use crate::descriptor_cache::{Cache, CacheArgs, clear_begun};
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::print;
use crate::runs::places::find_run;

/// Arguments of `runs clear-cache`.
#[derive(Debug, Args)]
pub struct RunsClearCacheArgs {
    /// The run.
    pub run: RunId,
    /// Where to look.
    #[command(flatten)]
    pub place: RunsPlace,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
}

pub(super) async fn clear_cache(args: &RunsClearCacheArgs) -> Result<ExitStatus, RunError> {
    let Cache::Redis(redis) = Cache::of(&args.cache, None)? else {
        return Err(RunError::Usage(
            "which cache? Name it: --cache redis://HOST[:PORT][/DATABASE]; any other is cleared by hand"
                .to_owned(),
        ));
    };
    let (state, record) = find_run(&args.place, args.run).await?;
    clear_begun(&redis, &state, &record).await?;
    print(&format!(
        "the cache at {redis} has no entry any more of what run {} deleted\n",
        record.run
    ))?;
    Ok(ExitStatus::Done)
}
