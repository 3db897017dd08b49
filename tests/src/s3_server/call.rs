//! What a request asks for, read from its HTTP form alone: faults and counters need it before (and whether or
//! not) the S3 service understands the request.

use std::borrow::Cow;

use http::Method;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use s3s::dto::Delete;
use s3s::xml::{Deserialize, Deserializer};

/// The kinds of request that faults and counters tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A listing of keys, of either version, or of versions.
    List,
    /// A read of an object.
    Get,
    /// A question about an object.
    Head,
    /// A write of an object in one piece.
    Put,
    /// A copy of an object in one piece.
    Copy,
    /// The delete of one key.
    Delete,
    /// The delete of many keys.
    DeleteObjects,
    /// Any request of a multipart upload.
    Multipart,
    /// Anything else.
    Other,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub operation: Operation,
    /// The key, the prefix of a listing, or all keys of a `DeleteObjects` request.
    pub keys: Vec<String>,
    /// Of a listing: the key behind which it begins.
    pub after: Option<String>,
}

impl Call {
    pub(super) fn of(head: &Parts, body: &[u8]) -> Self {
        let path = percent_decode_str(head.uri.path()).decode_utf8_lossy();
        let key = path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .map_or("", |(_, key)| key);
        let operation = if key.is_empty() {
            on_bucket(head)
        } else {
            on_object(head)
        };
        let keys = match operation {
            Operation::List => vec![query(head, "prefix").unwrap_or_default().into_owned()],
            Operation::DeleteObjects => keys_to_delete(body),
            _ => vec![key.to_owned()],
        };
        let after = (operation == Operation::List).then(|| after(head)).flatten();
        Self {
            operation,
            keys,
            after,
        }
    }
}

fn on_bucket(head: &Parts) -> Operation {
    let has = |name| query(head, name).is_some();
    match head.method {
        Method::POST if has("delete") => Operation::DeleteObjects,
        Method::GET if has("uploads") => Operation::Multipart,
        Method::GET if has("location") || has("versioning") => Operation::Other,
        Method::GET if head.uri.path() != "/" => Operation::List,
        _ => Operation::Other,
    }
}

fn on_object(head: &Parts) -> Operation {
    if query(head, "uploadId").is_some() || query(head, "uploads").is_some() {
        return Operation::Multipart;
    }
    match head.method {
        Method::GET => Operation::Get,
        Method::HEAD => Operation::Head,
        Method::PUT if head.headers.contains_key("x-amz-copy-source") => Operation::Copy,
        Method::PUT => Operation::Put,
        Method::DELETE => Operation::Delete,
        _ => Operation::Other,
    }
}

fn after(head: &Parts) -> Option<String> {
    if let Some(token) = query(head, "continuation-token") {
        return String::from_utf8(hex::decode(&*token).ok()?).ok();
    }
    let after = query(head, "start-after").or_else(|| query(head, "marker"))?;
    Some(after.into_owned())
}

pub(super) fn query<'a>(head: &'a Parts, name: &str) -> Option<Cow<'a, str>> {
    let pairs = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    pairs
        .into_iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

/// Returns the keys of a `DeleteObjects` body; none if it is malformed, which the S3 service will say.
fn keys_to_delete(body: &[u8]) -> Vec<String> {
    let parsed = Delete::deserialize(&mut Deserializer::new(body));
    parsed.map_or_else(
        |_| Vec::new(),
        |delete| delete.objects.into_iter().map(|object| object.key).collect(),
    )
}
