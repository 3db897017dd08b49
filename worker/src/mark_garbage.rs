//! Mark, the garbage of one repository that is no dead manifest's: uploads that were given up, tags' histories, and what is left
//! of repositories that are empty. Each goes only where it was asked for, by an age of its own; no link goes that is younger than
//! the run's cutoff, too, because a push may be about to use what it names (R1).

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, repository_key};
use hardprune_common::removal::{Removal, RemovalKind, RemovalReason};
use hardprune_common::store::StoreError;
use jiff::Timestamp;

use crate::cluster_says::Verdict;
use crate::mark_repository::{RepositoryMarker, RepositoryMarks};
use crate::read_links::LinkRead;
use crate::repository_keys::{IndexEntry, RepositoryKeys, Upload};
use crate::trace_live::Live;

impl RepositoryMarker {
    /// Entries of tags' histories that say what a tag meant once. No registry serves them.
    pub(crate) async fn propose_history(
        &self,
        keys: &RepositoryKeys,
        marks: &mut RepositoryMarks,
    ) -> Result<(), StoreError> {
        let Some(before) = self.rules.purge_tag_history_before else {
            return Ok(());
        };
        let proposed: HashSet<String> = marks.removals.iter().map(|removal| removal.key.clone()).collect();
        let mut old: HashMap<&str, Vec<&IndexEntry>> = HashMap::new();
        for entry in &keys.index_entries {
            let is_old = entry.link.last_modified < before;
            if is_old && !proposed.contains(&repository_key(&keys.name, &entry.entry())) {
                old.entry(&entry.tag).or_default().push(entry);
            }
        }
        // A tag that was never moved has one entry: the current one.
        let mut entries: HashMap<&str, usize> = HashMap::new();
        for entry in &keys.index_entries {
            *entries.entry(&entry.tag).or_default() += 1;
        }
        old.retain(|tag, _| entries.get(tag).is_some_and(|entries| *entries > 1));
        let tags: Vec<String> = old.keys().map(|tag| (*tag).to_owned()).collect();
        let mut reads = stream::iter(tags)
            .map(|tag| async move {
                let entry = RepositoryEntry::TagCurrent { tag: tag.clone() };
                Ok((tag, self.links.read(&repository_key(&keys.name, &entry)).await?))
            })
            .buffer_unordered(self.reads_in_flight);
        while let Some((tag, current)) = reads.try_next().await? {
            // What a tag means now stands in its history as well. Where nobody can say what that is, all of it stays.
            let LinkRead::Names(current) = current else {
                continue;
            };
            let entries = old.get(tag.as_str()).into_iter().flatten();
            for entry in entries.filter(|entry| entry.link.digest != current) {
                self.propose(
                    keys,
                    &entry.link,
                    &entry.entry(),
                    RemovalKind::TagIndexEntry,
                    RemovalReason::TagHistory,
                    marks,
                );
            }
        }
        Ok(())
    }

    /// Files of uploads that were given up.
    pub(crate) fn propose_uploads(&self, keys: &RepositoryKeys, marks: &mut RepositoryMarks) {
        let Some(before) = self.rules.purge_uploads_before else {
            return;
        };
        let mut uploads: HashMap<&str, Vec<&Upload>> = HashMap::new();
        for file in &keys.uploads {
            uploads.entry(&file.upload).or_default().push(file);
        }
        for files in uploads.into_values() {
            // An upload goes whole or not at all.
            if files
                .iter()
                .any(|file| file.last_modified >= before || !file.deletable)
            {
                continue;
            }
            let before = marks.removals.len();
            for file in files {
                let entry = RepositoryEntry::Upload {
                    upload: file.upload.clone(),
                    file: file.file.clone(),
                };
                let key = repository_key(&keys.name, &entry);
                if self.is_reviewed(&key) {
                    marks.upload_bytes += file.size;
                    marks.removals.push(Removal {
                        kind: RemovalKind::UploadFile,
                        key,
                        size: file.size,
                        last_modified: Some(file.last_modified),
                        reason: RemovalReason::UploadAbandoned,
                    });
                }
            }
            marks.uploads += u64::from(marks.removals.len() > before);
        }
    }

