//! Asks a bucket whether it keeps what is deleted, where no other answer would ever say so: Google's.
//!
//! One read of the bucket's metadata. A refusal is no failure: then it is not known, and the report says that.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::CloudStore;
use super::answers::{Answer, Refusal};
use super::connector::{Ask, Judgement};
use super::pace::Load;
use super::provider::BucketMetadata;
use crate::store::{RequestKind, Versioning};

const LONGEST_ANSWER: usize = 1024 * 1024;

/// What Google's JSON API says of a bucket, as far as it was asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    name: String,
    #[serde(default)]
    versioning: Option<VersioningPolicy>,
    #[serde(default)]
    soft_delete_policy: Option<SoftDeletePolicy>,
}

#[derive(Deserialize)]
struct VersioningPolicy {
    #[serde(default)]
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SoftDeletePolicy {
    /// An int64, which the JSON API writes as a string.
    #[serde(default)]
    retention_duration_seconds: Option<serde_json::Value>,
}

impl CloudStore {
    pub(super) async fn ask_retention(&self, metadata: &BucketMetadata) {
        let ask = Ask {
            load: Load::of(RequestKind::Get, ""),
            method: Method::GET,
            url: metadata.url.clone(),
            headers: self.provider.common_headers(),
            body: Bytes::new(),
            longest_answer: LONGEST_ANSWER,
        };
        let about = self.about("ask about", "");
        let judge = |answer: &Answer| {
            if answer.status != StatusCode::OK {
                return Err(Judgement::Final(Refusal::read(answer).into_error(&about)));
            }
            parse(&answer.body, &metadata.bucket)
                .map_err(|problem| Judgement::Final(about.unavailable(problem)))
        };
        let found = self.connector.read(&ask, &about, judge).await;
        self.connector.note_versioning(found.unwrap_or_else(|error| {
            tracing::warn!(
                %error,
                "whether the bucket keeps what is deleted is not known: bytes that are called freed may be kept for a \
                 while; the permission storage.buckets.get would tell"
            );
            Versioning::Unknown
        }));
    }
}

fn parse(answer: &[u8], name: &str) -> Result<Versioning, String> {
    let bucket: Bucket = serde_json::from_slice(answer)
        .map_err(|error| format!("the answer is no description of a bucket ({error})"))?;
    if bucket.name != name {
        return Err("the answer describes another bucket".to_owned());
    }
    let kept = bucket
        .soft_delete_policy
        .and_then(|policy| policy.retention_duration_seconds);
    let kept_seconds = match &kept {
        None => Some(0),
        Some(serde_json::Value::String(seconds)) => seconds.parse().ok(),
        Some(seconds) => seconds.as_u64(),
    };
    Ok(match kept_seconds {
        _ if bucket.versioning.is_some_and(|policy| policy.enabled) => Versioning::Seen,
        Some(0) => Versioning::NotSeen,
        Some(_) => Versioning::KeptForAWhile,
        None => return Err("the answer's soft delete policy has no number of seconds".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        let cases = [
            ("{\"name\":\"b\"}", Some(Versioning::NotSeen)),
            (
                "{\"name\":\"b\",\"versioning\":{\"enabled\":false}}",
                Some(Versioning::NotSeen),
            ),
            (
                "{\"name\":\"b\",\"softDeletePolicy\":{\"retentionDurationSeconds\":\"0\"}}",
                Some(Versioning::NotSeen),
            ),
            (
                "{\"name\":\"b\",\"softDeletePolicy\":{\"retentionDurationSeconds\":\"604800\"}}",
                Some(Versioning::KeptForAWhile),
            ),
            (
                "{\"name\":\"b\",\"softDeletePolicy\":{\"retentionDurationSeconds\":604800}}",
                Some(Versioning::KeptForAWhile),
            ),
            (
                "{\"name\":\"b\",\"versioning\":{\"enabled\":true},\
                 \"softDeletePolicy\":{\"retentionDurationSeconds\":\"604800\"}}",
                Some(Versioning::Seen),
            ),
            (
                "{\"name\":\"b\",\"softDeletePolicy\":{\"retentionDurationSeconds\":\"x\"}}",
                None,
            ),
            ("{\"name\":\"other\"}", None),
            ("{}", None),
            ("<html></html>", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(parse(answer.as_bytes(), "b").ok(), expected, "{answer}");
        }
    }
}
