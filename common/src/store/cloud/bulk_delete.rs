//! Deletes many keys with one `DeleteObjects` request, answered per key. Sent once and bounded in time (R10); names
//! exactly the batch's keys (R3); what the answer does not settle is unknown, so that the accounts stay exact (R5).

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::CloudStore;
use super::answers::{Refusal, quote};
use super::connector::{Ask, NoAnswer};
use super::pace::Load;
use super::xml_document::{Step, walk};
use crate::store::{DeleteBatch, KeyOutcome, Versioning};

/// 1,000 keys with an error each fit many times.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

impl CloudStore {
    pub(super) async fn delete_objects(&self, batch: &DeleteBatch) -> Vec<KeyOutcome> {
        let full_keys: Vec<_> = batch.keys().iter().map(|key| self.full_key(key)).collect();
        let named: Vec<_> = full_keys.iter().filter(|key| is_expressible(key)).collect();
        if named.is_empty() {
            return outcomes(&full_keys, HashMap::new(), &inexpressible());
        }
        let load = delete_load(batch);
        let body = request_body(named.iter().map(|key| key.as_str()));
        let ask = Ask {
            load: load.clone(),
            method: Method::POST,
            url: format!("{}?delete", self.provider.place_url()),
            headers: request_headers(&body),
            body: body.into(),
            longest_answer: LONGEST_ANSWER,
        };
        let sent = Instant::now();
        let (answered, rest) = match self.connector.send_once_by(&ask, batch.deadline().into()).await {
            Err(failure) => (HashMap::new(), outcome_without_answer(&failure)),
            Ok(answer) if answer.status == StatusCode::OK => {
                let parsed = parse_answer(&answer.body);
                if parsed.has_delete_marker {
                    self.connector.note_versioning(Versioning::Seen);
                }
                if parsed
                    .outcomes
                    .values()
                    .any(|outcome| *outcome == KeyOutcome::Throttled)
                {
                    self.connector.pace().refused(&load, sent);
                }
                (parsed.outcomes, KeyOutcome::Unknown(parsed.problem))
            }
            Ok(answer) => (HashMap::new(), outcome_of_refusal(&Refusal::read(&answer))),
        };
        outcomes(&full_keys, answered, &rest)
    }
}

/// What a request for a whole batch takes of the store's rates. Who sends batches has waited for its turn
/// ([`Store::wait_to_delete`](crate::store::Store::wait_to_delete)): a permit's time is not for that.
pub(super) fn delete_load(batch: &DeleteBatch) -> Load {
    let first = batch.keys().first().map_or("", String::as_str);
    Load::of_deletes(first, batch.keys().len(), 1).due()
}

/// What a request's end without an answer means for each of its keys.
pub(super) fn outcome_without_answer(failure: &NoAnswer) -> KeyOutcome {
    match failure {
        // Nothing was sent, so asking again later is as safe as after a 503.
        NoAnswer::NotSent(detail) => {
            tracing::debug!(detail, "a delete was not sent");
            KeyOutcome::Throttled
        }
        NoAnswer::NoCredentials(detail) => KeyOutcome::Failed(detail.clone()),
        NoAnswer::Lost(detail) => KeyOutcome::Unknown(detail.clone()),
    }
}

/// What a refusal of a whole request means for each of its keys.
pub(super) fn outcome_of_refusal(refusal: &Refusal) -> KeyOutcome {
    if refusal.is_throttling() {
        KeyOutcome::Throttled
    } else if refusal.is_passing() || refusal.status.is_success() {
        KeyOutcome::Unknown(refusal.detail())
    } else {
        KeyOutcome::Failed(refusal.detail())
    }
}

fn inexpressible() -> KeyOutcome {
    KeyOutcome::Failed("no request can name this key exactly".to_owned())
}

