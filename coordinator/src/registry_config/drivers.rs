//! The storage drivers' settings: what each needs to reach the objects that the registry reaches, and no more.

use std::path::PathBuf;

use hardprune_common::store::location::NAMELESS_FOLDER;

use super::error::RegistryConfigError;
use super::secret::Secret;
use super::settings::Settings;
use super::yaml::{Mapping, Meaning, Value};

/// A storage driver and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A folder.
    Filesystem(FilesystemSettings),
    /// Amazon S3 or a server that speaks its protocol.
    S3(S3Settings),
    /// Google Cloud Storage.
    Gcs(GcsSettings),
    /// Azure Blob Storage.
    Azure(AzureSettings),
}

/// Settings of the `filesystem` driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemSettings {
    /// The folder that holds `docker/`. `/var/lib/registry` where it is not set. A relative one is relative to the
    /// folder that the registry is started in.
    pub root_directory: PathBuf,
}

/// Settings of the `s3` driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// The prefix of every key, without `/` at either end. May be empty.
    pub root_directory: String,
    /// The region. Always there where `region_endpoint` is not.
    pub region: Option<String>,
    /// The server, as a URL with its scheme.
    pub region_endpoint: Option<String>,
    /// Whether the bucket's name goes into the path. Where it is not set: as 2.8 has it, true with an endpoint.
    pub force_path_style: bool,
    /// Whether TLS certificates go unverified.
    pub skip_verify: bool,
    /// Without it, the credentials come from where the provider's own tools look for them.
    pub access_key: Option<Secret>,
    /// Belongs to `access_key`.
    pub secret_key: Option<Secret>,
    /// Belongs to temporary ones. The registry itself does not read it.
    pub session_token: Option<Secret>,
}

/// Settings of the `gcs` driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsSettings {
    /// The bucket.
    pub bucket: String,
    /// The prefix of every key, without `/` at either end. May be empty.
    pub root_directory: String,
    /// Where the credentials are.
    pub credentials: GcsCredentials,
}

/// Where the `gcs` driver finds its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcsCredentials {
    /// A service account's key file.
    KeyFile(PathBuf),
    /// The contents of such a file, as JSON.
    Inline(Secret),
    /// Wherever Google's own tools look for them.
    Default,
}

/// Settings of the `azure` driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureSettings {
    /// The storage account.
    pub account_name: String,
    /// The container.
    pub container: String,
    /// The prefix of every key, without `/` at either end. May be empty. Registries before 3.0 have none, and write keys
    /// that begin with `/`: the configuration says so only where it has `legacyrootprefix`, and this is [`NAMELESS_FOLDER`]
    /// then.
    pub root_directory: String,
    /// The service's URL.
    pub service_url: String,
    /// How the registry proves who it is.
    pub credentials: AzureCredentials,
}

/// How the `azure` driver proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureCredentials {
    /// The storage account's key.
    AccountKey(Secret),
    /// A service principal.
    ClientSecret {
        /// The directory.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        secret: Secret,
    },
    /// Wherever Azure's own tools look for them.
    Default,
}

impl Driver {
    /// Reads the section of the driver `name`.
    pub(super) fn read(name: &str, settings: &Settings<'_>) -> Result<Self, RegistryConfigError> {
        match name {
            "filesystem" => filesystem(settings).map(Self::Filesystem),
            "s3" | "s3aws" | "s3_v2" => s3(settings).map(Self::S3),
            "gcs" => gcs(settings).map(Self::Gcs),
            "azure" | "azure_v2" => azure(settings).map(Self::Azure),
            _ => Err(RegistryConfigError::UnsupportedDriver {
                place: settings.place.clone(),
                driver: known_name(name),
            }),
        }
    }
}

/// The driver's name where it is a known one. Whatever else stands there is not quoted.
pub(super) fn known_name(name: &str) -> &'static str {
    const KNOWN: [&str; 12] = [
        "filesystem",
        "s3",
        "s3aws",
        "s3_v2",
        "gcs",
        "azure",
        "azure_v2",
        "inmemory",
        "oss",
        "swift",
        "rados",
        "cos",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("one that is not known")
}

fn filesystem(settings: &Settings<'_>) -> Result<FilesystemSettings, RegistryConfigError> {
    let root_directory = match settings.text("rootdirectory")? {
        Some("") => return Err(settings.missing("rootdirectory", "; leave it out for /var/lib/registry")),
        Some(folder) => folder,
        None => "/var/lib/registry",
    };
    Ok(FilesystemSettings {
        root_directory: root_directory.into(),
    })
}

