//! What the tests of this binary share: a registry with its storage, and `hardprune` beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::checker::{Report, Roots, check_bytes, check_storage};
use hardprune_tests::content::digest_of;
use hardprune_tests::docker_registry::{DockerRegistry, RegistryConfig, S3Settings};
use hardprune_tests::inventory::{Difference, Inventory};
use hardprune_tests::program::Hardprune;
use hardprune_tests::push::{Pushed, build_everything};
use hardprune_tests::s3_server::{S3Options, S3Server};
use hardprune_tests::scene::fast_folder;
use hardprune_tests::storage_writer::{Folder, REGISTRY_ROOT, Storage, blob_key, layer_link_key};
use serde_json::Value;
use tempfile::TempDir;

pub const HOUR: Duration = Duration::from_secs(3_600);
/// Older than any cutoff of these tests.
pub const THREE_DAYS: Duration = Duration::from_secs(3 * 24 * 3_600);
/// Equal sets are only equal if no orphan is kept by chance: with this seed none is.
pub const SEED: [&str; 2] = ["--filter-seed", "7"];

/// A registry's storage, and how `hardprune` is told of it.
#[derive(Debug)]
pub enum Place {
    Folder {
        storage: Folder,
        _folder: TempDir,
    },
    S3 {
        server: S3Server,
        /// The folder in the bucket, with a slash at its end, or nothing.
        prefix: &'static str,
    },
}

impl Place {
    pub fn folder() -> Result<Self> {
        let folder = fast_folder()?;
        Ok(Self::Folder {
            storage: Folder::new(folder.path()),
            _folder: folder,
        })
    }

    pub fn s3(prefix: &'static str) -> Result<Self> {
        let server = S3Server::start(S3Options {
            keeps_log: true,
            ..S3Options::default()
        })?;
        Ok(Self::S3 { server, prefix })
    }

    /// What `check` and `delete` take as STORAGE.
    pub fn argument(&self) -> String {
        match self {
            Self::Folder { storage, .. } => storage.root().display().to_string(),
            Self::S3 { server, prefix } => {
                format!("s3://{}/{}", server.bucket(), prefix.trim_end_matches('/'))
            }
        }
    }

    /// `hardprune` with what it needs to reach this storage.
    pub fn hardprune(&self) -> Result<Hardprune> {
        let hardprune = Hardprune::new()?;
        Ok(match self {
            Self::Folder { .. } => hardprune,
            Self::S3 { server, .. } => hardprune.on_s3(server),
        })
    }

    /// The configuration of a registry that serves this storage.
    pub fn registry_config(&self) -> RegistryConfig {
        match self {
            Self::Folder { storage, .. } => RegistryConfig::filesystem(storage.root()),
            Self::S3 { server, prefix } => RegistryConfig::s3(S3Settings {
                endpoint: server.endpoint(),
                bucket: server.bucket().to_owned(),
                root_directory: prefix.trim_end_matches('/').to_owned(),
                access_key: server.access_key().to_owned(),
                secret_key: server.secret_key().to_owned(),
            }),
        }
    }

    /// The server, for its counters. Only where there is one.
    pub fn server(&self) -> Result<&S3Server> {
        match self {
            Self::S3 { server, .. } => Ok(server),
            Self::Folder { .. } => anyhow::bail!("a folder has no server"),
        }
    }

    /// A path in the registry's folder. Only where there is one.
    pub fn path(&self, key: &str) -> Result<PathBuf> {
        match self {
            Self::Folder { storage, .. } => Ok(storage.path_of(key)),
            Self::S3 { .. } => anyhow::bail!("a bucket has no paths"),
        }
    }

    /// Sets the age of everything.
    pub fn age_all(&self, age: Duration) -> Result<()> {
        match self {
            Self::Folder { storage, .. } => storage.set_all_modified(SystemTime::now() - age),
            Self::S3 { server, prefix } => {
                let time = jiff::Timestamp::try_from(SystemTime::now() - age)?;
                ensure!(server.set_last_modified_all(prefix, time) > 0, "nothing is there");
                Ok(())
            }
        }
    }

