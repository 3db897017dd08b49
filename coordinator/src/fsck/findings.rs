//! What is broken, as it is reported: counted, the first of it kept, all of it written to a file (R9).

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use hardprune_common::digest::Digest;
use serde::{Deserialize, Serialize};

use super::records::{Broken, Fault, Role};
use crate::spool::SpoolError;

/// So many are kept for people.
const FIRST: usize = 100;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A manifest's blob is not there.
    ManifestMissing,
    /// A manifest's bytes are not what its digest says.
    ManifestCorrupt,
    /// A manifest cannot be read.
    ManifestUnreadable,
    /// A manifest's bytes are understood as none: what it needs is not known.
    ManifestNotUnderstood,
    /// A config's blob is not there.
    ConfigMissing,
    /// A layer's blob is not there.
    LayerMissing,
    /// The blob of an index's child is not there.
    ChildMissing,
    /// The blob of an old signature is not there.
    SignatureMissing,
    /// A blob has another size than the manifest says.
    SizeDiffers,
    /// A repository has no link to a manifest that a tag of it names.
    RevisionLinkMissing,
    /// A repository's link to a manifest does not name it.
    RevisionLinkInvalid,
    /// A repository has no link to the child of an index of it.
    ChildLinkMissing,
    /// A repository has no link to a config or layer of an image of it.
    LayerLinkMissing,
    /// A repository's link to a config or layer does not name it.
    LayerLinkInvalid,
    /// A child of an index is broken.
    ChildBroken,
    /// A tag's link is no digest.
    TagLinkInvalid,
    /// A tag has a history, and no link that says what it means.
    TagLinkMissing,
    /// A tag of an image stream names what is no image's name.
    TagImageInvalid,
    /// A tag of an image stream names an image that the cluster does not have.
    ImageMissing,
    /// The storage has a manifest whose image the cluster does not have.
    MetadataLost,
    /// The storage has a manifest of an image that the repository's stream does not name. That is not broken.
    NotInStream,
}

/// What became of what is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// It would be restored.
    WouldRestore,
    /// The cluster knows it again.
    Restored,
    /// The cluster refused it.
    Failed,
    /// It cannot be restored.
    NotPossible,
}

impl FindingKind {
    fn of(role: Role, fault: Fault) -> Self {
        match (fault, role) {
            (Fault::Missing, Role::Manifest) => Self::ManifestMissing,
            (Fault::Missing, Role::Child) => Self::ChildMissing,
            (Fault::Missing, Role::Config) => Self::ConfigMissing,
            (Fault::Missing, Role::Layer) => Self::LayerMissing,
            (Fault::Missing, Role::Signature) => Self::SignatureMissing,
            (Fault::OtherSize, _) => Self::SizeDiffers,
            (Fault::NoLink, Role::Manifest) => Self::RevisionLinkMissing,
            (Fault::NoLink, Role::Child) => Self::ChildLinkMissing,
            (Fault::NoLink, _) => Self::LayerLinkMissing,
            (Fault::BadLink, Role::Manifest | Role::Child) => Self::RevisionLinkInvalid,
            (Fault::BadLink, _) => Self::LayerLinkInvalid,
            (Fault::Corrupt, _) => Self::ManifestCorrupt,
            (Fault::Unreadable, _) => Self::ManifestUnreadable,
            (Fault::NotUnderstood, _) => Self::ManifestNotUnderstood,
            (Fault::BrokenChild, _) => Self::ChildBroken,
            (Fault::NoImage, _) => Self::ImageMissing,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::ManifestMissing => "the manifest is missing",
            Self::ManifestCorrupt => "the manifest is corrupt",
            Self::ManifestUnreadable => "the manifest cannot be read",
            Self::ManifestNotUnderstood => "the manifest is not understood",
            Self::ConfigMissing => "its config is missing",
            Self::LayerMissing => "a layer is missing",
            Self::ChildMissing => "a child is missing",
            Self::SignatureMissing => "its signature is missing",
            Self::SizeDiffers => "a blob has another size",
            Self::RevisionLinkMissing => "the repository has no link to the manifest",
            Self::RevisionLinkInvalid => "the repository's link to the manifest is invalid",
            Self::ChildLinkMissing => "the repository has no link to a child",
            Self::LayerLinkMissing => "the repository has no link to a blob of it",
            Self::LayerLinkInvalid => "the repository's link to a blob of it is invalid",
            Self::ChildBroken => "a child is broken",
            Self::TagLinkInvalid => "the tag's link is invalid",
            Self::TagLinkMissing => "the tag has no link",
            Self::TagImageInvalid => "the tag names no image",
            Self::ImageMissing => "the cluster has no such image",
            Self::MetadataLost => "the cluster does not know the image",
            Self::NotInStream => "the image stream does not name the image",
        }
    }
}

/// One thing that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The repository.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub repository: String,
    /// The tags that are broken by it: those that name the manifest.
    pub tags: Vec<String>,
    /// The manifest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// What is wrong.
    pub kind: FindingKind,
    /// What the manifest needs and does not get.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub needs: Option<Digest>,
    /// What became of it, with `--restore`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restore: Option<RestoreOutcome>,
    /// In words.
    pub message: String,
}

