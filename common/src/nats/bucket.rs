//! A bucket of small documents by key, changed by compare-and-set. A plain stream with one message for each key: the client's
//! own helper does not understand servers of version 2.9.

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use futures::TryStreamExt;

use super::{Nats, NatsError};

/// One document of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    /// Greater with every change of any document of the bucket.
    pub(super) revision: u64,
}

/// A bucket.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    nats: Nats,
    stream: Stream,
    prefix: &'static str,
}

impl Bucket {
    pub(super) fn new(nats: &Nats, stream: Stream, prefix: &'static str) -> Self {
        Self {
            nats: nats.clone(),
            stream,
            prefix,
        }
    }

    /// Reads a document. Asked of the stream's leader, so that it is never an old one.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, NatsError> {
        let subject = format!("{}{key}", self.prefix);
        match self.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some(Entry {
                value: message.payload,
                revision: message.sequence,
            })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(NatsError::request(format!("read {key:?}"), error)),
        }
    }

    /// Writes a document whatever is there. Returns its revision.
    pub(super) async fn put(&self, key: &str, value: Bytes) -> Result<u64, NatsError> {
        let message = PublishMessage::build().payload(value);
        match self.publish(key, message).await? {
            Some(revision) => Ok(revision),
            None => Err(NatsError::request(
                format!("write {key:?}"),
                "it was refused for a condition that was not set",
            )),
        }
    }

    /// Writes a document where it is at this revision; 0: where there is none. Returns its revision, or `None` where it is at
    /// another. A failure leaves open whether it was written.
    pub(super) async fn put_if(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
    ) -> Result<Option<u64>, NatsError> {
        let message = PublishMessage::build()
            .payload(value)
            .expected_last_subject_sequence(revision);
        self.publish(key, message).await
    }

    async fn publish(&self, key: &str, message: PublishMessage) -> Result<Option<u64>, NatsError> {
        let failed = |error: async_nats::jetstream::context::PublishError| {
            NatsError::request(format!("write {key:?}"), error)
        };
        let context = self.nats.context();
        let sent = context
            .send_publish(format!("{}{key}", self.prefix), message)
            .await;
        match sent.map_err(failed)?.await {
            Ok(ack) => Ok(Some(ack.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Names the documents whose keys match, with `*` for one part and `>` for the rest.
    pub(super) async fn keys(&self, filter: &str) -> Result<Vec<String>, NatsError> {
        let failed = |error| NatsError::request(format!("list {filter:?}"), error);
        let subjects = self
            .stream
            .info_builder()
            .subjects(format!("{}{filter}", self.prefix))
            .fetch()
            .await
            .map_err(failed)?;
        let mut keys: Vec<String> = subjects
            .map_ok(|(subject, _)| subject[self.prefix.len()..].to_owned())
            .try_collect()
            .await
            .map_err(failed)?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Removes the documents whose keys match.
    pub(super) async fn remove(&self, filter: &str) -> Result<(), NatsError> {
        self.stream
            .purge()
            .filter(format!("{}{filter}", self.prefix))
            .await
            .map(|_| ())
            .map_err(|error| NatsError::request(format!("remove {filter:?}"), error))
    }
}
