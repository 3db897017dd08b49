//! A registry's storage as a store that can be opened.
//!
//! What the configuration leaves out is kept out of the environment too, where the registry would not look at it
//! there either: an `AWS_ENDPOINT_URL` must not lead to another server than the registry's.

use hardprune_common::store::StoreError;
use hardprune_common::store::location::{Settings, StorageLocation, StoreKind};

use super::{
    AzureCredentials, AzureSettings, Driver, GcsCredentials, GcsSettings, RegistryStorage, S3Settings,
};

impl RegistryStorage {
    /// Names the store that the registry uses. Credentials that the configuration does not have come from the
    /// environment of this process.
    ///
    /// # Errors
    ///
    /// As [`StorageLocation::folder`] and [`StorageLocation::cloud`].
    pub fn location(&self) -> Result<StorageLocation, StoreError> {
        match &self.driver {
            Driver::Filesystem(filesystem) => StorageLocation::folder(&filesystem.root_directory),
            Driver::S3(s3) => {
                StorageLocation::cloud(StoreKind::S3, &s3.bucket, &s3.root_directory, s3_settings(s3))
            }
            Driver::Gcs(gcs) => StorageLocation::cloud(
                StoreKind::Gcs,
                &gcs.bucket,
                &gcs.root_directory,
                gcs_settings(gcs),
            ),
            Driver::Azure(azure) => {
                let settings = azure_settings(azure);
                StorageLocation::cloud(
                    StoreKind::Azure,
                    &azure.container,
                    &azure.root_directory,
                    settings,
                )
            }
        }
    }
}

fn s3_settings(s3: &S3Settings) -> Settings {
    let mut settings = Settings::default();
    settings.set("endpoint", s3.region_endpoint.as_deref().unwrap_or_default());
    settings.set("virtual_hosted_style_request", (!s3.force_path_style).to_string());
    settings.set("allow_invalid_certificates", s3.skip_verify.to_string());
    if let Some(region) = &s3.region {
        settings.set("region", region);
    }
    for (name, secret) in [
        ("access_key_id", &s3.access_key),
        ("secret_access_key", &s3.secret_key),
        ("session_token", &s3.session_token),
    ] {
        if let Some(secret) = secret {
            settings.set(name, secret.expose());
        }
    }
    settings
}

fn gcs_settings(gcs: &GcsSettings) -> Settings {
    let mut settings = Settings::default();
    match &gcs.credentials {
        GcsCredentials::KeyFile(file) => settings.set("service_account", file.to_string_lossy()),
        GcsCredentials::Inline(json) => settings.set("service_account_key", json.expose()),
        GcsCredentials::Default => {}
    }
    settings
}

fn azure_settings(azure: &AzureSettings) -> Settings {
    let mut settings = Settings::default();
    settings.set("account_name", &azure.account_name);
    settings.set("endpoint", &azure.service_url);
    match &azure.credentials {
        AzureCredentials::AccountKey(key) => settings.set("account_key", key.expose()),
        AzureCredentials::ClientSecret {
            tenant_id,
            client_id,
            secret,
        } => {
            settings.set("tenant_id", tenant_id);
            settings.set("client_id", client_id);
            settings.set("client_secret", secret.expose());
        }
        AzureCredentials::Default => {}
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::registry_config::parse;

    fn location(text: &str) -> StorageLocation {
        let storage = parse(Path::new("config.yml"), text.as_bytes(), []).unwrap();
        storage.location().unwrap()
    }

    #[test]
    fn an_s3_registry_is_its_bucket_folder_and_server() {
        let text = "version: 0.1\nstorage: {s3: {bucket: b, rootdirectory: /p/, region: eu-west-1}}";
        assert_eq!(location(text).identity(), "s3://b/p");
        let own = text.replace("region: eu-west-1", "regionendpoint: 127.0.0.1:9, secure: false");
        assert_eq!(location(&own).identity(), "s3://b/p at http://127.0.0.1:9");
    }

    #[test]
    fn credentials_are_handed_on_and_not_shown() {
        let text =
            "version: 0.1\nstorage: {s3: {bucket: b, region: r, accesskey: A, secretkey: Pl4ntedS3cret}}";
        let location = location(text);
        assert!(format!("{location:?}").contains("secret_access_key"));
        assert!(!format!("{location:?}").contains("Pl4ntedS3cret"));
    }

    #[test]
    fn a_folder_is_its_path() {
        let text = "version: 0.1\nstorage: {filesystem: {rootdirectory: /}}";
        assert_eq!(location(text).identity(), "/");
    }
}
