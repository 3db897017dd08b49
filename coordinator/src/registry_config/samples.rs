//! Tests on whole configurations: the shapes met in the wild, and the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::*;

pub(super) const PLANTED: &str = "Pl4ntedS3cret";

pub(super) fn parse_with(
    text: &str,
    variables: &[(&str, &str)],
) -> Result<RegistryStorage, RegistryConfigError> {
    let environment = variables
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    parse(Path::new("config.yml"), text.as_bytes(), environment)
}

pub(super) fn storage_of(text: &str) -> RegistryStorage {
    parse_with(text, &[]).unwrap()
}

pub(super) fn message(text: &str) -> String {
    message_with(text, &[])
}

pub(super) fn message_with(text: &str, variables: &[(&str, &str)]) -> String {
    let error = parse_with(text, variables).unwrap_err();
    assert!(!error.is_refusal(), "{error}");
    error.to_string()
}

pub(super) fn s3_of(storage: RegistryStorage) -> S3Settings {
    match storage.driver {
        Driver::S3(settings) => settings,
        other => panic!("{other:?}"),
    }
}

fn folder_of(storage: &RegistryStorage) -> PathBuf {
    match &storage.driver {
        Driver::Filesystem(settings) => settings.root_directory.clone(),
        other => panic!("{other:?}"),
    }
}

/// Debian's package.
const DEBIAN: &str = "\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/docker-registry
  delete:
    enabled: true
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
auth:
  htpasswd:
    realm: basic-realm
    path: /etc/docker/registry
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

pub(super) const S3: &str = "\
version: 0.1
storage:
  s3:
    accesskey: AKIAEXAMPLE
    secretkey: Pl4ntedS3cret
    region: us-east-1
    bucket: images
    rootdirectory: /registry/prod/
";

#[test]
fn debian() {
    let storage = storage_of(DEBIAN);
    assert_eq!(folder_of(&storage), Path::new("/var/lib/docker-registry"));
    assert_eq!(storage.cache, DescriptorCache::InMemory);
    assert!(!storage.read_only && !storage.looks_like_harbor && storage.redis.is_none());
}

#[test]
fn harbor() {
    let text = "\
version: 0.1
storage:
  cache:
    layerinfo: redis
  s3: {region: eu-west-1, bucket: harbor}
  maintenance:
    uploadpurging: {enabled: true, age: 168h, interval: 24h, dryrun: false}
  delete:
    enabled: true
  redirect:
    disable: true
redis:
  # sentinel hosts with comma
  addr: redis://:Pl4ntedS3cret@r1:26379,r2:26379/x
  sentinelMasterSet: mymaster
  password: Pl4ntedS3cret
  db: 1
auth:
  htpasswd:
    realm: harbor-registry-basic-realm
    path: /etc/registry/passwd
compatibility: {schema1: {enabled: true}}
";
    let storage = storage_of(text);
    assert!(storage.looks_like_harbor);
    assert_eq!(storage.cache, DescriptorCache::Redis);
    let addresses = vec!["r1:26379".to_owned(), "r2:26379".to_owned()];
    assert_eq!(
        storage.redis,
        Some(RedisAddress {
            addresses,
            database: 1,
            username: None,
            password: Some(Secret::new(PLANTED)),
            tls: false,
        })
    );
    assert!(!format!("{storage:?}").contains(PLANTED));

    let old = format!("{DEBIAN}\n")
        .replace("htpasswd:", "token:")
        .replace("realm: basic-realm", "issuer: harbor-token-issuer");
    assert!(storage_of(&old).looks_like_harbor);
}

#[test]
fn openshift_is_refused() {
    let refused = |text: &str, variables: &[(&str, &str)]| {
        parse_with(text, variables)
            .unwrap()
            .refuse_openshift()
            .unwrap_err()
    };
    parse_with(DEBIAN, &[]).unwrap().refuse_openshift().unwrap();
    let integrated = "\
version: 0.1
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: /registry}
auth:
  openshift: {}
openshift:
  version: 1.0
  auth: {realm: openshift}
";
    let old = "\
version: 0.1
storage: {filesystem: {rootdirectory: /registry}}
middleware:
  registry:
    - name: openshift
";
    for text in [
        integrated,
        old,
        "version: 0.1\nstorage: filesystem\nauth: openshift",
    ] {
        let error = refused(text, &[("REGISTRY_STORAGE", "filesystem")]);
        assert!(
            matches!(error, RegistryConfigError::OpenShift { .. }) && error.is_refusal(),
            "{error}"
        );
    }
    let error = refused(DEBIAN, &[("REGISTRY_OPENSHIFT_QUOTA_ENABLED", "true")]);
    assert!(matches!(error, RegistryConfigError::OpenShift { .. }), "{error}");
}

