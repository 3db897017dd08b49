//! Where ranges end, repositories are taken apart and manifests are forgotten: no result depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Result, anyhow, ensure};
use hardprune_common::filter::FilterSeed;
use hardprune_common::problem::Problem;
use hardprune_common::queue::in_process;
use hardprune_common::removal::Removal;
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::MarkedRange;
use hardprune_common::state::{FileRef, StateStore, epoch_folder};
use hardprune_common::store::Store;
use hardprune_common::store::filesystem::FilesystemStore;
use hardprune_common::store::location::{Environment, OpenOptions, Settings, StorageLocation};
use hardprune_common::task::{KeyRange, MarkRules, MarkWork};
use hardprune_coordinator::dispatch::Dispatcher;
use hardprune_coordinator::mark;
use hardprune_coordinator::metrics::CoordinatorMetrics;
use hardprune_coordinator::progress::Progress;
use hardprune_coordinator::seal::{SealOptions, seal, survey_blob_space};
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::manifests::{self, Content, Family};
use hardprune_tests::s3_server::{S3Options, S3Server};
use hardprune_tests::scene::fast_folder;
use hardprune_tests::storage_writer::{Folder, Storage, blob_key, layer_link_key, revision_link_key};
use hardprune_worker::context::WorkerContext;
use hardprune_worker::mark_limits::MarkLimits;
use hardprune_worker::metrics::WorkerMetrics;
use hardprune_worker::run_task::work;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const CASES: u32 = 16;
const DAY: i64 = 86_400;

/// A registry's storage, as a store and past it.
struct Place {
    store: Arc<dyn Store>,
    storage: Arc<dyn Storage>,
    _folder: Option<TempDir>,
}

impl Place {
    fn folder() -> Result<Self> {
        let folder = fast_folder()?;
        Ok(Self {
            store: Arc::new(FilesystemStore::open(folder.path())?),
            storage: Arc::new(Folder::new(folder.path())),
            _folder: Some(folder),
        })
    }

    /// Pieces end with pages: these are small.
    fn s3() -> Result<Self> {
        let server = S3Server::start(S3Options {
            page_size: 5,
            ..S3Options::default()
        })?;
        let mut settings: Settings = [
            ("access_key_id", server.access_key()),
            ("secret_access_key", server.secret_key()),
            ("region", "us-east-1"),
        ]
        .into_iter()
        .collect();
        settings.set("endpoint", server.endpoint());
        let name = format!("s3://{}", server.bucket());
        let location = StorageLocation::parse_in(&name, settings, Environment::default())?;
        Ok(Self {
            store: location.open(&OpenOptions::default())?,
            storage: Arc::new(server),
            _folder: None,
        })
    }
}

/// Everything that a sealed mark says, whatever its ranges.
#[derive(Debug, PartialEq)]
struct Sealed {
    references: u64,
    /// Files by shard: one epoch and one seed give equal filters for equal references.
    filters: BTreeMap<String, String>,
    removals: BTreeSet<String>,
    dangling: BTreeSet<String>,
    problems: BTreeSet<String>,
    repositories: u64,
    frozen_repositories: u64,
    unrecognized_keys: u64,
    upload_bytes: u64,
}

struct Marked {
    ranges: Vec<MarkedRange>,
    sealed: Sealed,
}

fn rules(delete_untagged: bool, prune_broken: bool) -> MarkRules {
    let now = Timestamp::now();
    MarkRules {
        cutoff: now - jiff::SignedDuration::from_secs(DAY),
        delete_untagged,
        prune_broken,
        delete_empty_repositories: false,
        empty_before: None,
        purge_tag_history_before: None,
        purge_uploads_before: None,
        accept_untagged_repositories: true,
        reviewed: None,
        cluster: None,
    }
}

