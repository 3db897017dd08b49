//! `hardprune fsck`: checks a registry's storage against itself, and against what a cluster knows.
//!
//! Four passes, each joined with the one before by digest, through spools (R9): all repositories are listed
//! (`list_repositories`), every manifest is read once (`read_manifests`), what they need is looked for in a listing of the blobs
//! (`find_missing`), and what is broken is looked at again (`blame`). No filter has a part in it: one could call a missing blob
//! present. Nothing is written to the registry, and no lock is taken: pushes and deletes may go on.

mod args;
mod blame;
mod broken_tags;
mod cluster;
mod find_missing;
mod findings;
mod list_repositories;
mod lost;
mod namespace;
mod passes;
mod read_link;
mod read_manifests;
mod records;
mod report;
mod restore;
mod sharded;

use std::path::PathBuf;
use std::sync::Arc;

use hardprune_common::clock;
use hardprune_common::digest::Digest;
use hardprune_common::failpoint;
use hardprune_common::store::Store;
use hardprune_worker::process::stop_on_signal;
use jiff::Timestamp;

pub use self::args::FsckArgs;

use self::cluster::KnownCluster;
use self::findings::{Finding, FindingKind, Findings};
use self::lost::Remedy;
use self::passes::Passes;
use self::records::{Broken, Fault, Lost};
use self::report::Report;
use self::sharded::Sharded;
use crate::dispatch::DispatchError;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::open_stores::NamedRegistry;
use crate::preflight::preflight;

/// Requests to a folder beyond these only wait for each other.
const FOLDER_READS_IN_FLIGHT: usize = 16;

/// Checks a registry.
///
/// # Errors
///
/// A registry that cannot be listed or read in full: then nothing is known of it.
pub async fn fsck(args: FsckArgs) -> Result<ExitStatus, RunError> {
    args.validate()?;
    let named = NamedRegistry::of(&args.registry)?;
    if let Some(config) = named.config.as_ref().filter(|_| !args.asks_cluster()) {
        config.refuse_openshift()?;
    }
    let registry = named.open()?;
    preflight(&*registry).await?;
    let reads_in_flight = if named.is_folder() {
        FOLDER_READS_IN_FLIGHT
    } else {
        usize::from(args.registry.concurrency)
    };
    let check = Check {
        args: &args,
        registry,
        reads_in_flight,
        spool_dir: args.spool_dir.clone().unwrap_or_else(std::env::temp_dir),
    };
    let stop = stop_on_signal(|| eprintln!("stops"))
        .map_err(|error| RunError::Usage(format!("signals cannot be listened for: {error}")))?;
    tokio::select! {
        status = check.run() => status,
        // Spools go on the way out.
        () = stop.cancelled() => Err(DispatchError::Stopped.into()),
    }
}

struct Check<'a> {
    args: &'a FsckArgs,
    registry: Arc<dyn Store>,
    reads_in_flight: usize,
    spool_dir: PathBuf,
}

