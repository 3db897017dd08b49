//! What a store's answers mean: an answer that refuses becomes an error that says what was tried, on what, and what
//! to do. Nothing of a request is ever quoted, so no secret can get into a message.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use super::xml_document::{Step, walk};
use crate::store::StoreError;

/// The longest piece of an answer that an error message quotes, in characters.
const LONGEST_QUOTE: usize = 300;

/// Error codes that say that the credentials, not the rights, are the problem.
const CREDENTIAL_CODES: [&str; 19] = [
    "AuthenticationFailed",
    "AuthenticationRequired",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingSecurityHeader",
    "NoAuthenticationInformation",
    "NotSignedUp",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
];

/// Error codes that say that the bucket or container is not there.
const NO_PLACE_CODES: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "ResourceNotFound"];

/// Error codes that say that one object is not there, and nothing else.
const NO_KEY_CODES: [&str; 2] = ["NoSuchKey", "BlobNotFound"];

/// An answer, read whole or up to the cap that its request set.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether `body` is all of it.
    pub complete: bool,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What an operation is about, for its errors.
#[derive(Debug, Clone)]
pub(super) struct About {
    /// The store's identity.
    pub store: String,
    /// "bucket" or "container".
    pub place: &'static str,
    /// "read", "list", "write", "delete".
    pub action: &'static str,
    /// The key or prefix, as the caller knows it.
    pub key: String,
}

impl About {
    /// A failure without an answer that explains it.
    pub fn unavailable(&self, detail: impl Into<String>) -> StoreError {
        StoreError::Unavailable {
            store: self.store.clone(),
            action: self.action,
            key: self.key.clone(),
            detail: detail.into(),
            source: None,
        }
    }
}

/// An answer that refuses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// The provider's error code, where the answer has one.
    pub code: Option<String>,
    message: String,
    other_region: Option<String>,
}