/// Marks a registry and seals the mark, with workers of this process.
async fn mark(
    registry: &Arc<dyn Store>,
    rules: &MarkRules,
    limits: MarkLimits,
    epoch: &Epoch,
) -> Result<Marked> {
    let folder = fast_folder()?;
    let state = StateStore::new(Arc::new(FilesystemStore::open(folder.path())?));
    let metrics = prometheus::Registry::new();
    let coordinator = CoordinatorMetrics::register(&metrics)?;
    let stop = CancellationToken::new();
    let (publisher, consumer) = in_process(stop.clone());
    let consumer = Arc::new(consumer);
    let mut context = WorkerContext::new(
        Arc::clone(registry),
        state.clone(),
        4,
        WorkerMetrics::register(&metrics)?,
    );
    context.mark_limits = limits;
    let context = Arc::new(context);
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        workers.spawn(work(Arc::clone(&context), consumer.clone()));
    }
    let stores = (registry.identity().to_owned(), state.identity().to_owned());
    let dispatcher = Dispatcher::new(&publisher, epoch.clone(), stores, stop, coordinator.clone());
    let progress = Progress::on_standard_error(coordinator);
    let everything = KeyRange {
        after: None,
        to: None,
    };
    let everything = MarkWork {
        range: everything,
        rules: rules.clone(),
        cache: None,
    };
    let (mut names, mut ranges) = (mark::TaskNames::new("mark"), Vec::new());
    mark::mark(&dispatcher, &mut names, vec![everything], &progress, &mut ranges).await?;
    let space = survey_blob_space(&**registry).await?;
    let options = SealOptions {
        epoch: epoch.clone(),
        cutoff: rules.cutoff,
        false_positive_rate: 1e-6,
        seed: FilterSeed::of_number(1),
        shard_digits: None,
        reviewed: None,
        sources: Default::default(),
        spool_dir: folder.path(),
        folder: epoch_folder(epoch),
        copies: None,
    };
    let mark = seal(&state, &**registry, ranges, &space, options).await?;
    let document = mark.document();
    let sum = |count: fn(&MarkedRange) -> u64| document.ranges.iter().map(count).sum();
    let problems: Vec<FileRef> = document
        .ranges
        .iter()
        .filter_map(|range| range.findings.problems.clone())
        .collect();
    let sealed = Sealed {
        references: document.references,
        filters: document
            .filters
            .iter()
            .map(|filter| (filter.shard.to_string(), filter.filter.sha256.to_string()))
            .collect(),
        removals: lines::<Removal>(&state, &document.unlink).await?,
        dangling: lines::<Removal>(&state, &document.dangling).await?,
        problems: lines::<Problem>(&state, &problems).await?,
        repositories: sum(|range| range.findings.repositories),
        frozen_repositories: sum(|range| range.findings.frozen_repositories),
        unrecognized_keys: sum(|range| range.findings.unrecognized_keys),
        upload_bytes: sum(|range| range.findings.upload_bytes),
    };
    Ok(Marked {
        ranges: document.ranges.clone(),
        sealed,
    })
}

async fn lines<T: serde::Serialize + serde::de::DeserializeOwned>(
    state: &StateStore,
    files: &[FileRef],
) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for file in files {
        for line in state.read_lines::<T>(file).await? {
            all.insert(serde_json::to_string(&line)?);
        }
    }
    Ok(all)
}

fn epoch() -> Epoch {
    Epoch {
        run: RunId::generate(),
        number: 1,
    }
}

