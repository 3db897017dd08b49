//! `runs explain`: why a run deleted a digest, or kept it. What it deleted stands in its books. Why it kept something it does not
//! write down: what names a blob is looked for in the registry again, as it is now.

use std::iter;

use clap::Args;
use hardprune_common::digest::Digest;
use hardprune_common::filter::VerifiedFilter;
use hardprune_common::quarantine::Undo;
use hardprune_common::removal::{Removal, RemovalReason};
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::{MarkDocument, PlanDocument, plan_key, sweep_task};
use hardprune_common::segment::read_segment;
use hardprune_common::state::{FileRef, StateStore, epoch_folder, run_folder};
use hardprune_common::store::Store;
use hardprune_common::task::Scope;

use crate::accounts::{State, gone_in, states_of};
use crate::books::{EpochBooks, TaskBooks};
use crate::cli::RunsPlace;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::open_stores::storage_of;
use crate::openshift::cluster::ClusterArgs;
use crate::reference_source::SourceName;
use crate::run_record::{EpochRecord, Mode, RunOptions, RunRecord};
use crate::runs::ask_cluster::{ClusterSays, ask_cluster};
use crate::runs::places::{find_run, named, optional};
use crate::runs::scan_registry::{Namer, Scan, look_at_blob, scan_registry};
use crate::runs::show::saved_report;
use crate::{human, print};

/// Arguments of `runs explain`.
#[derive(Debug, Args)]
pub struct RunsExplainArgs {
    /// The run.
    pub run: RunId,
    /// The blob's digest: sha256:…
    pub digest: Digest,
    /// Where to look.
    #[command(flatten)]
    pub place: RunsPlace,
    /// Names so many manifests that need it, at most.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub namers: usize,
    /// The cluster, of a run that asked one. Default: that of the run's own context.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What is asked.
struct Question<'q> {
    state: &'q StateStore,
    record: &'q RunRecord,
    digest: Digest,
    namers: usize,
    /// The cluster, where the run asked one.
    cluster: Option<ClusterArgs>,
}

/// A removal, and its place: of which part, and there.
struct Found {
    part: usize,
    place: usize,
    removal: Removal,
}

pub(super) async fn explain(args: &RunsExplainArgs) -> Result<ExitStatus, RunError> {
    let (state, record) = find_run(&args.place, args.run).await?;
    let question = Question {
        state: &state,
        record: &record,
        digest: args.digest,
        namers: args.namers.max(1),
        cluster: cluster_of(&record.options, &args.cluster),
    };
    let mut answer = vec![format!(
        "{} in run {} on {}",
        args.digest, record.run, record.registry
    )];
    let mut is_planned = false;
    for epoch in &record.epochs {
        if let Some(line) = question.planned(epoch).await? {
            answer.push(line);
            is_planned = true;
        }
    }
    if !is_planned {
        answer.extend(question.kept().await?);
    }
    let text: String = answer
        .iter()
        .map(|line| format!("{}\n", human::printable(line)))
        .collect();
    print(&text)?;
    Ok(ExitStatus::Done)
}

/// The cluster of a run: as it is named now, else as it was then.
fn cluster_of(options: &RunOptions, args: &ClusterArgs) -> Option<ClusterArgs> {
    let asked = options.references.contains(&SourceName::Openshift);
    asked.then(|| ClusterArgs {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone().or_else(|| options.context.clone()),
    })
}

