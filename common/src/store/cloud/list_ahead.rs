//! Lists a range in several places at once where it leads through a large folder of digests: a repository with a million links is
//! one task's, and page after page it would take a thousand times a request's latency.
//!
//! Digests are spread evenly, so a few pages tell how many there are still to come, and where to cut. What comes out is what a listing
//! of the whole range gives, in its order.

use std::sync::Arc;

use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::CloudStore;
use crate::store::{ListRange, ListedObject, StoreError};

/// Pages of one folder, one after another, by which it counts as large; and about as many has a stretch of it. The last page of each
/// stretch is partly in vain: with so many it is one in twenty-four.
const STRETCH_PAGES: usize = 12;
/// Stretches that are read at once, by all listings of a store: what was read ahead is held until its turn comes (R9), 4 MB each.
const STRETCHES_AT_ONCE: usize = 4;
/// Beyond, a folder is looked at anew: what a few pages tell need not be so of all of it.
const MOST_CUTS: usize = 256;
const DIGEST_FOLDER: &str = "/sha256/";
/// Digits of a digest by which its place among others is reckoned.
const DIGITS: usize = 16;

type Page = Vec<ListedObject>;

/// What bounds reading ahead in one store.
pub(super) fn readers_ahead() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(STRETCHES_AT_ONCE))
}

/// Where a listing stands.
struct Progress<'store> {
    pages: BoxStream<'store, Result<Page, StoreError>>,
    /// `None` while stretches are read.
    watched: Option<Watched>,
    /// The range that is left once `pages` has ended.
    rest: Option<ListRange>,
}

impl CloudStore {
    /// As [`CloudStore::list_range`].
    pub(super) fn list_ahead(
        &self,
        range: ListRange,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send + '_ {
        let progress = self.one_after_another(range.clone());
        stream::try_unfold(progress, move |mut progress| {
            let range = range.clone();
            async move {
                loop {
                    let Some(page) = progress.pages.try_next().await? else {
                        match progress.rest.take() {
                            Some(rest) => progress = self.one_after_another(rest),
                            None => return Ok(None),
                        }
                        continue;
                    };
                    if let Some(watched) = &mut progress.watched {
                        watched.take(&page);
                        let cuts = watched.cuts();
                        if let (Some(last_cut), Some(last)) = (cuts.last(), page.last()) {
                            progress = Progress {
                                pages: self.stretches(&range, &last.key, &cuts).boxed(),
                                watched: None,
                                rest: Some(between(&range, last_cut, None)),
                            };
                        }
                    }
                    return Ok(Some((page, progress)));
                }
            }
        })
    }

    fn one_after_another(&self, range: ListRange) -> Progress<'_> {
        Progress {
            pages: self.list_range(range).boxed(),
            watched: Some(Watched::default()),
            rest: None,
        }
    }

    /// Lists from behind a key up to and with the last cut.
    fn stretches(
        &self,
        range: &ListRange,
        after: &str,
        cuts: &[String],
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send + use<'_> {
        let starts = [after].into_iter().chain(cuts.iter().map(String::as_str));
        let ranges: Vec<_> = starts
            .zip(cuts)
            .map(|(after, to)| between(range, after, Some(to)))
            .collect();
        stream::iter(ranges)
            .map(|range| self.read_stretch(range))
            .buffered(STRETCHES_AT_ONCE)
            .map_ok(|stretch| stretch.into_pages(self))
            .try_flatten()
    }

    /// Reads a stretch before its turn comes, where that is within bounds. What is not read here is read then.
    async fn read_stretch(&self, range: ListRange) -> Result<Stretch, StoreError> {
        let Ok(permit) = Arc::clone(&self.readers_ahead).try_acquire_owned() else {
            return Ok(Stretch {
                pages: Vec::new(),
                rest: Some(range),
                permit: None,
            });
        };
        let mut pages = Vec::new();
        let mut listing = self.list_range(range.clone()).boxed();
        while let Some(page) = listing.try_next().await? {
            let last = page.last().map(|object| object.key.clone());
            pages.push(page);
            if let Some(last) = last
                && pages.len() >= 2 * STRETCH_PAGES
            {
                return Ok(Stretch {
                    pages,
                    rest: Some(between(&range, &last, None)),
                    permit: Some(permit),
                });
            }
        }
        Ok(Stretch {
            pages,
            rest: None,
            permit: Some(permit),
        })
    }
}

/// What was read of a part of a folder.
struct Stretch {
    pages: Vec<Page>,
    /// What is still to be read.
    rest: Option<ListRange>,
    /// Held as long as the pages are.
    permit: Option<OwnedSemaphorePermit>,
}

impl Stretch {
    fn into_pages(self, store: &CloudStore) -> impl Stream<Item = Result<Page, StoreError>> + Send + use<'_> {
        let Self { pages, rest, permit } = self;
        let read = stream::iter(pages).map(move |page| {
            let _held = &permit;
            Ok(page)
        });
        let rest = stream::iter(rest).flat_map(|rest| store.list_range(rest));
        read.chain(rest)
    }
}

/// The part of a range behind one key, up to and with another.
fn between(range: &ListRange, after: &str, to: Option<&String>) -> ListRange {
    // The key right behind the last one.
    let before = to.map(|to| format!("{to}\0"));
    ListRange {
        after: Some(after.to_owned()),
        before: match (before, &range.before) {
            (Some(before), Some(of_range)) => Some(before.min(of_range.clone())),
            (before, of_range) => before.or_else(|| of_range.clone()),
        },
        ..range.clone()
    }
}

/// The folder of digests through which a listing goes.
#[derive(Debug, Default)]
struct Watched {
    folder: String,
    /// Pages that end in it. The first may begin before it.
    pages: usize,
    /// Places of the last digests of the first and of the last page.
    first: u64,
    last: u64,
}

impl Watched {
    fn take(&mut self, page: &[ListedObject]) {
        let Some(object) = page.last() else { return };
        let Some((folder, place)) = digest_place(&object.key) else {
            *self = Self::default();
            return;
        };
        if self.folder != folder {
            *self = Self {
                folder: folder.to_owned(),
                first: place,
                ..Self::default()
            };
        }
        self.pages += 1;
        self.last = place;
    }

    /// Where to cut what is left of the folder; not at all while it need not be large.
    fn cuts(&self) -> Vec<String> {
        if self.pages <= STRETCH_PAGES || self.last <= self.first {
            return Vec::new();
        }
        let of_a_stretch =
            u128::from(self.last - self.first) * STRETCH_PAGES as u128 / (self.pages as u128 - 1);
        let places = (1..=MOST_CUTS as u128).map(|number| u128::from(self.last) + number * of_a_stretch);
        places
            .take_while(|place| *place <= u128::from(u64::MAX))
            .map(|place| format!("{}{place:0DIGITS$x}", self.folder))
            .collect()
    }
}

/// The folder of digests that a key lies in, and its digest's place there.
fn digest_place(key: &str) -> Option<(&str, u64)> {
    let start = key.rfind(DIGEST_FOLDER)? + DIGEST_FOLDER.len();
    let digits = key.get(start..start + DIGITS)?;
    let place = u64::from_str_radix(digits, 16).ok()?;
    Some((&key[..start], place))
}
