//! Mark, one repository: what its live manifests need, and which of its links are dead.
//!
//! Comes in: its keys. Goes out: references, problems, and removals, which are only proposals until a plan is sealed.
//! Upholds R1, R3 and R8.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::{REPOSITORIES, RepositoryEntry, parse_repository_key, repository_key};
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::removal::{Removal, RemovalKind, RemovalReason};
use hardprune_common::segment::LayerLink;
use hardprune_common::store::{ListRange, Store, StoreError};
use hardprune_common::task::MarkRules;

use crate::cluster_says::{KnownRepositories, Verdict};
use crate::read_links::{LinkRead, LinkReader};
use crate::read_manifests::ManifestReader;
use crate::repository_keys::{Link, RepositoryKeys};
use crate::trace_live::{Live, Tracer};

/// What marking one repository, or a piece of one, found.
#[derive(Debug, Default)]
pub(crate) struct RepositoryMarks {
    pub name: String,
    /// What live manifests need, and the manifests of all revisions that are not dead.
    pub references: HashSet<Digest>,
    /// References for any other reason: a young link, a frozen repository, a link that is not what its key says.
    pub kept: Vec<Digest>,
    /// References that may well have no blob.
    pub may_be_absent: Vec<Digest>,
    pub layer_links: Vec<LayerLink>,
    pub removals: Vec<Removal>,
    pub problems: Vec<Problem>,
    pub frozen: bool,
    /// Whether a link's content is not what its key says.
    pub has_odd_links: bool,
    pub unrecognized: u64,
    pub uploads: u64,
    pub upload_bytes: u64,
    pub is_empty: bool,
}

/// Marks the repositories of one task.
#[derive(Debug)]
pub(crate) struct RepositoryMarker {
    pub registry: Arc<dyn Store>,
    pub manifests: ManifestReader,
    pub links: LinkReader,
    pub rules: MarkRules,
    /// Keys that a reviewed plan removes, where the run carries one out.
    pub reviewed: Option<HashSet<String>>,
    /// What a cluster says, where it is asked.
    pub cluster: Option<KnownRepositories>,
    pub reads_in_flight: usize,
    /// Frozen repositories.
    pub kept_whole: KeptWhole,
}

/// The repositories of a task all of whose links are kept.
#[derive(Debug, Default)]
pub(crate) struct KeptWhole(Mutex<HashSet<String>>);

impl KeptWhole {
    /// Whether this is the first time that it is named.
    fn insert(&self, repository: &str) -> bool {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(repository.to_owned())
    }
}

