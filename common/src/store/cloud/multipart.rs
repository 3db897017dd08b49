//! Multipart uploads of S3: listed page by page, each page proved (R12), and aborted one by one, each once (R10).

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Method, StatusCode};
use jiff::Timestamp;

use super::CloudStore;
use super::answers::{About, Answer, Refusal};
use super::bulk_delete::{outcome_of_refusal, outcome_without_answer};
use super::connector::{Ask, Judgement};
use super::list_objects::bad_page;
use super::list_page::once;
use super::pace::Load;
use super::provider::{object_url, query_string};
use super::xml_document::{Step, walk};
use crate::store::{
    KeyOutcome, MultipartUpload, MultipartUploads, RequestKind, StoreError, UploadAbort, UploadParts,
};

/// 1,000 uploads or parts, with keys of 1,024 characters and their owners, fit many times.
const LONGEST_PAGE: usize = 16 * 1024 * 1024;
const LONGEST_ANSWER: usize = 64 * 1024;

/// How to go on: two markers of uploads, one of parts.
type Markers = Vec<(&'static str, String)>;

/// One page of either listing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    uploads: Vec<MultipartUpload>,
    parts: UploadParts,
    next: Option<Markers>,
}

/// What differs between the two listings.
#[derive(Debug, Clone, Copy)]
struct Listing {
    root: &'static str,
    entry: &'static str,
    /// Query parameters that say where to go on, and the elements that give them.
    markers: &'static [(&'static str, &'static str)],
}

const UPLOADS: Listing = Listing {
    root: "ListMultipartUploadsResult",
    entry: "Upload",
    markers: &[
        ("key-marker", "NextKeyMarker"),
        ("upload-id-marker", "NextUploadIdMarker"),
    ],
};

const PARTS: Listing = Listing {
    root: "ListPartsResult",
    entry: "Part",
    markers: &[("part-number-marker", "NextPartNumberMarker")],
};

#[async_trait]
impl MultipartUploads for CloudStore {
    fn list_uploads(&self, prefix: &str) -> BoxStream<'_, Result<Vec<MultipartUpload>, StoreError>> {
        let prefix = self.full_key(prefix);
        let begin = Some(Markers::new());
        stream::try_unfold((begin, 1), move |(markers, number)| {
            let prefix = prefix.clone();
            async move {
                let Some(markers) = markers else {
                    return Ok(None);
                };
                let mut query = vec![("uploads", ""), ("prefix", prefix.as_str())];
                query.extend(markers.iter().map(|(name, value)| (*name, value.as_str())));
                let url = format!("{}{}", self.provider.place_url(), query_string(&query));
                let about = self.about("list", &self.relative_key(prefix.clone()));
                let page = self
                    .page_of_uploads(url, &about, UPLOADS, &markers, &prefix, number)
                    .await?;
                let uploads = page.uploads.into_iter().map(|upload| MultipartUpload {
                    key: self.relative_key(upload.key),
                    ..upload
                });
                Ok(Some((uploads.collect(), (page.next, number + 1))))
            }
        })
        .boxed()
    }

    async fn upload_parts(&self, upload: &MultipartUpload) -> Result<UploadParts, StoreError> {
        let about = self.about("list", &upload.key);
        let object = self.upload_url(&upload.key, &about)?;
        let mut sum = UploadParts::default();
        let mut markers = Some(Markers::new());
        let mut number = 1;
        while let Some(at) = markers {
            let mut query = vec![("uploadId", upload.id.as_str())];
            query.extend(at.iter().map(|(name, value)| (*name, value.as_str())));
            let url = format!("{object}{}", query_string(&query));
            let page = self.page_of_uploads(url, &about, PARTS, &at, "", number).await?;
            sum.count += page.parts.count;
            sum.bytes += page.parts.bytes;
            sum.latest = sum.latest.max(page.parts.latest);
            markers = page.next;
            number += 1;
        }
        Ok(sum)
    }

    async fn abort_upload(&self, abort: UploadAbort<'_>) -> KeyOutcome {
        let upload = abort.upload();
        let about = self.about("delete", &upload.key);
        let object = match self.upload_url(&upload.key, &about) {
            Ok(object) => object,
            Err(error) => return KeyOutcome::Failed(error.to_string()),
        };
        let ask = Ask {
            load: Load::of(RequestKind::Delete, &upload.key),
            method: Method::DELETE,
            url: format!("{object}{}", query_string(&[("uploadId", &upload.id)])),
            headers: self.provider.common_headers(),
            body: Bytes::new(),
            longest_answer: LONGEST_ANSWER,
        };
        let answer = match self.connector.send_once_by(&ask, abort.deadline().into()).await {
            Ok(answer) => answer,
            Err(failure) => return outcome_without_answer(&failure),
        };
        // A success with a body is a page that something on the way put in the answer's place.
        if answer.status == StatusCode::NO_CONTENT || (answer.status.is_success() && answer.body.is_empty()) {
            return KeyOutcome::Deleted;
        }
        let refusal = Refusal::read(&answer);
        if refusal.code.as_deref() == Some("NoSuchUpload") {
            return KeyOutcome::Deleted;
        }
        outcome_of_refusal(&refusal)
    }
}