impl Finding {
    /// Of a manifest.
    pub(super) fn of(broken: Broken, tags: Vec<String>) -> Self {
        let kind = FindingKind::of(broken.role, broken.fault);
        let needs = (broken.needs != broken.manifest).then_some(broken.needs);
        Self {
            repository: broken.repository,
            tags,
            digest: Some(broken.manifest),
            kind,
            needs,
            restore: None,
            message: message(kind, needs, &broken.detail),
        }
    }

    /// Of a tag.
    pub(super) fn of_tag(repository: String, tag: String, kind: FindingKind, detail: &str) -> Self {
        Self {
            repository,
            tags: vec![tag],
            digest: None,
            kind,
            needs: None,
            restore: None,
            message: message(kind, None, detail),
        }
    }

    /// Of a manifest that the cluster does not know.
    pub(super) fn of_lost(
        repository: &str,
        digest: Digest,
        kind: FindingKind,
        restore: Option<RestoreOutcome>,
        detail: &str,
    ) -> Self {
        Self {
            repository: repository.to_owned(),
            tags: Vec::new(),
            digest: Some(digest),
            kind,
            needs: None,
            restore,
            message: message(kind, None, detail),
        }
    }

    /// Whether something is broken by it.
    fn is_broken(&self) -> bool {
        self.kind != FindingKind::NotInStream && self.restore != Some(RestoreOutcome::Restored)
    }
}

fn message(kind: FindingKind, needs: Option<Digest>, detail: &str) -> String {
    let mut message = kind.in_words().to_owned();
    if let Some(needs) = needs {
        message += &format!(": {needs}");
    }
    if !detail.is_empty() {
        message += &format!(" ({detail})");
    }
    message
}

/// Everything that is broken.
pub(super) struct Findings {
    folder: PathBuf,
    file: BufWriter<std::fs::File>,
    /// Of what is broken.
    pub counts: Counts,
    pub restored: Restored,
    /// All of them.
    pub written: u64,
    first: Vec<Finding>,
    /// The manifest that the last one was of.
    last: Option<(String, Option<Digest>)>,
}

/// How much is broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Manifests, each in each repository.
    pub images: u64,
    pub tags: u64,
    /// Manifests that the cluster does not know, each in each repository.
    pub lost: u64,
    pub findings: u64,
    pub by_kind: BTreeMap<FindingKind, u64>,
}

/// What became of what is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Restored {
    pub would_restore: u64,
    pub restored: u64,
    pub failed: u64,
    pub not_possible: u64,
}

impl Findings {
    pub fn new(below: &Path) -> Result<Self, SpoolError> {
        let file = tempfile::tempfile_in(below).map_err(|source| SpoolError::new(below, source))?;
        Ok(Self {
            folder: below.to_owned(),
            file: BufWriter::new(file),
            counts: Counts::default(),
            restored: Restored::default(),
            written: 0,
            first: Vec::new(),
            last: None,
        })
    }

    /// Takes one. Those of a manifest in a repository come one after another.
    pub fn push(&mut self, finding: Finding) -> Result<(), SpoolError> {
        let written = serde_json::to_writer(&mut self.file, &finding).map_err(io::Error::from);
        written
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(|source| SpoolError::new(&self.folder, source))?;
        self.written += 1;
        match finding.restore {
            None => {}
            Some(RestoreOutcome::WouldRestore) => self.restored.would_restore += 1,
            Some(RestoreOutcome::Restored) => self.restored.restored += 1,
            Some(RestoreOutcome::Failed) => self.restored.failed += 1,
            Some(RestoreOutcome::NotPossible) => self.restored.not_possible += 1,
        }
        if finding.is_broken() {
            self.count(&finding);
        }
        if self.first.len() < FIRST {
            self.first.push(finding);
        }
        Ok(())
    }

    fn count(&mut self, finding: &Finding) {
        self.counts.findings += 1;
        *self.counts.by_kind.entry(finding.kind).or_default() += 1;
        if finding.kind == FindingKind::MetadataLost {
            self.counts.lost += 1;
            return;
        }
        let of = (finding.repository.clone(), finding.digest);
        if finding.digest.is_none() || self.last.as_ref() != Some(&of) {
            self.counts.images += u64::from(finding.digest.is_some());
            self.counts.tags += finding.tags.len() as u64;
        }
        self.last = Some(of);
    }

    /// The first of them, by repository.
    pub fn first(&self) -> Vec<&Finding> {
        let mut first: Vec<&Finding> = self.first.iter().collect();
        first.sort_by(|a, b| (&a.repository, &a.tags, a.digest).cmp(&(&b.repository, &b.tags, b.digest)));
        first
    }

    /// All of them, each as a line of JSON.
    pub fn lines(self) -> Result<impl Iterator<Item = Result<String, SpoolError>>, SpoolError> {
        let folder = self.folder;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        let rewound = file.and_then(|mut file| file.rewind().map(|()| file));
        let file = rewound.map_err(|source| SpoolError::new(&folder, source))?;
        let lines = BufReader::new(file).lines();
        Ok(lines.map(move |line| line.map_err(|source| SpoolError::new(&folder, source))))
    }
}
