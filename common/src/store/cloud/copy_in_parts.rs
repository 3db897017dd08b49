//! Copies an object that is too large for one request: a multipart upload whose parts the provider copies.
//!
//! What is begun and cannot be completed is aborted. Where the process ends before, or the abort fails, the upload stays and is paid
//! for until a rule of the bucket's, or somebody, aborts it (`--abort-multipart-older-than` does where the target is the registry's).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::CloudStore;
use super::answers::{About, Refusal};
use super::connector::{Ask, Judgement};
use super::copy_object::{LONGEST_ANSWER, copy_timeout, etag_of_copy, header_value};
use super::pace::Load;
use super::provider::{CopyParts, query_string};
use super::xml_document::{Step, walk};
use crate::store::StoreError;

/// The most parts that an object of S3 may have.
const MOST_PARTS: u64 = 10_000;
/// Parts of one object that are copied at once; the connector bounds all requests.
const PARTS_AT_ONCE: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(60);
/// S3 says that putting the parts together can take minutes.
const LONGEST_COMPLETION: Duration = Duration::from_secs(600);

/// What all parts of one copy share.
struct PartCopy<'c> {
    load: Load,
    /// The target with the upload's id.
    target: String,
    upload: String,
    source: HeaderValue,
    /// The state of the source that is copied: all parts are of one.
    state: HeaderValue,
    about: &'c About,
}

impl CloudStore {
    pub(super) async fn copy_in_parts(
        &self,
        from: &str,
        to: &str,
        size: u64,
        parts: CopyParts,
        source: HeaderValue,
        about: &About,
    ) -> Result<(), StoreError> {
        // By the size the parts are cut: too small a one would copy only the beginning, and the source goes next.
        let found = self.read_object(from, 0, 0).await?;
        if found.size != size {
            let (found, key) = (found.size, from);
            return Err(about.unavailable(format!(
                "{key:?} has {found} bytes, not {size}: it is another object by now"
            )));
        }
        let target = self.address(to, about)?;
        let load = Load::of_copy(from, to);
        let upload = self.begin_copy(&target, &load, about).await?;
        let copy = PartCopy {
            source,
            state: header_value(&found.version.0, about)?,
            load,
            target,
            upload,
            about,
        };
        let copied = self.copy_all_parts(&copy, size, parts).await;
        if copied.is_err() {
            self.abort_copy(&copy, to).await;
        }
        copied
    }

    async fn copy_all_parts(
        &self,
        copy: &PartCopy<'_>,
        size: u64,
        parts: CopyParts,
    ) -> Result<(), StoreError> {
        let etags: Vec<String> = stream::iter(ranges(size, parts.part).into_iter().zip(1..))
            .map(|(range, number)| self.copy_part(copy, range, number))
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        self.complete_copy(copy, &etags).await
    }

    /// Begins an upload, once: another attempt would begin another one.
    async fn begin_copy(&self, target: &str, load: &Load, about: &About) -> Result<String, StoreError> {
        let ask = Ask {
            load: load.clone(),
            method: Method::POST,
            url: format!("{target}?uploads="),
            headers: self.copy_headers(about)?,
            body: Bytes::new(),
            longest_answer: LONGEST_ANSWER,
        };
        let sent = self.connector.send_once(&ask, TIMEOUT).await;
        let answer = sent.map_err(|failure| failure.into_error(about))?;
        let mut id = None;
        let walked = walk(&answer.body, "InitiateMultipartUploadResult", |step| {
            if let Step::Close(element) = step
                && element.path == "InitiateMultipartUploadResult/UploadId"
            {
                id = Some(element.text.to_owned());
            }
            Ok(())
        });
        let whole = answer.status == StatusCode::OK && answer.complete && walked.is_ok();
        id.filter(|id| whole && !id.is_empty())
            .ok_or_else(|| Refusal::read(&answer).into_error(about))
    }

