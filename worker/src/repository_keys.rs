//! From a listing to repositories: the keys of one repository stand together, because what follows its name begins
//! with `_` and a name's parts never do.

use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, UploadFile, parse_repository_key};
use hardprune_common::link;
use hardprune_common::segment::LayerLink;
use hardprune_common::store::{Glimpse, ListedObject};
use hardprune_common::task::MarkRules;
use jiff::Timestamp;

use crate::mark_limits::MarkLimits;

/// About how many layers a manifest names.
const LAYERS_OF_A_MANIFEST: usize = 16;

/// A link that names a digest by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub digest: Digest,
    pub size: u64,
    pub last_modified: Timestamp,
    /// Whether its key was exact: it may be deleted (R3).
    pub deletable: bool,
}

impl Link {
    /// The layer link of a repository, as segments hold it.
    pub fn of(self, repository: &str) -> LayerLink {
        LayerLink {
            digest: self.digest,
            repository: repository.to_owned(),
            deletable: self.deletable,
            last_modified: self.last_modified,
        }
    }
}

/// A link whose content must be read: its size or `ETag` does not fit, or its key says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OddLink {
    pub key: String,
    /// What its key says.
    pub digest: Option<Digest>,
    /// Whether what it names is a revision.
    pub is_revision: bool,
    /// Whether nothing but its `ETag` is odd: one that looks like an MD5, and is not that of what its key says.
    pub only_etag: bool,
}

/// The link that says what a tag means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagLink {
    pub tag: String,
    pub size: u64,
    pub last_modified: Timestamp,
    pub deletable: bool,
}

/// A tag index entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub tag: String,
    pub link: Link,
}

impl IndexEntry {
    /// What its key is made of.
    pub fn entry(&self) -> RepositoryEntry {
        RepositoryEntry::TagIndexEntry {
            tag: self.tag.clone(),
            digest: self.link.digest,
        }
    }
}

/// A file of an upload in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upload {
    pub upload: String,
    pub file: UploadFile,
    pub size: u64,
    pub last_modified: Timestamp,
    pub deletable: bool,
}

/// What a listing shows of one repository, or of a piece of it.
#[derive(Debug, Default)]
pub(crate) struct RepositoryKeys {
    pub name: String,
    pub revisions: Vec<Link>,
    pub signatures: Vec<(Digest, Link)>,
    pub tags: Vec<TagLink>,
    pub index_entries: Vec<IndexEntry>,
    pub uploads: Vec<Upload>,
    pub layer_links: Vec<Link>,
    /// Layer links that nobody has looked at.
    pub glanced_at: Vec<Digest>,
    pub odd_links: Vec<OddLink>,
    /// Digests that are kept whatever else is found: those of young layer links.
    pub kept: Vec<Digest>,
    pub unrecognized: u64,
}

impl RepositoryKeys {
    /// About how many manifests it takes as much memory as.
    pub fn weight(&self) -> usize {
        1 + self.revisions.len() + self.glanced_at.len() / LAYERS_OF_A_MANIFEST
    }

    fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Sorts in layer links that were only glanced at.
    pub fn take_layers(&mut self, objects: &[ListedObject], rules: &MarkRules) {
        for object in objects {
            let entry = parse_repository_key(&object.key).and_then(|key| key.entry);
            self.sort_in(object, entry, rules.cutoff, rules.judge_whole_repositories());
        }
    }

