//! What differs between providers: addresses, headers, the form of a page, how deletes are sent.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::list_page::PageFormat;
use crate::store::{ObjectVersion, PutCondition};

/// Everything but the unreserved characters of RFC 3986, as S3's signatures want it.
const IN_QUERY: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const IN_PATH: AsciiSet = IN_QUERY.remove(b'/');

/// What a page is asked for with. Keys are as in the bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListQuery<'a> {
    pub prefix: &'a str,
    pub folded: bool,
    /// Begin behind this key; only for the first page.
    pub after: Option<&'a str>,
    pub token: Option<&'a str>,
    /// Fewer keys than the provider's own limit.
    pub most_keys: Option<u32>,
}

/// How a provider takes deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeleteStyle {
    /// S3's `DeleteObjects`.
    DeleteObjects,
    /// Azure's batch of subrequests.
    AzureBatch,
    /// One request a key.
    OneByOne,
}

impl DeleteStyle {
    /// The most keys a batch may hold.
    pub fn limit(self) -> usize {
        match self {
            Self::DeleteObjects => 1000,
            Self::AzureBatch => 256,
            Self::OneByOne => 100,
        }
    }
}

/// How a provider takes a copy inside a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyStyle<'p> {
    /// One request with a header that names bucket and key, or, above a size, one for each part.
    ByName {
        header: &'static str,
        bucket: &'p str,
        /// `None` where one request copies an object of any size.
        parts: Option<CopyParts>,
    },
    /// Azure's Copy Blob, which names an address and may go on after its answer.
    ByAddress,
}

/// When, and how, an object is copied in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopyParts {
    /// The most bytes that one request copies.
    pub above: u64,
    /// Bytes of a part, as far as the most parts that an object may have allow.
    pub part: u64,
}

/// Where a bucket says what it keeps.
#[derive(Debug, Clone)]
pub(super) struct BucketMetadata {
    pub url: String,
    /// The name that the answer must have.
    pub bucket: String,
}

/// What differs between providers.
pub(super) trait Provider: Send + Sync + 'static {
    /// "bucket" or "container".
    fn place(&self) -> &'static str;

    /// How its pages are written.
    fn page_format(&self) -> PageFormat;

    /// The address of the bucket or container, without a slash at its end.
    fn place_url(&self) -> &str;

    /// The query that asks for a page, from `?` on.
    fn list_query(&self, query: ListQuery<'_>) -> String;

    /// See [`Store::starts_listings_anywhere`](crate::store::Store::starts_listings_anywhere).
    fn starts_listings_anywhere(&self) -> bool {
        true
    }

    /// Headers that every request has, before it is signed.
    fn common_headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// Headers of a write under `condition`.
    fn put_headers(&self, condition: &PutCondition) -> Option<HeaderMap>;

    /// What the answer to a read or write says about the object's state.
    fn version(&self, headers: &HeaderMap) -> Option<ObjectVersion>;

    /// Where the bucket must be asked whether it keeps what is deleted. `None` where answers to reads, writes and deletes say so.
    fn bucket_metadata(&self) -> Option<&BucketMetadata> {
        None
    }

    /// Whether uploads in parts stay until they are completed or aborted, and can be listed.
    fn has_multipart_uploads(&self) -> bool {
        false
    }

    /// How deletes are sent.
    fn delete_style(&self) -> DeleteStyle;

    /// How copies are sent.
    fn copy_style(&self) -> CopyStyle<'_>;

    /// Whether versions of objects can be listed, and delete markers removed.
    fn lists_versions(&self) -> bool {
        false
    }
}

/// Headers of a write of `length` bytes.
pub(super) fn body_headers(length: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers
}

/// The `ETag` of an answer, as conditional writes want it back.
pub(super) fn etag_version(headers: &HeaderMap) -> Option<ObjectVersion> {
    let etag = headers.get(http::header::ETAG)?.to_str().ok()?;
    (!etag.is_empty()).then(|| ObjectVersion(etag.to_owned()))
}

/// The address of an object, or `None` where no address can name the key exactly (R3): programs on the way take
/// `.` and `..` out of a path.
pub(super) fn object_url(place_url: &str, key: &str) -> Option<String> {
    if key.is_empty() || key.split('/').any(|part| part == "." || part == "..") {
        return None;
    }
    Some(format!("{place_url}/{}", utf8_percent_encode(key, &IN_PATH)))
}

/// What names the source of a copy in a header.
pub(super) fn copy_source(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", utf8_percent_encode(key, &IN_PATH))
}

/// A query from its parts.
pub(super) fn query_string(pairs: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        query.extend(utf8_percent_encode(value, &IN_QUERY));
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reaches_its_address_byte_for_byte() {
        assert_eq!(
            object_url("http://h/b", "a//b c+%2F\u{e9}/").as_deref(),
            Some("http://h/b/a//b%20c%2B%252F%C3%A9/")
        );
    }

    #[test]
    fn keys_that_an_address_would_change_have_none() {
        for key in ["", ".", "a/../b", "a/./b", "a/.."] {
            assert_eq!(object_url("http://h/b", key), None, "{key:?}");
        }
    }

    #[test]
    fn queries_are_encoded_strictly() {
        assert_eq!(
            query_string(&[("prefix", "a/b&c"), ("x", "")]),
            "?prefix=a%2Fb%26c&x="
        );
    }
}
