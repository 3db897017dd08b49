//! Takes back a delete in a bucket of S3 that keeps versions: lists the versions of exactly one key, each page proved (R12), and
//! removes the delete markers on top of its newest object.
//!
//! R1, R3: only a version that the listing calls a delete marker is ever named, and never the version `null`: that one is replaced by
//! the next write where versioning is suspended, so it may be an object when the request arrives.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::CloudStore;
use super::answers::{About, Answer, Refusal};
use super::connector::{Ask, Judgement};
use super::list_objects::bad_page;
use super::list_page::once;
use super::pace::Load;
use super::provider::query_string;
use super::read_object::refuse;
use super::xml_document::{Element, Step, walk};
use crate::store::{RequestKind, StoreError, Undeletion};

/// 1,000 versions with keys of 1,024 characters and their owners fit many times.
const LONGEST_PAGE: usize = 16 * 1024 * 1024;
const LONGEST_ANSWER: usize = 64 * 1024;
/// One delete makes one marker. More of them are of deletes that were sent again.
const MOST_MARKERS: u32 = 100;

/// The versions of one key, as a listing shows them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Versions {
    newest: Option<Newest>,
    objects: u64,
    markers: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Newest {
    Object,
    /// With its version id.
    Marker(String),
}

/// Where to go on: `key-marker` and `version-id-marker`.
type Markers = (String, String);

/// What one page says of the key.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    versions: Versions,
    next: Option<Markers>,
}

impl CloudStore {
    pub(super) async fn remove_delete_markers(&self, key: &str) -> Result<Undeletion, StoreError> {
        let about = self.about("undelete", key);
        if !self.provider.lists_versions() {
            return Err(StoreError::Configuration {
                store: about.store,
                problem: crate::store::undelete::NOT_HERE.to_owned(),
            });
        }
        let object = self.address(key, &about)?;
        for removed in 0..MOST_MARKERS {
            let versions = self.versions_of(key, &about).await?;
            let marker = match versions.newest {
                None => return Ok(Undeletion::Nothing),
                Some(Newest::Object) if removed == 0 => return Ok(Undeletion::StillThere),
                Some(Newest::Object) => return Ok(Undeletion::Undeleted),
                Some(Newest::Marker(_)) if versions.objects == 0 => return Ok(Undeletion::Nothing),
                Some(Newest::Marker(id)) => id,
            };
            self.remove_marker(&object, &marker, &about).await?;
            if versions.markers == 1 {
                return Ok(Undeletion::Undeleted);
            }
        }
        Err(about.unavailable(format!(
            "{MOST_MARKERS} delete markers were removed, and there are more"
        )))
    }

    async fn versions_of(&self, key: &str, about: &About) -> Result<Versions, StoreError> {
        let full_key = self.full_key(key);
        let mut versions = Versions::default();
        let mut at: Option<Markers> = None;
        for number in 1.. {
            let mut query = vec![("versions", ""), ("prefix", full_key.as_str())];
            if let Some((key, id)) = &at {
                query.extend([("key-marker", key.as_str()), ("version-id-marker", id.as_str())]);
            }
            let ask = Ask {
                load: Load::of(RequestKind::List, key),
                method: Method::GET,
                url: format!("{}{}", self.provider.place_url(), query_string(&query)),
                headers: self.provider.common_headers(),
                body: Bytes::new(),
                longest_answer: LONGEST_PAGE,
            };
            let judge = |answer: &Answer| {
                if answer.status != StatusCode::OK {
                    return Err(Judgement::Final(Refusal::read(answer).into_error(about)));
                }
                let page = if answer.complete {
                    parse_page(&answer.body, &full_key, at.as_ref())
                } else {
                    Err("it is longer than any page".to_owned())
                };
                page.map_err(|problem| Judgement::Again(bad_page(about, number, problem)))
            };
            let page = self.connector.read(&ask, about, judge).await?;
            let twice = versions.add(page.versions);
            twice.map_err(|problem| bad_page(about, number, problem))?;
            match page.next {
                Some(next) => at = Some(next),
                None => break,
            }
        }
        if versions.newest.is_none() && versions.objects + versions.markers > 0 {
            return Err(about.unavailable("the listing does not say which of its versions is the newest"));
        }
        Ok(versions)
    }

