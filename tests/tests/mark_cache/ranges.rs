//! Ranges that grew are split, and what was read of them is known on both sides of the cut.

use std::sync::Arc;

use anyhow::Result;
use hardprune_common::queue::in_process;
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::state::StateStore;
use hardprune_common::store::Store;
use hardprune_common::store::filesystem::FilesystemStore;
use hardprune_common::task::{KeyRange, MarkRules, MarkWork};
use hardprune_coordinator::dispatch::Dispatcher;
use hardprune_coordinator::mark::{self, TaskNames, ToMark};
use hardprune_coordinator::mark_cache::{CachedRange, MarkCache};
use hardprune_coordinator::metrics::CoordinatorMetrics;
use hardprune_coordinator::progress::Progress;
use hardprune_tests::generate::generate;
use hardprune_tests::scene::fast_folder;
use hardprune_tests::storage_writer::Folder;
use hardprune_worker::context::WorkerContext;
use hardprune_worker::mark_limits::MarkLimits;
use hardprune_worker::metrics::WorkerMetrics;
use hardprune_worker::run_task::work;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::scene::*;

/// What one mark read, what it knew, and how many ranges it was given and made.
#[derive(Debug, PartialEq, Eq)]
struct Marked {
    read: u64,
    cached: u64,
    given: usize,
    made: usize,
}

async fn mark(
    registry: &Arc<dyn Store>,
    state: &StateStore,
    keys_of_a_range: u64,
    wanted: usize,
    whole_repositories: bool,
) -> Result<Marked> {
    let metrics = prometheus::Registry::new();
    let coordinator = CoordinatorMetrics::register(&metrics)?;
    let stop = CancellationToken::new();
    let (publisher, consumer) = in_process(stop.clone());
    let consumer = Arc::new(consumer);
    let worker_metrics = WorkerMetrics::register(&metrics)?;
    let mut context = WorkerContext::new(Arc::clone(registry), state.clone(), 4, worker_metrics);
    context.mark_limits = MarkLimits {
        range_keys: keys_of_a_range,
        ..MarkLimits::default()
    };
    let context = Arc::new(context);
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        workers.spawn(work(Arc::clone(&context), consumer.clone()));
    }
    let epoch = Epoch::first(RunId::generate());
    let stores = (registry.identity().to_owned(), state.identity().to_owned());
    let dispatcher = Dispatcher::new(&publisher, epoch.clone(), stores, stop, coordinator.clone());
    let progress = Progress::on_standard_error(coordinator);
    let now = Timestamp::now();
    let rules = MarkRules {
        cutoff: now - jiff::SignedDuration::from_hours(24),
        delete_untagged: whole_repositories,
        prune_broken: false,
        delete_empty_repositories: false,
        empty_before: None,
        purge_tag_history_before: None,
        cluster: None,
        purge_uploads_before: None,
        accept_untagged_repositories: true,
        reviewed: None,
    };
    let mut cache = MarkCache::open(state, registry.identity(), &epoch, now).await;
    let everything = KeyRange {
        after: None,
        to: None,
    };
    let ranges = cache
        .ranges(wanted, true, whole_repositories)
        .unwrap_or(vec![everything]);
    let to_mark = ranges.into_iter().map(|range| cache.to_mark(range));
    let works: Vec<MarkWork> = to_mark
        .map(|ToMark { range, cache }| MarkWork {
            range,
            rules: rules.clone(),
            cache,
        })
        .collect();
    let given = works.len();
    let mut marked = Vec::new();
    let mut names = TaskNames::new("mark");
    mark::mark(&dispatcher, &mut names, works, &progress, &mut marked).await?;
    let handed_on: Vec<_> = marked.iter_mut().map(CachedRange::take).collect();
    cache.publish(&handed_on, Some(Vec::new())).await;
    cache.tidy_up().await;
    let counts = |of: fn(&hardprune_common::task::ManifestCounts) -> u64| {
        marked.iter().map(|range| of(&range.findings.manifests)).sum()
    };
    Ok(Marked {
        read: counts(|counts| counts.read),
        cached: counts(|counts| counts.cached),
        given,
        made: marked.len(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_grew_are_split_and_small_ones_brought_together() {
    let folder = fast_folder().unwrap();
    let storage = Folder::new(folder.path());
    let all = generate(&shape(), &storage).unwrap().manifests as u64;
    let registry: Arc<dyn Store> = Arc::new(FilesystemStore::open(folder.path()).unwrap());
    let state_folder = fast_folder().unwrap();
    let state = StateStore::new(Arc::new(FilesystemStore::open(state_folder.path()).unwrap()));

    let first = mark(&registry, &state, 100_000, 1, false).await.unwrap();
    let one = |read, cached| Marked {
        read,
        cached,
        given: 1,
        made: 1,
    };
    assert_eq!(first, one(all, 0));
    assert_eq!(
        mark(&registry, &state, 100_000, 1, false).await.unwrap(),
        one(0, all)
    );

    // It has become too large for one task: what is handed back is known as well.
    push(&storage, "team-05", "new").unwrap();
    let split = mark(&registry, &state, 150, 1, false).await.unwrap();
    assert_eq!((split.read, split.cached, split.given), (1, all, 1));
    assert!(split.made > 3, "{split:?}");

    // The next run is given these ranges, where it wants so many, and reads nothing.
    let again = mark(&registry, &state, 150, 100, false).await.unwrap();
    assert_eq!((again.read, again.cached, again.given), (0, all + 1, split.made));
    // Where it wants fewer, it is given fewer.
    let few = mark(&registry, &state, 100_000, 2, false).await.unwrap();
    assert_eq!((few.read, few.cached, few.given, few.made), (0, all + 1, 2, 2));
    // And where repositories are judged as a whole as well, whichever way they were cut before.
    let whole = mark(&registry, &state, 70, 3, true).await.unwrap();
    assert_eq!((whole.read, whole.cached), (0, all + 1));
}

/// A large range is cut again at the places that were noted in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_alone_is_cut_for_more_workers() {
    let folder = fast_folder().unwrap();
    let storage = Folder::new(folder.path());
    let large = hardprune_tests::generate::Shape {
        repositories: 60,
        images: 700,
        ..shape()
    };
    let all = generate(&large, &storage).unwrap().manifests as u64;
    let registry: Arc<dyn Store> = Arc::new(FilesystemStore::open(folder.path()).unwrap());
    let state_folder = fast_folder().unwrap();
    let state = StateStore::new(Arc::new(FilesystemStore::open(state_folder.path()).unwrap()));
    let first = mark(&registry, &state, 100_000, 1, false).await.unwrap();
    assert_eq!((first.read, first.made), (all, 1));
    let second = mark(&registry, &state, 100_000, 4, false).await.unwrap();
    assert_eq!((second.read, second.cached, second.given), (0, all, 4));
}
