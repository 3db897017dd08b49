//! One namespace of a registry: the repositories below one first part of a name, and the image streams that they are.

use std::fmt;
use std::str::FromStr;

use hardprune_common::layout::REPOSITORIES;
use serde::Serialize;

/// The first part of repositories' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Namespace(String);

/// A text that cannot be the first part of a repository's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a namespace is the first part of repositories' names: a letter or digit, then those, `.`, `_` and `-`"
)]
pub struct NoNamespace;

impl Namespace {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The folder that its repositories lie in, with a `/` at its end.
    pub(super) fn folder(&self) -> String {
        format!("{REPOSITORIES}{}/", self.0)
    }
}

impl FromStr for Namespace {
    type Err = NoNamespace;

    /// It goes into keys and into paths of requests: nothing but what names consist of.
    fn from_str(text: &str) -> Result<Self, NoNamespace> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let begins = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.bytes().all(is_plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoNamespace)
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "team-1", "Team_0.x"] {
            let namespace: Namespace = name.parse().unwrap();
            assert_eq!(namespace.folder(), format!("{REPOSITORIES}{name}/"));
        }
        for name in ["", ".", "..", "_layers", "-a", "a/b", "a/", "a%2fb", "a b", "ä"] {
            assert_eq!(name.parse::<Namespace>(), Err(NoNamespace), "{name:?}");
        }
    }
}