impl RepositoryMarker {
    /// Marks a repository, or a piece of one.
    ///
    /// # Errors
    ///
    /// A store that fails: nothing is known then.
    pub async fn mark(&self, mut keys: RepositoryKeys) -> Result<RepositoryMarks, StoreError> {
        let mut marks = RepositoryMarks {
            name: keys.name.clone(),
            ..RepositoryMarks::default()
        };
        // What the registry serves is what a link's content says, whatever its key.
        let mut served = self.examine_odd_links(&mut keys, &mut marks).await?;
        let revisions: HashSet<Digest> = keys.revisions.iter().map(|link| link.digest).collect();
        let verdict = self.verdict(&keys.name);
        let everything_is_live = match verdict {
            Verdict::Storage => {
                !self.rules.delete_untagged || self.tags_are_kept_elsewhere(&keys, &mut marks).await?
            }
            Verdict::Cluster(_) | Verdict::Unknown => false,
        };
        if everything_is_live {
            served.extend(&revisions);
        } else {
            served.extend(match verdict {
                Verdict::Storage => self.tagged(&keys, &revisions, &mut marks).await?,
                Verdict::Cluster(named) => revisions.intersection(named).copied().collect(),
                Verdict::Unknown => HashSet::new(),
            });
            served.extend(
                keys.revisions
                    .iter()
                    .filter(|link| !self.may_die(&keys.name, link))
                    .map(|link| link.digest),
            );
        }
        if marks.frozen {
            served.extend(&revisions);
        }

        let may_be_missing = self.may_be_missing(&keys, verdict);
        let tracer = Tracer {
            repository: keys.name.as_str().into(),
            manifests: &self.manifests,
            reads_in_flight: self.reads_in_flight,
            revisions: &revisions,
            may_be_missing: &may_be_missing,
            // Of a repository that goes as a whole nothing is live that others could describe.
            looks_for_referrers: !(matches!(verdict, Verdict::Unknown) && served.is_empty()),
        };
        let mut live = tracer.trace(served).await?;
        marks.problems.extend(live.problems.iter().cloned());
        marks.frozen |= live.frozen;
        for signature in &keys.signatures {
            // Signatures of before 2.1 are blobs; whichever revision has them, they are kept with it.
            if live.manifests.contains(&signature.0) || marks.frozen {
                marks.kept.push(signature.1.digest);
            }
        }
        let mut needed = std::mem::take(&mut live.references);
        self.look_at_layers(&mut keys, &needed, &mut marks).await?;
        marks.kept.extend(&keys.kept);
        marks.unrecognized = keys.unrecognized;
        if marks.frozen {
            // Once, however many pieces of it are frozen.
            if self.kept_whole.insert(&keys.name) {
                self.keep_all_links(&keys.name, &mut marks).await?;
            }
        } else {
            self.propose_dead_links(&keys, &live, verdict, &mut marks);
            self.propose_history(&keys, &mut marks).await?;
        }
        marks.may_be_absent.extend(&live.may_be_absent);
        // Registries have dangling links, and tags in their history whose manifest is long gone.
        let only_kept = marks.kept.iter().filter(|digest| !needed.contains(digest));
        marks.may_be_absent.extend(only_kept);
        self.propose_uploads(&keys, &mut marks);
        self.hand_on_layer_links(keys, &live, &needed, verdict, &mut marks);
        needed.extend(marks.references.drain());
        marks.references = needed;
        Ok(marks)
    }

    /// Looks at the layer links that were only glanced at and that no live manifest answers: what one answers stays,
    /// however young or odd its link is (decision 0007).
    async fn look_at_layers(
        &self,
        keys: &mut RepositoryKeys,
        needed: &HashSet<Digest>,
        marks: &mut RepositoryMarks,
    ) -> Result<(), StoreError> {
        let unanswered: Vec<String> = std::mem::take(&mut keys.glanced_at)
            .into_iter()
            .filter(|digest| !needed.contains(digest))
            .map(|digest| repository_key(&keys.name, &RepositoryEntry::LayerLink(digest)))
            .collect();
        if unanswered.is_empty() {
            return Ok(());
        }
        keys.take_layers(&self.registry.look_at(unanswered).await?, &self.rules);
        self.examine_odd_links(keys, marks).await?;
        Ok(())
    }

    async fn examine_odd_links(
        &self,
        keys: &mut RepositoryKeys,
        marks: &mut RepositoryMarks,
    ) -> Result<HashSet<Digest>, StoreError> {
        let mut served = HashSet::new();
        let odd_links = std::mem::take(&mut keys.odd_links);
        let repository = &keys.name;
        // The first by itself: it may show that the others need not be read.
        let (first, others) = odd_links.split_at(odd_links.len().min(1));
        for links in [first, others] {
            let mut examined = stream::iter(links.to_vec())
                .map(|odd| async move {
                    let examined = self.links.examine(repository, &odd).await?;
                    Ok((odd, examined))
                })
                .buffer_unordered(self.reads_in_flight);
            while let Some((odd, (found, problem))) = examined.try_next().await? {
                // A layer link's digest is kept whatever its content says.
                if problem.is_some() {
                    marks.kept.extend(odd.digest);
                    marks.has_odd_links = true;
                }
                marks.kept.extend(&found);
                if odd.is_revision {
                    served.extend(found);
                }
                marks.problems.extend(problem);
            }
        }
        Ok(served)
    }

