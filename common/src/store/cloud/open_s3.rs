//! From what a user set to an open S3 store: settings first, then the environment, then the profile, as AWS's own
//! tools rank them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use url::Url;

use super::CloudStore;
use super::answers::describe;
use super::aws_profile::AwsProfile;
use super::connector::Connector;
use super::http_client::{HttpSettings, credential_retry, endpoint_text, parse_endpoint};
use super::provider::{CopyParts, Provider};
use super::s3::{S3, S3Authorizer};
use crate::store::location::{Environment, OpenOptions, Settings, is_true};

const DEFAULT_REGION: &str = "us-east-1";
const ENCRYPTION_HEADERS: [(&str, &str); 2] = [
    ("server_side_encryption", "x-amz-server-side-encryption"),
    ("sse_kms_key_id", "x-amz-server-side-encryption-aws-kms-key-id"),
];

/// S3 copies up to 5 GiB with one request (CopyObject). Parts of 512 MiB make 5 TiB of the most that there can be.
const COPY_PARTS: CopyParts = CopyParts {
    above: 5 << 30,
    part: 512 << 20,
};

/// What was set for a bucket of S3.
pub(crate) struct S3Config {
    values: HashMap<AmazonS3ConfigKey, String>,
    encryption: Vec<(&'static str, String)>,
    copy_parts: CopyParts,
    /// A server that is not AWS's.
    endpoint: Option<Url>,
    region: String,
    http: HttpSettings,
}

impl S3Config {
    /// Puts together what `settings`, the environment and the profile say.
    ///
    /// # Errors
    ///
    /// A setting that is unknown or makes no sense, or a profile that cannot be used.
    pub fn resolve(settings: &Settings, environment: &Environment) -> Result<Self, String> {
        let mut values = HashMap::new();
        let mut encryption = Vec::new();
        let mut copy_parts = COPY_PARTS;
        let mut http = HttpSettings::default();
        for (name, value) in settings.iter() {
            if http.take(name, value) {
                continue;
            }
            // Not every server that speaks S3's language copies as much at once as S3 does.
            let copy_size = match name {
                "multipart_copy_threshold" => Some(&mut copy_parts.above),
                "multipart_copy_part_size" => Some(&mut copy_parts.part),
                _ => None,
            };
            if let Some(size) = copy_size {
                *size = bytes_of(name, value)?;
                continue;
            }
            if let Some((_, header)) = ENCRYPTION_HEADERS.iter().find(|(setting, _)| *setting == name) {
                encryption.push((*header, value.to_owned()));
                continue;
            }
            let key = AmazonS3ConfigKey::from_str(name)
                .ok()
                .filter(is_honoured)
                .ok_or_else(|| format!("{name:?} is no setting of an S3 store"))?;
            values.insert(key, value.to_owned());
        }
        let own_keys = values.contains_key(&AmazonS3ConfigKey::AccessKeyId);
        for (key, value) in environment_values(environment) {
            if !(own_keys && is_static_key(&key)) {
                values.entry(key).or_insert(value);
            }
        }
        if let Some(file) = environment.get("AWS_CA_BUNDLE") {
            http.ca_files.push(PathBuf::from(file));
        }
        add_profile(&mut values, environment)?;
        // An empty setting says: the provider's default, whatever the environment says.
        values.retain(|_, value| !value.is_empty());

        let endpoint = match values
            .remove(&AmazonS3ConfigKey::S3Endpoint)
            .or_else(|| values.get(&AmazonS3ConfigKey::Endpoint).cloned())
        {
            Some(endpoint) => Some(parse_endpoint(&endpoint)?),
            None => None,
        };
        let region = values
            .get(&AmazonS3ConfigKey::Region)
            .or_else(|| values.get(&AmazonS3ConfigKey::DefaultRegion))
            .map_or(DEFAULT_REGION, String::as_str)
            .to_owned();
        Ok(Self {
            values,
            encryption,
            copy_parts,
            endpoint,
            region,
            http,
        })
    }

