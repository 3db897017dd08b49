//! The independent checker: walks a registry's storage by a reading of its own, sharing no code with the product,
//! and lists every way in which something live is not complete. A prune that adds a violation broke rule R1.

mod layout;
pub(crate) mod named;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256, Sha512};

use crate::storage_writer::Storage;
use layout::Layout;
use named::Named;

/// Which manifests must be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// All that a repository has a revision link for.
    Revisions,
    /// Those that a tag names, what they reach through indexes, and those whose subject is among them.
    Tags,
}

/// What the checker saw.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Everything that a pull of something live would stumble over.
    pub violations: BTreeSet<Violation>,
    /// Live manifests, by repository and digest.
    pub live_manifests: BTreeSet<(String, String)>,
    /// Blobs that live manifests need and that are there, those manifests included, with their sizes.
    pub live_blobs: BTreeMap<String, u64>,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The repository in which it is seen.
    pub repository: String,
    /// The live manifest, or the tag, that is not complete.
    pub of: String,
    /// The digest that something is wrong with.
    pub digest: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {} {}",
            self.repository, self.of, self.digest, self.what
        )
    }
}

/// Walks the registry under `docker/registry/v2/` of a storage.
pub fn check_storage(storage: &dyn Storage, roots: Roots) -> Result<Report> {
    let layout = Layout::read(storage)?;
    let mut walk = Walk {
        storage,
        layout: &layout,
        manifests: BTreeMap::new(),
        report: Report::default(),
    };
    for repository in layout.repositories.keys() {
        walk.repository(repository, roots)?;
    }
    Ok(walk.report)
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    layout: &'a Layout,
    /// Blobs read as manifests, each once; an error is what is wrong with it.
    manifests: BTreeMap<String, Result<Named, &'static str>>,
    report: Report,
}

impl Walk<'_> {
    fn repository(&mut self, name: &str, roots: Roots) -> Result<()> {
        let here = &self.layout.repositories[name];
        let mut pending = Vec::new();
        for (tag, digest) in &here.tags {
            if here.revisions.contains(digest) {
                pending.push(digest.clone());
            } else {
                self.violation(
                    name,
                    &format!("tag {tag}"),
                    digest,
                    "is tagged and has no revision link",
                );
            }
        }
        if roots == Roots::Revisions {
            pending.extend(here.revisions.iter().cloned());
        }
        loop {
            self.reach(name, pending)?;
            pending = self.new_referrers(name)?;
            if pending.is_empty() {
                return Ok(());
            }
        }
    }

    /// Checks manifests, and the children of indexes among them.
    fn reach(&mut self, repository: &str, mut pending: Vec<String>) -> Result<()> {
        while let Some(digest) = pending.pop() {
            if !self
                .report
                .live_manifests
                .insert((repository.to_string(), digest.clone()))
            {
                continue;
            }
            match self.manifest(&digest)? {
                Err(what) => self.violation(repository, &digest, &digest, what),
                Ok(named) => {
                    self.report
                        .live_blobs
                        .insert(digest.clone(), self.layout.blobs[&digest]);
                    for child in &named.children {
                        self.child(repository, &digest, child, &mut pending);
                    }
                    for (blob, size) in &named.blobs {
                        self.blob(repository, &digest, blob, *size);
                    }
                }
            }
        }
        Ok(())
    }

    fn child(&mut self, repository: &str, index: &str, child: &str, pending: &mut Vec<String>) {
        if self.layout.repositories[repository].revisions.contains(child) {
            pending.push(child.to_string());
        } else {
            self.violation(repository, index, child, "is a child and has no revision link");
        }
    }

    fn blob(&mut self, repository: &str, manifest: &str, digest: &str, size: Option<u64>) {
        if !self.layout.repositories[repository].layers.contains(digest) {
            self.violation(repository, manifest, digest, "is needed and has no layer link");
        }
        match self.layout.blobs.get(digest) {
            None => self.violation(repository, manifest, digest, "is needed and not there"),
            Some(stored) => {
                self.report.live_blobs.insert(digest.to_string(), *stored);
                if size.is_some_and(|size| size != *stored) {
                    self.violation(repository, manifest, digest, "is needed and has another size");
                }
            }
        }
    }

    /// Revisions that are not live yet and whose subject is: signatures, SBOMs.
    fn new_referrers(&mut self, repository: &str) -> Result<Vec<String>> {
        let is_live = |walk: &Self, digest: &String| {
            walk.report
                .live_manifests
                .contains(&(repository.to_string(), digest.clone()))
        };
        let mut referrers = Vec::new();
        for revision in &self.layout.repositories[repository].revisions {
            if is_live(self, revision) {
                continue;
            }
            if let Ok(Named {
                subject: Some(subject),
                ..
            }) = self.manifest(revision)?
                && is_live(self, &subject)
            {
                referrers.push(revision.clone());
            }
        }
        Ok(referrers)
    }

    fn manifest(&mut self, digest: &str) -> Result<Result<Named, &'static str>> {
        if let Some(known) = self.manifests.get(digest) {
            return Ok(known.clone());
        }
        let key = self.layout.blob_keys.get(digest);
        let bytes = key.map(|key| self.storage.get(key)).transpose()?.flatten();
        let read = match bytes {
            None => Err("is a manifest and not there"),
            Some(bytes) if !hashes_to(&bytes, digest) => Err("is a manifest and its bytes are others"),
            Some(bytes) => named::read(&bytes).ok_or("is a manifest of no known shape"),
        };
        self.manifests.insert(digest.to_string(), read.clone());
        Ok(read)
    }

    fn violation(&mut self, repository: &str, of: &str, digest: &str, what: &'static str) {
        self.report.violations.insert(Violation {
            repository: repository.to_string(),
            of: of.to_string(),
            digest: digest.to_string(),
            what,
        });
    }
}

/// Reads every live blob and checks that its bytes are what its digest says; much slower than the walk.
pub fn check_bytes(storage: &dyn Storage, report: &mut Report) -> Result<()> {
    let layout = Layout::read(storage)?;
    for digest in report.live_blobs.keys() {
        let key = layout
            .blob_keys
            .get(digest)
            .with_context(|| format!("{digest} went while it was checked"))?;
        let bytes = storage.get(key)?.unwrap_or_default();
        if !hashes_to(&bytes, digest) {
            report.violations.insert(Violation {
                repository: String::new(),
                of: "storage".to_string(),
                digest: digest.clone(),
                what: "is needed and its bytes are others",
            });
        }
    }
    Ok(())
}

fn hashes_to(bytes: &[u8], digest: &str) -> bool {
    match digest.split_once(':') {
        Some(("sha256", hex)) => hex::encode(Sha256::digest(bytes)) == hex,
        Some(("sha512", hex)) => hex::encode(Sha512::digest(bytes)) == hex,
        _ => false,
    }
}
