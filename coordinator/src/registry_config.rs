//! A Distribution registry's `config.yml` and its `REGISTRY_…` variables in; where its storage is, what guards say
//! about it and which caches it has, out.
//!
//! Reads them as the registry does (sources: `configuration/` and the storage drivers of CNCF Distribution 2.8 and
//! 3.1), so that hardprune works on the very objects that the registry serves. Credentials are [`Secret`]s, and no
//! error quotes what stands in the file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

#[cfg(test)]
mod bad_input;
mod drivers;
mod error;
mod location;
mod overrides;
#[cfg(test)]
mod samples;
mod secret;
mod settings;
mod yaml;

pub use drivers::{
    AzureCredentials, AzureSettings, Driver, FilesystemSettings, GcsCredentials, GcsSettings, S3Settings,
};
pub use error::{Place, RegistryConfigError};
pub use secret::Secret;

use settings::Settings;
use yaml::{Mapping, Node, Origin, Value};

/// The most that is read of a file.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// What a registry's configuration says about its storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryStorage {
    /// Where it is.
    pub driver: Driver,
    /// Whether the configuration says read-only. Says nothing about the registry that is running.
    pub read_only: bool,
    /// Where the registry caches blob descriptors.
    pub cache: DescriptorCache,
    /// The Redis server that it is told to use, for whatever purpose.
    pub redis: Option<RedisAddress>,
    /// Whether this is Harbor's registry, in which an untagged manifest may well be in use.
    pub looks_like_harbor: bool,
    /// What shows that this is OpenShift's integrated registry: the cluster knows what is in use, and the storage does not.
    pub sign_of_openshift: Option<Place>,
}

impl RegistryStorage {
    /// Refuses OpenShift's integrated registry, for who does not ask the cluster.
    ///
    /// # Errors
    ///
    /// [`RegistryConfigError::OpenShift`].
    pub fn refuse_openshift(&self) -> Result<(), RegistryConfigError> {
        match &self.sign_of_openshift {
            Some(place) => Err(RegistryConfigError::OpenShift { place: place.clone() }),
            None => Ok(()),
        }
    }
}

/// Where a registry caches blob descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorCache {
    /// Nowhere.
    None,
    /// In its own memory: gone after a restart.
    InMemory,
    /// In Redis.
    Redis,
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// `host:port` of it, or of several that make up a cluster.
    pub addresses: Vec<String>,
    /// The database's number; 0 where it is not set.
    pub database: u32,
    /// Who the registry logs in as. `None`: the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Whether it is spoken to with TLS.
    pub tls: bool,
}

/// Reads a registry's configuration file, with `environment` (as of `std::env::vars_os`) laid over it.
///
/// # Errors
///
/// A file that cannot be read or is no registry configuration; a driver that hardprune has no store for, or
/// settings that it needs; and refusals ([`RegistryConfigError::is_refusal`]).
pub fn read(
    path: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<RegistryStorage, RegistryConfigError> {
    let unreadable = |source| RegistryConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    parse(path, &bytes, environment)
}

/// As [`read`], of bytes already at hand. `path` is only named in errors.
///
/// # Errors
///
/// As [`read`].
pub fn parse(
    path: &Path,
    bytes: &[u8],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<RegistryStorage, RegistryConfigError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(RegistryConfigError::TooLarge {
            path: path.to_owned(),
            limit_bytes: MAX_FILE_BYTES,
        });
    }
    let origin = Origin::File(Arc::from(path.display().to_string()));
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = &bytes[..error.valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        RegistryConfigError::NotText {
            place: origin.place(line, 1),
        }
    })?;
    let root = yaml::parse(text, &origin)?;
    let place = root.place.clone();
    let Value::Mapping(mut root) = root.value else {
        return Err(RegistryConfigError::Version { place });
    };
    overrides::apply(&mut root, environment)?;
    interpret(&root, place)
}

fn interpret(root: &Mapping, place: Place) -> Result<RegistryStorage, RegistryConfigError> {
    check_version(root, &place)?;
    refuse_what_storage_cannot_tell(root)?;
    let Some(storage) = root.entries.get("storage").filter(|node| !node.is_null()) else {
        return Err(RegistryConfigError::NoDriver { place });
    };
    let sections = Sections::of("storage", storage)?;
    Ok(RegistryStorage {
        driver: driver(&sections, storage)?,
        read_only: read_only(&sections)?,
        cache: cache(&sections)?,
        redis: redis(root)?,
        looks_like_harbor: looks_like_harbor(root)?,
        sign_of_openshift: sign_of_openshift(root),
    })
}