    /// Copies one part. Repeated like a read: a part that is copied again takes the place of itself.
    async fn copy_part(
        &self,
        copy: &PartCopy<'_>,
        (first, last): (u64, u64),
        number: u64,
    ) -> Result<String, StoreError> {
        let part = query_string(&[("partNumber", &number.to_string()), ("uploadId", &copy.upload)]);
        let mut headers = self.provider.common_headers();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let range = header_value(&format!("bytes={first}-{last}"), copy.about)?;
        for (name, value) in [
            ("x-amz-copy-source", copy.source.clone()),
            ("x-amz-copy-source-range", range),
            ("x-amz-copy-source-if-match", copy.state.clone()),
        ] {
            headers.insert(HeaderName::from_static(name), value);
        }
        let ask = Ask {
            load: copy.load.clone(),
            method: Method::PUT,
            url: format!("{}{part}", copy.target),
            headers,
            body: Bytes::new(),
            longest_answer: LONGEST_ANSWER,
        };
        self.connector
            .repeat(&ask, copy.about, copy_timeout(last - first), |answer| {
                etag_of_copy(answer, "CopyPartResult", copy.about)
            })
            .await
    }

    /// Puts the parts together, once: where the answer is lost, the whole copy is for the caller to do again.
    async fn complete_copy(&self, copy: &PartCopy<'_>, etags: &[String]) -> Result<(), StoreError> {
        let mut body =
            String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (etag, number) in etags.iter().zip(1..) {
            let etag = quick_xml::escape::escape(etag);
            let _ = write!(
                body,
                "<Part><ETag>{etag}</ETag><PartNumber>{number}</PartNumber></Part>"
            );
        }
        body.push_str("</CompleteMultipartUpload>");
        let mut headers = self.provider.common_headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let ask = Ask {
            load: copy.load.clone(),
            method: Method::POST,
            url: format!("{}{}", copy.target, query_string(&[("uploadId", &copy.upload)])),
            headers,
            body: body.into(),
            longest_answer: LONGEST_ANSWER,
        };
        let sent = self.connector.send_once(&ask, LONGEST_COMPLETION).await;
        let answer = sent.map_err(|failure| failure.into_error(copy.about))?;
        match etag_of_copy(&answer, "CompleteMultipartUploadResult", copy.about) {
            Ok(_) => Ok(()),
            Err(Judgement::Final(error) | Judgement::Again(error)) => Err(error),
        }
    }

    async fn abort_copy(&self, copy: &PartCopy<'_>, to: &str) {
        let ask = Ask {
            load: copy.load.clone(),
            method: Method::DELETE,
            url: format!("{}{}", copy.target, query_string(&[("uploadId", &copy.upload)])),
            headers: self.provider.common_headers(),
            body: Bytes::new(),
            longest_answer: LONGEST_ANSWER,
        };
        let aborted = match self.connector.send_once(&ask, TIMEOUT).await {
            Ok(answer) if answer.status.is_success() => return,
            Ok(answer) => Refusal::read(&answer).into_error(copy.about),
            Err(failure) => failure.into_error(copy.about),
        };
        tracing::warn!(
            store = self.identity,
            key = to,
            error = %aborted,
            "a copy in parts failed, and its upload could not be aborted: its parts are paid for until somebody aborts it"
        );
    }
}

/// First and last byte of each part.
fn ranges(size: u64, part: u64) -> Vec<(u64, u64)> {
    let part = part.max(size.div_ceil(MOST_PARTS));
    let mut ranges = Vec::new();
    let mut first = 0;
    while first < size {
        let end = first.saturating_add(part).min(size);
        ranges.push((first, end - 1));
        first = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_the_whole_and_no_more_than_there_may_be(size in 1_u64..(60 << 40), part in (5_u64 << 20)..=(5 << 30)) {
            let ranges = ranges(size, part);
            prop_assert!(u64::try_from(ranges.len()).unwrap() <= MOST_PARTS);
            let mut next = 0;
            for (place, (first, last)) in ranges.iter().enumerate() {
                prop_assert_eq!(*first, next);
                prop_assert!(place + 1 == ranges.len() || last - first + 1 >= part);
                next = last + 1;
            }
            prop_assert_eq!(next, size);
        }
    }
}