#[test]
fn gitlab() {
    let text = "\
version: 0.1
storage: {filesystem: {rootdirectory: /var/opt/gitlab/gitlab-rails/shared/registry}, cache: {blobdescriptor: inmemory}, delete: {enabled: true}}
auth: {token: {realm: 'https://gitlab.example.com/jwt/auth', service: container_registry, issuer: omnibus-gitlab-issuer}}
database: {enabled: false, password: Pl4ntedS3cret}
redis: {cache: {enabled: true, addr: 'localhost:16379', password: Pl4ntedS3cret}}
";
    let storage = storage_of(text);
    assert_eq!(
        folder_of(&storage),
        Path::new("/var/opt/gitlab/gitlab-rails/shared/registry")
    );
    assert_eq!(storage.redis.unwrap().addresses, ["localhost:16379"]);
    for enabled in ["true", "prefer", "'true'", "[x]"] {
        let error = parse_with(
            &text.replace("{enabled: false", &format!("{{enabled: {enabled}")),
            &[],
        )
        .unwrap_err();
        assert!(
            matches!(error, RegistryConfigError::MetadataDatabase { .. }) && error.is_refusal(),
            "{error}"
        );
    }
}

#[test]
fn pull_through_caches_are_refused() {
    let error = parse_with(&format!("{DEBIAN}proxy:\n  remoteurl: https://x\n"), &[]).unwrap_err();
    assert!(matches!(error, RegistryConfigError::PullThroughCache { .. }) && error.is_refusal());
    assert!(error.to_string().starts_with("config.yml:26:14: "), "{error}");
    let error = parse_with(DEBIAN, &[("REGISTRY_PROXY_REMOTEURL", "https://x")]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("environment variable REGISTRY_PROXY_REMOTEURL: "),
        "{error}"
    );
    for empty in ["proxy:\n", "proxy: {}\n", "proxy: {remoteurl: '', username: x}\n"] {
        storage_of(&format!("{DEBIAN}{empty}"));
    }
}

#[test]
fn s3() {
    let settings = s3_of(storage_of(S3));
    assert_eq!(settings.bucket, "images");
    assert_eq!(settings.root_directory, "registry/prod");
    assert_eq!(settings.region.as_deref(), Some("us-east-1"));
    assert_eq!(settings.secret_key.as_ref().unwrap().expose(), PLANTED);
    assert!(!settings.force_path_style && !settings.skip_verify && settings.region_endpoint.is_none());
    assert!(!format!("{settings:?}").contains(PLANTED));

    let minio = "    regionendpoint: minio:9000\n    secure: 'f'\n    skipverify: yes\n    sessiontoken: t\n";
    let settings = s3_of(storage_of(&format!("{S3}{minio}")));
    assert_eq!(settings.region_endpoint.as_deref(), Some("http://minio:9000"));
    assert!(settings.force_path_style && settings.skip_verify && settings.session_token.is_some());

    let settings = s3_of(storage_of(&format!(
        "{S3}    regionendpoint: http://m\n    forcepathstyle: false\n"
    )));
    assert_eq!(settings.region_endpoint.as_deref(), Some("http://m"));
    assert!(!settings.force_path_style);
}

#[test]
fn gcs() {
    let text = "version: 0.1\nstorage: {gcs: {bucket: b, rootdirectory: /r/, keyfile: /k.json}}";
    let Driver::Gcs(settings) = storage_of(text).driver else {
        panic!()
    };
    assert_eq!(
        (settings.bucket.as_str(), settings.root_directory.as_str()),
        ("b", "r")
    );
    assert_eq!(settings.credentials, GcsCredentials::KeyFile("/k.json".into()));

    let inline = text.replace(
        "keyfile: /k.json",
        r#"credentials: {type: service_account, client_id: 0123, private_key: "a\nb", client_email: a@b}"#,
    );
    let Driver::Gcs(settings) = storage_of(&inline).driver else {
        panic!()
    };
    let GcsCredentials::Inline(json) = settings.credentials else {
        panic!()
    };
    let json: serde_json::Value = serde_json::from_str(json.expose()).unwrap();
    assert_eq!(
        (json["private_key"].as_str(), json["client_id"].as_str()),
        (Some("a\nb"), Some("0123"))
    );
}

