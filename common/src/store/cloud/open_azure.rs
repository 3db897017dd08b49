//! From what a user set to an open store of Azure's: settings first, then the environment, with the names that
//! `az storage` knows.

use std::collections::HashMap;
use std::str::FromStr;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use url::Url;

use super::CloudStore;
use super::answers::describe;
use super::azure::{Azure, AzureSigner};
use super::connector::Connector;
use super::http_client::{HttpSettings, credential_retry, endpoint_text, parse_endpoint};
use super::provider::Provider;
use crate::store::location::{Environment, OpenOptions, Settings, is_true};

/// Where the emulator (Azurite) listens, and the account and key that it has, as Microsoft publishes them.
const EMULATOR: &str = "http://127.0.0.1:10000/devstoreaccount1";
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// What was set for a container of Azure's.
pub(crate) struct AzureConfig {
    values: HashMap<AzureConfigKey, String>,
    account: String,
    server: Url,
    http: HttpSettings,
}

impl AzureConfig {
    /// Puts together what `settings` and the environment say.
    ///
    /// # Errors
    ///
    /// A setting that is unknown or makes no sense, or no account.
    pub fn resolve(settings: &Settings, environment: &Environment) -> Result<Self, String> {
        let mut values = HashMap::new();
        let mut http = HttpSettings::default();
        for (name, value) in settings.iter() {
            if http.take(name, value) {
                continue;
            }
            if name == "connection_string" {
                read_connection_string(value, &mut values)?;
                continue;
            }
            let key = AzureConfigKey::from_str(name)
                .ok()
                .filter(is_honoured)
                .ok_or_else(|| format!("{name:?} is no setting of an Azure store"))?;
            values.insert(key, value.to_owned());
        }
        for (key, value) in environment_values(environment, values.keys().any(is_secret))? {
            values.entry(key).or_insert(value);
        }
        values.retain(|_, value| !value.is_empty());
        if values
            .get(&AzureConfigKey::UseEmulator)
            .is_some_and(|value| is_true(value))
        {
            let emulator = environment.get("AZURITE_BLOB_STORAGE_URL").map_or_else(
                || EMULATOR.to_owned(),
                |server| format!("{}/{EMULATOR_ACCOUNT}", server.trim_end_matches('/')),
            );
            let defaults = [
                (AzureConfigKey::AccountName, EMULATOR_ACCOUNT),
                (AzureConfigKey::AccessKey, EMULATOR_KEY),
                (AzureConfigKey::Endpoint, &emulator),
            ];
            for (key, value) in defaults {
                values.entry(key).or_insert_with(|| value.to_owned());
            }
        }
        let account = values
            .get(&AzureConfigKey::AccountName)
            .cloned()
            .ok_or("the storage account is not known; set AZURE_STORAGE_ACCOUNT")?;
        if !account
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '-')
        {
            return Err("the storage account's name has letters, digits and dashes only".to_owned());
        }
        let server = match values.get(&AzureConfigKey::Endpoint) {
            Some(endpoint) => parse_endpoint(endpoint)?,
            None => parse_endpoint(&format!("https://{account}.blob.core.windows.net"))?,
        };
        Ok(Self {
            values,
            account,
            server,
            http,
        })
    }

    /// The server, which names the account: a part of the store's identity.
    pub fn endpoint(&self) -> String {
        endpoint_text(&self.server)
    }
}

/// Opens a folder (no slash at its ends) of a container.
///
/// # Errors
///
/// What about the configuration cannot be used.
pub(crate) fn open_azure(
    identity: String,
    container: &str,
    folder: &str,
    config: &AzureConfig,
    options: &OpenOptions,
) -> Result<CloudStore, String> {
    let http = config.http.for_server(&config.server, options.concurrency);
    let anonymous = config
        .values
        .get(&AzureConfigKey::SkipSignature)
        .is_some_and(|value| is_true(value));
    let credentials = if anonymous {
        None
    } else {
        let fixed = [
            AzureConfigKey::AccessKey,
            AzureConfigKey::SasKey,
            AzureConfigKey::Token,
        ]
        .iter()
        .any(|key| config.values.contains_key(key));
        let mut builder = MicrosoftAzureBuilder::new()
            .with_client_options(http.credential_options(fixed)?)
            .with_retry(credential_retry())
            .with_container_name(container);
        let for_credentials = config.values.iter().filter(|(key, _)| {
            // Addresses are ours to make, and the emulator is an address and a key like any other.
            !matches!(key, AzureConfigKey::UseEmulator | AzureConfigKey::Endpoint)
        });
        for (key, value) in for_credentials {
            builder = builder.with_config(*key, value);
        }
        let store = builder.build().map_err(|error| describe(&error))?;
        Some(store.credentials().clone())
    };
    let provider = Azure {
        place_url: format!("{}/{container}", config.endpoint()),
    };
    let signer = AzureSigner {
        credentials,
        account: config.account.clone(),
    };
    let connector = Connector::new(http.client()?, Box::new(signer), provider.place_url(), options);
    Ok(CloudStore::new(identity, folder, Box::new(provider), connector))
}

