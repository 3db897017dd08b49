//! A registry that is about to be pruned, and what its end is held against: what was live, what was there, what the
//! reports say. One way to do so for tests that kill, stop, mislead or hinder the program.

mod holding;
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::checker::{Roots, check_storage};
use crate::docker_registry::{RegistryConfig, S3Settings};
use crate::generate::{Shape, Truth, generate};
use crate::inventory::{Difference, Inventory};
use crate::program::{Finished, Hardprune};
use crate::s3_server::{S3Options, S3Server};
use crate::storage_writer::{Folder, Storage, blob_key};

pub use running::Running;

/// The exit status of a program that a failpoint killed.
pub const KILLED: i32 = 128 + 6;

/// Objects by key: their bytes, and when they were written.
pub type Contents = BTreeMap<String, (Bytes, Timestamp)>;

/// A generated registry, and the program that prunes it.
pub struct Scene {
    /// What is in the registry.
    pub truth: Truth,
    /// What was there at the beginning.
    pub start: Inventory,
    /// The program, with what it needs to reach the registry.
    pub program: Hardprune,
    storage: Arc<dyn Storage>,
    /// The registry's storage on the command line.
    name: String,
    /// What tags lead to, and what was wrong with it at the beginning.
    live: BTreeSet<(String, String)>,
    server: Option<Arc<S3Server>>,
    /// Where runs are kept.
    state: PathBuf,
    folder: TempDir,
}

impl Scene {
    /// Makes a registry in a folder; runs are kept beside it, in its own storage.
    ///
    /// # Errors
    ///
    /// A folder that cannot be written to, a program that was not built.
    pub fn on_folder(shape: &Shape) -> Result<Self> {
        let folder = fast_folder()?;
        let root = folder.path().join("registry");
        std::fs::create_dir(&root)?;
        let storage = Arc::new(Folder::new(&root));
        let name = root
            .to_str()
            .context("a folder for tests has a plain name")?
            .to_owned();
        Self::new(shape, storage, Hardprune::new()?, name, root, folder, None)
    }

    /// Makes a registry on an S3 server; runs are kept in a folder.
    ///
    /// # Errors
    ///
    /// As [`Scene::on_folder`], and a server that cannot be started.
    pub fn on_s3(shape: &Shape, options: S3Options) -> Result<Self> {
        let folder = fast_folder()?;
        let server = Arc::new(S3Server::start(options)?);
        let name = format!("s3://{}", server.bucket());
        let program = Hardprune::new()?.on_s3(&server);
        let (storage, state) = (Arc::clone(&server), folder.path().join("state"));
        // Workers open it before the first run makes it.
        std::fs::create_dir(&state)?;
        Self::new(shape, storage, program, name, state, folder, Some(server))
    }

    fn new(
        shape: &Shape,
        storage: Arc<dyn Storage>,
        program: Hardprune,
        name: String,
        state: PathBuf,
        folder: TempDir,
        server: Option<Arc<S3Server>>,
    ) -> Result<Self> {
        let truth = generate(shape, &*storage)?;
        let mut scene = Self {
            truth,
            start: Inventory::default(),
            program,
            storage,
            name,
            live: BTreeSet::new(),
            server,
            state,
            folder,
        };
        scene.begin()?;
        Ok(scene)
    }

