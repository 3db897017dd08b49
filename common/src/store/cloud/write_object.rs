//! Writes one object whole, under a condition. A write is sent once: after a failure it is open whether the object
//! was written, and only the caller knows what to do then.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::CloudStore;
use super::answers::Refusal;
use super::connector::Ask;
use super::pace::Load;
use super::provider::{body_headers, object_url};
use crate::store::{ObjectVersion, PutCondition, RequestKind, StoreError};

const SHORTEST_TIMEOUT: Duration = Duration::from_secs(60);
/// A slower way to the store is as good as none.
const SLOWEST_BYTES_A_SECOND: u64 = 256 * 1024;
/// An answer to a write has nothing of interest in its body.
const LONGEST_ANSWER: usize = 64 * 1024;

impl CloudStore {
    pub(super) async fn write_object(
        &self,
        key: &str,
        bytes: Bytes,
        condition: &PutCondition,
    ) -> Result<ObjectVersion, StoreError> {
        let about = self.about("write", key);
        let not_met = || StoreError::ConditionNotMet {
            store: about.store.clone(),
            key: key.to_owned(),
        };
        let url = object_url(self.provider.place_url(), &self.full_key(key))
            .ok_or_else(|| about.unavailable("no address can name this key exactly"))?;
        let mut headers = self.provider.common_headers();
        headers.extend(body_headers(bytes.len()));
        // A version that no header can hold was never one of this store.
        headers.extend(self.provider.put_headers(condition).ok_or_else(not_met)?);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let ask = Ask {
            load: Load::of(RequestKind::Put, key),
            method: Method::PUT,
            url,
            headers,
            body: bytes,
            longest_answer: LONGEST_ANSWER,
        };
        let timeout = SHORTEST_TIMEOUT + Duration::from_secs(length / SLOWEST_BYTES_A_SECOND);
        let answer = self
            .connector
            .send_once(&ask, timeout)
            .await
            .map_err(|failure| failure.into_error(&about))?;
        if answer.status.is_success() {
            return self
                .provider
                .version(&answer.headers)
                .ok_or_else(|| about.unavailable("the answer names no version (ETag) of what was written"));
        }
        let refusal = Refusal::read(&answer);
        let unmet = match condition {
            PutCondition::Always => false,
            PutCondition::IfAbsent => is_conflict(answer.status),
            PutCondition::IfUnchanged(_) => is_conflict(answer.status) || refusal.is_no_such_key(),
        };
        if unmet {
            return Err(not_met());
        }
        Err(refusal.into_error(&about))
    }
}

/// S3 answers 409 where two conditional writes of one key meet, Azure where a blob is there already.
fn is_conflict(status: StatusCode) -> bool {
    status == StatusCode::PRECONDITION_FAILED || status == StatusCode::CONFLICT
}
