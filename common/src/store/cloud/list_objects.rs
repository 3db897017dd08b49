//! Listings, page after page. A page that does not prove itself is asked for again a bounded number of times, and is
//! then an error, never a short list (R12).

use futures::stream::{self, Stream, StreamExt};
use http::{Method, StatusCode};

use super::CloudStore;
use super::answers::{About, Answer, Refusal};
use super::connector::{Ask, Judgement};
use super::list_page::{Asked, Page, PageFormat, parse_page};
use super::pace::Load;
use super::provider::ListQuery;
use crate::store::{FolderPage, ListRange, ListedObject, RequestKind, StoreError};

/// 5,000 keys of 1,024 characters, each escaped, fit twice.
const LONGEST_PAGE: usize = 64 * 1024 * 1024;
/// Providers give empty pages while they pass over deleted keys, but not without end.
const MOST_EMPTY_PAGES: u32 = 1000;

/// Where a listing has got to.
struct Progress {
    /// As in the bucket.
    prefix: String,
    folded: bool,
    /// Where the first page begins, behind this key.
    after: Option<String>,
    /// Every further key must be greater.
    floor: Option<String>,
    token: Option<String>,
    /// Pages had so far.
    pages: u64,
    empty_pages: u32,
    ended: bool,
}

impl CloudStore {
    /// Lists `range` (keys relative to the store's root).
    pub(super) fn list_range(
        &self,
        range: ListRange,
    ) -> impl Stream<Item = Result<Vec<ListedObject>, StoreError>> + Send + '_ {
        let before = range.before.as_ref().map(|before| self.full_key(before));
        let mut progress = self.begin(&range.prefix, false);
        progress.after = range
            .after
            .as_ref()
            .map(|after| self.full_key(after))
            .filter(|after| after.as_str() >= progress.prefix.as_str());
        // No key with the prefix can be greater than a bound that is greater without having it.
        progress.ended = progress
            .after
            .as_ref()
            .is_some_and(|after| !after.starts_with(&progress.prefix))
            || before.as_ref().is_some_and(|before| *before <= progress.prefix);
        // A server that does not know Azure's `startFrom` begins at the beginning: what is not in the range is
        // then passed over.
        if self.provider.page_format() == PageFormat::S3 {
            progress.floor.clone_from(&progress.after);
        }
        self.pages(progress, before).map(move |page| {
            let objects = page?.objects.into_iter().map(|object| self.relative(object));
            Ok(objects.filter(|object| range.contains(&object.key)).collect())
        })
    }

    /// Lists what lies directly under `folder`.
    pub(super) fn list_one_folder<'store>(
        &'store self,
        folder: &str,
    ) -> impl Stream<Item = Result<FolderPage, StoreError>> + Send + use<'store> {
        self.pages(self.begin(folder, true), None).map(|page| {
            let page = page?;
            let objects = page.objects.into_iter().map(|object| self.relative(object));
            let folders = page.folders.into_iter().map(|folder| self.relative_key(folder));
            Ok(FolderPage {
                objects: objects.collect(),
                folders: folders.collect(),
                links: Vec::new(),
            })
        })
    }

    /// Makes the cheapest listing there is, for the `Date` of its answer.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let mut progress = self.begin("", false);
        self.next_page(&mut progress, Some(1)).await.map(drop)
    }

    fn begin(&self, prefix: &str, folded: bool) -> Progress {
        Progress {
            prefix: self.full_key(prefix),
            folded,
            after: None,
            floor: None,
            token: None,
            pages: 0,
            empty_pages: 0,
            ended: false,
        }
    }

    fn relative(&self, mut object: ListedObject) -> ListedObject {
        object.key = self.relative_key(object.key);
        object
    }

    fn pages(
        &self,
        progress: Progress,
        before: Option<String>,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send + '_ {
        stream::try_unfold((progress, before), move |(mut progress, before)| async move {
            if progress.ended {
                return Ok(None);
            }
            let page = self.next_page(&mut progress, None).await?;
            if let (Some(before), Some(last)) = (&before, page.last())
                && last >= before.as_str()
            {
                progress.ended = true;
            }
            Ok(Some((page, (progress, before))))
        })
    }

    async fn next_page(&self, progress: &mut Progress, most_keys: Option<u32>) -> Result<Page, StoreError> {
        let query = self.provider.list_query(ListQuery {
            prefix: &progress.prefix,
            folded: progress.folded,
            after: progress.after.as_deref(),
            token: progress.token.as_deref(),
            most_keys,
        });
        let about = self.about("list", &self.relative_key(progress.prefix.clone()));
        let ask = Ask {
            load: Load::of(RequestKind::List, &about.key),
            method: Method::GET,
            url: format!("{}{query}", self.provider.place_url()),
            headers: self.provider.common_headers(),
            body: bytes::Bytes::new(),
            longest_answer: LONGEST_PAGE,
        };
        let page = self
            .connector
            .read(&ask, &about, |answer| self.judge_page(answer, &about, progress))
            .await?;
        progress.pages += 1;
        progress.empty_pages = if page.last().is_some() {
            0
        } else {
            progress.empty_pages + 1
        };
        if let Some(last) = page.last() {
            progress.floor = Some(last.to_owned());
        }
        progress.token.clone_from(&page.next_token);
        progress.ended = page.next_token.is_none();
        if progress.empty_pages > MOST_EMPTY_PAGES {
            return Err(bad_page(
                &about,
                progress.pages,
                "too many pages in a row are empty".into(),
            ));
        }
        Ok(page)
    }

    fn judge_page(&self, answer: &Answer, about: &About, progress: &Progress) -> Result<Page, Judgement> {
        if answer.status != StatusCode::OK {
            let refusal = Refusal::read(answer);
            return Err(Judgement::Final(refusal.into_error(about)));
        }
        let asked = Asked {
            format: self.provider.page_format(),
            prefix: &progress.prefix,
            after: progress.floor.as_deref(),
            token: progress.token.as_deref(),
            folded: progress.folded,
        };
        let page = if answer.complete {
            parse_page(&answer.body, asked)
        } else {
            Err("it is longer than any page".to_owned())
        };
        page.map_err(|problem| Judgement::Again(bad_page(about, progress.pages + 1, problem)))
    }
}

pub(super) fn bad_page(about: &About, page: u64, problem: String) -> StoreError {
    StoreError::BadPage {
        store: about.store.clone(),
        prefix: about.key.clone(),
        page,
        problem,
    }
}