    /// Whether a repository looks as those of Harbor do, which keeps tags in its database: revisions and no `tags`.
    async fn tags_are_kept_elsewhere(
        &self,
        keys: &RepositoryKeys,
        marks: &mut RepositoryMarks,
    ) -> Result<bool, StoreError> {
        if self.rules.accept_untagged_repositories || keys.revisions.is_empty() || !keys.tags.is_empty() {
            return Ok(false);
        }
        let folder = format!("{REPOSITORIES}{}/_manifests/", keys.name);
        let mut pages = self.registry.list_folder(&folder);
        while let Some(page) = pages.try_next().await? {
            if page.folders.iter().any(|name| name.ends_with("/tags/")) {
                return Ok(false);
            }
        }
        marks.problems.push(Problem {
            repository: Some(keys.name.clone()),
            digest: None,
            kind: ProblemKind::RepositoryWithoutTags,
            message: format!("it has {} revisions and no tag", keys.revisions.len()),
        });
        Ok(true)
    }

    /// The manifests that tags name, and those that a tag named lately.
    async fn tagged(
        &self,
        keys: &RepositoryKeys,
        revisions: &HashSet<Digest>,
        marks: &mut RepositoryMarks,
    ) -> Result<HashSet<Digest>, StoreError> {
        let mut tagged: HashSet<Digest> = keys
            .index_entries
            .iter()
            .filter(|entry| entry.link.last_modified >= self.rules.cutoff)
            .map(|entry| entry.link.digest)
            .collect();
        let tags: Vec<String> = keys.tags.iter().map(|link| link.tag.clone()).collect();
        let mut reads = stream::iter(tags)
            .map(|tag| async move {
                let entry = RepositoryEntry::TagCurrent { tag: tag.clone() };
                Ok((tag, self.links.read(&repository_key(&keys.name, &entry)).await?))
            })
            .buffer_unordered(self.reads_in_flight);
        while let Some((tag, read)) = reads.try_next().await? {
            let problem = |digest, kind, message| Problem {
                repository: Some(keys.name.clone()),
                digest,
                kind,
                message,
            };
            match read {
                LinkRead::Names(digest) => {
                    if !revisions.contains(&digest) {
                        let message =
                            format!("tag {tag:?} names it, but the repository has no such revision");
                        marks
                            .problems
                            .push(problem(Some(digest), ProblemKind::TagWithoutRevision, message));
                    }
                    tagged.insert(digest);
                }
                // Nobody knows what it means: everything stays.
                LinkRead::Garbage(detail, found) => {
                    let message = format!("tag {tag:?} cannot be read: {detail}");
                    marks
                        .problems
                        .push(problem(None, ProblemKind::LinkUnreadable, message));
                    marks.kept.extend(found);
                    marks.frozen = true;
                }
                LinkRead::Gone => {}
            }
        }
        Ok(tagged)
    }

    /// Whether a revision's link may go, if nothing keeps its manifest alive.
    fn may_die(&self, repository: &str, link: &Link) -> bool {
        link.deletable
            && link.last_modified < self.rules.cutoff
            && self.is_reviewed(&repository_key(
                repository,
                &RepositoryEntry::RevisionLink(link.digest),
            ))
    }

    pub(crate) fn is_reviewed(&self, key: &str) -> bool {
        self.reviewed.as_ref().is_none_or(|keys| keys.contains(key))
    }

    /// Revisions whose manifest need not be there: of what a cluster does not name, nobody would miss it.
    fn may_be_missing(&self, keys: &RepositoryKeys, verdict: Verdict<'_>) -> HashSet<Digest> {
        let need_not_be_there = |digest: &Digest| {
            self.rules.prune_broken
                || match verdict {
                    Verdict::Storage => false,
                    Verdict::Cluster(named) => !named.contains(digest),
                    Verdict::Unknown => true,
                }
        };
        keys.revisions
            .iter()
            .filter(|link| need_not_be_there(&link.digest) && self.may_die(&keys.name, link))
            .map(|link| link.digest)
            .collect()
    }