impl CloudStore {
    fn upload_url(&self, key: &str, about: &About) -> Result<String, StoreError> {
        object_url(self.provider.place_url(), &self.full_key(key))
            .ok_or_else(|| about.unavailable("no address can name this key exactly"))
    }

    async fn page_of_uploads(
        &self,
        url: String,
        about: &About,
        listing: Listing,
        asked: &Markers,
        prefix: &str,
        number: u64,
    ) -> Result<Page, StoreError> {
        let ask = Ask {
            load: Load::of(RequestKind::List, &about.key),
            method: Method::GET,
            url,
            headers: self.provider.common_headers(),
            body: Bytes::new(),
            longest_answer: LONGEST_PAGE,
        };
        let judge = |answer: &Answer| {
            if answer.status != StatusCode::OK {
                let refusal = Refusal::read(answer);
                if refusal.code.as_deref() == Some("NoSuchUpload") {
                    return Err(Judgement::Final(StoreError::NotFound {
                        store: about.store.clone(),
                        key: about.key.clone(),
                    }));
                }
                return Err(Judgement::Final(refusal.into_error(about)));
            }
            let page = if answer.complete {
                parse_page(&answer.body, listing, asked, prefix)
            } else {
                Err("it is longer than any page".to_owned())
            };
            page.map_err(|problem| Judgement::Again(bad_page(about, number, problem)))
        };
        self.connector.read(&ask, about, judge).await
    }
}

#[derive(Default)]
struct Entry {
    key: Option<String>,
    id: Option<String>,
    size: Option<u64>,
    time: Option<Timestamp>,
}