    /// Removes one delete marker for good. Repeated like a read: a version's id is never given again, so a second request finds
    /// nothing.
    async fn remove_marker(&self, object: &str, id: &str, about: &About) -> Result<(), StoreError> {
        if id == "null" {
            return Err(about.unavailable(
                "versioning of the bucket is suspended, and there the removal of a delete marker could remove what is written \
                 meanwhile; remove it by hand",
            ));
        }
        let ask = Ask {
            load: Load::of(RequestKind::Delete, &about.key),
            method: Method::DELETE,
            url: format!("{object}{}", query_string(&[("versionId", id)])),
            headers: self.provider.common_headers(),
            body: Bytes::new(),
            longest_answer: LONGEST_ANSWER,
        };
        self.connector
            .read(&ask, about, |answer| {
                let gone = Refusal::read(answer).code.as_deref() == Some("NoSuchVersion");
                // A success with a body is a page that something on the way put in the answer's place.
                if gone || (answer.status.is_success() && answer.body.is_empty()) {
                    return Ok(());
                }
                Err(refuse(answer, about))
            })
            .await
    }
}

impl Versions {
    /// Adds what another page says.
    fn add(&mut self, page: Self) -> Result<(), String> {
        let Self {
            newest,
            objects,
            markers,
        } = page;
        if let Some(newest) = newest {
            once(&mut self.newest, newest, "a newest version")?;
        }
        self.objects += objects;
        self.markers += markers;
        Ok(())
    }
}

#[derive(Default)]
struct Entry {
    key: Option<String>,
    id: Option<String>,
    newest: Option<bool>,
}

/// Parses a page and checks it against what was asked for: the right document, truncated exactly if it says how to go on, keys under
/// the prefix and not descending. Some servers write all markers first, so objects and markers are each in order by themselves.
fn parse_page(answer: &[u8], key: &str, asked: Option<&Markers>) -> Result<Page, String> {
    let mut page = Page::default();
    let mut entry = Entry::default();
    let (mut last_object, mut last_marker) = (None, None);
    let (mut truncated, mut next_key, mut next_id) = (None, None, None);
    walk(answer, "ListVersionsResult", |step| {
        let Element { path, text, .. } = match step {
            Step::Open("ListVersionsResult/Version" | "ListVersionsResult/DeleteMarker") => {
                entry = Entry::default();
                return Ok(());
            }
            Step::Open(_) => return Ok(()),
            Step::Close(element) => element,
        };
        let Some(path) = path.strip_prefix("ListVersionsResult/") else {
            return Ok(());
        };
        match path {
            "Prefix" if text != key => Err(format!("it is a page of prefix {text:?}")),
            "IsTruncated" => once(&mut truncated, parse_flag(path, text)?, path),
            "NextKeyMarker" if !text.is_empty() => once(&mut next_key, text.to_owned(), path),
            "NextVersionIdMarker" if !text.is_empty() => once(&mut next_id, text.to_owned(), path),
            "Version" => {
                let end = end_entry(std::mem::take(&mut entry), &mut last_object, key)?;
                let Some((_, newest)) = end else { return Ok(()) };
                page.versions.objects += 1;
                note_newest(&mut page, newest.then_some(Newest::Object))
            }
            "DeleteMarker" => {
                let end = end_entry(std::mem::take(&mut entry), &mut last_marker, key)?;
                let Some((id, newest)) = end else { return Ok(()) };
                page.versions.markers += 1;
                note_newest(&mut page, newest.then_some(Newest::Marker(id)))
            }
            _ => match path.rsplit('/').next() {
                Some("Key") => once(&mut entry.key, text.to_owned(), "Key"),
                Some("VersionId") => once(&mut entry.id, text.to_owned(), "VersionId"),
                Some("IsLatest") => once(&mut entry.newest, parse_flag("IsLatest", text)?, "IsLatest"),
                _ => Ok(()),
            },
        }
    })?;
    if truncated.ok_or("it does not say whether more follows")? {
        let next_key = next_key.ok_or("it says that more follows, but not how to go on")?;
        let next = (next_key, next_id.unwrap_or_default());
        if asked == Some(&next) {
            return Err("it says to go on where it began".to_owned());
        }
        // Keys with this prefix follow the key itself: behind the first of them is nothing more of it.
        page.next = (next.0.as_str() <= key).then_some(next);
    }
    Ok(page)
}