    /// Layer links go to their segment, or, in a repository that is as good as gone, with it.
    pub(crate) fn hand_on_layer_links(
        &self,
        keys: RepositoryKeys,
        live: &Live,
        needed: &HashSet<Digest>,
        verdict: Verdict<'_>,
        marks: &mut RepositoryMarks,
    ) {
        let gone_with = if matches!(verdict, Verdict::Unknown) && self.all_revisions_go(&keys, live, marks) {
            Some(RemovalReason::NoImageStream)
        } else if self.rules.delete_empty_repositories && self.is_empty(&keys, live, marks) {
            marks.is_empty = true;
            Some(RemovalReason::RepositoryEmpty)
        } else {
            None
        };
        if let Some(reason) = gone_with {
            for link in &keys.layer_links {
                let entry = RepositoryEntry::LayerLink(link.digest);
                self.propose(&keys, link, &entry, RemovalKind::LayerLink, reason, marks);
            }
            let proposed: HashSet<String> =
                marks.removals.iter().map(|removal| removal.key.clone()).collect();
            for entry in &keys.index_entries {
                if !proposed.contains(&repository_key(&keys.name, &entry.entry())) {
                    self.propose(
                        &keys,
                        &entry.link,
                        &entry.entry(),
                        RemovalKind::TagIndexEntry,
                        reason,
                        marks,
                    );
                }
            }
            for tag in &keys.tags {
                let key = repository_key(&keys.name, &RepositoryEntry::TagCurrent { tag: tag.tag.clone() });
                let is_old = tag.deletable && tag.last_modified < self.rules.cutoff;
                if is_old && self.is_reviewed(&key) {
                    marks.removals.push(Removal {
                        kind: RemovalKind::TagCurrent,
                        key,
                        size: tag.size,
                        last_modified: Some(tag.last_modified),
                        reason,
                    });
                }
            }
            return;
        }
        marks.layer_links = keys
            .layer_links
            .into_iter()
            // What a live manifest needs cannot dangle.
            .filter(|link| !needed.contains(&link.digest))
            .map(|link| link.of(&keys.name))
            .collect();
    }

    /// Whether nothing is left of a repository but old links that serve nothing.
    fn is_empty(&self, keys: &RepositoryKeys, live: &Live, marks: &RepositoryMarks) -> bool {
        let before = self
            .rules
            .empty_before
            .map_or(self.rules.cutoff, |before| before.min(self.rules.cutoff));
        let old = |deletable: bool, last_modified: Timestamp| deletable && last_modified < before;
        let uploads_purged = marks
            .removals
            .iter()
            .filter(|removal| removal.kind == RemovalKind::UploadFile)
            .count();
        self.all_revisions_go(keys, live, marks)
            && keys.unrecognized == 0
            && uploads_purged == keys.uploads.len()
            && keys
                .layer_links
                .iter()
                .all(|link| old(link.deletable, link.last_modified))
            && keys.tags.iter().all(|tag| old(tag.deletable, tag.last_modified))
            && keys
                .index_entries
                .iter()
                .all(|entry| old(entry.link.deletable, entry.link.last_modified))
    }

    /// Whether no revision of a repository is left that could be served.
    fn all_revisions_go(&self, keys: &RepositoryKeys, live: &Live, marks: &RepositoryMarks) -> bool {
        let of_revisions = |removal: &&Removal| removal.kind == RemovalKind::RevisionLink;
        !marks.frozen
            && live.manifests.is_empty()
            && !marks.has_odd_links
            && marks.removals.iter().filter(of_revisions).count() == keys.revisions.len()
    }
}
