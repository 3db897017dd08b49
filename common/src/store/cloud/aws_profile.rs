//! The files in which AWS's own tools keep profiles: `~/.aws/credentials` and `~/.aws/config`. Only what needs no
//! further program is read: keys, region, endpoint, a role by web identity.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::store::location::Environment;

/// Settings that a profile may have and that only AWS's own tools can use.
const NEEDS_TOOL: [&str; 5] = [
    "credential_process",
    "role_arn",
    "source_profile",
    "sso_session",
    "sso_start_url",
];

/// What the two files say of one profile.
#[derive(Default)]
pub(super) struct AwsProfile {
    settings: BTreeMap<String, String>,
    /// The endpoint of the section that `services` names.
    service_endpoint: Option<String>,
}

impl fmt::Debug for AwsProfile {
    // Names only: values are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.settings.keys()).finish()
    }
}

impl AwsProfile {
    /// Reads the profile that the environment names, or `default`. Files that are not there are empty.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a profile that was named and is in neither.
    pub fn load(environment: &Environment) -> Result<Self, String> {
        let named = environment
            .get("AWS_PROFILE")
            .or_else(|| environment.get("AWS_DEFAULT_PROFILE"));
        let profile = named.unwrap_or("default");
        let credentials = read(environment, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?;
        let config = read(environment, "AWS_CONFIG_FILE", ".aws/config")?;
        let (found, profile_settings) = Self::from_texts(profile, &credentials, &config);
        if named.is_some() && !found {
            return Err(format!(
                "the profile {profile:?} (AWS_PROFILE) is in neither ~/.aws/credentials nor ~/.aws/config"
            ));
        }
        Ok(profile_settings)
    }

    fn from_texts(profile: &str, credentials: &str, config: &str) -> (bool, Self) {
        let mut found = false;
        let mut read = Self::default();
        let config = parse_ini(config);
        // Only the default profile may stand there without the word. Keys of the credentials file win.
        let plain = (profile == "default").then(|| profile.to_owned());
        for section in plain.into_iter().chain([format!("profile {profile}")]) {
            if let Some(settings) = config.get(&section) {
                found = true;
                read.settings.extend(settings.clone());
            }
        }
        if let Some(settings) = parse_ini(credentials).remove(profile) {
            found = true;
            read.settings.extend(settings);
        }
        if let Some(services) = read.get("services") {
            read.service_endpoint = config
                .get(&format!("services {services}"))
                .and_then(|services| services.get("s3.endpoint_url").cloned());
        }
        (found, read)
    }

    /// A setting that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The endpoint for S3.
    pub fn endpoint(&self) -> Option<&str> {
        self.service_endpoint
            .as_deref()
            .or_else(|| self.get("s3.endpoint_url"))
            .or_else(|| self.get("endpoint_url"))
    }

    /// A setting of the profile that only AWS's own tools can turn into credentials.
    pub fn needs_tool(&self) -> Option<&'static str> {
        NEEDS_TOOL.into_iter().find(|name| self.get(name).is_some())
    }
}

fn read(environment: &Environment, variable: &str, in_home: &str) -> Result<String, String> {
    let path = match (environment.get(variable), environment.get("HOME")) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(home)) => Path::new(home).join(in_home),
        (None, None) => return Ok(String::new()),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// Sections with their settings. A setting below another one (indented) is named `outer.inner`. Lines that are
/// neither are passed over, as AWS's tools do.
fn parse_ini(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = None;
    let mut outer = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = header.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(name.clone()).or_default();
            section = Some(name);
            outer.clear();
            continue;
        }
        let (Some(section), Some((name, value))) = (&section, trimmed.split_once('=')) else {
            continue;
        };
        let value = [" #", " ;", "\t#", "\t;"].iter().fold(value, |value, comment| {
            value.split(comment).next().unwrap_or(value)
        });
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        let indented = line.starts_with([' ', '\t']);
        let name = if indented && !outer.is_empty() {
            format!("{outer}.{name}")
        } else {
            outer = if value.is_empty() {
                name.clone()
            } else {
                String::new()
            };
            name
        };
        sections.entry(section.clone()).or_default().insert(name, value);
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# comment\n[default]\naws_access_key_id=AKDEF\naws_secret_access_key = sec/ret+=\n\n[ work ]\nAWS_ACCESS_KEY_ID = AKWORK ; mine\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile work]\nregion=us-east-2\nservices = lab\nnonsense\n[services lab]\ns3 =\n  endpoint_url = http://127.0.0.1:9000\n  x = y\nec2 =\n  endpoint_url = http://other\n[work]\nregion = wrong\n";

    #[test]
    fn a_profile_is_read_from_both_files() {
        let (found, profile) = AwsProfile::from_texts("default", CREDENTIALS, CONFIG);
        assert!(found);
        assert_eq!(profile.get("aws_access_key_id"), Some("AKDEF"));
        assert_eq!(profile.get("aws_secret_access_key"), Some("sec/ret+="));
        assert_eq!(profile.get("region"), Some("eu-west-1"));
        assert_eq!(profile.endpoint(), None);
    }

    #[test]
    fn a_named_profile_has_its_own_section_and_services() {
        let (found, profile) = AwsProfile::from_texts("work", CREDENTIALS, CONFIG);
        assert!(found);
        assert_eq!(profile.get("aws_access_key_id"), Some("AKWORK"));
        assert_eq!(profile.get("region"), Some("us-east-2"));
        assert_eq!(profile.endpoint(), Some("http://127.0.0.1:9000"));
        assert!(!AwsProfile::from_texts("other", CREDENTIALS, CONFIG).0);
    }

    #[test]
    fn a_profile_shows_no_values() {
        let (_, profile) = AwsProfile::from_texts("default", CREDENTIALS, CONFIG);
        let shown = format!("{profile:?}");
        assert!(
            shown.contains("region") && !shown.contains("AKDEF") && !shown.contains("sec/ret"),
            "{shown}"
        );
    }
}