impl Question<'_> {
    fn epoch_of(&self, record: &EpochRecord) -> Epoch {
        Epoch {
            run: self.record.run,
            number: record.number,
        }
    }

    /// What an epoch planned to do with it, and did. `None` where it did not plan to delete it.
    async fn planned(&self, epoch: &EpochRecord) -> Result<Option<String>, RunError> {
        let Some(sha256) = epoch.sealed_plan else {
            return Ok(None);
        };
        let key = plan_key(&self.epoch_of(epoch));
        let plan: PlanDocument = self.state.read_sealed(&key, sha256).await?;
        let Some(found) = self.find(&plan).await? else {
            return Ok(None);
        };
        let Removal {
            size,
            last_modified,
            reason,
            ..
        } = found.removal;
        let written = last_modified
            .map(|time| format!(", written {time}"))
            .unwrap_or_default();
        let why = match reason {
            RemovalReason::Purged => "quarantined by an earlier run, and no reference named it since",
            _ => "an orphan: no reference named it, and it was older than the cutoff",
        };
        let what = format!("{}{written}; {why}", human::bytes(size));
        let number = epoch.number;
        if self.record.mode == Mode::Check {
            return Ok(Some(format!("would be deleted: {what}")));
        }
        let Some(books) = EpochBooks::open(self.state, self.record.run, epoch).await? else {
            let why = match saved_report(self.state, self.record.run)
                .await?
                .and_then(|report| report.error)
            {
                Some(error) => format!(": {error}"),
                None => String::new(),
            };
            return Ok(Some(format!(
                "not deleted: planned in epoch {number}, which then deleted nothing{why} ({what})"
            )));
        };
        self.carried_out(&books, &found, &what).await.map(Some)
    }

    async fn carried_out(&self, books: &EpochBooks, found: &Found, what: &str) -> Result<String, RunError> {
        let number = books.epoch().number;
        let task = sweep_task(&self.scope(books.plan()));
        let not_attempted =
            || format!("not deleted: planned in epoch {number}, and not attempted there ({what})");
        let journal = books
            .tasks()
            .find(|(id, _)| *id == task)
            .and_then(|(_, TaskBooks { journal, .. })| journal);
        let Some(journal) = journal else {
            return Ok(not_attempted());
        };
        let batches = journal.read_part(self.state, found.part).await?;
        let mut states = states_of(found.place + 1, &batches);
        Ok(match states.pop() {
            Some(State::Gone) => {
                let witnesses = journal.witnesses(self.state, found.part).await?;
                let witness = gone_in(found.place, &batches)
                    .and_then(|batch| witnesses.get(batch))
                    .cloned()
                    .unwrap_or_default();
                let sender = witness
                    .sender
                    .map(|sender| format!(" by {sender}"))
                    .unwrap_or_default();
                let ended = witness.ended.map(|time| format!(", {time}")).unwrap_or_default();
                let gone = match books.plan().undo {
                    Undo::Nothing => "deleted",
                    Undo::Copies => "moved into quarantine",
                    Undo::Versions => "hidden behind a delete marker",
                };
                format!("{gone}: in epoch {number}{sender}{ended} ({what})")
            }
            Some(State::Failed(message)) => {
                format!("failed: the store refused in epoch {number}: {message} ({what})")
            }
            Some(State::Open) => format!(
                "open: epoch {number} was about to delete it, and nobody has looked yet whether it is there; --resume does ({what})"
            ),
            Some(State::NotDone) | None => not_attempted(),
        })
    }

    fn scope(&self, plan: &PlanDocument) -> Scope {
        Scope::Shard(plan.shard_digits.shard_of(&self.digest))
    }

    async fn find(&self, plan: &PlanDocument) -> Result<Option<Found>, RunError> {
        let scope = self.scope(plan);
        let parts = plan
            .shards
            .iter()
            .filter(|shard| shard.scope == scope)
            .flat_map(|shard| &shard.findings.parts);
        for (part, file) in parts.enumerate() {
            let removals: Vec<Removal> = self.state.read_lines(file).await?;
            let place = removals
                .iter()
                .position(|removal| removal.blob() == Some(self.digest));
            if let Some((place, removal)) =
                place.and_then(|place| Some((place, removals.into_iter().nth(place)?)))
            {
                return Ok(Some(Found { part, place, removal }));
            }
        }
        Ok(None)
    }

    /// Why no epoch planned to delete it.
    async fn kept(&self) -> Result<Vec<String>, RunError> {
        let latest = self
            .record
            .epochs
            .iter()
            .rev()
            .find(|epoch| epoch.sealed_plan.is_some());
        let Some(latest) = latest else {
            return Ok(vec![
                "kept: the run did not come to a sealed plan, and deleted nothing".to_owned(),
            ]);
        };
        let mark: MarkDocument = self
            .state
            .read_json(&format!("{}mark.json", epoch_folder(&self.epoch_of(latest))))
            .await?;
        if let Some(line) = self.by_segments(&mark).await? {
            return Ok(self.beside_the_cluster(line).await);
        }
        let opened = named(storage_of(&self.record.registry)).and_then(|named| named.open());
        let registry = match opened {
            Ok(registry) if registry.identity() == self.record.registry => registry,
            _ => {
                let unknown = format!(
                    "kept: it was not there, or referenced, or younger than {}; {} cannot be reached from here, so it is not \
                     known which",
                    mark.cutoff, self.record.registry
                );
                return Ok(self.beside_the_cluster(unknown).await);
            }
        };
        self.by_the_registry(&*registry, &mark).await
    }

    /// What segments and filters say, which a run removes when it ends: only one that was killed has them.
    async fn by_segments(&self, mark: &MarkDocument) -> Result<Option<String>, RunError> {
        let shard = mark.shard_digits.shard_of(&self.digest);
        let filter = mark.filters.iter().find(|filter| filter.shard == shard);
        let Some(filter) = filter else { return Ok(None) };
        let Some(bytes) = optional(self.state.read(&filter.filter).await)? else {
            return Ok(None);
        };
        let Ok(filter) = VerifiedFilter::open(&bytes, &shard, &mark.epoch) else {
            return Ok(None);
        };
        if !filter.may_be_referenced(&self.digest) {
            return Ok(None);
        }
        let segments: Vec<&FileRef> = mark
            .ranges
            .iter()
            .flat_map(|range| &range.findings.references)
            .collect();
        for segment in segments {
            let Some(digests) = optional(read_segment::<Digest>(self.state, segment).await)? else {
                return Ok(None);
            };
            if digests.binary_search(&self.digest).is_ok() {
                return Ok(Some(format!(
                    "kept: referenced, by the segment {} of the run's mark",
                    segment.key
                )));
            }
        }
        // Links of frozen repositories are references that no segment of references has (R8).
        let is_frozen = mark.ranges.iter().any(|range| range.findings.frozen.is_some());
        Ok((!is_frozen).then(|| {
            by_chance(
                mark,
                "no segment of references has it, and its filter says that it may be referenced",
            )
        }))
    }

    async fn by_the_registry(
        &self,
        registry: &dyn Store,
        mark: &MarkDocument,
    ) -> Result<Vec<String>, RunError> {
        let Some(blob) = look_at_blob(registry, &self.digest).await? else {
            return Ok(vec![
                "not present: there is no such blob now, and the run did not plan to delete it: it was not there then, or \
                 somebody else has deleted it since"
                    .to_owned(),
            ]);
        };
        let mut scan = scan_registry(registry, &self.digest, self.namers).await?;
        let cluster = self.cluster_says(&scan.namers).await;
        let is_needed = cluster.as_ref().and_then(|says| says.is_needed);
        let namers = scan.namers.clone();
        if is_needed == Some(false) && self.record.options.references == [SourceName::Openshift] {
            // Manifests of the storage count for what the cluster has alone.
            scan.namers.clear();
        }
        let reason = match is_needed {
            Some(true) => "kept: referenced".to_owned(),
            _ => self.reason(&scan, blob.last_modified, mark).await?,
        };
        let mut lines = vec![reason];
        lines.extend(cluster.into_iter().flat_map(|says| says.lines));
        lines.extend(namers.iter().map(|namer| match namer {
            Namer::Manifest { repository, manifest } => {
                format!("  {repository}: the manifest {manifest} names it")
            }
            Namer::Revision { repository } => format!("  {repository}: it is a manifest there"),
            Namer::Signature { repository, manifest } => {
                format!("  {repository}: it is a signature of {manifest}")
            }
        }));
        if scan.is_cut_short {
            lines.push(format!(
                "  and perhaps more: --namers {} were asked for",
                self.namers
            ));
        }
        let who = match self.cluster {
            None => "the registry says",
            Some(_) => "the registry and the cluster say",
        };
        lines.push(format!(
            "this is what {who} now; when the run looked it may have been otherwise"
        ));
        Ok(lines)
    }

    /// An answer without a look at the registry, and what the cluster says now.
    async fn beside_the_cluster(&self, answer: String) -> Vec<String> {
        let says = self.cluster_says(&[]).await;
        let lines = says.into_iter().flat_map(|says| says.lines);
        iter::once(answer).chain(lines).collect()
    }

    /// What the cluster says now, where the run asked one.
    async fn cluster_says(&self, namers: &[Namer]) -> Option<ClusterSays> {
        let manifests = namers.iter().filter_map(|namer| match namer {
            Namer::Manifest { manifest, .. } | Namer::Signature { manifest, .. } => {
                Some(manifest.to_string())
            }
            Namer::Revision { .. } => None,
        });
        let manifests = manifests.collect();
        let args = self.cluster.as_ref()?;
        Some(ask_cluster(args, &self.digest, &manifests, self.namers).await)
    }

    async fn reason(
        &self,
        scan: &Scan,
        modified: jiff::Timestamp,
        mark: &MarkDocument,
    ) -> Result<String, RunError> {
        if !scan.namers.is_empty() {
            return Ok("kept: referenced".to_owned());
        }
        let frozen = self.frozen(mark).await?;
        if let Some(repository) = scan
            .linked_by
            .iter()
            .find(|repository| frozen.contains(repository))
        {
            return Ok(format!(
                "kept: the repository {repository} was frozen, because its manifests could not all be read, and has a link to it"
            ));
        }
        if let Some(repository) = scan.unreadable.first() {
            return Ok(format!(
                "kept: the repository {repository} has a link to it, and a manifest that cannot be read or understood"
            ));
        }
        if modified >= mark.cutoff {
            return Ok(format!(
                "kept: young: it was written {modified}, and the cutoff is {}",
                mark.cutoff
            ));
        }
        if self.record.reviewed_plan.is_some() && !self.is_reviewed().await? {
            return Ok("kept: it is not in the reviewed plan that the run carried out".to_owned());
        }
        Ok(by_chance(
            mark,
            "nothing names it now; if nothing did then, either a young link to it did, or its filter said that it may be referenced",
        ))
    }

    /// The repositories that the run's mark froze.
    async fn frozen(&self, mark: &MarkDocument) -> Result<Vec<String>, RunError> {
        let mut names = Vec::new();
        for file in mark
            .ranges
            .iter()
            .filter_map(|range| range.findings.frozen.as_ref())
        {
            names.extend(self.state.read_lines::<String>(file).await?);
        }
        Ok(names)
    }

    async fn is_reviewed(&self) -> Result<bool, RunError> {
        let Some(sha256) = self.record.reviewed_plan else {
            return Ok(false);
        };
        let key = format!("{}reviewed/plan.json", run_folder(self.record.run));
        let plan: PlanDocument = self.state.read_sealed(&key, sha256).await?;
        Ok(self.find(&plan).await?.is_some())
    }
}

fn by_chance(mark: &MarkDocument, why: &str) -> String {
    format!(
        "kept: by the filter's chance ({} of the orphans are): {why}. The next run has other filters, and deletes it",
        mark.false_positive_rate
    )
}