    /// Sets the age of one object.
    pub fn age(&self, key: &str, age: Duration) -> Result<()> {
        let bytes = self.get(key)?.with_context(|| format!("{key} is not there"))?;
        self.put(key, &bytes, SystemTime::now() - age)
    }

    /// Writes an old blob that nothing references; with a layer link where a repository is named.
    pub fn add_orphan(&self, bytes: &[u8], linked_in: Option<&str>) -> Result<String> {
        let digest = digest_of(bytes);
        let old = SystemTime::now() - THREE_DAYS;
        self.put(&blob_key(&digest), bytes, old)?;
        if let Some(repository) = linked_in {
            self.put(&layer_link_key(repository, &digest), digest.as_bytes(), old)?;
        }
        Ok(digest)
    }

    /// What the registry itself has: hardprune's own files do not count.
    pub fn inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory::take(self)?;
        inventory.0.retain(|key, _| key.starts_with(REGISTRY_ROOT));
        Ok(inventory)
    }

    /// Every byte and every time there is, to see that nothing changed.
    pub fn snapshot(&self) -> Result<BTreeMap<String, (String, SystemTime)>> {
        let times = match self {
            Self::Folder { .. } => BTreeMap::new(),
            Self::S3 { server, .. } => server.inventory(),
        };
        let mut snapshot = BTreeMap::new();
        for key in self.keys()?.into_keys() {
            let bytes = self.get(&key)?.with_context(|| format!("{key} went"))?;
            let modified = match self {
                Self::Folder { storage, .. } => fs::symlink_metadata(storage.path_of(&key))?.modified()?,
                Self::S3 { prefix, .. } => times[&format!("{prefix}{key}")].1.into(),
            };
            snapshot.insert(key, (digest_of(&bytes), modified));
        }
        Ok(snapshot)
    }

    /// What the checker says of what tags lead to, bytes included.
    pub fn live(&self) -> Result<Report> {
        self.checked(Roots::Tags)
    }

    pub fn checked(&self, roots: Roots) -> Result<Report> {
        let mut report = check_storage(self, roots)?;
        check_bytes(self, &mut report)?;
        Ok(report)
    }
}

impl Storage for Place {
    fn put(&self, key: &str, bytes: &[u8], modified: SystemTime) -> Result<()> {
        match self {
            Self::Folder { storage, .. } => storage.put(key, bytes, modified),
            Self::S3 { server, prefix } => Storage::put(server, &format!("{prefix}{key}"), bytes, modified),
        }
    }

    fn remove(&self, key: &str) -> Result<()> {
        match self {
            Self::Folder { storage, .. } => storage.remove(key),
            Self::S3 { server, prefix } => Storage::remove(server, &format!("{prefix}{key}")),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Folder { storage, .. } => storage.get(key),
            Self::S3 { server, prefix } => Storage::get(server, &format!("{prefix}{key}")),
        }
    }

    fn keys(&self) -> Result<BTreeMap<String, u64>> {
        match self {
            Self::Folder { storage, .. } => storage.keys(),
            Self::S3 { server, prefix } => Ok(server
                .keys()?
                .into_iter()
                .filter_map(|(key, size)| Some((key.strip_prefix(prefix)?.to_owned(), size)))
                .collect()),
        }
    }
}

/// A real registry that everything was pushed into, three days ago.
#[derive(Debug)]
pub struct Scene {
    pub registry: DockerRegistry,
    pub place: Place,
    pub pushed: Pushed,
    pub hardprune: Hardprune,
}

impl Scene {
    pub async fn in_folder() -> Result<Self> {
        Self::at(Place::folder()?).await
    }

    pub async fn on_s3() -> Result<Self> {
        Self::at(Place::s3("")?).await
    }

    pub async fn at(place: Place) -> Result<Self> {
        let registry = DockerRegistry::start(place.registry_config()).await?;
        let pushed = build_everything(&registry, &place).await?;
        place.age_all(THREE_DAYS)?;
        let hardprune = place.hardprune()?;
        Ok(Self {
            registry,
            place,
            pushed,
            hardprune,
        })
    }

