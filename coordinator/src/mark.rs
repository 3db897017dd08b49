//! Mark, the coordinator's part: cuts the `repositories/` key space into ranges and gathers what was found in each.
//!
//! Ranges are cut only between repositories. Their tiling is proved when the mark is sealed (R2).

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::clock;
use hardprune_common::mark_cache::CacheWork;
use hardprune_common::seal::MarkedRange;
use hardprune_common::state::FileRef;
use hardprune_common::store::{Store, StoreError};
use hardprune_common::task::{Findings, KeyRange, MarkRules, MarkWork, Work};

use jiff::Timestamp;

use crate::dispatch::{DispatchError, Dispatcher};
use crate::metrics::Stage;
use crate::progress::Progress;
use crate::run_record::RunOptions;

/// Ranges that are cut for each worker, so that one with a large one does not keep the others waiting for long. Each costs
/// two listings at least.
const RANGES_FOR_A_WORKER: usize = 2;
/// Ranges that are cut at most where each is listed from the first key on: pages are asked for two and a half times then.
const MOST_RANGES_FROM_THE_FIRST_KEY: usize = 4;
/// Folders looked into at once while cutting.
const FOLDERS_AT_ONCE: usize = 16;
/// Repositories' folders have names of several parts; deeper than this nothing is cut.
const DEEPEST_CUT: usize = 4;

/// Cuts the repositories' key space below a folder into about as many ranges as so many workers need, of unknown and unequal size.
/// The first and the last of them have no bound on their outer side.
///
/// Asks for the listing of fewer folders than there will be ranges.
///
/// # Errors
///
/// The store's.
pub async fn cut_ranges(
    registry: &dyn Store,
    below: &str,
    workers: usize,
) -> Result<Vec<KeyRange>, StoreError> {
    let wanted = ranges_wanted(workers, registry.starts_listings_anywhere());
    let mut cuts = BTreeSet::new();
    let mut level = vec![below.to_owned()];
    for _ in 0..DEEPEST_CUT {
        let mut below = stream::iter(level)
            .map(|folder| subfolders(registry, folder))
            .buffer_unordered(FOLDERS_AT_ONCE);
        let mut next = Vec::new();
        while let Some(folders) = below.try_next().await? {
            next.extend(folders);
        }
        cuts.extend(next.iter().cloned());
        if next.is_empty() || cuts.len() >= wanted || next.len() > wanted {
            break;
        }
        level = next;
    }
    // The first folder is no cut: nothing but its own keys lies before it.
    let cuts: Vec<String> = cuts.into_iter().skip(1).collect();
    let step = cuts.len().div_ceil(wanted.max(1)).max(1);
    let mut ranges = Vec::new();
    let mut after = None;
    for cut in cuts.into_iter().step_by(step) {
        ranges.push(KeyRange {
            after: after.replace(cut.clone()),
            to: Some(cut),
        });
    }
    ranges.push(KeyRange { after, to: None });
    Ok(ranges)
}

/// How many ranges are worth their listings (decision 0013).
#[must_use]
pub fn ranges_wanted(workers: usize, starts_listings_anywhere: bool) -> usize {
    let wanted = workers * RANGES_FOR_A_WORKER;
    if starts_listings_anywhere {
        wanted
    } else {
        wanted.min(MOST_RANGES_FROM_THE_FIRST_KEY)
    }
}

/// The folders below one that are parts of repositories' names.
async fn subfolders(registry: &dyn Store, folder: String) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let mut pages = registry.list_folder(&folder);
    while let Some(page) = pages.try_next().await? {
        let is_name = |key: &String| !key[folder.len()..].starts_with('_');
        found.extend(page.folders.into_iter().filter(is_name));
    }
    Ok(found)
}

/// What counts as dead in an epoch that `started` then, by the store's clock (R4).
#[must_use]
pub fn rules(options: &RunOptions, started: Timestamp, reviewed: Option<FileRef>) -> MarkRules {
    let before = |seconds: Option<u64>| {
        let age = seconds.map(Duration::from_secs);
        age.map(|age| clock::earlier(started, age))
    };
    MarkRules {
        cutoff: clock::earlier(started, options.keep_younger_than()),
        delete_untagged: options.delete_untagged,
        accept_untagged_repositories: options.accept_untagged_repositories,
        prune_broken: options.prune_broken,
        delete_empty_repositories: options.delete_empty_repositories,
        empty_before: before(options.empty_repositories_older_than_seconds),
        purge_tag_history_before: before(options.purge_tag_history_older_than_seconds),
        purge_uploads_before: before(options.purge_uploads_older_than_seconds),
        reviewed,
        cluster: None,
    }
}

/// The names of mark tasks: no two of an epoch are alike.
#[derive(Debug)]
pub struct TaskNames {
    prefix: String,
    made: usize,
}

impl TaskNames {
    /// Names that begin with this, and no others of the epoch do.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        Self { prefix, made: 0 }
    }

    fn next(&mut self) -> String {
        self.made += 1;
        format!("{}-{:06}", self.prefix, self.made)
    }
}

/// A range that is to be marked.
#[derive(Debug, Clone)]
pub struct ToMark {
    /// The range.
    pub range: KeyRange,
    /// What earlier runs read of it.
    pub cache: Option<CacheWork>,
}

impl ToMark {
    /// A range of which everything is to be read.
    #[must_use]
    pub fn without_cache(range: KeyRange) -> Self {
        Self { range, cache: None }
    }
}

/// Marks ranges; what a worker leaves of a large one is handed out again. `marked` gets what was found, ascending, and beside it what it has already.
///
/// # Errors
///
/// A range that could not be marked: without it there is no seal. The others are marked all the same.
pub async fn mark(
    dispatcher: &Dispatcher<'_>,
    names: &mut TaskNames,
    works: Vec<MarkWork>,
    progress: &Progress,
    marked: &mut Vec<MarkedRange>,
) -> Result<(), DispatchError> {
    let mut task = |work: MarkWork| (names.next(), Work::Mark(work));
    let stage = progress.stage(Stage::Mark, works.len() as u64, "ranges");
    let first = works.into_iter().map(&mut task).collect();
    let finished = dispatcher
        .finish_all(first, |done, findings| {
            let (Work::Mark(work), Findings::Mark(mut findings)) = (&done.work, findings) else {
                return Vec::new();
            };
            let mut range = work.range.clone();
            let mut rest = Vec::new();
            if let Some(done_to) = findings.done_to.take() {
                let to = range.to.replace(done_to.clone());
                rest.push(task(MarkWork {
                    range: KeyRange {
                        after: Some(done_to),
                        to,
                    },
                    rules: work.rules.clone(),
                    cache: work.cache.clone(),
                }));
            }
            stage.more(rest.len() as u64);
            stage.done(1, findings.repositories, 0);
            marked.push(MarkedRange { range, findings });
            rest
        })
        .await;
    // However the tasks were shared out: what follows reads the same.
    marked.sort_by(|a, b| a.range.after.cmp(&b.range.after));
    finished?;
    stage.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_ranges_where_each_is_listed_from_the_first_key() {
        assert_eq!(ranges_wanted(32, true), 64);
        assert_eq!(ranges_wanted(32, false), 4);
        assert_eq!(ranges_wanted(1, false), 2);
    }
}