impl Refusal {
    /// Reads what the answer says about itself.
    pub fn read(answer: &Answer) -> Self {
        let (mut code, mut message) = (None, String::new());
        // An error document that is broken explains nothing; the status still does.
        let _ = walk(&answer.body, "Error", |step| {
            if let Step::Close(element) = step {
                match element.path {
                    "Error/Code" => code = Some(quote(element.text)),
                    "Error/Message" => message = quote(element.text),
                    _ => {}
                }
            }
            Ok(())
        });
        if let Some(header) = answer.header("x-ms-error-code") {
            code = Some(quote(header));
        }
        if code.is_none() && message.is_empty() {
            message = match answer.headers.get(CONTENT_TYPE).map(|kind| kind.to_str()) {
                Some(Ok(kind)) => format!("an answer of type {}", quote(kind)),
                _ => "an empty answer".to_owned(),
            };
        }
        Self {
            status: answer.status,
            code,
            message,
            other_region: answer.header("x-amz-bucket-region").map(quote),
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_passing(&self) -> bool {
        let passing_status = self.status.is_server_error()
            && self.status != StatusCode::NOT_IMPLEMENTED
            && self.status != StatusCode::HTTP_VERSION_NOT_SUPPORTED;
        passing_status
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.code.as_deref() == Some("RequestTimeout")
    }

    /// Whether the store asks to send less.
    pub fn is_throttling(&self) -> bool {
        is_throttling(self.status)
    }

    /// Whether the answer proves that the object is not there. A 404 that no store wrote proves nothing.
    pub fn is_no_such_key(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.has_code(&NO_KEY_CODES)
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// The answer in a few words.
    pub fn detail(&self) -> String {
        let status = self.status.as_u16();
        match &self.code {
            Some(code) if self.message.is_empty() => format!("HTTP {status} {code}"),
            Some(code) => format!("HTTP {status} {code}: {}", self.message),
            None => format!("HTTP {status}, {}", self.message),
        }
    }

    /// The error that this refusal is.
    pub fn into_error(self, about: &About) -> StoreError {
        let store = about.store.clone();
        let mut detail = self.detail();
        if self.code.as_deref() == Some("RequestTimeTooSkewed") {
            detail.push_str("; set this machine's clock");
        }
        if self.status.is_redirection() || self.code.as_deref() == Some("AuthorizationHeaderMalformed") {
            let region = match &self.other_region {
                Some(region) => format!("it says that the region is {region:?}"),
                None => "it names no region".to_owned(),
            };
            return StoreError::Configuration {
                store,
                problem: format!(
                    "the {} is served elsewhere ({detail}; {region}); set the region (AWS_REGION) and the endpoint",
                    about.place
                ),
            };
        }
        if self.is_no_such_key() {
            return StoreError::NotFound {
                store,
                key: about.key.clone(),
            };
        }
        if self.status == StatusCode::NOT_FOUND && self.has_code(&NO_PLACE_CODES) {
            return StoreError::NoSuchPlace {
                store,
                what: about.place,
            };
        }
        if self.status == StatusCode::UNAUTHORIZED || self.has_code(&CREDENTIAL_CODES) {
            return StoreError::Unauthenticated { store, detail };
        }
        if self.status == StatusCode::FORBIDDEN {
            return StoreError::Denied {
                store,
                action: about.action,
                key: about.key.clone(),
                detail,
            };
        }
        about.unavailable(detail)
    }
}

/// Whether a status says that there are too many requests.
pub(super) fn is_throttling(status: StatusCode) -> bool {
    status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS
}

/// How long the store asks to wait. Dates are not read: stores send seconds.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A piece of an answer, short and on one line.
pub(super) fn quote(text: &str) -> String {
    let one_line: String = text
        .trim()
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(LONGEST_QUOTE)
        .collect();
    one_line
}

/// An error and those below it in one line, without the query of any address: it may hold a signature or token.
pub(super) fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let piece = error.to_string();
        if !text.contains(&piece) {
            text.push_str(": ");
            text.push_str(&piece);
        }
        below = error.source();
    }
    let without_queries: Vec<_> = text
        .split_whitespace()
        .map(|word| match word.split_once('?') {
            Some((address, _)) if address.contains("://") => format!("{address}?…"),
            _ => word.to_owned(),
        })
        .collect();
    without_queries.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal::read(&Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            complete: true,
        })
    }

    fn about() -> About {
        About {
            store: "s3://b".to_owned(),
            place: "bucket",
            action: "read",
            key: "k".to_owned(),
        }
    }

    fn error(status: u16, code: &str) -> StoreError {
        refusal(status, &format!("<Error><Code>{code}</Code></Error>")).into_error(&about())
    }

    #[test]
    fn codes_become_errors() {
        assert!(error(404, "NoSuchKey").is_not_found());
        assert!(matches!(
            error(404, "NoSuchBucket"),
            StoreError::NoSuchPlace { .. }
        ));
        assert!(matches!(error(403, "AccessDenied"), StoreError::Denied { .. }));
        assert!(matches!(
            error(403, "InvalidAccessKeyId"),
            StoreError::Unauthenticated { .. }
        ));
        assert!(matches!(
            error(301, "PermanentRedirect"),
            StoreError::Configuration { .. }
        ));
        assert!(error(403, "RequestTimeTooSkewed").to_string().contains("clock"));
    }

    #[test]
    fn a_404_that_no_store_wrote_is_no_proof_of_absence() {
        let error = refusal(404, "<html>not here</html>").into_error(&about());
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }

    #[test]
    fn only_what_may_pass_is_passing() {
        assert!(refusal(500, "").is_passing());
        assert!(refusal(429, "").is_passing());
        assert!(refusal(400, "<Error><Code>RequestTimeout</Code></Error>").is_passing());
        assert!(!refusal(501, "").is_passing());
        assert!(!refusal(403, "").is_passing());
    }

    #[test]
    fn a_description_has_no_queries() {
        let error = std::io::Error::other("GET https://h/c?sig=SECRET&x=1 failed");
        let text = describe(&error);
        assert!(!text.contains("SECRET"), "{text}");
        assert!(text.contains("https://h/c?…"), "{text}");
    }
}