    /// Ends the registry and starts it anew: its caches are empty then.
    pub async fn restarted(self) -> Result<Self> {
        let registry = self.registry.restart().await?;
        Ok(Self { registry, ..self })
    }
}

/// `check` or `delete` of a place, with a fixed seed, to the exit status wanted; its report.
pub fn report(
    hardprune: &Hardprune,
    place: &Place,
    wanted: i32,
    command: &str,
    options: &[&str],
) -> Result<Value> {
    let argument = place.argument();
    let mut arguments = vec![command, &argument];
    arguments.extend(SEED);
    if command == "delete" {
        arguments.push("--assume-read-only");
    }
    arguments.extend(options);
    hardprune.report(wanted, &arguments)
}

/// What a `check` writes with `--candidates`: digests and sizes, and its report.
pub fn candidates(
    hardprune: &Hardprune,
    place: &Place,
    options: &[&str],
) -> Result<(BTreeMap<String, u64>, Value)> {
    let file = hardprune.home().join("candidates.jsonl");
    let name = file.display().to_string();
    let mut all = vec!["--candidates", &name];
    all.extend(options);
    let report = report(hardprune, place, 0, "check", &all)?;
    let mut candidates = BTreeMap::new();
    for line in json_lines(&file)? {
        let digest = line["digest"].as_str().context("a candidate has no digest")?;
        let size = line["size"].as_u64().context("a candidate has no size")?;
        ensure!(
            line["last_modified"]
                .as_str()
                .is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()),
            "{line} has no time"
        );
        ensure!(
            candidates.insert(digest.to_owned(), size).is_none(),
            "{digest} is named twice"
        );
    }
    Ok((candidates, report))
}

/// A file of JSON lines.
pub fn json_lines(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A number of a report, by its path: `blobs.orphaned`.
pub fn number(report: &Value, path: &str) -> Result<u64> {
    let pointer = format!("/{}", path.replace('.', "/"));
    let value = report.pointer(&pointer);
    value
        .and_then(Value::as_u64)
        .with_context(|| format!("the report has no number {path}: {report}"))
}

/// The rules that a report's numbers keep in any run.
pub fn ensure_adds_up(report: &Value) -> Result<()> {
    let sum = |names: &[&str]| -> Result<u64> {
        names
            .iter()
            .try_fold(0, |sum, name| Ok(sum + number(report, name)?))
    };
    ensure!(
        sum(&["blobs.scanned"])? == sum(&["blobs.referenced", "blobs.young", "blobs.orphaned"])?,
        "scanned is not referenced + young + orphaned: {report}"
    );
    ensure!(
        sum(&["blobs.orphaned"])? == sum(&["blobs.deleted", "blobs.failed", "blobs.not_attempted"])?,
        "orphaned is not deleted + failed + not_attempted: {report}"
    );
    Ok(())
}

pub fn digests(blobs: &BTreeMap<String, u64>) -> BTreeSet<String> {
    blobs.keys().cloned().collect()
}

pub fn union(one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    one.iter()
        .chain(other)
        .map(|(key, value)| (key.clone(), *value))
        .collect()
}

/// The keys of blobs.
pub fn blob_keys<'d>(digests: impl IntoIterator<Item = &'d String>) -> BTreeSet<String> {
    digests.into_iter().map(|digest| blob_key(digest)).collect()
}

/// The layer links of an inventory that name one of these blobs.
pub fn layer_links_to(inventory: &Inventory, blobs: &BTreeMap<String, u64>) -> BTreeSet<String> {
    let names_one = |key: &&String| {
        key.split_once("/_layers/").is_some_and(|(_, path)| {
            let digest = path.trim_end_matches("/link").replacen('/', ":", 1);
            blobs.contains_key(&digest)
        })
    };
    inventory.0.keys().filter(names_one).cloned().collect()
}

/// Makes sure that nothing came or changed between two inventories, and returns the keys that went.
pub fn only_removed(difference: &Difference) -> Result<BTreeSet<String>> {
    ensure!(difference.added.is_empty(), "came: {:?}", difference.added);
    ensure!(difference.resized.is_empty(), "changed: {:?}", difference.resized);
    Ok(difference.removed.keys().cloned().collect())
}