    /// Sets a variable for every run.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.program = self.program.with(name, value);
        self
    }

    /// Takes what is there now for the beginning: for tests that change the registry before they prune it.
    ///
    /// # Errors
    ///
    /// A storage that cannot be read.
    pub fn begin(&mut self) -> Result<()> {
        self.start = self.inventory()?;
        self.live = check_storage(&*self.storage, Roots::Tags)?.live_manifests;
        Ok(())
    }

    /// The registry's storage, past the program.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// The S3 server.
    ///
    /// # Errors
    ///
    /// A registry in a folder.
    pub fn server(&self) -> Result<&S3Server> {
        self.server.as_deref().context("this registry is in a folder")
    }

    /// A folder for the test's own files, outside of the registry.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration of a real registry that serves this storage.
    #[must_use]
    pub fn registry_config(&self) -> RegistryConfig {
        match &self.server {
            None => RegistryConfig::filesystem(&self.state),
            Some(server) => RegistryConfig::s3(S3Settings {
                endpoint: server.endpoint(),
                bucket: server.bucket().to_owned(),
                root_directory: String::new(),
                access_key: server.access_key().to_owned(),
                secret_key: server.secret_key().to_owned(),
            }),
        }
    }

    /// The bytes of so many orphans.
    ///
    /// # Errors
    ///
    /// A storage that cannot be read.
    pub fn orphan_blobs(&self, count: usize) -> Result<Vec<Vec<u8>>> {
        let orphans = self.truth.orphans.keys().take(count);
        orphans
            .map(|digest| self.storage.get(&blob_key(digest))?.context("an orphan"))
            .collect()
    }

    /// The stores that a worker needs: the registry, and where runs are kept.
    #[must_use]
    pub fn store_names(&self) -> Vec<String> {
        let state = self.state.display().to_string();
        match self.server {
            Some(_) => vec![self.name.clone(), state],
            None => vec![self.name.clone()],
        }
    }

    /// The folder of everything that runs keep.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The arguments of a `delete`, and others.
    #[must_use]
    pub fn delete<'a>(&'a self, others: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["delete", &self.name, "--assume-read-only", "--output", "json"];
        arguments.extend(self.state_arguments());
        arguments.extend(others);
        arguments
    }

    /// The arguments of a `delete` that goes on with the latest run.
    #[must_use]
    pub fn resume(&self) -> Vec<&str> {
        self.delete(&["--resume", "auto"])
    }

    fn state_arguments(&self) -> Vec<&str> {
        match self.state.to_str() {
            Some(state) if self.server.is_some() => vec!["--state", state],
            _ => Vec::new(),
        }
    }

    /// Runs the program to its end, with failpoints.
    ///
    /// # Errors
    ///
    /// A program that does not start.
    pub fn run_with(&self, failpoints: &str, arguments: &[&str]) -> Result<Finished> {
        let mut command = self.program.command(arguments);
        Finished::of(&command.env("FAILPOINTS", failpoints).output()?)
    }

    /// Runs the program to its end; it must be this one.
    ///
    /// # Errors
    ///
    /// Another end, with what the program said.
    pub fn report(&self, wanted: i32, arguments: &[&str]) -> Result<Value> {
        report_of(&self.program.run(arguments)?, wanted)
    }

    /// Starts the program, with failpoints.
    ///
    /// # Errors
    ///
    /// A program that does not start.
    pub fn start_with(&self, failpoints: &str, arguments: &[&str]) -> Result<Child> {
        use std::process::Stdio;
        let mut command = self.program.command(arguments);
        command.env("FAILPOINTS", failpoints);
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Starts the program, and waits until it is held at a failpoint that it came to so many times before.
    ///
    /// # Errors
    ///
    /// A program that ends before it comes there.
    pub fn hold_at(&self, failpoint: &str, times_before: usize, arguments: &[&str]) -> Result<Running> {
        let file = self.folder.path().join("hold");
        let failpoints = format!("{failpoint}={times_before}*off->1*return({})", file.display());
        Running::held(self.start_with(&failpoints, arguments)?, file)
    }

    /// The run that there is.
    ///
    /// # Errors
    ///
    /// None, or several.
    pub fn run_id(&self) -> Result<String> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.state.join("hardprune/runs"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        ensure!(names.len() == 1, "there is not one run, but {names:?}");
        Ok(names.remove(0))
    }

    /// What `runs show` says of the run that there is.
    ///
    /// # Errors
    ///
    /// A program that fails.
    pub fn show(&self) -> Result<Value> {
        self.show_run(&self.run_id()?)
    }

    /// What `runs show` says of a run.
    ///
    /// # Errors
    ///
    /// A program that fails.
    pub fn show_run(&self, run: &str) -> Result<Value> {
        let mut arguments = vec!["runs", "show", run, "--output", "json"];
        match self.server {
            Some(_) => arguments.extend(self.state_arguments()),
            None => arguments.extend(["--registry", &self.name]),
        }
        self.report(0, &arguments)
    }

    /// What `runs show` says is what the run itself said.
    ///
    /// # Errors
    ///
    /// What is said otherwise.
    pub fn check_shown(&self, report: &Value) -> Result<()> {
        let shown = self.show()?;
        // Not all of it: fractions lose their last digit when they are read back.
        for part in [
            "run", "epochs", "outcome", "blobs", "bytes", "links", "problems", "requests",
        ] {
            let (shown, told) = (&shown[part], &report[part]);
            ensure!(
                shown == told,
                "{part}: it is shown as {shown} and was told as {told}"
            );
        }
        Ok(())
    }

    /// What is there now.
    ///
    /// # Errors
    ///
    /// A storage that cannot be read.
    pub fn inventory(&self) -> Result<Inventory> {
        Inventory::take(&*self.storage)
    }

    /// All that is in the registry's bucket.
    ///
    /// # Errors
    ///
    /// A registry in a folder.
    pub fn contents(&self) -> Result<Contents> {
        let server = self.server()?;
        let mut contents = Contents::new();
        for (key, (_, modified)) in server.inventory() {
            let bytes = server.get(&key).with_context(|| key.clone())?;
            contents.insert(key, (bytes, modified));
        }
        Ok(contents)
    }

    /// Puts back what is gone, so that the next run begins with the same registry.
    ///
    /// # Errors
    ///
    /// A registry in a folder.
    pub fn put_back(&self, contents: &Contents) -> Result<()> {
        let server = self.server()?;
        let there = server.inventory();
        for (key, (bytes, modified)) in contents {
            if !there.contains_key(key) {
                server.put(key, bytes.clone(), Some(*modified));
            }
        }
        Ok(())
    }

    /// What went since the beginning.
    ///
    /// # Errors
    ///
    /// A storage that cannot be read.
    pub fn difference(&self) -> Result<Difference> {
        Ok(self.start.until(&self.inventory()?))
    }

    /// Everything that a tag leads to is there and complete (R1), and so is every other revision that still has its
    /// link (R6).
    ///
    /// # Errors
    ///
    /// What is not.
    pub fn check_intact(&self) -> Result<()> {
        let tagged = check_storage(&*self.storage, Roots::Tags)?;
        ensure!(tagged.violations.is_empty(), "R1: {:?}", tagged.violations);
        let lost: Vec<_> = self.live.difference(&tagged.live_manifests).collect();
        ensure!(lost.is_empty(), "R1: these are live no more: {lost:?}");
        let all = check_storage(&*self.storage, Roots::Revisions)?;
        ensure!(all.violations.is_empty(), "R6: {:?}", all.violations);
        Ok(())
    }

    /// What a report says is what really went (R5), and its figures add up.
    ///
    /// # Errors
    ///
    /// What does not.
    pub fn check_accounts(&self, report: &Value) -> Result<()> {
        let difference = self.difference()?;
        let went = difference.removed_blobs();
        let said = (number(report, "/bytes/freed")?, number(report, "/blobs/deleted")?);
        let really = (difference.freed_blob_bytes(), went.len() as u64);
        ensure!(
            said == really,
            "R5: freed bytes and blobs: said {said:?}, really {really:?}\n{report}"
        );
        let blobs = |name: &str| number(report, &format!("/blobs/{name}"));
        let orphaned = blobs("orphaned")?;
        let parts = blobs("deleted")? + blobs("failed")? + blobs("not_attempted")?;
        ensure!(
            orphaned == parts,
            "{orphaned} orphans, {parts} accounted for\n{report}"
        );
        let seen = blobs("referenced")? + blobs("young")? + orphaned;
        ensure!(blobs("scanned")? == seen, "{seen} blobs accounted for\n{report}");
        Ok(())
    }

    /// The run is over, all is right, and there is nothing left to delete.
    ///
    /// # Errors
    ///
    /// What is not.
    pub fn check_finished(&self, report: &Value, wanted: &BTreeSet<String>) -> Result<()> {
        self.check_intact()?;
        self.check_accounts(report)?;
        ensure!(report["outcome"] == "completed", "{report}");
        let went: BTreeSet<String> = self.difference()?.removed_blobs().into_keys().collect();
        let kept: Vec<_> = wanted.difference(&went).collect();
        let too_many: Vec<_> = went.difference(wanted).collect();
        ensure!(
            kept.is_empty() && too_many.is_empty(),
            "kept {kept:?}, deleted {too_many:?}"
        );
        let again = self.check(&[])?;
        let left = (
            number(&again, "/blobs/orphaned")?,
            number(&again, "/links/layer")?,
        );
        ensure!(
            left == (0, 0),
            "orphans and dangling links that are left: {left:?}\n{again}"
        );
        Ok(())
    }

    /// What a check says.
    ///
    /// # Errors
    ///
    /// A check that fails.
    pub fn check(&self, others: &[&str]) -> Result<Value> {
        let mut arguments = vec!["check", self.name.as_str(), "--output", "json"];
        arguments.extend(others);
        self.report(0, &arguments)
    }

    /// The orphans.
    #[must_use]
    pub fn orphans(&self) -> BTreeSet<String> {
        self.truth.orphans.keys().cloned().collect()
    }

    /// The orphans, and what only untagged manifests need.
    #[must_use]
    pub fn orphans_and_untagged(&self) -> BTreeSet<String> {
        let untagged = self.truth.untagged.keys().cloned();
        untagged.chain(self.orphans()).collect()
    }

    /// The files of runs whose path holds a text.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read.
    pub fn state_files(&self, text: &str) -> Result<Vec<PathBuf>> {
        let kept = Folder::new(self.state.join("hardprune"));
        let keys = kept.keys()?.into_keys().filter(|key| key.contains(text));
        Ok(keys.map(|key| kept.path_of(&key)).collect())
    }
}

/// Reads the report of a run that must have ended so.
///
/// # Errors
///
/// Another end, with what the program said.
pub fn report_of(finished: &Finished, wanted: i32) -> Result<Value> {
    ensure!(
        finished.status == wanted,
        "exit status {} instead of {wanted}:\n{}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    serde_json::from_str(&finished.stdout).with_context(|| format!("no report:\n{}", finished.stdout))
}

/// A figure of a report.
///
/// # Errors
///
/// A report without it.
pub fn number(report: &Value, pointer: &str) -> Result<u64> {
    let value = report.pointer(pointer).and_then(Value::as_u64);
    value.with_context(|| format!("no {pointer} in {report}"))
}

/// A folder in memory, where the machine has one: these tests write many small files, and sync them.
///
/// # Errors
///
/// A machine without any place for temporary files.
pub fn fast_folder() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        return Ok(tempfile::tempdir_in(memory)?);
    }
    Ok(tempfile::tempdir()?)
}
