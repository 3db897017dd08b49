//! One page of a listing: parsed strictly, and believed only if it proves itself (R12).
//!
//! In: the bytes of an answer, and what was asked for. Out: keys strictly ascending under the prefix, and how
//! to go on; or what is wrong with the page.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use percent_encoding::percent_decode_str;

use super::xml_document::{Element, Step, walk};
use crate::store::ListedObject;

/// How a provider writes its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageFormat {
    /// `ListBucketResult`, version 2: S3 and Google's XML API.
    S3,
    /// `EnumerationResults` of Azure's List Blobs.
    Azure,
}

/// What a page must answer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub format: PageFormat,
    /// Every key begins with it.
    pub prefix: &'a str,
    /// Every key is greater, bytewise.
    pub after: Option<&'a str>,
    /// The token with which this page was asked for.
    pub token: Option<&'a str>,
    /// Whether keys are folded at the next `/`.
    pub folded: bool,
}

/// A page that proved itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Objects, ascending; keys as in the bucket.
    pub objects: Vec<ListedObject>,
    /// Folders, ascending, each with a `/` at its end.
    pub folders: Vec<String>,
    /// With what to ask for the next page. `None` on the last one.
    pub next_token: Option<String>,
}

impl Page {
    /// The greatest key or folder of the page.
    pub fn last(&self) -> Option<&str> {
        let object = self.objects.last().map(|object| object.key.as_str());
        let folder = self.folders.last().map(String::as_str);
        object.max(folder)
    }
}

/// Parses a page and checks it against what was asked for.
///
/// # Errors
///
/// What is wrong with the page.
pub(super) fn parse_page(answer: &[u8], asked: Asked<'_>) -> Result<Page, String> {
    let mut draft = Draft::new(asked);
    match asked.format {
        PageFormat::S3 => walk(answer, "ListBucketResult", |step| draft.see_s3(step))?,
        PageFormat::Azure => walk(answer, "EnumerationResults", |step| draft.see_azure(step))?,
    }
    draft.finish()
}

#[derive(Default)]
struct DraftObject {
    key: Option<String>,
    size: Option<u64>,
    last_modified: Option<Timestamp>,
    etag: Option<String>,
}

struct Draft<'a> {
    asked: Asked<'a>,
    page: Page,
    object: DraftObject,
    folder: Option<String>,
    truncated: Option<bool>,
    token: Option<String>,
    key_count: Option<usize>,
}

impl<'a> Draft<'a> {
    fn new(asked: Asked<'a>) -> Self {
        Self {
            asked,
            page: Page::default(),
            object: DraftObject::default(),
            folder: None,
            truncated: None,
            token: None,
            key_count: None,
        }
    }

    fn see_s3(&mut self, step: Step<'_>) -> Result<(), String> {
        let element = match step {
            Step::Open("ListBucketResult/Contents") => {
                self.object = DraftObject::default();
                return Ok(());
            }
            Step::Open(_) => return Ok(()),
            Step::Close(element) => element,
        };
        let text = element.text;
        match element.path {
            "ListBucketResult/Prefix" => self.echoed_prefix(text),
            "ListBucketResult/IsTruncated" => {
                let truncated = match text.trim() {
                    "true" => true,
                    "false" => false,
                    other => return Err(format!("IsTruncated is {other:?}")),
                };
                once(&mut self.truncated, truncated, "IsTruncated")
            }
            "ListBucketResult/NextContinuationToken" if text.is_empty() => Ok(()),
            "ListBucketResult/NextContinuationToken" => {
                once(&mut self.token, text.to_owned(), "NextContinuationToken")
            }
            "ListBucketResult/KeyCount" => {
                let count = text.trim().parse().map_err(|_| format!("KeyCount is {text:?}"))?;
                once(&mut self.key_count, count, "KeyCount")
            }
            "ListBucketResult/Contents/Key" => once(&mut self.object.key, text.to_owned(), "Key"),
            "ListBucketResult/Contents/Size" => once(&mut self.object.size, parse_size(text)?, "Size"),
            "ListBucketResult/Contents/LastModified" => {
                let time = text
                    .trim()
                    .parse()
                    .map_err(|_| format!("LastModified is {text:?}"))?;
                once(&mut self.object.last_modified, time, "LastModified")
            }
            "ListBucketResult/Contents/ETag" => once(&mut self.object.etag, unquoted(text), "ETag"),
            "ListBucketResult/Contents" => self.end_object(),
            "ListBucketResult/CommonPrefixes/Prefix" => once(&mut self.folder, text.to_owned(), "Prefix"),
            "ListBucketResult/CommonPrefixes" => self.end_folder(),
            _ => Ok(()),
        }
    }

