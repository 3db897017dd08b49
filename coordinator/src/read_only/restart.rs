//! `--cache restart`: a cache in memory is gone when every process of the registry is that had it. So the registry is restarted
//! through its cluster once the last delete has ended, and before it takes writes again.

use super::args::{RestartArgs, SwitchArgs};
use super::switch::{Cluster, SwitchTarget};
use crate::descriptor_cache::CacheArgs;
use crate::error::RunError;

/// The workload that is restarted. `None`: none is. `switched` is what read-only mode is switched by.
///
/// # Errors
///
/// A restart of nobody knows what.
pub(super) fn restarted(
    cache: &CacheArgs,
    args: &RestartArgs,
    switched: Option<&SwitchTarget>,
    switch: &SwitchArgs,
) -> Result<Option<Cluster>, RunError> {
    if !cache.is_restart() {
        return match &args.restart_via {
            None => Ok(None),
            Some(_) => Err(RunError::Usage(
                "--restart-via goes with --cache restart: the registry is restarted to clear its cache"
                    .to_owned(),
            )),
        };
    }
    let Some(target) = args.restart_via.as_ref().or(switched) else {
        return Err(RunError::Usage(
            "--cache restart: what runs the registry? Say --restart-via kubernetes://NAMESPACE/deployment/NAME, or have it \
             switched by --read-only-via. Elsewhere restart every replica yourself when the run is over, and say --cache manual"
                .to_owned(),
        ));
    };
    let patience = (switch.read_only_timeout, switch.rollout_pause);
    Ok(Some(Cluster::new(target.clone(), None, patience)))
}
