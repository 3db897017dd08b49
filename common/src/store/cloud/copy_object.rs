//! Copies one object inside the bucket, on the provider's side. A copy may be carried out twice: each time it puts the same bytes in
//! the same place. So the connector repeats it as it repeats reads (R10 is about deletes, and writes that could undo another's).

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::CloudStore;
use super::answers::{About, Answer};
use super::connector::{Ask, Judgement};
use super::pace::Load;
use super::provider::{CopyStyle, copy_source, object_url};
use super::read_object::refuse;
use super::xml_document::{Step, walk};
use crate::store::{PutCondition, StoreError};

/// An answer to a copy is small.
pub(super) const LONGEST_ANSWER: usize = 64 * 1024;
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(60);
/// What a provider copies inside a bucket at the least; 5 GiB have 11 minutes.
const SLOWEST_BYTES_A_SECOND: u64 = 8 << 20;

impl CloudStore {
    pub(super) async fn copy_object(&self, from: &str, to: &str, size: u64) -> Result<(), StoreError> {
        let about = self.about("copy", from);
        match self.provider.copy_style() {
            CopyStyle::ByName {
                header,
                bucket,
                parts,
            } => {
                let source = header_value(&copy_source(bucket, &self.full_key(from)), &about)?;
                if let Some(parts) = parts
                    && size > parts.above
                {
                    return self.copy_in_parts(from, to, size, parts, source, &about).await;
                }
                let mut headers = self.copy_headers(&about)?;
                headers.insert(HeaderName::from_static(header), source);
                let ask = Ask {
                    load: Load::of_copy(from, to),
                    method: Method::PUT,
                    url: self.address(to, &about)?,
                    headers,
                    body: Bytes::new(),
                    longest_answer: LONGEST_ANSWER,
                };
                self.connector
                    .repeat(&ask, &about, copy_timeout(size), |answer| {
                        etag_of_copy(answer, "CopyObjectResult", &about).map(drop)
                    })
                    .await
            }
            CopyStyle::ByAddress => self.copy_by_address(from, to, size, &about).await,
        }
    }

    pub(super) fn address(&self, key: &str, about: &About) -> Result<String, StoreError> {
        object_url(self.provider.place_url(), &self.full_key(key))
            .ok_or_else(|| about.unavailable(format!("no address can name {key:?} exactly")))
    }

    /// Headers of a request that makes an object without a body: it is encrypted as those are that are written.
    pub(super) fn copy_headers(&self, about: &About) -> Result<HeaderMap, StoreError> {
        let mut headers = self.provider.common_headers();
        let of_writes = self.provider.put_headers(&PutCondition::Always);
        headers
            .extend(of_writes.ok_or_else(|| about.unavailable("the settings of encryption make no header"))?);
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        Ok(headers)
    }
}

pub(super) fn copy_timeout(size: u64) -> Duration {
    SHORTEST_TIMEOUT + Duration::from_secs(size / SLOWEST_BYTES_A_SECOND)
}

pub(super) fn header_value(text: &str, about: &About) -> Result<HeaderValue, StoreError> {
    HeaderValue::from_str(text).map_err(|_| about.unavailable("the key makes no header"))
}

/// Reads the `ETag` of what a copy made. S3 begins its answer, with status 200, before it knows how the copy ends: an answer that is
/// no whole document of the right kind is a failure, and says what it says.
pub(super) fn etag_of_copy(answer: &Answer, root: &str, about: &About) -> Result<String, Judgement> {
    let mut etag = None;
    let whole = answer.status == StatusCode::OK
        && answer.complete
        && walk(&answer.body, root, |step| {
            if let Step::Close(element) = step
                && element.path.strip_prefix(root) == Some("/ETag")
            {
                etag = Some(element.text.to_owned());
            }
            Ok(())
        })
        .is_ok();
    match etag.filter(|etag| whole && !etag.is_empty()) {
        Some(etag) => Ok(etag),
        None => Err(refuse(answer, about)),
    }
}
