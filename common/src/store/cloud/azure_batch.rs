//! Deletes many blobs with one batch of subrequests, each signed and each answered. Sent once and bounded in time
//! (R10); names exactly the batch's keys (R3); what the answer does not settle is unknown (R5).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use object_store::client::{HttpRequest, HttpRequestBody};
use tokio::time::{Instant, timeout_at};

use super::CloudStore;
use super::answers::{Answer, Refusal};
use super::bulk_delete::{delete_load, outcome_of_refusal, outcome_without_answer};
use super::connector::{Ask, NoAnswer};
use super::pace::Load;
use super::provider::object_url;
use crate::store::{DeleteBatch, KeyOutcome, Versioning};

/// 256 answers with their headers fit many times.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
const NO_ADDRESS: &str = "no address can name this key exactly";

impl CloudStore {
    pub(super) async fn delete_azure_batch(&self, batch: &DeleteBatch) -> Vec<KeyOutcome> {
        let deadline = Instant::from_std(batch.deadline());
        let urls: Vec<_> = batch
            .keys()
            .iter()
            .map(|key| object_url(self.provider.place_url(), &self.full_key(key)))
            .collect();
        if urls.iter().all(Option::is_none) {
            return vec![KeyOutcome::Failed(NO_ADDRESS.to_owned()); urls.len()];
        }
        let load = delete_load(batch);
        let sent = Instant::now();
        let (answered, rest) = match self.send_azure_batch(&urls, &load, deadline).await {
            Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                let parsed = parse_answer(&answer, urls.len());
                if parsed.only_hidden {
                    self.connector.note_versioning(Versioning::KeptForAWhile);
                }
                if parsed.outcomes.contains(&Some(KeyOutcome::Throttled)) {
                    self.connector.pace().refused(&load, sent);
                }
                (parsed.outcomes, KeyOutcome::Unknown(parsed.problem))
            }
            Ok(answer) => (Vec::new(), outcome_of_refusal(&Refusal::read(&answer))),
            Err(failure) => (Vec::new(), outcome_without_answer(&failure)),
        };
        let mut answered = answered.into_iter();
        let outcomes = urls.iter().map(|url| {
            let outcome = answered.next().flatten();
            match url {
                Some(_) => outcome.unwrap_or_else(|| rest.clone()),
                None => KeyOutcome::Failed(NO_ADDRESS.to_owned()),
            }
        });
        outcomes.collect()
    }

    async fn send_azure_batch(
        &self,
        urls: &[Option<String>],
        load: &Load,
        deadline: Instant,
    ) -> Result<Answer, NoAnswer> {
        let boundary = format!("batch_{:032x}", rand::random::<u128>());
        let mut body = Vec::new();
        for (id, url) in urls.iter().enumerate() {
            let Some(url) = url else { continue };
            let mut request = subrequest(url)?;
            timeout_at(deadline, self.connector.authorize(&mut request))
                .await
                .map_err(|_| NoAnswer::NoCredentials("the credentials did not come in time".to_owned()))??;
            add_part(&mut body, &boundary, id, &request);
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        let mut headers = self.provider.common_headers();
        let kind = HeaderValue::from_str(&format!("multipart/mixed; boundary={boundary}"))
            .map_err(|_| NoAnswer::NotSent("the boundary makes no header".to_owned()))?;
        headers.insert(CONTENT_TYPE, kind);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let ask = Ask {
            load: load.clone(),
            method: Method::POST,
            url: format!("{}?restype=container&comp=batch", self.provider.place_url()),
            headers,
            body: body.into(),
            longest_answer: LONGEST_ANSWER,
        };
        self.connector.send_once_by(&ask, deadline).await
    }
}

fn subrequest(url: &str) -> Result<HttpRequest, NoAnswer> {
    let mut request = http::Request::new(HttpRequestBody::empty());
    *request.method_mut() = Method::DELETE;
    *request.uri_mut() = url
        .parse::<Uri>()
        .map_err(|_| NoAnswer::NotSent("the key makes no valid address".to_owned()))?;
    request
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok(request)
}