/// The named sections of `storage:` or `auth:`, which may also be one bare name.
struct Sections<'n> {
    of: &'static str,
    node: &'n Node,
}

impl<'n> Sections<'n> {
    fn of(of: &'static str, node: &'n Node) -> Result<Self, RegistryConfigError> {
        match &node.value {
            Value::Sequence(_) => Err(RegistryConfigError::WrongKind {
                place: node.place.clone(),
                setting: of.to_owned(),
                expected: "a section, or the name of a driver",
            }),
            _ => Ok(Self { of, node }),
        }
    }

    fn names(&self) -> BTreeSet<&'n str> {
        match &self.node.value {
            Value::Mapping(mapping) => mapping.entries.keys().map(String::as_str).collect(),
            Value::Scalar(scalar) => BTreeSet::from([scalar.text.as_str()]),
            Value::Sequence(_) => BTreeSet::new(),
        }
    }

    fn settings(&self, name: &str) -> Result<Option<Settings<'n>>, RegistryConfigError> {
        let Some(mapping) = self.node.mapping() else {
            return Ok(None);
        };
        let full_name = format!("{}.{name}", self.of);
        mapping
            .entries
            .get(name)
            .map(|node| Settings::of(full_name, node))
            .transpose()
    }
}

fn check_version(root: &Mapping, place: &Place) -> Result<(), RegistryConfigError> {
    match root.entries.get("version") {
        Some(Node {
            value: Value::Scalar(scalar),
            ..
        }) if scalar.text == "0.1" => Ok(()),
        Some(node) => Err(RegistryConfigError::Version {
            place: node.place.clone(),
        }),
        None => Err(RegistryConfigError::Version { place: place.clone() }),
    }
}

/// Registries whose storage alone does not say what is in use.
fn refuse_what_storage_cannot_tell(root: &Mapping) -> Result<(), RegistryConfigError> {
    if let Some(node) = root.entries.get("proxy") {
        let proxy = Settings::of("proxy", node)?;
        if let Some(remote) = proxy.node("remoteurl")
            && proxy.text("remoteurl")? != Some("")
        {
            return Err(RegistryConfigError::PullThroughCache {
                place: remote.place.clone(),
            });
        }
    }
    if let Some(node) = root.entries.get("database") {
        let database = Settings::of("database", node)?;
        // Also `prefer`, which is neither true nor false.
        if let Some(enabled) = database.node("enabled")
            && !matches!(database.boolean("enabled"), Ok(Some(false)))
        {
            return Err(RegistryConfigError::MetadataDatabase {
                place: enabled.place.clone(),
            });
        }
    }
    Ok(())
}

/// Old versions have no section of their own, but middleware.
fn sign_of_openshift(root: &Mapping) -> Option<Place> {
    let is_named = |node: &Node| matches!(&node.value, Value::Scalar(scalar) if scalar.text == "openshift");
    if let Some(node) = root.entries.get("openshift").filter(|node| !node.is_null()) {
        return Some(node.place.clone());
    }
    if let Some(auth) = root.entries.get("auth") {
        if is_named(auth) {
            return Some(auth.place.clone());
        }
        if let Some(node) = auth.mapping().and_then(|auth| auth.entries.get("openshift")) {
            return Some(node.place.clone());
        }
    }
    let kinds = root.entries.get("middleware")?.mapping()?;
    kinds.entries.values().find_map(|kind| {
        let Value::Sequence(middleware) = &kind.value else {
            return None;
        };
        let names = middleware
            .iter()
            .filter_map(|one| one.mapping()?.entries.get("name"));
        names
            .into_iter()
            .find(|name| is_named(name))
            .map(|name| name.place.clone())
    })
}