fn limits() -> impl Strategy<Value = MarkLimits> {
    let of_ranges = (1..30_u64, 1..12_usize);
    let remembered = (0..12_usize, 0..12_usize);
    let pieces = (1..6_usize, 1..6_usize, 1..6_usize);
    (of_ranges, remembered, pieces).prop_map(|(of_ranges, remembered, pieces)| MarkLimits {
        range_keys: of_ranges.0,
        range_revisions: of_ranges.1,
        remembered_reads: remembered.0,
        remembered_manifests: remembered.1,
        piece_revisions: pieces.0,
        glanced_piece_revisions: pieces.2,
        piece_layers: pieces.1,
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let counts = (
        1..7_usize,
        0..25_usize,
        0..=100_usize,
        0..6_usize,
        0..5_usize,
        any::<u64>(),
    );
    counts.prop_map(
        |(repositories, images, multi_arch_percent, untagged_images, signatures, seed)| Shape {
            repositories,
            images,
            multi_arch_percent,
            untagged_images,
            signatures,
            orphans: 12,
            ..Shape::small(seed)
        },
    )
}

/// Cuts a manifest short, or takes it away: its repository is frozen, or it is dead.
fn break_one(place: &Place, which: prop::sample::Index, cut: bool) -> Result<()> {
    let revisions: BTreeSet<String> = place
        .storage
        .keys()?
        .into_keys()
        .filter_map(|key| {
            Some(
                key.split_once("/revisions/sha256/")?
                    .1
                    .strip_suffix("/link")?
                    .to_owned(),
            )
        })
        .collect();
    let revisions: Vec<_> = revisions.into_iter().collect();
    if revisions.is_empty() {
        return Ok(());
    }
    let key = blob_key(&format!("sha256:{}", which.get(&revisions)));
    match place.storage.get(&key)? {
        Some(bytes) if cut => {
            let old = SystemTime::now() - std::time::Duration::from_secs(30 * 86_400);
            place.storage.put(&key, &bytes[..bytes.len() / 2], old)
        }
        Some(_) => place.storage.remove(&key),
        None => Ok(()),
    }
}

/// Returns how many ranges there were more than without limits, in all cases together.
fn results_are_the_same(place: fn() -> Result<Place>, seed: u8) -> Result<usize> {
    let runtime = tokio::runtime::Runtime::new()?;
    let more = std::cell::Cell::new(0);
    let broken = prop::option::of((any::<prop::sample::Index>(), any::<bool>()));
    let values = (shape(), limits(), any::<bool>(), any::<bool>(), broken);
    let config = Config {
        cases: CASES,
        max_shrink_iters: 12,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let held = TestRunner::new_with_rng(config, rng).run(
        &values,
        |(shape, limits, delete_untagged, prune_broken, broken)| {
            let compare = || -> Result<()> {
                let place = place()?;
                generate(&shape, &*place.storage)?;
                if let Some((which, cut)) = broken {
                    break_one(&place, which, cut)?;
                }
                let (rules, epoch) = (rules(delete_untagged, prune_broken), epoch());
                let usual = runtime.block_on(mark(&place.store, &rules, MarkLimits::default(), &epoch))?;
                let tiny = runtime.block_on(mark(&place.store, &rules, limits, &epoch))?;
                more.set(more.get() + tiny.ranges.len() - usual.ranges.len());
                ensure!(
                    tiny.sealed == usual.sealed,
                    "{limits:?}:\n{:#?}\ninstead of\n{:#?}",
                    tiny.sealed,
                    usual.sealed
                );
                Ok(())
            };
            compare().map_err(|error| TestCaseError::fail(format!("{error:#}")))
        },
    );
    held.map_err(|error| anyhow!("{error}"))?;
    Ok(more.get())
}

#[test]
fn in_a_folder_results_are_the_same_under_any_limits() {
    let more = results_are_the_same(Place::folder, 1).unwrap();
    assert!(more > 10, "only {more} ranges ended early");
}

#[test]
fn on_s3_results_are_the_same_under_any_limits() {
    let more = results_are_the_same(Place::s3, 2).unwrap();
    assert!(more > 10, "only {more} ranges ended early");
}

/// Writes an old image: its manifest, and what links it into a repository.
fn put_image(storage: &dyn Storage, repository: &str, blobs: &[&Content], manifest: &Content) -> Result<()> {
    let old = SystemTime::now() - std::time::Duration::from_secs(30 * 86_400);
    for blob in blobs {
        storage.put(&blob_key(&blob.digest), &blob.bytes, old)?;
        storage.put(
            &layer_link_key(repository, &blob.digest),
            blob.digest.as_bytes(),
            old,
        )?;
    }
    storage.put(&blob_key(&manifest.digest), &manifest.bytes, old)?;
    let link = revision_link_key(repository, &manifest.digest);
    storage.put(&link, manifest.digest.as_bytes(), old)
}

/// One manifest in many repositories, and others that fill what a task remembers before it comes to that one.
#[tokio::test]
async fn ranges_end_before_a_manifest_must_be_read_twice() {
    let place = Place::s3().unwrap();
    let image = |number: usize| {
        let config = manifests::config(Family::Oci, &format!("machine-{number}"), &[]);
        let manifest = manifests::image(Family::Oci, &config, &[], None);
        (config, manifest)
    };
    let (config, shared) = image(0);
    for number in 0..12 {
        let repository = format!("team/{number:02}");
        for of_its_own in 1..=3 {
            let (config, manifest) = image(number * 10 + of_its_own);
            put_image(&*place.storage, &repository, &[&config], &manifest).unwrap();
        }
        if number >= 6 {
            put_image(&*place.storage, &repository, &[&config], &shared).unwrap();
        }
    }
    let limits = MarkLimits {
        range_revisions: 5,
        remembered_manifests: 10,
        ..MarkLimits::default()
    };
    let marked = mark(&place.store, &rules(true, false), limits, &epoch())
        .await
        .unwrap();
    assert!(marked.ranges.len() > 4);
    let keys = place.storage.keys().unwrap();
    for MarkedRange { range, findings } in &marked.ranges {
        let listing = range.listing();
        let revisions: BTreeSet<_> = keys
            .keys()
            .filter(|key| listing.contains(key))
            .filter_map(|key| key.split_once("/revisions/").map(|(_, revision)| revision))
            .collect();
        assert_eq!(findings.manifests.read, revisions.len() as u64, "{range:?}");
    }
}