impl Check<'_> {
    async fn run(&self) -> Result<ExitStatus, RunError> {
        let started = self.registry.now().await?;
        let began = clock::monotonic_now();
        let mut passes = Passes::new(
            Arc::clone(&self.registry),
            self.reads_in_flight,
            !self.args.asks_cluster(),
            self.args.namespace.clone(),
            self.spool_dir.clone(),
        )?;
        list_repositories::list_repositories(&mut passes).await?;
        say(&format!("{} repositories are listed", passes.seen.repositories));
        failpoint::here("fsck-repositories-listed").await;
        // After the storage, which a push writes first: what comes meanwhile is known.
        let mut cluster = match self.args.asks_cluster() {
            true => {
                let namespace = self.args.namespace.as_ref();
                let args = &self.args.references.cluster;
                Some(KnownCluster::ask(args, namespace, &self.spool_dir).await?)
            }
            false => None,
        };
        self.refuse_an_empty_namespace(&passes, cluster.as_ref())?;
        let lost = cluster
            .as_mut()
            .map(|cluster| cluster.join(&mut passes))
            .transpose()?;
        read_manifests::read_manifests(&mut passes).await?;
        say(&format!("{} manifests are read", passes.seen.manifests));
        find_missing::find_missing(&mut passes).await?;
        say(&format!("{} blobs are looked for", passes.seen.needed_blobs));
        failpoint::here("fsck-blobs-looked-for").await;
        let findings = self.findings(&mut passes, cluster.as_ref().zip(lost)).await?;
        let status = match (findings.restored.failed, findings.counts.findings) {
            (0, 0) => ExitStatus::Done,
            (0, _) => ExitStatus::Broken,
            _ => ExitStatus::Partly,
        };
        self.report(&passes, findings, started, began).await?;
        Ok(status)
    }

    /// A name that is mistyped must not say that nothing is broken.
    fn refuse_an_empty_namespace(
        &self,
        passes: &Passes,
        cluster: Option<&KnownCluster>,
    ) -> Result<(), RunError> {
        let has_streams = cluster.is_some_and(|cluster| cluster.has_streams);
        match &self.args.namespace {
            Some(namespace) if passes.seen.repositories == 0 && !has_streams => {
                let of_cluster = if cluster.is_some() {
                    ", and the cluster no image stream in that namespace"
                } else {
                    ""
                };
                Err(RunError::Usage(format!(
                    "--namespace {namespace}: the registry has no repository {namespace}/…{of_cluster}"
                )))
            }
            _ => Ok(()),
        }
    }

    fn remedy(&self) -> Remedy {
        match (self.args.restore, self.args.confirm) {
            (false, _) => Remedy::None,
            (true, false) => Remedy::DryRun,
            (true, true) => Remedy::Restore,
        }
    }

    async fn findings(
        &self,
        passes: &mut Passes,
        cluster: Option<(&KnownCluster, Sharded<Lost>)>,
    ) -> Result<Findings, RunError> {
        let mut findings = Findings::new(&self.spool_dir)?;
        let known = cluster.as_ref().map(|(cluster, _)| *cluster);
        let mut confirmed = blame::blame(passes, known).await?;
        if let Some((cluster, lost)) = cluster {
            let lost = lost::not_kept(passes, lost)?;
            let remedy = self.remedy();
            lost::look_again(passes, cluster, lost, &mut confirmed, remedy, &mut findings).await?;
            for (repository, tag, image) in &cluster.bad_items {
                let kind = FindingKind::TagImageInvalid;
                let detail = format!("it names {image:?}");
                findings.push(Finding::of_tag(repository.clone(), tag.clone(), kind, &detail))?;
            }
        }
        let digits = confirmed.digits();
        for shard in confirmed.shards(digits) {
            let broken = confirmed.take(&shard)?;
            let tags = passes.tags.take(&shard)?;
            let in_repositories: Vec<Digest> = broken
                .iter()
                .filter(|broken| !broken.repository.is_empty())
                .map(|broken| broken.manifest)
                .collect();
            for broken in broken {
                // An image of the cluster that is also, say, the child of an index in a stream.
                if broken.repository.is_empty() && in_repositories.binary_search(&broken.manifest).is_ok() {
                    continue;
                }
                if self.is_healed(&broken, known).await? {
                    continue;
                }
                let tags = blame::tags_of(&broken, &tags);
                let tags = tags.iter().map(|tagged| tagged.tag.clone()).collect();
                findings.push(Finding::of(broken, tags))?;
            }
        }
        broken_tags::look_again(passes, &mut findings).await?;
        Ok(findings)
    }

    /// Whether an image that the cluster did not have was restored.
    async fn is_healed(&self, broken: &Broken, cluster: Option<&KnownCluster>) -> Result<bool, RunError> {
        match cluster.filter(|_| self.remedy() == Remedy::Restore && broken.fault == Fault::NoImage) {
            Some(cluster) => cluster.has_image(&broken.manifest).await,
            None => Ok(false),
        }
    }

    async fn report(
        &self,
        passes: &Passes,
        findings: Findings,
        started: Timestamp,
        began: std::time::Instant,
    ) -> Result<(), RunError> {
        let report = Report {
            version: 1,
            tool: format!("hardprune {}", env!("CARGO_PKG_VERSION")),
            registry: self.registry.identity().to_owned(),
            sources: self.args.references.names(),
            namespace: self.args.namespace.clone(),
            started,
            finished: self.registry.now().await?,
            seconds: clock::since(began).as_secs_f64(),
            seen: passes.seen.clone(),
            broken: findings.counts.clone(),
            restore: (self.remedy() != Remedy::None).then(|| findings.restored.clone()),
            requests: self.registry.requests(),
        };
        report.print(self.args.output, findings)
    }
}

fn say(line: &str) {
    eprintln!("fsck: {line}");
}
