//! Answers about a simulated registry, past the S3 framework, in two thirds of its time: 0.85 ms of a processor
//! instead of 1.35 for a page of 1,000 keys, sent over HTTP.
//!
//! Answers are what the framework's would be. Signatures are not checked, only whose they are said to be.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RANGE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use jiff::fmt::rfc2822::DateTimePrinter;
use s3s::Body;

use super::call::{Call, Operation, query};
use super::faults::{Effect, MetFault};
use super::front::{document, error_document};
use super::listing::{ListQuery, Page, list_page};
use super::{ACCESS_KEY, Shared};
use crate::simulator::{Content, Listed, Simulated};

const XML: &str = "application/xml";
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Answers a request that is about the simulated registry alone; leaves all others to the framework.
pub(super) fn answer(
    shared: &Shared,
    head: &Parts,
    body: &Bytes,
    call: &Call,
    faults: &[MetFault],
) -> Option<Response<Body>> {
    let content = &shared.content;
    let all_here = !call.keys.is_empty() && call.keys.iter().all(|key| content.simulated_at(key).is_some());
    let simulated = content
        .simulated()
        .filter(|_| all_here && is_understood(shared, head))?;
    let key = call.keys.first()?;
    match call.operation {
        Operation::List => list(shared, head, call, faults),
        Operation::Get | Operation::Head => Some(read(simulated, head, key)),
        Operation::Delete => {
            shared.recorder.record_deleted(u64::from(simulated.remove(key)));
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Some(response)
        }
        Operation::DeleteObjects => Some(delete(shared, simulated, body, call, faults)),
        _ => None,
    }
}

/// The counts of a server and the check of its simulated registry, as a JSON document.
pub(super) fn state(shared: &Shared) -> String {
    let simulated = shared.content.simulated();
    let state = serde_json::json!({
        "counters": shared.recorder.counters(),
        "expected": simulated.map(Simulated::expected),
        "verdict": simulated.map(Simulated::verdict),
    });
    format!("{state:#}\n")
}

/// Whether a request is one that need not be left to the framework: what that refuses, it refuses itself.
fn is_understood(shared: &Shared, head: &Parts) -> bool {
    let path = head.uri.path().trim_start_matches('/');
    let bucket = path.split('/').next().unwrap_or_default();
    let is_ours = head
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains(&format!("Credential={ACCESS_KEY}/")));
    bucket == shared.options.bucket && (is_ours || !shared.options.check_credentials)
}

fn list(shared: &Shared, head: &Parts, call: &Call, faults: &[MetFault]) -> Option<Response<Body>> {
    let asked = |name| query(head, name);
    if asked("list-type").as_deref() != Some("2") || asked("encoding-type").is_some() {
        return None;
    }
    let max_keys = match asked("max-keys") {
        Some(text) => text.parse().ok()?,
        None => usize::MAX,
    };
    let token = asked("continuation-token");
    if token.is_some() && call.after.is_none() {
        return None;
    }
    let delimiter = asked("delimiter");
    let list_query = ListQuery {
        prefix: call.keys.first()?,
        after: call.after.as_deref(),
        delimiter: delimiter.as_deref(),
        max_keys: max_keys.min(shared.options.page_size),
    };
    let mut page = list_page(&shared.content, &list_query);
    for fault in faults {
        page.spoil(&fault.effect, list_query.prefix);
    }
    let text = write_page(shared, &page, &list_query, token.as_deref());
    Some(document(StatusCode::OK, XML, text))
}

fn write_page(shared: &Shared, page: &Page, query: &ListQuery<'_>, token: Option<&str>) -> String {
    let mut text = String::with_capacity(1024 + 400 * page.keys.len());
    text.push_str(DECLARATION);
    text.push_str("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>");
    push_escaped(&mut text, &shared.options.bucket);
    text.push_str("</Name><Prefix>");
    push_escaped(&mut text, query.prefix);
    text.push_str("</Prefix>");
    let count = page.keys.len() + page.common_prefixes.len();
    let _ = write!(
        text,
        "<MaxKeys>{}</MaxKeys><KeyCount>{count}</KeyCount><IsTruncated>{}</IsTruncated>",
        query.max_keys, page.is_truncated
    );
    if let Some(token) = token {
        let _ = write!(text, "<ContinuationToken>{token}</ContinuationToken>");
    }
    if let Some(next) = &page.next {
        let _ = write!(
            text,
            "<NextContinuationToken>{}</NextContinuationToken>",
            hex::encode(next)
        );
    }
    for listed in &page.keys {
        text.push_str("<Contents><Key>");
        push_escaped(&mut text, &listed.key);
        let _ = write!(
            text,
            "</Key><LastModified>{:.3}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>",
            listed.last_modified, listed.etag, listed.size
        );
    }
    for prefix in &page.common_prefixes {
        text.push_str("<CommonPrefixes><Prefix>");
        push_escaped(&mut text, prefix);
        text.push_str("</Prefix></CommonPrefixes>");
    }
    text.push_str("</ListBucketResult>");
    text
}

