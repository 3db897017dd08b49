//! What stores are set up with: settings of their own, and the environment. Both hold secrets and show none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Settings of a store by name: those of the `object_store` crate (`access_key_id`, `region`, `endpoint`, …), and
/// `ca_certificate` (a file), `allow_invalid_certificates`, and, of S3, `multipart_copy_threshold` and `multipart_copy_part_size`
/// (bytes). An empty value keeps out what the environment says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Sets `name`; a later value replaces an earlier one.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into().to_ascii_lowercase(), value.into());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Settings {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut settings = Self::default();
        for (name, value) in pairs {
            settings.set(name, value);
        }
        settings
    }
}

impl fmt::Debug for Settings {
    // Names only: values are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// The variables that stores may look at.
#[derive(Clone, Default)]
pub struct Environment(Arc<BTreeMap<String, String>>);

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            Some((name, value))
        });
        Self(Arc::new(variables.collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let owned = pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(Arc::new(owned.collect()))
    }
}

impl fmt::Debug for Environment {
    // Not even names: there are many, and they are not ours.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// Whether a setting says yes, as AWS's and other tools write it.
pub(crate) fn is_true(value: &str) -> bool {
    ["true", "1", "yes", "on"]
        .iter()
        .any(|yes| value.trim().eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_shows_a_value() {
        let settings: Settings = [("Secret_Access_Key", "SECRET")].into_iter().collect();
        let environment: Environment = [("AWS_SECRET_ACCESS_KEY", "SECRET")].into_iter().collect();
        let shown = format!("{settings:?} {environment:?}");
        assert!(
            shown.contains("secret_access_key") && !shown.contains("SECRET"),
            "{shown}"
        );
    }

    #[test]
    fn an_empty_variable_is_none() {
        let environment: Environment = [("AWS_PROFILE", "")].into_iter().collect();
        assert_eq!(environment.get("AWS_PROFILE"), None);
        assert_eq!(environment.with_prefix("AWS_").count(), 0);
    }

    #[test]
    fn yes_has_many_spellings() {
        assert!(["true", "1", " YES ", "on"].into_iter().all(is_true));
        assert!(!["", "false", "0", "truely"].into_iter().any(is_true));
    }
}
