//! Deletes key by key, several at a time, where a provider takes no batches. Each request is sent once and all end
//! within the batch's timeout (R10); only exact keys (R3).

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::CloudStore;
use super::answers::Refusal;
use super::bulk_delete::{outcome_of_refusal, outcome_without_answer};
use super::connector::Ask;
use super::pace::Load;
use super::provider::object_url;
use crate::store::{DeleteBatch, KeyOutcome, RequestKind, Versioning};

/// The connector bounds what really is in flight.
const AT_ONCE: usize = 32;
const LONGEST_ANSWER: usize = 64 * 1024;

impl CloudStore {
    pub(super) async fn delete_one_by_one(&self, batch: &DeleteBatch) -> Vec<KeyOutcome> {
        let deadline = Instant::from_std(batch.deadline());
        stream::iter(batch.keys().iter().cloned())
            .map(|key| async move { self.delete_one(&key, deadline).await })
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    async fn delete_one(&self, key: &str, deadline: Instant) -> KeyOutcome {
        let Some(url) = object_url(self.provider.place_url(), &self.full_key(key)) else {
            return KeyOutcome::Failed("no address can name this key exactly".to_owned());
        };
        let ask = Ask {
            load: Load::of(RequestKind::Delete, key).due(),
            method: Method::DELETE,
            url,
            headers: self.provider.common_headers(),
            body: Bytes::new(),
            longest_answer: LONGEST_ANSWER,
        };
        let answer = match self.connector.send_once_by(&ask, deadline).await {
            Ok(answer) => answer,
            Err(failure) => return outcome_without_answer(&failure),
        };
        // A success with a body is a page that something on the way put in the answer's place.
        if answer.status == StatusCode::NO_CONTENT || (answer.status.is_success() && answer.body.is_empty()) {
            if answer.header("x-amz-delete-marker") == Some("true") {
                self.connector.note_versioning(Versioning::Seen);
            }
            return KeyOutcome::Deleted;
        }
        let refusal = Refusal::read(&answer);
        if refusal.is_no_such_key() {
            return KeyOutcome::Deleted;
        }
        outcome_of_refusal(&refusal)
    }
}
