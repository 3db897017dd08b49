//! A registry that is about to go wrong, the program that meets it, and what was there before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::checker::{Roots, Violation, check_storage};
use hardprune_tests::content::Seeded;
use hardprune_tests::generate::{Shape, Truth, generate};
use hardprune_tests::inventory::{Difference, Inventory};
use hardprune_tests::manifests::{self, Content, Family};
use hardprune_tests::program::{Finished, Hardprune};
use hardprune_tests::s3_server::{S3Options, S3Server};
use hardprune_tests::storage_writer::{
    Folder, Storage, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};
use serde_json::Value;
use tempfile::TempDir;

/// Where a registry lies.
#[derive(Debug, Clone, Copy)]
pub enum On {
    Folder,
    S3,
}

pub const EVERYWHERE: [On; 2] = [On::Folder, On::S3];

enum Place {
    Folder {
        folder: Folder,
        _removed_when_dropped: TempDir,
    },
    S3(Box<S3Server>),
}

/// A generated registry and a program to prune it.
pub struct Scene {
    place: Place,
    pub program: Hardprune,
    /// What was generated; not what a test planted.
    pub truth: Truth,
    now: SystemTime,
}

impl Scene {
    pub fn new(on: On) -> Result<Self> {
        match on {
            On::Folder => Self::on_folder(tiny()),
            On::S3 => Self::on_s3(S3Options::default()),
        }
    }