    fn sort_in(
        &mut self,
        object: &ListedObject,
        entry: Option<RepositoryEntry>,
        cutoff: Timestamp,
        whole: bool,
    ) {
        let link = |digest| Link {
            digest,
            size: object.size,
            last_modified: object.last_modified,
            deletable: object.exact,
        };
        let odd = |digest: Option<Digest>, is_revision| OddLink {
            key: object.key.clone(),
            is_revision,
            only_etag: digest.is_some_and(|digest| {
                link::link_fits(&digest, object.size, None)
                    && !link::link_fits(&digest, object.size, object.etag.as_deref())
            }),
            digest,
        };
        let fits = |digest: &Digest| link::link_fits(digest, object.size, object.etag.as_deref());
        match entry {
            None => {
                self.unrecognized += 1;
                // A registry serves what a revision's link says, wherever it stands: it is a root, and left alone.
                if object.key.contains("/_manifests/revisions/") && object.key.ends_with("/link") {
                    self.odd_links.push(odd(None, true));
                }
            }
            Some(RepositoryEntry::LayerLink(digest)) => {
                if object.last_modified >= cutoff {
                    self.kept.push(digest);
                }
                if !fits(&digest) {
                    self.odd_links.push(odd(Some(digest), false));
                }
                self.layer_links.push(link(digest));
            }
            Some(RepositoryEntry::RevisionLink(digest)) => {
                // R1: where nothing but its content can tell, as on a filesystem and on Azure, it is read: its content is
                // served.
                if !link::link_is_proved(&digest, object.size, object.etag.as_deref()) {
                    self.odd_links.push(odd(Some(digest), true));
                }
                self.revisions.push(link(digest));
            }
            Some(RepositoryEntry::SignatureLink { revision, signature }) => {
                self.signatures.push((revision, link(signature)));
            }
            Some(RepositoryEntry::TagCurrent { tag }) => {
                if whole {
                    self.tags.push(TagLink {
                        tag,
                        size: object.size,
                        last_modified: object.last_modified,
                        deletable: object.exact,
                    });
                }
            }
            Some(RepositoryEntry::TagIndexEntry { tag, digest }) => {
                if whole {
                    self.index_entries.push(IndexEntry {
                        tag,
                        link: link(digest),
                    });
                }
            }
            Some(RepositoryEntry::Upload { upload, file }) => {
                if whole {
                    self.uploads.push(Upload {
                        upload,
                        file,
                        size: object.size,
                        last_modified: object.last_modified,
                        deletable: object.exact,
                    });
                }
            }
        }
    }
}

/// What becomes of a listed object.
pub(crate) enum Sorted {
    /// It belongs to the repository being collected.
    Taken,
    /// It begins another repository; the collected one is whole.
    Next(RepositoryKeys),
}

/// Collects a listing's objects into repositories.
#[derive(Debug)]
pub(crate) struct RepositoryCollector {
    whole_repositories: bool,
    cutoff: Timestamp,
    limits: MarkLimits,
    current: Option<RepositoryKeys>,
    /// Keys of no repository.
    pub unrecognized: u64,
    /// Revisions of all repositories so far.
    pub revisions: usize,
}

impl RepositoryCollector {
    pub fn new(rules: &MarkRules, limits: MarkLimits) -> Self {
        Self {
            whole_repositories: rules.judge_whole_repositories(),
            cutoff: rules.cutoff,
            limits,
            current: None,
            unrecognized: 0,
            revisions: 0,
        }
    }

    /// Takes what the listing shows next.
    pub fn take(&mut self, glimpse: &Glimpse) -> Sorted {
        let Some(key) = parse_repository_key(glimpse.key()) else {
            self.unrecognized += 1;
            return Sorted::Taken;
        };
        if let Some(RepositoryEntry::RevisionLink(_)) = key.entry {
            self.revisions += 1;
        }
        let is_current = self
            .current
            .as_ref()
            .is_some_and(|current| current.name == key.repository);
        let finished = if is_current {
            None
        } else {
            self.current.replace(RepositoryKeys::of(key.repository))
        };
        if let Some(repository) = &mut self.current {
            match (glimpse, key.entry) {
                (Glimpse::Listed(object), entry) => {
                    repository.sort_in(object, entry, self.cutoff, self.whole_repositories);
                }
                (Glimpse::Named(_), Some(RepositoryEntry::LayerLink(digest))) => {
                    repository.glanced_at.push(digest);
                }
                (Glimpse::Named(_), Some(_)) => {}
                (Glimpse::Named(_), None) => repository.unrecognized += 1,
            }
        }
        match finished {
            Some(finished) => Sorted::Next(finished),
            None => Sorted::Taken,
        }
    }

    /// The current repository's layer links so far, where they need not wait for its end.
    pub fn take_layer_links(&mut self) -> impl Iterator<Item = LayerLink> {
        let current = self.current.as_mut().filter(|_| !self.whole_repositories);
        let (repository, links) = match current {
            Some(current) => (current.name.clone(), std::mem::take(&mut current.layer_links)),
            None => Default::default(),
        };
        links.into_iter().map(move |link| link.of(&repository))
    }

    /// A piece of the current repository, where it has become large and can be judged in pieces.
    pub fn take_piece(&mut self) -> Option<RepositoryKeys> {
        let current = self.current.as_mut()?;
        let piece_revisions = if current.glanced_at.is_empty() {
            self.limits.piece_revisions
        } else {
            self.limits.glanced_piece_revisions
        };
        let is_large = current.revisions.len() >= piece_revisions
            || current.glanced_at.len() >= self.limits.piece_layers;
        if self.whole_repositories || !is_large {
            return None;
        }
        let next = RepositoryKeys::of(&current.name);
        Some(std::mem::replace(current, next))
    }

    /// The last repository.
    pub fn finish(&mut self) -> Option<RepositoryKeys> {
        self.current.take()
    }
}