fn add_part(body: &mut Vec<u8>, boundary: &str, id: usize, request: &HttpRequest) {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    // Azure takes `Content-ID` in this spelling only.
    let head = format!(
        "--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\
         Content-ID: {id}\r\n\r\nDELETE {target} HTTP/1.1\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    for (name, value) in request.headers() {
        body.extend_from_slice(name.as_str().as_bytes());
        body.extend_from_slice(b": ");
        body.extend_from_slice(value.as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"\r\n\r\n");
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    /// By the subrequests' numbers.
    outcomes: Vec<Option<KeyOutcome>>,
    /// Whether a blob was only hidden: the account keeps deleted blobs for a while.
    only_hidden: bool,
    /// Why an outcome that is not there is not there.
    problem: String,
}

fn parse_answer(answer: &Answer, subrequests: usize) -> Parsed {
    let mut parsed = Parsed {
        outcomes: vec![None; subrequests],
        only_hidden: false,
        problem: "the answer does not name this key".to_owned(),
    };
    let Some(boundary) = boundary(&answer.headers) else {
        "the answer is no multipart document".clone_into(&mut parsed.problem);
        return parsed;
    };
    // Not text in general, but what we look for is; anything else comes out as an unreadable part.
    let body = String::from_utf8_lossy(&answer.body);
    let delimiter = format!("--{boundary}");
    let mut pieces = body.split(delimiter.as_str()).skip(1).peekable();
    let mut ended = false;
    while let Some(piece) = pieces.next() {
        if piece.starts_with("--") {
            ended = true;
            break;
        }
        // A part is whole only where another delimiter follows.
        if pieces.peek().is_none() {
            break;
        }
        match parse_part(piece) {
            Some(part) => add(&mut parsed, part),
            None => "a part of the answer is unreadable".clone_into(&mut parsed.problem),
        }
    }
    if !ended {
        "the answer was cut short".clone_into(&mut parsed.problem);
    }
    parsed
}

fn boundary(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (kind, parameters) = kind.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let boundary = parameters
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("boundary="))?
        .trim_matches('"');
    (!boundary.is_empty()).then_some(boundary)
}

/// The answer to one subrequest.
struct Part<'a> {
    id: Option<usize>,
    status: StatusCode,
    error_code: Option<&'a str>,
    only_hidden: bool,
    body: &'a str,
}

fn parse_part(piece: &str) -> Option<Part<'_>> {
    let (part_head, rest) = piece.trim_start_matches("\r\n").split_once("\r\n\r\n")?;
    let (status_line, rest) = rest.split_once("\r\n")?;
    let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
    let status = status_line
        .strip_prefix("HTTP/1.1 ")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(Part {
        id: field(part_head, "content-id").and_then(|id| id.parse().ok()),
        status,
        error_code: field(head, "x-ms-error-code"),
        only_hidden: field(head, "x-ms-delete-type-permanent") == Some("false"),
        body,
    })
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn add(parsed: &mut Parsed, part: Part<'_>) {
    let refusal = part_refusal(&part);
    let outcome = if part.status.is_success() {
        parsed.only_hidden |= part.only_hidden;
        KeyOutcome::Deleted
    } else if refusal.is_no_such_key() {
        KeyOutcome::Deleted
    } else if part.status == StatusCode::NOT_FOUND {
        KeyOutcome::Unknown(refusal.detail())
    } else {
        outcome_of_refusal(&refusal)
    };
    match part.id.and_then(|id| parsed.outcomes.get_mut(id)) {
        Some(place @ None) => *place = Some(outcome),
        Some(place) => {
            if place.as_ref() != Some(&outcome) {
                *place = Some(KeyOutcome::Unknown("the answer contradicts itself".to_owned()));
            }
        }
        // An answer to the batch as a whole says why, but not what was done.
        None => parsed.problem = refusal.detail(),
    }
}