/// Checks an entry; returns the id, and whether it is the newest, of one that has exactly the key.
fn end_entry(entry: Entry, last: &mut Option<String>, key: &str) -> Result<Option<(String, bool)>, String> {
    let name = entry.key.ok_or("a version has no key")?;
    let id = entry.id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| format!("a version of {name:?} has no id"))?;
    let newest = entry
        .newest
        .ok_or_else(|| format!("a version of {name:?} does not say whether it is the newest"))?;
    if !name.starts_with(key) {
        return Err(format!("{name:?} does not begin with the prefix"));
    }
    if let Some(last) = last.as_ref()
        && name < *last
    {
        return Err(format!("{name:?} comes after {last:?}"));
    }
    let exact = name == key;
    *last = Some(name);
    Ok(exact.then_some((id, newest)))
}

fn note_newest(page: &mut Page, newest: Option<Newest>) -> Result<(), String> {
    match newest {
        Some(newest) => once(&mut page.versions.newest, newest, "a newest version"),
        None => Ok(()),
    }
}

fn parse_flag(name: &str, text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| format!("{name} is {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "<IsTruncated>false</IsTruncated>";
    const MORE: &str = "<IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>\
                        <NextVersionIdMarker>v</NextVersionIdMarker>";

    fn parse(body: &str, asked: Option<&Markers>) -> Result<Page, String> {
        let document = format!("<ListVersionsResult>{body}</ListVersionsResult>");
        parse_page(document.as_bytes(), "a", asked)
    }

    fn entry(kind: &str, key: &str, id: &str, newest: bool) -> String {
        format!(
            "<{kind}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{newest}</IsLatest>\
             <Owner><ID>o</ID></Owner></{kind}>"
        )
    }

    #[test]
    fn versions_of_the_exact_key_are_counted_whatever_their_order() {
        let entries = [
            entry("DeleteMarker", "a", "m2", true),
            entry("DeleteMarker", "a", "m1", false),
            entry("Version", "a", "v", false),
            entry("Version", "ab", "w", true),
        ];
        let expected = Versions {
            newest: Some(Newest::Marker("m2".to_owned())),
            objects: 1,
            markers: 2,
        };
        let in_order = parse(&format!("{END}{}", entries.concat()), None).unwrap();
        assert_eq!((&in_order.versions, &in_order.next), (&expected, &None));
        let [m2, m1, v, w] = entries;
        assert_eq!(
            parse(&[v, w, m2, m1, END.to_owned()].concat(), None).unwrap(),
            in_order
        );
    }

    #[test]
    fn what_lies_behind_the_key_is_not_asked_for() {
        let first = parse(MORE, None).unwrap();
        assert_eq!(first.next, Some(("a".to_owned(), "v".to_owned())));
        let behind = MORE.replace("<NextKeyMarker>a<", "<NextKeyMarker>ab<");
        assert_eq!(parse(&behind, None).unwrap().next, None);
    }

    #[test]
    fn pages_that_do_not_prove_themselves() {
        let version = |key, id, newest| entry("Version", key, id, newest);
        for body in [
            String::new(),
            "<IsTruncated>true</IsTruncated>".to_owned(),
            format!("{END}<Prefix>b</Prefix>"),
            format!("{END}{}", version("b", "v", false)),
            format!("{END}{}{}", version("ab", "v", false), version("a", "v", false)),
            format!("{END}{}{}", version("a", "v", true), version("a", "w", true)),
            format!("{END}{}", version("a", "", true)),
            format!(
                "{END}{}",
                version("a", "v", true).replace("<IsLatest>true</IsLatest>", "")
            ),
            format!("{END}{}", version("a", "v", true).replace("<Key>a</Key>", "")),
        ] {
            assert!(parse(&body, None).is_err(), "{body}");
        }
        assert!(
            parse(MORE, Some(&("a".to_owned(), "v".to_owned()))).is_err(),
            "it goes round"
        );
        assert!(parse_page(b"<html/>", "a", None).is_err());
    }
}