fn driver(sections: &Sections<'_>, storage: &Node) -> Result<Driver, RegistryConfigError> {
    let mut names = sections.names();
    for not_a_driver in ["maintenance", "cache", "delete", "redirect", "tag"] {
        names.remove(not_a_driver);
    }
    let place = || storage.place.clone();
    let Some(name) = names.pop_first() else {
        return Err(RegistryConfigError::NoDriver { place: place() });
    };
    if !names.is_empty() {
        let drivers = std::iter::once(name)
            .chain(names)
            .map(drivers::known_name)
            .collect();
        return Err(RegistryConfigError::SeveralDrivers {
            place: place(),
            drivers,
        });
    }
    // Before its section is read, whose errors name it.
    let known = drivers::known_name(name);
    if known != name {
        return Err(RegistryConfigError::UnsupportedDriver {
            place: place(),
            driver: known,
        });
    }
    let none = Node {
        place: place(),
        value: yaml::null(),
    };
    let settings = match sections.settings(name)? {
        Some(settings) => settings,
        None => Settings::of(format!("storage.{name}"), &none)?,
    };
    Driver::read(name, &settings)
}

fn read_only(sections: &Sections<'_>) -> Result<bool, RegistryConfigError> {
    let Some(maintenance) = sections.settings("maintenance")? else {
        return Ok(false);
    };
    let Some(read_only) = maintenance.section("readonly")? else {
        return Ok(false);
    };
    if maintenance
        .node("readonly")
        .and_then(Node::mapping)
        .is_some_and(|mapping| mapping.implied)
    {
        return Err(maintenance.unsupported(
            "readonly",
            "stops the registry from starting when a part of it is set: set \
             REGISTRY_STORAGE_MAINTENANCE_READONLY={\"enabled\":true} instead",
        ));
    }
    Ok(read_only.strict_boolean("enabled")?.unwrap_or(false))
}

fn cache(sections: &Sections<'_>) -> Result<DescriptorCache, RegistryConfigError> {
    let Some(cache) = sections.settings("cache")? else {
        return Ok(DescriptorCache::None);
    };
    // `layerinfo` is the old name; Harbor still uses it.
    let kind = match cache.text("blobdescriptor")? {
        Some(kind) => Some(kind),
        None => cache.text("layerinfo")?,
    };
    Ok(match kind {
        Some("inmemory") => DescriptorCache::InMemory,
        Some("redis") => DescriptorCache::Redis,
        _ => DescriptorCache::None,
    })
}

/// `addr` up to 2.8, `addrs` since 3.0, and `cache` below `redis` in GitLab's registry.
fn redis(root: &Mapping) -> Result<Option<RedisAddress>, RegistryConfigError> {
    let Some(node) = root.entries.get("redis") else {
        return Ok(None);
    };
    let outer = Settings::of("redis", node)?;
    let redis = match outer.section("cache")? {
        Some(cache) => cache,
        None => outer,
    };
    let mut addresses = Vec::new();
    if let Some(address) = redis.text("addr")? {
        addresses.extend(address.split(','));
    }
    if let Some(node) = redis.node("addrs") {
        let Value::Sequence(items) = &node.value else {
            return Err(redis.wrong_kind("addrs", node, "a list of host:port"));
        };
        for item in items {
            addresses.push(redis.text_of("addrs", item)?);
        }
    }
    let addresses: Vec<String> = addresses
        .into_iter()
        .map(without_credentials)
        .filter(|address| !address.is_empty())
        .collect();
    if addresses.is_empty() {
        return Ok(None);
    }
    let database = match redis.text("db")?.map(str::parse) {
        None => 0,
        Some(Ok(number)) => number,
        Some(Err(_)) => return Err(redis.unsupported("db", "must be the number of a database")),
    };
    let tls = match redis.section("tls")? {
        Some(tls) => tls.boolean("enabled")?.unwrap_or(false),
        None => false,
    };
    Ok(Some(RedisAddress {
        addresses,
        database,
        username: redis.filled("username")?,
        password: redis.secret("password")?,
        tls,
    }))
}

/// A URL's scheme, user and password and path do not belong to an address, but people write them.
fn without_credentials(address: &str) -> String {
    let address = address.trim();
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let address = address.rsplit_once('@').map_or(address, |(_, rest)| rest);
    address.split(['/', '?']).next().unwrap_or_default().to_owned()
}

/// By the issuer of its tokens, or by the realm of its password file, which it has used since 2.0.
fn looks_like_harbor(root: &Mapping) -> Result<bool, RegistryConfigError> {
    let Some(auth) = root.entries.get("auth") else {
        return Ok(false);
    };
    let auth = Sections::of("auth", auth)?;
    for (section, setting, value) in [
        ("token", "issuer", "harbor-token-issuer"),
        ("htpasswd", "realm", "harbor-registry-basic-realm"),
    ] {
        if let Some(settings) = auth.settings(section)?
            && settings.text(setting)? == Some(value)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
