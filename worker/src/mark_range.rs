//! Mark: lists a range of repositories, reads each manifest, and writes what it found as segments.
//!
//! Comes in: a range, cut between repositories. Goes out: segments of references and of layer links, removals, problems.
//! A range that turns out large is ended early, between two repositories; the coordinator publishes the rest.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use hardprune_common::digest::Digest;
use hardprune_common::layout::{parse_repository_key, repository_start};
use hardprune_common::mark_cache::SeenManifest;
use hardprune_common::problem::Problem;
use hardprune_common::removal::Removal;
use hardprune_common::removal_files::RemovalWriter;
use hardprune_common::segment::{LayerLink, SegmentWriter};
use hardprune_common::state::{FileRef, StateStore, epoch_folder};
use hardprune_common::store::{StoreError, Wanted};
use hardprune_common::task::{MarkFindings, MarkRules, MarkWork, RangeCut, RangeSize, Task};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::cluster_says::KnownRepositories;
use crate::context::{MANIFESTS_AT_ONCE, TaskError, WorkerContext};
use crate::manifest_cache::ManifestCache;
use crate::mark_limits::MarkLimits;
use crate::mark_repository::{KeptWhole, RepositoryMarker, RepositoryMarks};
use crate::read_links::LinkReader;
use crate::read_manifests::{ManifestReader, Remember};
use crate::repository_keys::{RepositoryCollector, RepositoryKeys, Sorted};

/// Repositories, or pieces of them, that one task marks at once: the many small ones must not wait for each other's reads.
const REPOSITORIES_AT_ONCE: usize = 32;

pub(crate) async fn mark_range(
    context: &WorkerContext,
    task: &Task,
    attempt: &str,
    work: &MarkWork,
) -> Result<MarkFindings, TaskError> {
    let reviewed = match &work.rules.reviewed {
        Some(list) => Some(reviewed_keys(&context.state, list, work).await?),
        None => None,
    };
    let cluster = match &work.rules.cluster {
        Some(says) => Some(KnownRepositories::read(&context.state, says).await?),
        None => None,
    };
    let limits = context.mark_limits;
    let cache = match &work.cache {
        Some(cache) => Some(ManifestCache::open(&context.state, task, attempt, &work.range, cache).await),
        None => None,
    };
    let marker = Arc::new(RepositoryMarker {
        registry: Arc::clone(&context.registry),
        manifests: ManifestReader::new(
            Arc::clone(&context.registry),
            remember(&work.rules, limits),
            cache,
        ),
        links: LinkReader::new(Arc::clone(&context.registry)),
        rules: work.rules.clone(),
        reviewed,
        cluster,
        reads_in_flight: context.reads_in_flight,
        kept_whole: KeptWhole::default(),
    });
    let mut writer = FindingsWriter::new(context.state.clone(), task, attempt);
    let mut repositories = Repositories {
        marker: Arc::clone(&marker),
        at_once: Arc::clone(&context.manifests_at_once),
        running: JoinSet::new(),
    };
    let mut collector = RepositoryCollector::new(&work.rules, limits);
    let judges_whole = work.rules.judge_whole_repositories();
    // Where the rest would be listed from the first key on again, it is not handed on (decision 0013).
    let ends_early = context.registry.starts_listings_anywhere();
    let mut listed = 0u64;
    let mut cuts = Cuts::default();
    let mut last_key: Option<String> = None;

    let mut pages = context.registry.glance(work.range.listing(), wanted(&work.rules));
    'listing: while let Some(page) = pages.try_next().await? {
        for glimpse in page {
            let is_large =
                listed >= limits.range_keys || judges_whole && collector.revisions >= limits.range_revisions;
            if (ends_early && is_large || cuts.is_due(listed))
                && let Some(start) = begins_repository(glimpse.key(), last_key.as_deref())
            {
                if ends_early && is_large {
                    writer.findings.done_to = Some(start);
                    break 'listing;
                }
                let revisions = collector.revisions as u64;
                cuts.add(
                    start,
                    RangeSize {
                        keys: listed,
                        revisions,
                    },
                );
            }
            listed += 1;
            if let Sorted::Next(repository) = collector.take(&glimpse) {
                writer.findings.repositories += 1;
                repositories.start(repository, &mut writer).await?;
            }
            if let Some(piece) = collector.take_piece() {
                repositories.start(piece, &mut writer).await?;
            }
            last_key = Some(glimpse.into_key());
        }
        for link in collector.take_layer_links() {
            writer.layer_links.push(link).await?;
        }
    }
    drop(pages);
    if let Some(repository) = collector.finish() {
        writer.findings.repositories += 1;
        repositories.start(repository, &mut writer).await?;
    }
    repositories.finish(&mut writer).await?;
    writer.findings.unrecognized_keys += collector.unrecognized;
    writer.findings.manifests = marker.manifests.counts();
    writer.findings.size = RangeSize {
        keys: listed,
        revisions: collector.revisions as u64,
    };
    writer.findings.cuts = cuts.places;
    if let Some(cache) = marker.manifests.cache() {
        writer.add_seen(cache.take_seen()).await?;
        writer.findings.cached = cache.finish().await;
    }
    writer.finish().await
}