#[test]
fn azure() {
    let text = "version: 0.1\nstorage: {azure: {accountname: a, accountkey: Pl4ntedS3cret==, container: c}}";
    let Driver::Azure(settings) = storage_of(text).driver else {
        panic!()
    };
    assert_eq!(settings.service_url, "https://a.blob.core.windows.net");
    assert_eq!(settings.root_directory, "");
    assert!(matches!(settings.credentials, AzureCredentials::AccountKey(_)));
    assert!(!format!("{settings:?}").contains(PLANTED));

    let national = text.replace(
        "container: c",
        "container: c, realm: core.chinacloudapi.cn, rootdirectory: /x",
    );
    let Driver::Azure(settings) = storage_of(&national).driver else {
        panic!()
    };
    assert_eq!(settings.service_url, "https://a.blob.core.chinacloudapi.cn");
    assert_eq!(settings.root_directory, "x");

    let legacy = text.replace("container: c", "container: c, legacyrootprefix: true");
    let Driver::Azure(settings) = storage_of(&legacy).driver else {
        panic!()
    };
    assert_eq!(settings.root_directory, "/");

    let principal = text.replace(
        "accountkey: Pl4ntedS3cret==",
        "credentials: {type: client_secret, clientid: i, tenantid: t, secret: Pl4ntedS3cret}",
    );
    let Driver::Azure(settings) = storage_of(&principal).driver else {
        panic!()
    };
    assert!(matches!(
        settings.credentials,
        AzureCredentials::ClientSecret { .. }
    ));
    assert!(!format!("{settings:?}").contains(PLANTED));

    let default = text.replace(
        "accountkey: Pl4ntedS3cret==",
        "credentials: {type: default_credentials}",
    );
    let Driver::Azure(settings) = storage_of(&default).driver else {
        panic!()
    };
    assert_eq!(settings.credentials, AzureCredentials::Default);
    for (setting, says) in [
        ("legacyrootprefix: true, rootdirectory: /x", "rootdirectory"),
        ("connectionstring: x", "accountname"),
    ] {
        assert!(message(&text.replace("container: c", &format!("container: c, {setting}"))).contains(says));
    }
}

#[test]
fn filesystem_root_has_a_default() {
    for section in [
        "filesystem",
        "{filesystem: }",
        "{filesystem: {}}",
        "{filesystem: {rootdirectory: null}}",
    ] {
        let storage = storage_of(&format!("version: 0.1\nstorage: {section}"));
        assert_eq!(folder_of(&storage), Path::new("/var/lib/registry"), "{section}");
    }
    let text = "version: 0.1\nstorage: {filesystem: {rootdirectory: ''}}";
    assert_eq!(
        message(text),
        "config.yml:2:23: storage.filesystem.rootdirectory is missing or empty; leave it out for /var/lib/registry"
    );
}

#[test]
fn environment() {
    let variables = [
        ("REGISTRY_STORAGE_S3_BUCKET", "other"),
        ("REGISTRY_STORAGE_S3_FORCEPATHSTYLE", "true"),
        ("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "redis"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY", r#"{"enabled":true}"#),
        ("REGISTRY_REDIS_ADDR", "cache:6379"),
        ("REGISTRY_HTTP_SECRET", "%"),
    ];
    let storage = parse_with(S3, &variables).unwrap();
    assert!(storage.read_only);
    assert_eq!(storage.cache, DescriptorCache::Redis);
    assert_eq!(storage.redis.as_ref().unwrap().addresses, ["cache:6379"]);
    let settings = s3_of(storage);
    assert_eq!(
        (settings.bucket.as_str(), settings.force_path_style),
        ("other", true)
    );

    let folder = [("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/srv")];
    assert_eq!(
        folder_of(&parse_with(DEBIAN, &folder).unwrap()),
        Path::new("/srv")
    );

    let replaced = [
        ("REGISTRY_STORAGE_S3_REGION", "r"),
        ("REGISTRY_STORAGE_S3_BUCKET", "b"),
        ("REGISTRY_STORAGE", "s3"),
    ];
    let storage = parse_with(DEBIAN, &replaced).unwrap();
    assert_eq!(
        storage.cache,
        DescriptorCache::None,
        "REGISTRY_STORAGE replaces the whole section"
    );
    assert_eq!(s3_of(storage).bucket, "b");
    assert_eq!(
        message_with(DEBIAN, &replaced[..2]),
        "config.yml:6:3: more than one storage driver (filesystem, s3); to replace the file's driver from the \
         environment, set REGISTRY_STORAGE too"
    );
}

#[test]
fn read_only() {
    let with = |readonly: &str| {
        format!("version: 0.1\nstorage: {{filesystem: , maintenance: {{readonly: {readonly}}}}}")
    };
    for (readonly, expected) in [
        ("{enabled: true}", true),
        ("{enabled: on}", true),
        ("{enabled: false}", false),
        ("{}", false),
    ] {
        assert_eq!(storage_of(&with(readonly)).read_only, expected, "{readonly}");
    }
    // The registry panics on these.
    for readonly in ["true", "{enabled: 'true'}", "{enabled: 1}"] {
        assert!(
            message(&with(readonly)).contains("storage.maintenance.readonly"),
            "{readonly}"
        );
    }
    let partly = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")];
    assert!(message_with(DEBIAN, &partly).contains(r#"READONLY={"enabled":true} instead"#));
}

#[test]
fn anchors_and_merge_keys() {
    let text = "\
version: 0.1
defaults: &defaults {region: eu-west-1, bucket: wrong, secure: false}
storage:
  s3:
    <<: *defaults
    bucket: right
    regionendpoint: m
---
another: [document
";
    let settings = s3_of(storage_of(text));
    assert_eq!(
        (settings.bucket.as_str(), settings.region.as_deref()),
        ("right", Some("eu-west-1"))
    );
    assert_eq!(settings.region_endpoint.as_deref(), Some("http://m"));
}