/// Puts the outcomes into the batch's order.
fn outcomes(
    keys: &[String],
    mut answered: HashMap<String, KeyOutcome>,
    rest: &KeyOutcome,
) -> Vec<KeyOutcome> {
    let outcomes = keys
        .iter()
        .map(|key| {
            if is_expressible(key) {
                answered.remove(key).unwrap_or_else(|| rest.clone())
            } else {
                inexpressible()
            }
        })
        .collect();
    if !answered.is_empty() {
        tracing::warn!(
            unexpected_keys = answered.len(),
            "the answer to a delete names keys that it was not asked to delete"
        );
    }
    outcomes
}

/// Whether XML 1.0 can hold the key unchanged: a carriage return, for one, would come out as another key (R3).
fn is_expressible(key: &str) -> bool {
    !key.is_empty()
        && !key
            .chars()
            .any(|character| character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}'))
}

fn request_body<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let mut body = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
    );
    for key in keys {
        let _ = write!(
            body,
            "<Object><Key>{}</Key></Object>",
            quick_xml::escape::escape(key)
        );
    }
    body.push_str("</Delete>");
    body
}

fn request_headers(body: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    // S3 wants one of the two; some servers know only the first.
    let checksums = [
        ("content-md5", BASE64_STANDARD.encode(Md5::digest(body))),
        (
            "x-amz-checksum-sha256",
            BASE64_STANDARD.encode(Sha256::digest(body)),
        ),
    ];
    for (name, value) in checksums {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    outcomes: HashMap<String, KeyOutcome>,
    /// Whether a key was only hidden behind a marker.
    has_delete_marker: bool,
    /// Why a key that is not in `outcomes` is not there.
    problem: String,
}

fn parse_answer(body: &[u8]) -> Parsed {
    let mut parsed = Parsed {
        outcomes: HashMap::new(),
        has_delete_marker: false,
        problem: String::new(),
    };
    let (mut key, mut code, mut message) = (None, String::new(), String::new());
    let walked = walk(body, "DeleteResult", |step| {
        let element = match step {
            Step::Open("DeleteResult/Deleted" | "DeleteResult/Error") => {
                (key, code, message) = (None, String::new(), String::new());
                return Ok(());
            }
            Step::Open(_) => return Ok(()),
            Step::Close(element) => element,
        };
        match element.path {
            "DeleteResult/Deleted/Key" | "DeleteResult/Error/Key" => key = Some(element.text.to_owned()),
            "DeleteResult/Deleted/DeleteMarker" => parsed.has_delete_marker |= element.text.trim() == "true",
            "DeleteResult/Error/Code" => code = quote(element.text),
            "DeleteResult/Error/Message" => message = quote(element.text),
            "DeleteResult/Deleted" => add(&mut parsed.outcomes, key.take(), KeyOutcome::Deleted),
            "DeleteResult/Error" => {
                add(
                    &mut parsed.outcomes,
                    key.take(),
                    outcome_of_error(&code, &message),
                );
            }
            _ => {}
        }
        Ok(())
    });
    parsed.problem = match walked {
        Ok(()) => "the answer does not name this key".to_owned(),
        Err(problem) => problem,
    };
    parsed
}

fn add(outcomes: &mut HashMap<String, KeyOutcome>, key: Option<String>, outcome: KeyOutcome) {
    let Some(key) = key else { return };
    outcomes
        .entry(key)
        .and_modify(|known| {
            if *known != outcome {
                *known = KeyOutcome::Unknown("the answer contradicts itself".to_owned());
            }
        })
        .or_insert(outcome);
}

fn outcome_of_error(code: &str, message: &str) -> KeyOutcome {
    match code {
        "NoSuchKey" => KeyOutcome::Deleted,
        "SlowDown" | "ServiceUnavailable" => KeyOutcome::Throttled,
        "InternalError" => KeyOutcome::Unknown(format!("{code}: {message}")),
        _ => KeyOutcome::Failed(format!("{code}: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(inner: &str) -> String {
        format!("<?xml version=\"1.0\"?><DeleteResult xmlns=\"x\">{inner}</DeleteResult>")
    }

    fn settle(keys: &[&str], body: &str) -> Vec<KeyOutcome> {
        let keys: Vec<_> = keys.iter().map(|&key| key.to_owned()).collect();
        let parsed = parse_answer(body.as_bytes());
        outcomes(&keys, parsed.outcomes, &KeyOutcome::Unknown(parsed.problem))
    }

    #[test]
    fn each_key_gets_its_own_outcome() {
        let body = answer(
            "<Deleted><Key>a&amp;</Key></Deleted>\
             <Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error>\
             <Error><Key>c</Key><Code>SlowDown</Code><Message>m</Message></Error>\
             <Error><Key>d</Key><Code>InternalError</Code><Message>m</Message></Error>\
             <Error><Key>e</Key><Code>NoSuchKey</Code></Error><Deleted><Key>unexpected</Key></Deleted>",
        );
        let outcomes = settle(&["b", "a&", "c", "d", "e", "f"], &body);
        assert_eq!(outcomes[0], KeyOutcome::Failed("AccessDenied: no".to_owned()));
        assert_eq!(outcomes[1], KeyOutcome::Deleted);
        assert_eq!(outcomes[2], KeyOutcome::Throttled);
        assert_eq!(outcomes[3], KeyOutcome::Unknown("InternalError: m".to_owned()));
        assert_eq!(outcomes[4], KeyOutcome::Deleted);
        assert!(matches!(&outcomes[5], KeyOutcome::Unknown(_)));
    }

    #[test]
    fn what_a_cut_answer_did_not_settle_is_unknown() {
        let whole = answer("<Deleted><Key>a</Key></Deleted><Deleted><Key>b</Key></Deleted>");
        let cut = &whole[..whole.len() - 35];
        let outcomes = settle(&["a", "b"], cut);
        assert_eq!(outcomes[0], KeyOutcome::Deleted);
        assert!(matches!(&outcomes[1], KeyOutcome::Unknown(_)), "{outcomes:?}");
    }

    #[test]
    fn an_answer_that_is_none_settles_nothing() {
        for body in ["", "<html></html>", "<Error><Code>InternalError</Code></Error>"] {
            assert!(
                matches!(&settle(&["a"], body)[0], KeyOutcome::Unknown(_)),
                "{body}"
            );
        }
    }

    #[test]
    fn an_answer_that_contradicts_itself_settles_nothing() {
        let body =
            answer("<Deleted><Key>a</Key></Deleted><Error><Key>a</Key><Code>AccessDenied</Code></Error>");
        assert!(matches!(&settle(&["a"], &body)[0], KeyOutcome::Unknown(_)));
    }

    #[test]
    fn keys_are_escaped_or_not_sent() {
        assert!(request_body(["a<&>\"'"].into_iter()).contains("<Key>a&lt;&amp;&gt;&quot;&apos;</Key>"));
        assert!(!is_expressible("a\rb"));
        assert!(!is_expressible("a\u{1}b"));
        assert!(is_expressible("repositories/\u{fc}/x//"));
    }

    #[test]
    fn markers_are_seen() {
        let body = answer("<Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker></Deleted>");
        assert!(parse_answer(body.as_bytes()).has_delete_marker);
    }

    #[test]
    fn refusals_of_the_whole_request_say_what_is_certain() {
        let refusal = |status: u16| {
            Refusal::read(&super::super::answers::Answer {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: bytes::Bytes::new(),
                complete: true,
            })
        };
        assert_eq!(outcome_of_refusal(&refusal(503)), KeyOutcome::Throttled);
        assert_eq!(outcome_of_refusal(&refusal(429)), KeyOutcome::Throttled);
        assert!(matches!(
            outcome_of_refusal(&refusal(500)),
            KeyOutcome::Unknown(_)
        ));
        assert!(matches!(
            outcome_of_refusal(&refusal(504)),
            KeyOutcome::Unknown(_)
        ));
        assert!(matches!(outcome_of_refusal(&refusal(403)), KeyOutcome::Failed(_)));
    }
}
