//! Who the probe is to the registry. A password or a token comes from a file or from the environment, never from the command
//! line, which every list of processes shows.

use std::path::Path;

use reqwest::RequestBuilder;
use serde::Deserialize;
use url::Url;

use hardprune_common::store::cloud::is_loopback;

use crate::error::RunError;
use crate::registry_config::Secret;

/// Holds the password of `--registry-user`.
pub const PASSWORD_VARIABLE: &str = "HARDPRUNE_REGISTRY_PASSWORD";
/// Holds a token.
pub const TOKEN_VARIABLE: &str = "HARDPRUNE_REGISTRY_TOKEN";

/// Who the probe is.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    /// Nobody.
    None,
    /// A user.
    User { name: String, password: Secret },
    /// Who has this token.
    Token(Secret),
}

impl Credentials {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, a user without a password.
    pub fn read(
        user: Option<&str>,
        password_file: Option<&Path>,
        token_file: Option<&Path>,
    ) -> Result<Self, RunError> {
        if let Some(name) = user {
            let password = match (password_file, std::env::var(PASSWORD_VARIABLE)) {
                (Some(path), _) => read(path, "a password")?,
                (None, Ok(password)) => Secret::new(password),
                (None, Err(_)) => {
                    return Err(RunError::Usage(format!(
                        "--registry-user needs --registry-password-file or {PASSWORD_VARIABLE}"
                    )));
                }
            };
            return Ok(Self::User {
                name: name.to_owned(),
                password,
            });
        }
        if let Some(path) = token_file {
            return Ok(Self::Token(read(path, "a token")?));
        }
        Ok(match std::env::var(TOKEN_VARIABLE) {
            Ok(token) => Self::Token(Secret::new(token)),
            Err(_) => Self::None,
        })
    }

    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Adds a user's name and password.
    pub fn add_basic(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::User { name, password } => request.basic_auth(name, Some(password.expose())),
            Self::None | Self::Token(_) => request,
        }
    }
}

fn read(path: &Path, what: &str) -> Result<Secret, RunError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| RunError::Usage(format!("cannot read {what} from {path:?}: {error}")))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// A challenge `Bearer realm="…",service="…",scope="…"`: where a token is to be had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenService(pub Url);

impl TokenService {
    /// Reads a challenge. `None` where it is another, or names no address that credentials may be sent to: only `https`, or
    /// this machine, unless connections need not be safe.
    pub fn of_challenge(challenge: &str, accept_insecure: bool) -> Option<Self> {
        let (scheme, parameters) = challenge.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters_of(parameters);
        let value = |wanted: &str| {
            let mut found = parameters.iter().filter(|(name, _)| name == wanted);
            found.next().map(|(_, value)| value.as_str())
        };
        let mut url = Url::parse(value("realm")?).ok()?;
        let is_safe =
            url.scheme() == "https" || url.scheme() == "http" && (is_loopback(&url) || accept_insecure);
        if !is_safe || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        for name in ["service", "scope"] {
            if let Some(value) = value(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Some(Self(url))
    }
}

/// What a token service answers.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl TokenAnswer {
    /// The token.
    pub fn into_token(self) -> Option<Secret> {
        let token = if self.token.is_empty() {
            self.access_token
        } else {
            self.token
        };
        (!token.is_empty()).then(|| Secret::new(token))
    }
}

/// Reads `name="value",other=value`; a value in quotes may hold commas.
fn parameters_of(text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_start_matches([',', ' ']).trim().to_ascii_lowercase();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters.push((name, value.trim().to_owned()));
        rest = left;
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_name_a_token_service() {
        let challenge =
            "Bearer realm=\"https://auth.example/token\",service=\"reg\",scope=\"repository:a/b:pull,push\"";
        let service = TokenService::of_challenge(challenge, false).unwrap();
        assert_eq!(
            service.0.as_str(),
            "https://auth.example/token?service=reg&scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
        assert_eq!(TokenService::of_challenge("Basic realm=\"x\"", false), None);
        assert_eq!(TokenService::of_challenge("Bearer", false), None);
    }

    #[test]
    fn passwords_are_not_sent_in_the_clear() {
        let challenge = "Bearer realm=\"http://auth.example/token\"";
        assert_eq!(TokenService::of_challenge(challenge, false), None);
        assert!(TokenService::of_challenge(challenge, true).is_some());
        let here = "bearer realm=\"http://127.0.0.1:5001/token\"";
        assert!(TokenService::of_challenge(here, false).is_some());
    }
}