    fn see_azure(&mut self, step: Step<'_>) -> Result<(), String> {
        let element = match step {
            Step::Open("EnumerationResults/Blobs/Blob") => {
                self.object = DraftObject::default();
                return Ok(());
            }
            Step::Open(_) => return Ok(()),
            Step::Close(element) => element,
        };
        let text = element.text;
        match element.path {
            "EnumerationResults/Prefix" => self.echoed_prefix(&azure_name(&element)?),
            "EnumerationResults/NextMarker" => {
                once(&mut self.truncated, !text.is_empty(), "NextMarker")?;
                if !text.is_empty() {
                    self.token = Some(text.to_owned());
                }
                Ok(())
            }
            "EnumerationResults/Blobs/Blob/Name" => once(&mut self.object.key, azure_name(&element)?, "Name"),
            "EnumerationResults/Blobs/Blob/Properties/Content-Length" => {
                once(&mut self.object.size, parse_size(text)?, "Content-Length")
            }
            "EnumerationResults/Blobs/Blob/Properties/Last-Modified" => {
                let time = DateTimeParser::new()
                    .parse_timestamp(text.trim())
                    .map_err(|_| format!("Last-Modified is {text:?}"))?;
                once(&mut self.object.last_modified, time, "Last-Modified")
            }
            "EnumerationResults/Blobs/Blob/Properties/Etag" => {
                once(&mut self.object.etag, unquoted(text), "Etag")
            }
            "EnumerationResults/Blobs/Blob" => self.end_object(),
            "EnumerationResults/Blobs/BlobPrefix/Name" => {
                once(&mut self.folder, azure_name(&element)?, "Name")
            }
            "EnumerationResults/Blobs/BlobPrefix" => self.end_folder(),
            _ => Ok(()),
        }
    }

    fn echoed_prefix(&self, prefix: &str) -> Result<(), String> {
        if prefix == self.asked.prefix {
            return Ok(());
        }
        Err(format!("it is a page of prefix {prefix:?}"))
    }

    fn end_object(&mut self) -> Result<(), String> {
        let object = std::mem::take(&mut self.object);
        let key = object.key.ok_or("an object has no key")?;
        let previous = self.page.objects.last().map(|object| object.key.as_str());
        check_order(&key, previous, self.asked)?;
        if self.asked.folded && key[self.asked.prefix.len()..].contains('/') {
            return Err(format!("{key:?} should have been folded into a folder"));
        }
        self.page.objects.push(ListedObject {
            size: object.size.ok_or_else(|| format!("{key:?} has no size"))?,
            last_modified: object
                .last_modified
                .ok_or_else(|| format!("{key:?} has no time of modification"))?,
            etag: object.etag.filter(|etag| !etag.is_empty()),
            exact: true,
            key,
        });
        Ok(())
    }

    fn end_folder(&mut self) -> Result<(), String> {
        let folder = self.folder.take().ok_or("a folder has no name")?;
        let previous = self.page.folders.last().map(String::as_str);
        check_order(&folder, previous, self.asked)?;
        let name = &folder[self.asked.prefix.len()..];
        if !self.asked.folded || name.find('/').is_none_or(|slash| slash + 1 != name.len()) {
            return Err(format!("{folder:?} is not a folder that was asked for"));
        }
        self.page.folders.push(folder);
        Ok(())
    }

    fn finish(mut self) -> Result<Page, String> {
        let truncated = self.truncated.ok_or("it does not say whether more follows")?;
        if truncated && self.token.is_none() {
            return Err("it says that more follows, but not how to go on".into());
        }
        if !truncated && self.token.is_some() {
            return Err("it says that nothing follows, but how to go on".into());
        }
        if self.token.is_some() && self.token.as_deref() == self.asked.token {
            return Err("it says to go on where it began".into());
        }
        let objects = self.page.objects.len();
        let entries = objects + self.page.folders.len();
        // S3 counts folders too; some servers do not (NooBaa before 5.12, SeaweedFS, versitygw).
        if let Some(count) = self.key_count
            && count != entries
            && count != objects
        {
            return Err(format!("it says that it has {count} keys, and has {entries}"));
        }
        self.page.next_token = self.token.take();
        Ok(self.page)
    }
}

fn check_order(key: &str, previous: Option<&str>, asked: Asked<'_>) -> Result<(), String> {
    if !key.starts_with(asked.prefix) {
        return Err(format!("{key:?} does not begin with the prefix"));
    }
    if let Some(floor) = previous.max(asked.after)
        && key <= floor
    {
        let mut problem = format!("{key:?} comes after {floor:?}");
        if previous.is_none() {
            let _ = write!(problem, ", where this page had to go on");
        }
        return Err(problem);
    }
    Ok(())
}

pub(super) fn once<T>(place: &mut Option<T>, value: T, name: &str) -> Result<(), String> {
    if place.is_some() {
        return Err(format!("it has {name} twice"));
    }
    *place = Some(value);
    Ok(())
}

fn parse_size(text: &str) -> Result<u64, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("the size of an object is {text:?}"))
}

fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}

/// Azure percent-encodes names that XML cannot express, and says so in an attribute.
fn azure_name(element: &Element<'_>) -> Result<String, String> {
    if !element.percent_encoded {
        return Ok(element.text.to_owned());
    }
    percent_decode_str(element.text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| format!("the encoded name {:?} is not UTF-8", element.text))
}

#[cfg(test)]
mod tests;