    /// The server, where it is not AWS's: a part of the store's identity. Names of buckets are unique within AWS.
    pub fn foreign_endpoint(&self, bucket: &str) -> Option<String> {
        let endpoint = self.endpoint.as_ref()?;
        let host = endpoint.host_str().unwrap_or_default();
        if host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") {
            return None;
        }
        let text = endpoint_text(endpoint);
        if !self.flag(AmazonS3ConfigKey::VirtualHostedStyleRequest) {
            return Some(text);
        }
        // With the bucket in front of the host or not, it is one server.
        Some(text.replacen(&format!("://{bucket}."), "://", 1))
    }

    fn flag(&self, key: AmazonS3ConfigKey) -> bool {
        self.values.get(&key).is_some_and(|value| is_true(value))
    }

    fn place_url(&self, bucket: &str) -> String {
        let base = match &self.endpoint {
            Some(endpoint) => endpoint_text(endpoint),
            None if self.region.starts_with("cn-") => format!("https://s3.{}.amazonaws.com.cn", self.region),
            None => format!("https://s3.{}.amazonaws.com", self.region),
        };
        if !self.flag(AmazonS3ConfigKey::VirtualHostedStyleRequest) {
            return format!("{base}/{bucket}");
        }
        let with_bucket = format!("://{bucket}.");
        if base.contains(&with_bucket) {
            return base;
        }
        base.replacen("://", &with_bucket, 1)
    }
}

/// Opens a folder (no slash at its ends) of a bucket.
///
/// # Errors
///
/// What about the configuration cannot be used.
pub(crate) fn open_s3(
    identity: String,
    bucket: &str,
    folder: &str,
    config: &S3Config,
    options: &OpenOptions,
) -> Result<CloudStore, String> {
    let place_url = config.place_url(bucket);
    let parsed = Url::parse(&place_url)
        .map_err(|error| format!("the bucket {bucket:?} makes no valid address ({error})"))?;
    let http = config.http.for_server(&parsed, options.concurrency);
    let has = |key| config.values.contains_key(&key);
    let has_both_keys = has(AmazonS3ConfigKey::AccessKeyId) == has(AmazonS3ConfigKey::SecretAccessKey);
    if !has_both_keys && !config.flag(AmazonS3ConfigKey::SkipSignature) {
        return Err(
            "there is only one of the two keys; set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .to_owned(),
        );
    }
    let credentials = if config.flag(AmazonS3ConfigKey::SkipSignature) {
        None
    } else {
        let mut builder = AmazonS3Builder::new()
            .with_client_options(
                http.credential_options(config.values.contains_key(&AmazonS3ConfigKey::AccessKeyId))?,
            )
            .with_retry(credential_retry())
            .with_bucket_name(bucket)
            .with_region(&config.region);
        for (key, value) in &config.values {
            if is_credential(key) {
                builder = builder.with_config(*key, value);
            }
        }
        let store = builder.build().map_err(|error| describe(&error))?;
        Some(store.credentials().clone())
    };
    let authorizer = S3Authorizer {
        credentials,
        region: config.region.clone(),
        sign_payload: !config.flag(AmazonS3ConfigKey::UnsignedPayload),
        request_payer: config
            .values
            .get(&AmazonS3ConfigKey::RequestPayer)
            .is_some_and(|value| value.eq_ignore_ascii_case("requester") || is_true(value)),
    };
    let provider = S3 {
        place_url,
        bucket: bucket.to_owned(),
        copy_parts: config.copy_parts,
        bulk_delete: !config.flag(AmazonS3ConfigKey::DisableBulkDelete),
        encryption: config.encryption.clone(),
    };
    let connector = Connector::new(
        http.client()?,
        Box::new(authorizer),
        provider.place_url(),
        options,
    );
    Ok(CloudStore::new(identity, folder, Box::new(provider), connector))
}