fn push_escaped(text: &mut String, raw: &str) {
    if !raw.contains(['&', '<', '>', '"']) {
        text.push_str(raw);
        return;
    }
    for character in raw.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            other => text.push(other),
        }
    }
}

fn read(simulated: &Simulated, head: &Parts, key: &str) -> Response<Body> {
    let Some(listed) = simulated.find(key) else {
        return document(
            StatusCode::NOT_FOUND,
            XML,
            error_document("NoSuchKey", "there is no such key"),
        );
    };
    if head.method == Method::HEAD {
        let mut response = Response::new(Body::empty());
        describe(&mut response, &listed);
        response
            .headers_mut()
            .insert(http::header::CONTENT_LENGTH, HeaderValue::from(listed.size));
        return response;
    }
    let Some(Content::Bytes(bytes)) = simulated.read(key) else {
        let message = "a simulated layer has no bytes";
        return document(
            StatusCode::NOT_IMPLEMENTED,
            XML,
            error_document("NotImplemented", message),
        );
    };
    let bytes = Bytes::from(bytes);
    let Some(range) = head.headers.get(RANGE).and_then(|range| range.to_str().ok()) else {
        let mut response = Response::new(Body::from(bytes));
        describe(&mut response, &listed);
        return response;
    };
    let length = bytes.len();
    let Some((first, end)) = span(range, length) else {
        let message = "the range is not satisfiable";
        let error = error_document("InvalidRange", message);
        return document(StatusCode::RANGE_NOT_SATISFIABLE, XML, error);
    };
    let mut response = Response::new(Body::from(bytes.slice(first..end)));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    describe(&mut response, &listed);
    let range = format!("bytes {first}-{}/{length}", end - 1);
    if let Ok(range) = HeaderValue::try_from(range) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

/// Reads `bytes=FIRST-LAST`, or `bytes=FIRST-`.
fn span(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = match last {
        "" => length,
        last => last.parse::<usize>().ok()?.saturating_add(1).min(length),
    };
    (first < end).then_some((first, end))
}

fn describe(response: &mut Response<Body>, listed: &Listed) {
    let headers = response.headers_mut();
    let time = DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&listed.last_modified)
        .unwrap_or_default();
    for (name, value) in [(ETAG, format!("\"{}\"", listed.etag)), (LAST_MODIFIED, time)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
}

fn delete(
    shared: &Shared,
    simulated: &Simulated,
    body: &Bytes,
    call: &Call,
    faults: &[MetFault],
) -> Response<Body> {
    let is_quiet = body.windows(13).any(|part| part == b"<Quiet>true</");
    let mut text = String::with_capacity(256 + 160 * call.keys.len());
    text.push_str(DECLARATION);
    text.push_str("<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    let mut removed = 0;
    for key in &call.keys {
        let spoiled = faults
            .iter()
            .filter(|fault| fault.concerns(key))
            .find_map(|fault| match fault.effect {
                Effect::KeyError { code, message } => Some(Some((code, message))),
                Effect::KeySilentlyMissing => Some(None),
                _ => None,
            });
        match spoiled {
            Some(Some((code, message))) => {
                text.push_str("<Error><Key>");
                push_escaped(&mut text, key);
                let _ = write!(
                    text,
                    "</Key><Code>{code}</Code><Message>{message}</Message></Error>"
                );
            }
            Some(None) => {}
            None => {
                removed += u64::from(simulated.remove(key));
                if !is_quiet {
                    text.push_str("<Deleted><Key>");
                    push_escaped(&mut text, key);
                    text.push_str("</Key></Deleted>");
                }
            }
        }
    }
    shared.recorder.record_deleted(removed);
    text.push_str("</DeleteResult>");
    document(StatusCode::OK, XML, text)
}