/// What the listing must show: tags and uploads count only where repositories are judged as a whole.
fn wanted(rules: &MarkRules) -> Wanted {
    if rules.judge_whole_repositories() {
        Wanted::Everything
    } else {
        Wanted::LayersAndManifests
    }
}

/// Whether what a manifest says must be remembered: only where some may be dead in one repository and live in another.
fn remember(rules: &MarkRules, limits: MarkLimits) -> Remember {
    if rules.judge_whole_repositories() {
        Remember::WhatItSays {
            at_most: limits.remembered_manifests,
        }
    } else {
        Remember::ThatItWasRead {
            at_most: limits.remembered_reads,
        }
    }
}

/// Where a range may be cut before an object, if that is the first of its repository.
fn begins_repository(key: &str, last_key: Option<&str>) -> Option<String> {
    let name = |key| parse_repository_key(key).map(|key| key.repository);
    match (name(key), last_key.map(name)) {
        (Some(repository), Some(last)) if last != Some(repository) => Some(repository_start(repository)),
        _ => None,
    }
}

/// Where a range may be cut the next time: a bounded number of places that are about equally far from each other.
struct Cuts {
    places: Vec<RangeCut>,
    /// Keys between two of them, at least.
    step: u64,
}

/// Keys between two places to cut, as long as there are few.
const CUT_AFTER: u64 = 1_000;
const MOST_CUTS: usize = 32;

impl Default for Cuts {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            step: CUT_AFTER,
        }
    }
}

impl Cuts {
    fn is_due(&self, keys: u64) -> bool {
        keys >= self.places.last().map_or(0, |last| last.before.keys) + self.step
    }

    fn add(&mut self, to: String, before: RangeSize) {
        if !self.is_due(before.keys) {
            return;
        }
        self.places.push(RangeCut { to, before });
        if self.places.len() > MOST_CUTS {
            self.step *= 2;
            let mut number = 0usize;
            self.places.retain(|_| {
                number += 1;
                number.is_multiple_of(2)
            });
        }
    }
}

/// The keys of a reviewed plan that lie in a task's range.
async fn reviewed_keys(
    state: &StateStore,
    list: &FileRef,
    work: &MarkWork,
) -> Result<HashSet<String>, TaskError> {
    let listing = work.range.listing();
    let mut keys = HashSet::new();
    for file in state.read_lines::<FileRef>(list).await? {
        let removals = state.read_lines::<Removal>(&file).await?;
        keys.extend(
            removals
                .into_iter()
                .map(|removal| removal.key)
                .filter(|key| listing.contains(key)),
        );
    }
    Ok(keys)
}

/// The repositories being marked.
struct Repositories {
    marker: Arc<RepositoryMarker>,
    /// Bounds those of all tasks together (R9).
    at_once: Arc<Semaphore>,
    running: JoinSet<Result<Marked, StoreError>>,
}

/// What marking a repository found, and the room that it takes until it is written.
type Marked = (RepositoryMarks, OwnedSemaphorePermit);

impl Repositories {
    async fn start(&mut self, keys: RepositoryKeys, writer: &mut FindingsWriter) -> Result<(), TaskError> {
        while self.running.len() >= REPOSITORIES_AT_ONCE {
            self.take_one(writer).await?;
        }
        let weight = keys.weight().min(MANIFESTS_AT_ONCE);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let room = loop {
            let room = Arc::clone(&self.at_once).acquire_many_owned(weight);
            tokio::select! {
                room = room => break room.map_err(|error| TaskError::Lost(error.to_string()))?,
                // What is marked already, and waits to be written, may be what has the room.
                Some(marked) = self.running.join_next() => add(&self.marker, writer, marked).await?,
            }
        };
        let marker = Arc::clone(&self.marker);
        self.running
            .spawn(async move { Ok((marker.mark(keys).await?, room)) });
        Ok(())
    }

