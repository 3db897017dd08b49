//! The `config.yml` of a registry in the tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What a registry of the tests runs with: storage and mode; everything else is the same for all.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    storage: Backend,
    read_only: bool,
    redis: Option<RedisSettings>,
    /// Its certificate, and the key.
    tls: Option<(PathBuf, PathBuf)>,
}

/// The Redis server in which a registry caches what it knows of blobs.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `127.0.0.1:<port>`.
    pub address: String,
    /// Its password.
    pub password: String,
    /// The database.
    pub database: u32,
}

#[derive(Debug, Clone)]
enum Backend {
    Filesystem(PathBuf),
    S3(S3Settings),
}

/// Where an S3 registry keeps its objects.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// `http://127.0.0.1:<port>`; buckets are addressed by path.
    pub endpoint: String,
    /// The bucket; it must exist.
    pub bucket: String,
    /// The folder in the bucket, or nothing.
    pub root_directory: String,
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
}

impl RegistryConfig {
    /// A registry in a folder, which then holds `docker/registry/v2/`.
    pub fn filesystem(root_directory: impl Into<PathBuf>) -> Self {
        Self {
            storage: Backend::Filesystem(root_directory.into()),
            read_only: false,
            redis: None,
            tls: None,
        }
    }

    /// A registry in a bucket.
    pub fn s3(settings: S3Settings) -> Self {
        Self {
            storage: Backend::S3(settings),
            read_only: false,
            redis: None,
            tls: None,
        }
    }

    /// The same registry in read-only mode.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The same registry with a cache in Redis.
    pub fn with_redis(mut self, redis: RedisSettings) -> Self {
        self.redis = Some(redis);
        self
    }

    /// The same registry over https, with this certificate and its key (PEM).
    pub fn with_tls(mut self, certificate: PathBuf, key: PathBuf) -> Self {
        self.tls = Some((certificate, key));
        self
    }

    /// What its address begins with.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Writes the configuration of a registry that listens on an address.
    pub fn write(&self, path: &Path, address: &str) -> Result<()> {
        let yaml = self.render(address).to_string(); // every JSON document is YAML
        fs::write(path, yaml).with_context(|| format!("writing {}", path.display()))
    }

    fn render(&self, address: &str) -> Value {
        let mut storage = match &self.storage {
            Backend::Filesystem(root) => json!({"filesystem": {"rootdirectory": root}}),
            Backend::S3(s3) => json!({"s3": {
                "accesskey": s3.access_key,
                "secretkey": s3.secret_key,
                "region": "us-east-1",
                "regionendpoint": s3.endpoint,
                "bucket": s3.bucket,
                "rootdirectory": s3.root_directory,
                "secure": false,
                // 2.8.2 does so wherever an endpoint is given.
                "forcepathstyle": true,
                "v4auth": true,
            }}),
        };
        storage["delete"] = json!({"enabled": true});
        if self.read_only {
            storage["maintenance"] = json!({"readonly": {"enabled": true}});
        }
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": storage,
            "http": {"addr": address},
            "compatibility": {"schema1": {"enabled": true}},
            // Without a pattern that allows them, manifests with foreign layers are refused.
            "validation": {"manifests": {"urls": {"allow": ["^https?://"]}}},
        });
        if let Some((certificate, key)) = &self.tls {
            config["http"]["tls"] = json!({"certificate": certificate, "key": key});
        }
        if let Some(redis) = &self.redis {
            config["storage"]["cache"] = json!({"blobdescriptor": "redis"});
            config["redis"] =
                json!({"addr": redis.address, "password": redis.password, "db": redis.database});
        }
        config
    }
}
