//! Which manifests of a repository are live, and what they need.
//!
//! From the roots through indexes to their children, then every manifest whose subject is live, and again, until
//! nothing is added. Upholds R8: a manifest that cannot be read or understood makes everything live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use hardprune_common::digest::Digest;
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::store::StoreError;

use crate::read_manifests::{ManifestRead, ManifestReader};

/// What was found live in a repository.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Live manifests, whether the repository has a revision of them or not.
    pub manifests: HashSet<Digest>,
    /// What they need, themselves included.
    pub references: HashSet<Digest>,
    /// Those of them that may well have no blob.
    pub may_be_absent: Vec<Digest>,
    /// Revisions whose manifest is missing and which may be taken for dead (`--prune-broken`).
    pub missing: Vec<Digest>,
    /// What is wrong with manifests.
    pub problems: Vec<Problem>,
    /// Whether one of them could not be read or understood (R8).
    pub frozen: bool,
}

/// Traces one repository.
pub(crate) struct Tracer<'t> {
    pub repository: Arc<str>,
    pub manifests: &'t ManifestReader,
    pub reads_in_flight: usize,
    /// Every revision of the repository, or of the piece of it that is looked at.
    pub revisions: &'t HashSet<Digest>,
    /// Revisions that are dead if their manifest is missing.
    pub may_be_missing: &'t HashSet<Digest>,
    /// Whether revisions that no root reaches are read, too: they may describe what is live, or show that the repository is broken.
    pub looks_for_referrers: bool,
}

impl Tracer<'_> {
    /// Finds what is live, given what certainly is.
    ///
    /// # Errors
    ///
    /// A store that fails.
    pub async fn trace(&self, roots: HashSet<Digest>) -> Result<Live, StoreError> {
        let mut live = Live::default();
        self.reach(&mut live, roots.into_iter().collect()).await?;

        let candidates: Vec<Digest> = self
            .revisions
            .iter()
            .filter(|digest| !live.manifests.contains(*digest))
            .copied()
            .collect();
        if self.looks_for_referrers && !candidates.is_empty() && !live.frozen {
            let mut referrers = self.referrers(&mut live, candidates).await?;
            loop {
                let subjects: Vec<_> = referrers
                    .keys()
                    .filter(|subject| live.manifests.contains(*subject))
                    .copied()
                    .collect();
                let next: Vec<_> = subjects
                    .iter()
                    .filter_map(|subject| referrers.remove(subject))
                    .flatten()
                    .collect();
                if next.is_empty() {
                    break;
                }
                self.reach(&mut live, next).await?;
            }
        }
        if live.frozen {
            let all = self.revisions.iter().copied().collect();
            self.reach(&mut live, all).await?;
        }
        Ok(live)
    }

    /// Makes manifests live, and everything that they list.
    async fn reach(&self, live: &mut Live, mut frontier: Vec<Digest>) -> Result<(), StoreError> {
        while !frontier.is_empty() {
            frontier.retain(|digest| live.manifests.insert(*digest));
            let mut reads = self.read_all(std::mem::take(&mut frontier));
            while let Some((digest, read)) = reads.try_next().await? {
                match &*read {
                    ManifestRead::Understood(manifest) => {
                        live.references.insert(digest);
                        live.references.extend(manifest.references());
                        live.may_be_absent.extend(&manifest.foreign);
                        frontier.extend(&manifest.children);
                        // What an index calls a blob is read only where the repository serves it as a manifest all the same.
                        let served = |digest: &&Digest| self.revisions.contains(*digest);
                        frontier.extend(manifest.listed_blobs.iter().filter(served));
                    }
                    ManifestRead::MarkedBefore { children } => {
                        live.references.insert(digest);
                        frontier.extend(children.iter());
                    }
                    ManifestRead::Missing if self.may_be_missing.contains(&digest) => {
                        live.missing.push(digest)
                    }
                    // A child that was never pushed here: an index may be sparse.
                    ManifestRead::Missing if !self.revisions.contains(&digest) => {
                        live.references.insert(digest);
                        live.may_be_absent.push(digest);
                    }
                    _ => {
                        live.references.insert(digest);
                        self.freeze(live, digest, &read);
                    }
                }
            }
        }
        // What is dead for want of its manifest is not live.
        for digest in &live.missing {
            live.manifests.remove(digest);
        }
        Ok(())
    }

    /// Reads the manifests that no root reaches, and sorts them by their subject.
    async fn referrers(
        &self,
        live: &mut Live,
        candidates: Vec<Digest>,
    ) -> Result<HashMap<Digest, Vec<Digest>>, StoreError> {
        let mut referrers: HashMap<Digest, Vec<Digest>> = HashMap::new();
        let mut reads = self.read_all(candidates);
        while let Some((digest, read)) = reads.try_next().await? {
            match &*read {
                ManifestRead::Understood(manifest) => {
                    if let Some(subject) = manifest.subject {
                        referrers.entry(subject).or_default().push(digest);
                    }
                }
                ManifestRead::Missing if self.may_be_missing.contains(&digest) => live.missing.push(digest),
                _ => self.freeze(live, digest, &read),
            }
        }
        Ok(referrers)
    }

    fn freeze(&self, live: &mut Live, digest: Digest, read: &ManifestRead) {
        let (kind, message) = match read {
            ManifestRead::Broken { kind, message, found } => {
                live.references.extend(found);
                live.may_be_absent.extend(found);
                (*kind, message.clone())
            }
            ManifestRead::Missing | ManifestRead::MarkedBefore { .. } | ManifestRead::Understood(_) => {
                (ProblemKind::ManifestMissing, "its blob is not there".to_owned())
            }
        };
        live.frozen = true;
        let repository = Some(self.repository.as_ref().to_owned());
        let problem = Problem {
            repository,
            digest: Some(digest),
            kind,
            message,
        };
        // Reached first as a candidate, then again because everything is live: one problem.
        if !live.problems.contains(&problem) {
            live.problems.push(problem);
        }
    }

    fn read_all(
        &self,
        mut digests: Vec<Digest>,
    ) -> BoxStream<'_, Result<(Digest, Arc<ManifestRead>), StoreError>> {
        // As they stand in the listing, and in the blocks of the mark cache.
        digests.sort_unstable();
        Box::pin(
            stream::iter(digests)
                .map(move |digest| async move {
                    Ok((digest, self.manifests.read(&self.repository, &digest).await?))
                })
                .buffer_unordered(self.reads_in_flight),
        )
    }
}
