//! Copies a blob by Azure's Copy Blob: between two blobs of one account usually done when it answers, but it may also go on after
//! that, and is then asked about until it has ended.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use object_store::client::HttpRequestBody;
use tokio::time::Instant;

use super::CloudStore;
use super::answers::{About, Answer, Refusal, quote};
use super::connector::{Ask, Judgement};
use super::copy_object::{LONGEST_ANSWER, copy_timeout, header_value};
use super::pace::Load;
use super::read_object::refuse;
use crate::store::{RequestKind, StoreError};

const SOURCE: HeaderName = HeaderName::from_static("x-ms-copy-source");
const STATUS: &str = "x-ms-copy-status";
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How far a copy has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    Pending,
}

impl CloudStore {
    pub(super) async fn copy_by_address(
        &self,
        from: &str,
        to: &str,
        size: u64,
        about: &About,
    ) -> Result<(), StoreError> {
        let mut headers = self.copy_headers(about)?;
        // A copied blob has the source's type.
        headers.remove("x-ms-blob-type");
        let mut source = header_value(&self.readable_address(from, about).await?, about)?;
        source.set_sensitive(true);
        headers.insert(SOURCE, source);
        let mut ask = Ask {
            load: Load::of_copy(from, to),
            method: Method::PUT,
            url: self.address(to, about)?,
            headers,
            body: Bytes::new(),
            longest_answer: LONGEST_ANSWER,
        };
        let deadline = Instant::now() + copy_timeout(size);
        let begun = |answer: &Answer| {
            let refusal = Refusal::read(answer);
            // Of an attempt whose answer was lost: the target is the caller's own, so it is this copy.
            if refusal.code.as_deref() == Some("PendingCopyOperation") {
                return Ok(Progress::Pending);
            }
            progress(answer, StatusCode::ACCEPTED, about)
        };
        let mut progress_so_far = self.connector.repeat(&ask, about, copy_timeout(0), begun).await?;
        ask.load = Load::of(RequestKind::Head, to);
        ask.method = Method::HEAD;
        ask.headers = self.provider.common_headers();
        let mut pause = FIRST_PAUSE;
        while progress_so_far == Progress::Pending {
            if Instant::now() >= deadline {
                return Err(about.unavailable("the copy does not end; it may still go on"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let asked = |answer: &Answer| progress(answer, StatusCode::OK, about);
            progress_so_far = self.connector.read(&ask, about, asked).await?;
        }
        Ok(())
    }

    /// The source's address. Within an account the signature, or token, of the copy itself is enough for the source; a shared access
    /// signature is part of an address, and must be part of this one, too.
    async fn readable_address(&self, key: &str, about: &About) -> Result<String, StoreError> {
        let address = self.address(key, about)?;
        let mut request = http::Request::new(HttpRequestBody::empty());
        *request.uri_mut() = address
            .parse()
            .map_err(|_| about.unavailable("the key makes no valid address"))?;
        self.connector
            .authorize(&mut request)
            .await
            .map_err(|failure| failure.into_error(about))?;
        Ok(request.uri().to_string())
    }
}

fn progress(answer: &Answer, expected: StatusCode, about: &About) -> Result<Progress, Judgement> {
    if answer.status != expected {
        return Err(refuse(answer, about));
    }
    match answer.header(STATUS) {
        Some("success") => Ok(Progress::Done),
        Some("pending") => Ok(Progress::Pending),
        Some(ended) => {
            let why = answer.header("x-ms-copy-status-description").unwrap_or_default();
            let (ended, why) = (quote(ended), quote(why));
            Err(Judgement::Final(
                about.unavailable(format!("the copy ended as {ended:?}: {why}")),
            ))
        }
        None => Err(Judgement::Again(
            about.unavailable("the answer does not say how the copy stands"),
        )),
    }
}