    pub fn on_folder(shape: Shape) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let folder = Folder::new(root.path().canonicalize()?);
        let truth = generate(&shape, &folder)?;
        Ok(Self {
            place: Place::Folder {
                folder,
                _removed_when_dropped: root,
            },
            program: Hardprune::new()?,
            truth,
            now: shape.now,
        })
    }

    /// Ages count from the server's time.
    pub fn on_s3(options: S3Options) -> Result<Self> {
        Self::on_s3_of_shape(options, tiny())
    }

    pub fn on_s3_of_shape(options: S3Options, mut shape: Shape) -> Result<Self> {
        let server = S3Server::start(options)?;
        shape.now = server.now().into();
        let truth = generate(&shape, &server)?;
        Ok(Self {
            program: Hardprune::new()?.on_s3(&server),
            place: Place::S3(Box::new(server)),
            truth,
            now: shape.now,
        })
    }

    pub fn storage(&self) -> &dyn Storage {
        match &self.place {
            Place::Folder { folder, .. } => folder,
            Place::S3(server) => &**server,
        }
    }

    /// The server of a registry on S3.
    pub fn server(&self) -> &S3Server {
        match &self.place {
            Place::S3(server) => server,
            Place::Folder { .. } => panic!("this registry is in a folder"),
        }
    }

    /// The folder of a registry in one.
    pub fn root(&self) -> &Path {
        match &self.place {
            Place::Folder { folder, .. } => folder.root(),
            Place::S3(_) => panic!("this registry is on S3"),
        }
    }

    /// As `STORAGE` on the command line.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Folder { folder, .. } => folder.root().display().to_string(),
            Place::S3(server) => format!("s3://{}", server.bucket()),
        }
    }

    /// A command on this registry, the filters' chance and long pauses taken out of it.
    pub fn arguments<'a>(&self, name: &'a str, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec![command, name, "--retry-pause", "1ms", "--filter-seed", "7"];
        if command == "delete" {
            arguments.push("--assume-read-only");
        }
        arguments.extend(more);
        arguments
    }

    pub fn run(&self, command: &str, more: &[&str]) -> Result<Finished> {
        let name = self.name();
        self.program.run(&self.arguments(&name, command, more))
    }

    /// Runs to the exit status wanted; returns the report.
    pub fn report(&self, wanted: i32, command: &str, more: &[&str]) -> Result<Value> {
        let name = self.name();
        self.program.report(wanted, &self.arguments(&name, command, more))
    }

    /// Runs `check` and `delete`, which both must fail with this exit status, say all of `parts`, and touch nothing.
    pub fn both_fail(&self, wanted: i32, more: &[&str], parts: &[&str]) -> Result<()> {
        for command in ["check", "delete"] {
            self.fails(wanted, command, more, parts)?;
        }
        Ok(())
    }

    /// Runs a command that must fail with this exit status, say all of `parts`, and touch nothing.
    pub fn fails(&self, wanted: i32, command: &str, more: &[&str], parts: &[&str]) -> Result<Finished> {
        let before = self.snapshot()?;
        let finished = self.run(command, more)?;
        says(&finished, wanted, parts)?;
        before.is_unchanged(self)?;
        Ok(finished)
    }

    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            registry: self.registry_keys()?,
            violations: self.violations()?,
        })
    }

    /// The keys of the registry itself, without hardprune's own beside it.
    fn registry_keys(&self) -> Result<Inventory> {
        let mut keys = Inventory::take(self.storage())?;
        keys.0.retain(|key, _| !key.starts_with("hardprune/"));
        Ok(keys)
    }

    fn violations(&self) -> Result<BTreeSet<Violation>> {
        let report = match &self.place {
            Place::Folder { folder, .. } => {
                check_storage(&Folder::following_symlinks(folder.root()), Roots::Revisions)?
            }
            Place::S3(server) => check_storage(&**server, Roots::Revisions)?,
        };
        Ok(report.violations)
    }

    /// Checks, then deletes; the orphans of both must be those generated and `more`, and nothing else may go. Returns
    /// the report of the check.
    pub fn prunes_exactly(&self, more: &[&Content]) -> Result<Value> {
        self.prunes_exactly_with(more, &[])
    }

    pub fn prunes_exactly_with(&self, more: &[&Content], options: &[&str]) -> Result<Value> {
        let mut orphans = self.truth.orphans.clone();
        orphans.extend(more.iter().map(|blob| (blob.digest.clone(), blob.size())));
        let bytes: u64 = orphans.values().sum();
        let before = self.snapshot()?;
        let all = Inventory::take(self.storage())?;
        let check = self.report(0, "check", options)?;
        let after_check = all.until(&Inventory::take(self.storage())?);
        ensure!(after_check.is_empty(), "R7: a check changed {after_check:?}");
        ensure!(
            number(&check, "/blobs/orphaned") == orphans.len() as u64
                && number(&check, "/bytes/orphaned") == bytes,
            "{} orphans were expected: {check:#}",
            orphans.len()
        );
        let delete = self.report(0, "delete", options)?;
        let gone = before.gone(self)?;
        ensure!(
            gone.removed_blobs() == orphans,
            "other blobs went than expected: {:?}",
            differing(&gone.removed_blobs(), &orphans)
        );
        ensure!(
            number(&delete, "/blobs/deleted") == orphans.len() as u64,
            "{delete:#}"
        );
        ensure!(number(&delete, "/bytes/freed") == bytes, "{delete:#}");
        Ok(check)
    }

    /// Writes an object that is ten days old.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.put_aged(key, bytes, Duration::from_secs(10 * 86_400))
    }

    pub fn put_aged(&self, key: &str, bytes: &[u8], age: Duration) -> Result<()> {
        self.storage().put(key, bytes, self.now - age)
    }

    pub fn put_blob(&self, blob: &Content) -> Result<()> {
        self.put(&blob_key(&blob.digest), &blob.bytes)
    }

    pub fn put_layer_link(&self, repository: &str, digest: &str) -> Result<()> {
        self.put(&layer_link_key(repository, digest), digest.as_bytes())
    }

    pub fn put_revision_link(&self, repository: &str, digest: &str) -> Result<()> {
        self.put(&revision_link_key(repository, digest), digest.as_bytes())
    }

    pub fn put_tag(&self, repository: &str, tag: &str, digest: &str) -> Result<()> {
        self.put(&tag_link_key(repository, tag), digest.as_bytes())?;
        self.put(&tag_index_key(repository, tag, digest), digest.as_bytes())
    }

    /// Writes the blobs of an image, and what links them into a repository.
    pub fn put_image(&self, repository: &str, image: &Image) -> Result<()> {
        for blob in [&image.config, &image.layer] {
            self.put_blob(blob)?;
            self.put_layer_link(repository, &blob.digest)?;
        }
        self.put_blob(&image.manifest)?;
        self.put_revision_link(repository, &image.manifest.digest)?;
        self.put_tag(repository, "latest", &image.manifest.digest)
    }
}