    async fn finish(&mut self, writer: &mut FindingsWriter) -> Result<(), TaskError> {
        while !self.running.is_empty() {
            self.take_one(writer).await?;
        }
        Ok(())
    }

    async fn take_one(&mut self, writer: &mut FindingsWriter) -> Result<(), TaskError> {
        match self.running.join_next().await {
            Some(marked) => add(&self.marker, writer, marked).await,
            None => Ok(()),
        }
    }
}

/// Writes what marking a repository found.
async fn add(
    marker: &RepositoryMarker,
    writer: &mut FindingsWriter,
    marked: Result<Result<Marked, StoreError>, JoinError>,
) -> Result<(), TaskError> {
    let (marks, _room) = marked.map_err(|error| TaskError::Lost(error.to_string()))??;
    if let Some(cache) = marker.manifests.cache() {
        writer.add_seen(cache.take_seen()).await?;
    }
    writer.add(marks).await
}

/// Writes what a task found.
struct FindingsWriter {
    state: StateStore,
    key_prefix: String,
    references: SegmentWriter<Digest>,
    may_be_absent: SegmentWriter<Digest>,
    layer_links: SegmentWriter<LayerLink>,
    manifests_seen: SegmentWriter<SeenManifest>,
    removals: RemovalWriter,
    problems: Vec<Problem>,
    frozen: HashSet<String>,
    findings: MarkFindings,
}

impl FindingsWriter {
    fn new(state: StateStore, task: &Task, attempt: &str) -> Self {
        let key_prefix = format!("{}mark/{}.{attempt}", epoch_folder(&task.epoch), task.id);
        Self {
            references: SegmentWriter::new(state.clone(), key_prefix.clone()),
            may_be_absent: SegmentWriter::new(state.clone(), format!("{key_prefix}.may-be-absent")),
            layer_links: SegmentWriter::new(state.clone(), key_prefix.clone()),
            manifests_seen: SegmentWriter::new(state.clone(), key_prefix.clone()),
            removals: RemovalWriter::new(state.clone(), format!("{key_prefix}.removals")),
            state,
            key_prefix,
            problems: Vec::new(),
            frozen: HashSet::new(),
            findings: MarkFindings::default(),
        }
    }

    async fn add(&mut self, marks: RepositoryMarks) -> Result<(), TaskError> {
        let RepositoryMarks {
            name,
            references,
            kept,
            may_be_absent,
            layer_links,
            removals,
            problems,
            frozen,
            has_odd_links: _,
            unrecognized,
            uploads,
            upload_bytes,
            is_empty,
        } = marks;
        // R1: both are references.
        for reference in references.into_iter().chain(kept) {
            self.references.push(reference).await?;
        }
        for digest in may_be_absent {
            self.may_be_absent.push(digest).await?;
        }
        for link in layer_links {
            self.layer_links.push(link).await?;
        }
        for problem in &problems {
            *self.findings.problem_counts.entry(problem.kind).or_default() += 1;
        }
        self.problems.extend(problems);
        self.findings.unrecognized_keys += unrecognized;
        self.findings.uploads += uploads;
        self.findings.upload_bytes += upload_bytes;
        self.findings.empty_repositories += u64::from(is_empty);
        if frozen {
            self.frozen.insert(name);
        }
        for removal in removals {
            self.removals.push(removal).await?;
        }
        Ok(())
    }

    async fn add_seen(&mut self, seen: Vec<SeenManifest>) -> Result<(), TaskError> {
        for manifest in seen {
            self.manifests_seen.push(manifest).await?;
        }
        Ok(())
    }

    async fn finish(self) -> Result<MarkFindings, TaskError> {
        let mut findings = self.findings;
        findings.removals = self.removals.finish().await?;
        findings.references = self.references.finish().await?;
        findings.may_be_absent = self.may_be_absent.finish().await?;
        findings.layer_links = self.layer_links.finish().await?;
        findings.manifests_seen = self.manifests_seen.finish().await?;
        findings.frozen_repositories = self.frozen.len() as u64;
        if !self.frozen.is_empty() {
            let mut names: Vec<_> = self.frozen.into_iter().collect();
            names.sort_unstable();
            let key = format!("{}.frozen.jsonl", self.key_prefix);
            findings.frozen = Some(self.state.write_lines(&key, &names).await?);
        }
        if !self.problems.is_empty() {
            let key = format!("{}.problems.jsonl", self.key_prefix);
            findings.problems = Some(self.state.write_lines(&key, &self.problems).await?);
        }
        Ok(findings)
    }
}