fn environment_values(
    environment: &Environment,
    own_secret: bool,
) -> Result<HashMap<AzureConfigKey, String>, String> {
    let mut values = HashMap::new();
    if let Some(connection) = environment.get("AZURE_STORAGE_CONNECTION_STRING") {
        read_connection_string(connection, &mut values)?;
    }
    let of_az = [
        ("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName),
        ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
    ];
    for (name, key) in of_az {
        if let Some(value) = environment.get(name) {
            values.entry(key).or_insert_with(|| value.to_owned());
        }
    }
    for (name, value) in environment.with_prefix("AZURE_") {
        if let Ok(key) = AzureConfigKey::from_str(&name.to_ascii_lowercase()) {
            values.entry(key).or_insert_with(|| value.to_owned());
        }
    }
    values.retain(|key, _| is_honoured(key) && !(own_secret && is_secret(key)));
    Ok(values)
}

/// Reads `AccountName=…;AccountKey=…;…` as Azure's portal gives it.
fn read_connection_string(text: &str, values: &mut HashMap<AzureConfigKey, String>) -> Result<(), String> {
    let parts: HashMap<_, _> = text
        .split(';')
        .filter_map(|part| part.trim().split_once('='))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let part = |name: &str| parts.get(name).copied().filter(|value| !value.is_empty());
    if part("usedevelopmentstorage").is_some_and(is_true) {
        values.insert(AzureConfigKey::UseEmulator, "true".to_owned());
        return Ok(());
    }
    let endpoint = match (part("blobendpoint"), part("accountname")) {
        (Some(endpoint), _) => endpoint.to_owned(),
        (None, Some(account)) => format!(
            "{}://{account}.blob.{}",
            part("defaultendpointsprotocol").unwrap_or("https"),
            part("endpointsuffix").unwrap_or("core.windows.net")
        ),
        (None, None) => return Err("the connection string names no account".to_owned()),
    };
    // With an endpoint alone, the account is the first part of its host.
    let account = match part("accountname") {
        Some(account) => account.to_owned(),
        None => parse_endpoint(&endpoint)?
            .host_str()
            .and_then(|host| host.split('.').next())
            .unwrap_or_default()
            .to_owned(),
    };
    values.insert(AzureConfigKey::AccountName, account);
    values.insert(AzureConfigKey::Endpoint, endpoint);
    if let Some(key) = part("accountkey") {
        values.insert(AzureConfigKey::AccessKey, key.to_owned());
    }
    if let Some(signature) = part("sharedaccesssignature") {
        values.insert(AzureConfigKey::SasKey, signature.to_owned());
    }
    Ok(())
}

/// Whether a setting has an effect here: one that is passed over in silence would deceive who set it.
fn is_honoured(key: &AzureConfigKey) -> bool {
    !matches!(
        key,
        AzureConfigKey::Client(_)
            | AzureConfigKey::ContainerName
            | AzureConfigKey::DisableTagging
            | AzureConfigKey::EncryptionKey
            | AzureConfigKey::UseFabricEndpoint
    )
}

fn is_secret(key: &AzureConfigKey) -> bool {
    matches!(
        key,
        AzureConfigKey::AccessKey
            | AzureConfigKey::SasKey
            | AzureConfigKey::Token
            | AzureConfigKey::ClientSecret
            | AzureConfigKey::FederatedTokenFile
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<AzureConfig, String> {
        AzureConfig::resolve(
            &settings.iter().copied().collect(),
            &variables.iter().copied().collect(),
        )
    }

    #[test]
    fn the_names_of_az_are_known() {
        let config = resolve(
            &[],
            &[("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_KEY", "a2V5")],
        )
        .unwrap();
        assert_eq!(config.endpoint(), "https://acc.blob.core.windows.net");
        assert_eq!(config.values[&AzureConfigKey::AccessKey], "a2V5");
        assert!(resolve(&[], &[]).is_err_and(|problem| problem.contains("AZURE_STORAGE_ACCOUNT")));
    }

    #[test]
    fn a_connection_string_is_read() {
        let text = "DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=a2V5==;BlobEndpoint=http://127.0.0.1:1/acc;";
        let config = resolve(&[], &[("AZURE_STORAGE_CONNECTION_STRING", text)]).unwrap();
        assert_eq!(config.endpoint(), "http://127.0.0.1:1/acc");
        assert_eq!(config.values[&AzureConfigKey::AccessKey], "a2V5==");
        let text = "BlobEndpoint=https://acc.blob.x/;SharedAccessSignature=sv=1&sig=s";
        let config = resolve(&[("connection_string", text)], &[("AZURE_STORAGE_KEY", "a2V5")]).unwrap();
        assert_eq!(config.account, "acc");
        assert_eq!(config.values[&AzureConfigKey::SasKey], "sv=1&sig=s");
        assert!(!config.values.contains_key(&AzureConfigKey::AccessKey));
    }

    #[test]
    fn the_emulator_needs_no_more() {
        let config = resolve(&[("use_emulator", "true")], &[]).unwrap();
        assert_eq!(config.endpoint(), EMULATOR);
        assert_eq!(config.account, EMULATOR_ACCOUNT);
    }
}