/// Some of everything, and few shards: most tests here run the program several times.
pub fn tiny() -> Shape {
    Shape {
        repositories: 4,
        images: 8,
        multi_arch_percent: 25,
        untagged_images: 1,
        signatures: 1,
        base_layers: 3,
        base_layers_per_image: 2,
        orphans: 9,
        young_orphans: 2,
        ..Shape::small(11)
    }
}

/// What a registry held.
pub struct Snapshot {
    registry: Inventory,
    violations: BTreeSet<Violation>,
}

impl Snapshot {
    pub fn is_unchanged(&self, scene: &Scene) -> Result<()> {
        let difference = self.registry.until(&scene.registry_keys()?);
        ensure!(difference.is_empty(), "the registry changed: {difference:?}");
        Ok(())
    }

    /// What went since then, where untagged manifests were to go: the checker would miss them.
    pub fn gone_unchecked(&self, scene: &Scene) -> Result<Difference> {
        Ok(self.registry.until(&scene.registry_keys()?))
    }

    /// What went since then. Nothing may have come, and nothing live may be less complete.
    pub fn gone(&self, scene: &Scene) -> Result<Difference> {
        let difference = self.registry.until(&scene.registry_keys()?);
        ensure!(
            difference.added.is_empty() && difference.resized.is_empty(),
            "the registry changed: {difference:?}"
        );
        let violations = scene.violations()?;
        let new: Vec<_> = violations.difference(&self.violations).collect();
        ensure!(new.is_empty(), "R1: the prune broke {new:?}");
        Ok(difference)
    }
}

/// A small image with blobs that no other has.
pub struct Image {
    pub config: Content,
    pub layer: Content,
    pub manifest: Content,
}

impl Image {
    pub fn new(seed: u64) -> Self {
        let layer = blob(seed);
        let config = manifests::config(Family::Oci, &format!("machine-{seed}"), &[&layer]);
        let manifest = manifests::image(Family::Oci, &config, &[&layer], None);
        Self {
            config,
            layer,
            manifest,
        }
    }
}

/// A blob of its own for each seed.
pub fn blob(seed: u64) -> Content {
    manifests::layer(Family::Oci, &mut Seeded::new(0xbad + seed), 200 + seed)
}

/// A number in a report; zero where the report has none there is a mistake of the test's.
pub fn number(report: &Value, path: &str) -> u64 {
    match report.pointer(path).and_then(Value::as_u64) {
        Some(number) => number,
        None => panic!("the report has no number {path}: {report:#}"),
    }
}

/// How many problems of a kind a report counts.
pub fn problems(report: &Value, kind: &str) -> u64 {
    let count = report.pointer(&format!("/problems/by_kind/{kind}"));
    count.and_then(Value::as_u64).unwrap_or_default()
}

/// Holds a finished run against its exit status and the parts of what it must say on standard error.
pub fn says(finished: &Finished, wanted: i32, parts: &[&str]) -> Result<()> {
    ensure!(
        finished.status == wanted,
        "exit status {} instead of {wanted}:\n{}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    for part in parts {
        ensure!(
            finished.stderr.contains(part),
            "{part:?} is not said:\n{}",
            finished.stderr
        );
    }
    Ok(())
}

/// Waits until something is so, a bounded time.
pub fn wait_until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = std::time::Instant::now();
    while !so()? {
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "waited in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The lock, once it allows a plan to be carried out.
pub fn allowing_lock(storage: &dyn Storage) -> Result<Option<Value>> {
    let Some(bytes) = storage.get("hardprune/lock.json")? else {
        return Ok(None);
    };
    let lock: Value = serde_json::from_slice(&bytes).context("the lock is no JSON")?;
    Ok(lock
        .get("sealed_plan")
        .is_some_and(Value::is_string)
        .then_some(lock))
}

fn differing<'m>(a: &'m BTreeMap<String, u64>, b: &'m BTreeMap<String, u64>) -> BTreeSet<&'m String> {
    let keys = |map: &'m BTreeMap<String, u64>| map.keys().collect::<BTreeSet<_>>();
    keys(a).symmetric_difference(&keys(b)).copied().collect()
}
