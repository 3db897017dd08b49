//! What a registry's answer to the start of an upload says. Only one answer says read-only mode: that which Distribution 2.8.2
//! was seen to give in it. A pull-through proxy, a web server and a gateway answer 405, too.

use reqwest::StatusCode;
use reqwest::header::{ALLOW, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use serde_json::Value;

const API_VERSION_HEADER: &str = "docker-distribution-api-version";
const API_VERSION: &str = "registry/2.0";

/// An answer, as much of it as counts.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Its beginning.
    pub body: Vec<u8>,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Read-only mode, exactly.
    ReadOnly,
    /// The upload began; where it is, as the registry says.
    UploadStarted(Option<String>),
    /// Who asks must say who they are, in a way that the challenges name.
    WantsCredentials(Vec<String>),
    /// Nobody answered who could know: a gateway before the registry, or a registry that has no time.
    NotNow(String),
    /// Anything else, in words.
    Other(String),
}

impl Answer {
    /// Judges it.
    pub fn verdict(&self) -> Verdict {
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => self.not_allowed(),
            StatusCode::UNAUTHORIZED => {
                Verdict::WantsCredentials(self.texts(WWW_AUTHENTICATE.as_str()).collect())
            }
            StatusCode::FORBIDDEN => Verdict::Other(
                "it answers 403: these credentials may not push to the probe's repository; give others, or another repository \
                 with --probe-repository"
                    .to_owned(),
            ),
            StatusCode::ACCEPTED | StatusCode::CREATED => {
                Verdict::UploadStarted(self.texts(LOCATION.as_str()).next())
            }
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Verdict::NotNow(format!("it answers {}", self.status)),
            status if status.is_redirection() => Verdict::Other(format!(
                "it answers {status}, a redirect, which is not followed: give the registry's own address"
            )),
            status => Verdict::Other(format!("it answers {status}{}", self.error_code())),
        }
    }

    fn not_allowed(&self) -> Verdict {
        let other = |what: &str| {
            Verdict::Other(format!(
                "it answers 405, but not as a registry in read-only mode: {what}"
            ))
        };
        if !self.texts(API_VERSION_HEADER).any(|text| text == API_VERSION) {
            return other(
                "the header Docker-Distribution-Api-Version is missing, so something else than a registry answers",
            );
        }
        // In JSON the registry's own handlers refuse; read-only mode has none for POST, and says so in plain text.
        if serde_json::from_slice::<Value>(&self.body).is_ok()
            || self.body.trim_ascii_start().starts_with(b"{")
        {
            return other(&format!(
                "its body is JSON{}; a pull-through proxy answers so, and writes when it is pulled from",
                self.error_code()
            ));
        }
        let mut allowed = self.texts(ALLOW.as_str()).peekable();
        if allowed.peek().is_none() {
            return other("the header Allow is missing");
        }
        if allowed.any(|methods| {
            let mut methods = methods.split(',');
            methods.any(|method| method.trim().eq_ignore_ascii_case("POST"))
        }) {
            return other("it allows POST");
        }
        Verdict::ReadOnly
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = String> {
        let values = self.headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok().map(str::to_owned))
    }

    /// The first error's code, where the body has one and it is a word. Nothing else of a body is shown.
    fn error_code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let code = body["errors"][0]["code"].as_str().unwrap_or_default();
        let is_word = (1..=64).contains(&code.len())
            && code
                .bytes()
                .all(|letter| letter.is_ascii_uppercase() || letter == b'_');
        if is_word {
            format!(" (code {code})")
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, headers: &[(&'static str, &str)], body: &str) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Answer {
            status,
            headers: map,
            body: body.as_bytes().to_vec(),
        }
        .verdict()
    }

    const VERSION: (&str, &str) = (API_VERSION_HEADER, API_VERSION);

    #[test]
    fn only_the_exact_answer_says_read_only() {
        let plain = "Method not allowed\n";
        let allow = ("allow", "GET, HEAD");
        assert_eq!(verdict(405, &[VERSION, allow], plain), Verdict::ReadOnly);
        for (headers, body, what) in [
            (vec![allow], plain, "Api-Version"),
            (vec![VERSION], plain, "Allow is missing"),
            (vec![VERSION, ("allow", "GET, post")], plain, "allows POST"),
            (vec![VERSION, allow, ("allow", "POST")], plain, "allows POST"),
            (
                vec![VERSION, allow],
                r#"{"errors":[{"code":"UNSUPPORTED"}]}"#,
                "UNSUPPORTED",
            ),
            (vec![VERSION, allow], " {\"errors\": cut", "JSON"),
        ] {
            let Verdict::Other(said) = verdict(405, &headers, body) else {
                panic!("{headers:?} {body} was taken for read-only mode");
            };
            assert!(said.contains(what), "{said}");
        }
    }

    #[test]
    fn other_answers() {
        let started = verdict(202, &[("location", "/v2/a/blobs/uploads/1")], "");
        assert_eq!(
            started,
            Verdict::UploadStarted(Some("/v2/a/blobs/uploads/1".to_owned()))
        );
        assert_eq!(
            verdict(401, &[("www-authenticate", "Basic realm=x")], ""),
            Verdict::WantsCredentials(vec!["Basic realm=x".to_owned()])
        );
        assert!(matches!(verdict(503, &[], ""), Verdict::NotNow(_)));
        for status in [200, 204, 301, 307, 403, 404, 500] {
            assert!(
                matches!(verdict(status, &[VERSION], ""), Verdict::Other(_)),
                "{status}"
            );
        }
    }

    #[test]
    fn of_a_body_nothing_but_a_code_is_shown() {
        let body = r#"{"errors":[{"code":"secret token"}]}"#;
        let Verdict::Other(said) = verdict(500, &[], body) else {
            panic!("a failure is no proof");
        };
        assert!(!said.contains("secret"), "{said}");
    }
}