fn part_refusal(part: &Part<'_>) -> Refusal {
    let mut headers = HeaderMap::new();
    if let Some(code) = part.error_code.and_then(|code| HeaderValue::from_str(code).ok()) {
        headers.insert("x-ms-error-code", code);
    }
    Refusal::read(&Answer {
        status: part.status,
        headers,
        body: Bytes::copy_from_slice(part.body.trim().as_bytes()),
        complete: true,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(body: &[u8]) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("multipart/mixed; boundary=batchresponse_1"),
        );
        Answer {
            status: StatusCode::ACCEPTED,
            headers,
            body: Bytes::copy_from_slice(body),
            complete: true,
        }
    }

    fn part(id: &str, status: &str, head: &str) -> String {
        format!(
            "--batchresponse_1\r\nContent-Type: application/http\r\n{id}\r\nHTTP/1.1 {status}\r\n{head}x-ms-request-id: 1\r\n\r\n"
        )
    }

    fn whole() -> String {
        [
            part(
                "Content-ID: 1\r\n",
                "202 Accepted",
                "x-ms-delete-type-permanent: true\r\n",
            ),
            part(
                "Content-ID: 0\r\n",
                "404 The specified blob does not exist.",
                "x-ms-error-code: BlobNotFound\r\n",
            ),
            part(
                "Content-ID: 3\r\n",
                "409 Conflict",
                "x-ms-error-code: SnapshotsPresent\r\n",
            ),
            part("Content-ID: 4\r\n", "503 Busy", "x-ms-error-code: ServerBusy\r\n"),
            part("Content-ID: 5\r\n", "404 Not Found", ""),
            part("Content-ID: 99\r\n", "202 Accepted", ""),
            "--batchresponse_1--\r\n".to_owned(),
        ]
        .concat()
    }

    #[test]
    fn each_key_gets_its_own_outcome() {
        let parsed = parse_answer(&answer(whole().as_bytes()), 6);
        assert_eq!(parsed.outcomes[0], Some(KeyOutcome::Deleted));
        assert_eq!(parsed.outcomes[1], Some(KeyOutcome::Deleted));
        assert_eq!(parsed.outcomes[2], None);
        assert!(
            matches!(&parsed.outcomes[3], Some(KeyOutcome::Failed(why)) if why.contains("SnapshotsPresent"))
        );
        assert_eq!(parsed.outcomes[4], Some(KeyOutcome::Throttled));
        assert!(
            matches!(&parsed.outcomes[5], Some(KeyOutcome::Unknown(_))),
            "no blob's answer"
        );
        assert!(!parsed.only_hidden);
    }

    #[test]
    fn what_a_cut_answer_did_not_settle_is_unknown() {
        let whole = whole();
        let cut = &whole[..whole.find("404 The").unwrap() + 60];
        let parsed = parse_answer(&answer(cut.as_bytes()), 6);
        assert_eq!(parsed.outcomes[1], Some(KeyOutcome::Deleted));
        assert_eq!(parsed.outcomes[0], None, "its part was not whole");
        assert!(parsed.problem.contains("cut short"));
    }

    #[test]
    fn blobs_that_are_kept_for_a_while_are_seen() {
        let body = part(
            "Content-ID: 0\r\n",
            "202 Accepted",
            "x-ms-delete-type-permanent: false\r\n",
        ) + "--batchresponse_1--";
        assert!(parse_answer(&answer(body.as_bytes()), 1).only_hidden);
    }

    #[test]
    fn an_answer_to_the_batch_as_a_whole_settles_nothing() {
        let body =
            part("", "403 Forbidden", "x-ms-error-code: AuthenticationFailed\r\n") + "--batchresponse_1--";
        let parsed = parse_answer(&answer(body.as_bytes()), 1);
        assert_eq!(parsed.outcomes, [None]);
        assert!(parsed.problem.contains("AuthenticationFailed"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..900) {
            let whole = whole();
            let mut mixed = whole.as_bytes()[..cut.min(whole.len())].to_vec();
            mixed.extend_from_slice(&bytes);
            let _ = parse_answer(&answer(&mixed), 6);
        }
    }
}