/// At least the smallest part that S3 takes, at most the largest.
fn bytes_of(name: &str, value: &str) -> Result<u64, String> {
    let bytes = value.trim().parse().ok();
    bytes
        .filter(|bytes| (5 << 20..=5 << 30).contains(bytes))
        .ok_or_else(|| {
            format!("{name} must be a number of bytes from 5 MiB to 5 GiB (5242880 to 5368709120)")
        })
}

fn environment_values(environment: &Environment) -> Vec<(AmazonS3ConfigKey, String)> {
    let ignore_endpoints = environment
        .get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_some_and(is_true);
    environment
        .with_prefix("AWS_")
        .filter_map(|(name, value)| {
            let key = AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()).ok()?;
            Some((key, value.to_owned()))
        })
        .filter(|(key, _)| !(ignore_endpoints && is_endpoint(key)))
        .filter(|(key, _)| is_honoured(key))
        .collect()
}

fn add_profile(
    values: &mut HashMap<AmazonS3ConfigKey, String>,
    environment: &Environment,
) -> Result<(), String> {
    let profile = AwsProfile::load(environment)?;
    if !values.contains_key(&AmazonS3ConfigKey::Region)
        && !values.contains_key(&AmazonS3ConfigKey::DefaultRegion)
        && let Some(region) = profile.get("region")
    {
        values.insert(AmazonS3ConfigKey::Region, region.to_owned());
    }
    if !values.keys().any(is_endpoint)
        && !environment
            .get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
            .is_some_and(is_true)
        && let Some(endpoint) = profile.endpoint()
    {
        values.insert(AmazonS3ConfigKey::Endpoint, endpoint.to_owned());
    }
    let has_credentials = values.contains_key(&AmazonS3ConfigKey::AccessKeyId)
        || values.contains_key(&AmazonS3ConfigKey::SkipSignature)
        || values.contains_key(&AmazonS3ConfigKey::WebIdentityTokenFile);
    if has_credentials {
        return Ok(());
    }
    let of_profile = [
        ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId),
        ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
        ("aws_session_token", AmazonS3ConfigKey::Token),
        ("web_identity_token_file", AmazonS3ConfigKey::WebIdentityTokenFile),
    ];
    for (name, key) in of_profile {
        if let Some(value) = profile.get(name) {
            values.insert(key, value.to_owned());
        }
    }
    if values.contains_key(&AmazonS3ConfigKey::WebIdentityTokenFile) {
        if let Some(role) = profile.get("role_arn") {
            values.insert(AmazonS3ConfigKey::RoleArn, role.to_owned());
        }
        return Ok(());
    }
    match profile.needs_tool() {
        Some(name) if !values.contains_key(&AmazonS3ConfigKey::AccessKeyId) => Err(format!(
            "the AWS profile uses {name}, which only AWS's own tools can turn into keys; run \
             `eval \"$(aws configure export-credentials --format env)\"` first"
        )),
        _ => Ok(()),
    }
}

fn is_endpoint(key: &AmazonS3ConfigKey) -> bool {
    matches!(key, AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint)
}

/// Keys that belong together: a session token of one source makes keys of another useless.
fn is_static_key(key: &AmazonS3ConfigKey) -> bool {
    matches!(
        key,
        AmazonS3ConfigKey::AccessKeyId | AmazonS3ConfigKey::SecretAccessKey | AmazonS3ConfigKey::Token
    )
}

/// Whether a setting has an effect here: one that is passed over in silence would deceive who set it.
fn is_honoured(key: &AmazonS3ConfigKey) -> bool {
    is_credential(key)
        || is_endpoint(key)
        || matches!(
            key,
            AmazonS3ConfigKey::Region
                | AmazonS3ConfigKey::DefaultRegion
                | AmazonS3ConfigKey::VirtualHostedStyleRequest
                | AmazonS3ConfigKey::SkipSignature
                | AmazonS3ConfigKey::UnsignedPayload
                | AmazonS3ConfigKey::RequestPayer
                | AmazonS3ConfigKey::DisableBulkDelete
        )
}