    /// R8: in a frozen repository every link keeps what it names. Layer links are kept at sealing, by its name.
    async fn keep_all_links(&self, repository: &str, marks: &mut RepositoryMarks) -> Result<(), StoreError> {
        let prefix = format!("{REPOSITORIES}{repository}/_");
        let range = ListRange {
            follow_symbolic_links: true,
            ..ListRange::prefix(prefix)
        };
        let mut pages = self.registry.list(range);
        while let Some(page) = pages.try_next().await? {
            for object in page {
                match parse_repository_key(&object.key).and_then(|key| key.entry) {
                    Some(RepositoryEntry::RevisionLink(digest)) => {
                        marks.references.insert(digest);
                    }
                    Some(
                        RepositoryEntry::LayerLink(digest) | RepositoryEntry::TagIndexEntry { digest, .. },
                    ) => marks.kept.push(digest),
                    Some(RepositoryEntry::SignatureLink { revision, signature }) => {
                        marks.kept.extend([revision, signature]);
                    }
                    Some(RepositoryEntry::TagCurrent { .. }) | None => {
                        match self.links.read(&object.key).await? {
                            LinkRead::Names(digest) => marks.kept.push(digest),
                            LinkRead::Garbage(_, found) => marks.kept.extend(found),
                            LinkRead::Gone => {}
                        }
                    }
                    Some(RepositoryEntry::Upload { .. }) => {}
                }
            }
        }
        Ok(())
    }

    fn verdict(&self, repository: &str) -> Verdict<'_> {
        let cluster = self.cluster.as_ref();
        cluster.map_or(Verdict::Storage, |cluster| cluster.verdict(repository))
    }

    fn propose_dead_links(
        &self,
        keys: &RepositoryKeys,
        live: &Live,
        verdict: Verdict<'_>,
        marks: &mut RepositoryMarks,
    ) {
        let missing: HashSet<&Digest> = live.missing.iter().collect();
        let reason_of = |digest: &Digest| match verdict {
            _ if live.manifests.contains(digest) => None,
            Verdict::Cluster(named) if !named.contains(digest) => Some(RemovalReason::NotInStream),
            Verdict::Unknown => Some(RemovalReason::NoImageStream),
            _ if missing.contains(digest) => Some(RemovalReason::ManifestMissing),
            Verdict::Storage if self.rules.delete_untagged => Some(RemovalReason::Untagged),
            Verdict::Storage | Verdict::Cluster(_) => None,
        };
        // A manifest's index entries and signatures before its revision link. Where a cluster has the tags nobody looks at these.
        let are_looked_at = matches!(verdict, Verdict::Storage);
        for entry in keys.index_entries.iter().filter(|_| are_looked_at) {
            if let Some(reason) = reason_of(&entry.link.digest) {
                let entry_of = entry.entry();
                self.propose(
                    keys,
                    &entry.link,
                    &entry_of,
                    RemovalKind::TagIndexEntry,
                    reason,
                    marks,
                );
            }
        }
        for (revision, link) in &keys.signatures {
            if let Some(reason) = reason_of(revision) {
                let entry = RepositoryEntry::SignatureLink {
                    revision: *revision,
                    signature: link.digest,
                };
                self.propose(keys, link, &entry, RemovalKind::SignatureLink, reason, marks);
            }
        }
        for link in &keys.revisions {
            if let Some(reason) = reason_of(&link.digest) {
                let entry = RepositoryEntry::RevisionLink(link.digest);
                self.propose(keys, link, &entry, RemovalKind::RevisionLink, reason, marks);
            }
        }
    }

    /// Proposes the removal of a link, unless it is young, not exact (R3), or not in the reviewed plan.
    pub(crate) fn propose(
        &self,
        keys: &RepositoryKeys,
        link: &Link,
        entry: &RepositoryEntry,
        kind: RemovalKind,
        reason: RemovalReason,
        marks: &mut RepositoryMarks,
    ) {
        let key = repository_key(&keys.name, entry);
        if link.deletable && link.last_modified < self.rules.cutoff && self.is_reviewed(&key) {
            marks.removals.push(Removal {
                kind,
                key,
                size: link.size,
                last_modified: Some(link.last_modified),
                reason,
            });
        }
    }
}
