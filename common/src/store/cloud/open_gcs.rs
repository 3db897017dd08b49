//! From what a user set to an open store of Google's: settings first, then the environment, then what `gcloud`
//! left in the home folder.

use std::collections::HashMap;
use std::str::FromStr;

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use url::Url;

use super::CloudStore;
use super::answers::describe;
use super::connector::Connector;
use super::gcs::{Gcs, GcsAuthorizer};
use super::http_client::{HttpSettings, credential_retry, endpoint_text, parse_endpoint};
use super::provider::{BucketMetadata, Provider};
use crate::store::location::{Environment, OpenOptions, Settings, is_true};

const SERVER: &str = "https://storage.googleapis.com";

/// What was set for a bucket of Google's.
pub(crate) struct GcsConfig {
    values: HashMap<GoogleConfigKey, String>,
    server: Url,
    http: HttpSettings,
}

impl GcsConfig {
    /// Puts together what `settings` and the environment say.
    ///
    /// # Errors
    ///
    /// A setting that is unknown or makes no sense.
    pub fn resolve(settings: &Settings, environment: &Environment) -> Result<Self, String> {
        let mut values = HashMap::new();
        let mut http = HttpSettings::default();
        for (name, value) in settings.iter() {
            if http.take(name, value) {
                continue;
            }
            // What Google's own tools call a server of one's own.
            let name = if matches!(name, "endpoint" | "endpoint_url") {
                "base_url"
            } else {
                name
            };
            let key = GoogleConfigKey::from_str(name)
                .ok()
                .filter(is_honoured)
                .ok_or_else(|| format!("{name:?} is no setting of a Google Cloud store"))?;
            values.insert(key, value.to_owned());
        }
        let own_credentials = values.keys().any(is_credential);
        let of_environment = environment
            .with_prefix("GOOGLE_")
            .filter_map(|(name, value)| {
                Some((GoogleConfigKey::from_str(&name.to_ascii_lowercase()).ok()?, value))
            })
            .chain(
                environment
                    .get("SERVICE_ACCOUNT")
                    .map(|path| (GoogleConfigKey::ServiceAccount, path)),
            );
        for (key, value) in of_environment {
            if !(own_credentials && is_credential(&key)) {
                values.entry(key).or_insert_with(|| value.to_owned());
            }
        }
        if let Some(emulator) = environment.get("STORAGE_EMULATOR_HOST")
            && !values.contains_key(&GoogleConfigKey::BaseUrl)
        {
            let emulator = if emulator.contains("://") {
                emulator.to_owned()
            } else {
                format!("http://{emulator}")
            };
            values.insert(GoogleConfigKey::BaseUrl, emulator);
            values
                .entry(GoogleConfigKey::SkipSignature)
                .or_insert_with(|| "true".to_owned());
        }
        values.retain(|_, value| !value.is_empty());
        let server = values.remove(&GoogleConfigKey::BaseUrl);
        Ok(Self {
            values,
            server: parse_endpoint(server.as_deref().unwrap_or(SERVER))?,
            http,
        })
    }

    /// The server, where it is not Google's: a part of the store's identity.
    pub fn foreign_endpoint(&self) -> Option<String> {
        let server = endpoint_text(&self.server);
        (server != SERVER).then_some(server)
    }
}

/// Opens a folder (no slash at its ends) of a bucket.
///
/// # Errors
///
/// What about the configuration cannot be used.
pub(crate) fn open_gcs(
    identity: String,
    bucket: &str,
    folder: &str,
    config: &GcsConfig,
    options: &OpenOptions,
) -> Result<CloudStore, String> {
    let http = config.http.for_server(&config.server, options.concurrency);
    let anonymous = config
        .values
        .get(&GoogleConfigKey::SkipSignature)
        .is_some_and(|value| is_true(value));
    let credentials = if anonymous {
        None
    } else {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_client_options(
                http.credential_options(config.values.contains_key(&GoogleConfigKey::BearerToken))?,
            )
            .with_retry(credential_retry())
            .with_bucket_name(bucket);
        for (key, value) in config.values.iter().filter(|(key, _)| is_credential(key)) {
            builder = builder.with_config(*key, value);
        }
        let store = builder.build().map_err(|error| describe(&error))?;
        Some(store.credentials().clone())
    };
    let server = endpoint_text(&config.server);
    let provider = Gcs {
        place_url: format!("{server}/{bucket}"),
        // The XML API does not know of soft delete.
        metadata: BucketMetadata {
            url: format!("{server}/storage/v1/b/{bucket}?fields=name%2Cversioning%2CsoftDeletePolicy"),
            bucket: bucket.to_owned(),
        },
    };
    let connector = Connector::new(
        http.client()?,
        Box::new(GcsAuthorizer { credentials }),
        provider.place_url(),
        options,
    );
    Ok(CloudStore::new(identity, folder, Box::new(provider), connector))
}

/// Whether a setting has an effect here: one that is passed over in silence would deceive who set it.
fn is_honoured(key: &GoogleConfigKey) -> bool {
    is_credential(key) || matches!(key, GoogleConfigKey::BaseUrl | GoogleConfigKey::SkipSignature)
}

fn is_credential(key: &GoogleConfigKey) -> bool {
    matches!(
        key,
        GoogleConfigKey::ServiceAccount
            | GoogleConfigKey::ServiceAccountKey
            | GoogleConfigKey::ApplicationCredentials
            | GoogleConfigKey::BearerToken
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> GcsConfig {
        let (settings, variables) = (
            settings.iter().copied().collect(),
            variables.iter().copied().collect(),
        );
        GcsConfig::resolve(&settings, &variables).unwrap()
    }

    #[test]
    fn the_server_is_googles_unless_another_is_set() {
        assert_eq!(resolve(&[], &[]).foreign_endpoint(), None);
        assert_eq!(
            resolve(&[("endpoint", "https://storage.googleapis.com/")], &[]).foreign_endpoint(),
            None
        );
        let emulated = resolve(&[], &[("STORAGE_EMULATOR_HOST", "localhost:4443")]);
        assert_eq!(
            emulated.foreign_endpoint().as_deref(),
            Some("http://localhost:4443")
        );
    }

    #[test]
    fn credentials_of_the_settings_keep_out_those_of_the_environment() {
        let config = resolve(
            &[("service_account", "/a.json")],
            &[
                ("GOOGLE_SERVICE_ACCOUNT_KEY", "{}"),
                ("GOOGLE_APPLICATION_CREDENTIALS", "/b.json"),
            ],
        );
        assert_eq!(config.values.len(), 1);
    }
}