/// Parses a page and checks it against what was asked for: the right document, truncated exactly if it says how to go on,
/// keys under the prefix and not descending.
fn parse_page(answer: &[u8], listing: Listing, asked: &Markers, prefix: &str) -> Result<Page, String> {
    let mut page = Page::default();
    let mut entry = Entry::default();
    let mut truncated = None;
    let mut next: Vec<Option<String>> = vec![None; listing.markers.len()];
    walk(answer, listing.root, |step| {
        let path = |path: &'_ str| {
            path.strip_prefix(listing.root)
                .map(str::to_owned)
                .unwrap_or_default()
        };
        let element = match step {
            Step::Open(opened) => {
                if path(opened).strip_prefix('/') == Some(listing.entry) {
                    entry = Entry::default();
                }
                return Ok(());
            }
            Step::Close(element) => element,
        };
        let text = element.text.trim();
        let path = path(element.path);
        let names: Vec<&str> = path.split('/').skip(1).collect();
        match names.as_slice() {
            ["IsTruncated"] => {
                let says = text.parse().map_err(|_| format!("IsTruncated is {text:?}"))?;
                once(&mut truncated, says, "IsTruncated")
            }
            ["Prefix"] if element.text != prefix => Err(format!("it is a page of prefix {:?}", element.text)),
            [of, name] if *of == listing.entry => match *name {
                "Key" => once(&mut entry.key, element.text.to_owned(), "Key"),
                "UploadId" => once(&mut entry.id, text.to_owned(), "UploadId"),
                "Size" => {
                    let size = text.parse().map_err(|_| format!("a part's size is {text:?}"))?;
                    once(&mut entry.size, size, "Size")
                }
                "Initiated" | "LastModified" => {
                    let time = text.parse().map_err(|_| format!("{name} is {text:?}"))?;
                    once(&mut entry.time, time, name)
                }
                _ => Ok(()),
            },
            [of] if *of == listing.entry => end_entry(&mut page, std::mem::take(&mut entry), listing, prefix),
            [name] => match listing.markers.iter().position(|(_, element)| element == name) {
                Some(place) if !text.is_empty() => once(&mut next[place], element.text.to_owned(), name),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    })?;
    if truncated.ok_or("it does not say whether more follows")? {
        let names = listing.markers.iter().map(|(name, _)| *name);
        let next: Option<Markers> = names
            .zip(next)
            .map(|(name, value)| Some((name, value?)))
            .collect();
        let next = next.ok_or("it says that more follows, but not how to go on")?;
        if next == *asked {
            return Err("it says to go on where it began".to_owned());
        }
        page.next = Some(next);
    }
    Ok(page)
}

fn end_entry(page: &mut Page, entry: Entry, listing: Listing, prefix: &str) -> Result<(), String> {
    let time = entry.time.ok_or("an entry has no time")?;
    if listing.entry == PARTS.entry {
        page.parts.count += 1;
        page.parts.bytes += entry.size.ok_or("a part has no size")?;
        page.parts.latest = page.parts.latest.max(Some(time));
        return Ok(());
    }
    let key = entry.key.ok_or("an upload has no key")?;
    let id = entry.id.filter(|id| !id.is_empty());
    if !key.starts_with(prefix) {
        return Err(format!("{key:?} does not begin with the prefix"));
    }
    if let Some(last) = page.uploads.last()
        && key < last.key
    {
        return Err(format!("{key:?} comes after {:?}", last.key));
    }
    page.uploads.push(MultipartUpload {
        id: id.ok_or_else(|| format!("the upload of {key:?} has no id"))?,
        key,
        initiated: time,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uploads(body: &str, asked: &Markers) -> Result<Page, String> {
        let document = format!("<ListMultipartUploadsResult>{body}</ListMultipartUploadsResult>");
        parse_page(document.as_bytes(), UPLOADS, asked, "a/")
    }

    fn upload(key: &str) -> String {
        format!(
            "<Upload><Key>{key}</Key><UploadId>i</UploadId><Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>"
        )
    }

    const END: &str = "<IsTruncated>false</IsTruncated>";
    const MORE: &str = "<IsTruncated>true</IsTruncated><NextKeyMarker>a/b</NextKeyMarker>\
                        <NextUploadIdMarker>i</NextUploadIdMarker>";

    #[test]
    fn pages_of_uploads_say_how_to_go_on() {
        // Several uploads of one key are in one listing.
        let last = uploads(
            &[END, &upload("a/b"), &upload("a/b"), &upload("a/c")].concat(),
            &vec![],
        )
        .unwrap();
        assert_eq!((last.uploads.len(), last.next), (3, None));
        let first = uploads(&[MORE, &upload("a/b")].concat(), &vec![]).unwrap();
        let next = vec![
            ("key-marker", "a/b".to_owned()),
            ("upload-id-marker", "i".to_owned()),
        ];
        assert_eq!(first.next, Some(next.clone()));
        assert!(
            uploads(&[MORE, &upload("a/b")].concat(), &next).is_err(),
            "it goes round"
        );
    }

    #[test]
    fn pages_that_do_not_prove_themselves() {
        for body in [
            String::new(),
            "<IsTruncated>true</IsTruncated>".to_owned(),
            "<IsTruncated>true</IsTruncated><NextKeyMarker>a/b</NextKeyMarker>".to_owned(),
            format!("{END}<Prefix>b/</Prefix>"),
            [END, &upload("b/x")].concat(),
            [END, &upload("a/c"), &upload("a/b")].concat(),
            format!("{END}<Upload><Key>a/b</Key><UploadId>i</UploadId></Upload>"),
            format!("{END}{}", upload("a/b").replace("<UploadId>i</UploadId>", "")),
        ] {
            assert!(uploads(&body, &vec![]).is_err(), "{body}");
        }
        assert!(parse_page(b"<html/>", UPLOADS, &vec![], "").is_err());
    }

    #[test]
    fn parts_are_added_up() {
        let part = |size: u32, hour: u32| {
            format!(
                "<Part><Size>{size}</Size><LastModified>2026-01-02T{hour:02}:00:00Z</LastModified></Part>"
            )
        };
        let document = format!(
            "<ListPartsResult><IsTruncated>false</IsTruncated>{}{}</ListPartsResult>",
            part(5, 9),
            part(7, 3)
        );
        let parts = parse_page(document.as_bytes(), PARTS, &vec![], "").unwrap().parts;
        assert_eq!((parts.count, parts.bytes), (2, 12));
        assert_eq!(parts.latest, Some("2026-01-02T09:00:00Z".parse().unwrap()));
    }
}