fn s3(settings: &Settings<'_>) -> Result<S3Settings, RegistryConfigError> {
    let bucket = settings.required("bucket")?;
    let region = settings.filled("region")?;
    let secure = settings.boolean("secure")?.unwrap_or(true);
    let region_endpoint = settings
        .filled("regionendpoint")?
        .map(|endpoint| with_scheme(endpoint, secure));
    if region.is_none() && region_endpoint.is_none() {
        return Err(settings.missing(
            "region",
            "; set it, or regionendpoint for a server that is not Amazon's",
        ));
    }
    let access_key = settings.secret("accesskey")?;
    let secret_key = settings.secret("secretkey")?;
    if access_key.is_some() != secret_key.is_some() {
        let absent = if access_key.is_some() {
            "secretkey"
        } else {
            "accesskey"
        };
        return Err(settings.missing(absent, "; it goes with the other one, or leave both out"));
    }
    // GitLab's registry calls it `pathstyle`.
    let force_path_style = match settings.boolean("forcepathstyle")? {
        Some(force) => Some(force),
        None => settings.boolean("pathstyle")?,
    };
    Ok(S3Settings {
        bucket,
        root_directory: prefix(settings)?,
        region,
        force_path_style: force_path_style.unwrap_or(region_endpoint.is_some()),
        region_endpoint,
        skip_verify: settings.boolean("skipverify")?.unwrap_or(false),
        access_key,
        secret_key,
        session_token: settings.secret("sessiontoken")?,
    })
}

fn gcs(settings: &Settings<'_>) -> Result<GcsSettings, RegistryConfigError> {
    let credentials = if let Some(file) = settings.filled("keyfile")? {
        GcsCredentials::KeyFile(file.into())
    } else if let Some(node) = settings.node("credentials") {
        match &node.value {
            Value::Mapping(mapping) => GcsCredentials::Inline(as_json(settings, mapping)?),
            _ => {
                return Err(settings.wrong_kind(
                    "credentials",
                    node,
                    "a mapping: the fields of the key file",
                ));
            }
        }
    } else {
        GcsCredentials::Default
    };
    Ok(GcsSettings {
        bucket: settings.required("bucket")?,
        root_directory: prefix(settings)?,
        credentials,
    })
}

/// A service account's key as the JSON that Google's clients read.
fn as_json(settings: &Settings<'_>, fields: &Mapping) -> Result<Secret, RegistryConfigError> {
    let mut json = serde_json::Map::new();
    for (name, node) in &fields.entries {
        let value = match &node.value {
            Value::Scalar(scalar) if scalar.meaning() == Meaning::Null => serde_json::Value::Null,
            // Every field of a key file is text, also the ones that look like numbers.
            Value::Scalar(scalar) => scalar.text.as_str().into(),
            _ => return Err(settings.wrong_kind("credentials", node, "flat: the fields of the key file")),
        };
        json.insert(name.clone(), value);
    }
    Ok(Secret::new(serde_json::Value::Object(json).to_string()))
}

fn azure(settings: &Settings<'_>) -> Result<AzureSettings, RegistryConfigError> {
    let legacy_root = settings.boolean("legacyrootprefix")?.unwrap_or(false);
    let root_directory = match prefix(settings)? {
        root if !legacy_root => root,
        root if root.is_empty() => NAMELESS_FOLDER.to_owned(),
        _ => {
            return Err(settings.unsupported(
                "legacyrootprefix",
                "is not read together with rootdirectory; name the storage on the command line instead",
            ));
        }
    };
    if settings.filled("connectionstring")?.is_some() {
        return Err(settings.unsupported(
            "connectionstring",
            "is not read; set accountname and accountkey instead",
        ));
    }
    let account_name = settings.required("accountname")?;
    let container = settings.required("container")?;
    let realm = settings
        .filled("realm")?
        .unwrap_or_else(|| "core.windows.net".to_owned());
    let service_url = match settings.filled("serviceurl")? {
        Some(url) => with_scheme(url, true),
        None => format!("https://{account_name}.blob.{realm}"),
    };
    Ok(AzureSettings {
        account_name,
        container,
        root_directory,
        service_url,
        credentials: azure_credentials(settings)?,
    })
}

fn azure_credentials(settings: &Settings<'_>) -> Result<AzureCredentials, RegistryConfigError> {
    let section = settings.section("credentials")?;
    let kind = section
        .as_ref()
        .map(|section| section.text("type"))
        .transpose()?
        .flatten();
    match (section, kind) {
        (_, None | Some("shared_key")) => settings
            .secret("accountkey")?
            .map(AzureCredentials::AccountKey)
            .ok_or_else(|| settings.missing("accountkey", "; set it, or credentials")),
        (Some(section), Some("client_secret")) => Ok(AzureCredentials::ClientSecret {
            tenant_id: section.required("tenantid")?,
            client_id: section.required("clientid")?,
            secret: section
                .secret("secret")?
                .ok_or_else(|| section.missing("secret", ""))?,
        }),
        (_, Some("default_credentials")) => Ok(AzureCredentials::Default),
        (section, Some(_)) => Err(section.as_ref().unwrap_or(settings).unsupported(
            "type",
            "is not one of shared_key, client_secret, default_credentials",
        )),
    }
}

/// The driver's root as a key prefix. Every cloud driver drops `/` at both ends and keeps what is between.
fn prefix(settings: &Settings<'_>) -> Result<String, RegistryConfigError> {
    Ok(settings
        .text("rootdirectory")?
        .unwrap_or_default()
        .trim_matches('/')
        .to_owned())
}

fn with_scheme(address: String, secure: bool) -> String {
    if address.contains("://") {
        return address;
    }
    format!("{}://{address}", if secure { "https" } else { "http" })
}