fn is_credential(key: &AmazonS3ConfigKey) -> bool {
    is_static_key(key)
        || matches!(
            key,
            AmazonS3ConfigKey::ImdsV1Fallback
                | AmazonS3ConfigKey::MetadataEndpoint
                | AmazonS3ConfigKey::ContainerCredentialsRelativeUri
                | AmazonS3ConfigKey::ContainerCredentialsFullUri
                | AmazonS3ConfigKey::ContainerAuthorizationTokenFile
                | AmazonS3ConfigKey::WebIdentityTokenFile
                | AmazonS3ConfigKey::RoleArn
                | AmazonS3ConfigKey::RoleSessionName
                | AmazonS3ConfigKey::StsEndpoint
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<S3Config, String> {
        S3Config::resolve(
            &settings.iter().copied().collect(),
            &variables.iter().copied().collect(),
        )
    }

    #[test]
    fn settings_come_before_the_environment() {
        let config = resolve(
            &[
                ("region", "eu-west-1"),
                ("access_key_id", "A"),
                ("secret_access_key", "S"),
            ],
            &[
                ("AWS_REGION", "us-west-1"),
                ("AWS_SESSION_TOKEN", "T"),
                ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/"),
            ],
        )
        .unwrap();
        assert_eq!(config.region, "eu-west-1");
        assert_eq!(config.values[&AmazonS3ConfigKey::AccessKeyId], "A");
        assert!(!config.values.contains_key(&AmazonS3ConfigKey::Token));
        assert_eq!(config.place_url("b"), "http://127.0.0.1:9000/b");
    }

    #[test]
    fn an_empty_setting_keeps_the_environment_out() {
        let config = resolve(&[("endpoint", "")], &[("AWS_ENDPOINT_URL", "http://h")]).unwrap();
        assert_eq!(config.foreign_endpoint("b"), None);
        assert_eq!(config.place_url("b"), "https://s3.us-east-1.amazonaws.com/b");
    }

    #[test]
    fn the_endpoint_of_s3_comes_first() {
        let variables = [
            ("AWS_ENDPOINT_URL", "http://all"),
            ("AWS_ENDPOINT_URL_S3", "http://s3"),
        ];
        assert_eq!(resolve(&[], &variables).unwrap().place_url("b"), "http://s3/b");
    }

    #[test]
    fn the_bucket_may_stand_in_front_of_the_host() {
        let virtual_hosted = ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true");
        let plain = resolve(&[], &[virtual_hosted, ("AWS_ENDPOINT_URL", "http://h:9")]).unwrap();
        let given = resolve(&[], &[virtual_hosted, ("AWS_ENDPOINT_URL", "http://b.h:9")]).unwrap();
        assert_eq!(plain.place_url("b"), "http://b.h:9");
        assert_eq!(given.place_url("b"), "http://b.h:9");
        assert_eq!(plain.foreign_endpoint("b"), given.foreign_endpoint("b"));
        let path_style = resolve(&[], &[("AWS_ENDPOINT_URL", "http://b.h:9")]).unwrap();
        assert_eq!(path_style.place_url("b"), "http://b.h:9/b");
        assert_ne!(path_style.foreign_endpoint("b"), plain.foreign_endpoint("b"));
    }

    #[test]
    fn an_endpoint_of_aws_is_no_foreign_one() {
        let config = resolve(&[("endpoint", "https://s3.eu-west-1.amazonaws.com")], &[]).unwrap();
        assert_eq!(config.foreign_endpoint("b"), None);
    }

    #[test]
    fn unknown_settings_are_named_without_their_value() {
        let Err(problem) = resolve(&[("acess_key", "SECRET")], &[]) else {
            panic!("accepted");
        };
        assert!(
            problem.contains("acess_key") && !problem.contains("SECRET"),
            "{problem}"
        );
    }
}
