//! Garbage that is no blob: what of it went, or would go, as the report has it.

use std::time::Duration;

use clap::Args;
use hardprune_common::removal::{Removal, RemovalKind, RemovalReason};
use hardprune_common::seal::MarkDocument;
use hardprune_common::store::AbandonedUpload;
use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::cli::duration;
use crate::human;
use crate::planned::Planned;

/// Which garbage goes, beside what `RunArgs` names.
#[derive(Debug, Clone, Args)]
pub struct GarbageArgs {
    /// With --delete-empty-repositories: only those all of whose links are older than this, too.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "delete_empty_repositories", env = "HARDPRUNE_EMPTY_REPOSITORIES_OLDER_THAN")]
    pub empty_repositories_older_than: Option<Duration>,
    /// Also removes the entries of tags' histories older than this (and than --keep-younger-than) that are not what the tag
    /// means now.
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "HARDPRUNE_PURGE_TAG_HISTORY_OLDER_THAN")]
    pub purge_tag_history_older_than: Option<Duration>,
}

/// Links that are garbage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkGarbage {
    /// How many.
    pub links: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl LinkGarbage {
    /// Counts a removal.
    pub fn count(&mut self, removal: &Removal) {
        self.links += 1;
        self.bytes += removal.size;
    }

    /// Adds another's to these.
    pub fn add(&mut self, other: Self) {
        self.links += other.links;
        self.bytes += other.bytes;
    }
}

/// Uploads that were given up (`--purge-uploads-older-than`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadCounts {
    /// Uploads old enough, as the latest epoch found them.
    pub found: u64,
    /// Files of them that are gone; in a check, that would go.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

/// Multipart uploads that nobody completed (`--abort-multipart-older-than`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultipartCounts {
    /// Those that the latest epoch aborted; in a check, that would be aborted.
    pub aborted: u64,
    /// Their parts.
    pub parts: u64,
    /// Bytes of their parts.
    pub bytes: u64,
    /// Those that could not be aborted.
    pub failed: u64,
    /// Those that are younger, or have a part that is.
    pub young: u64,
    /// Those of keys that no registry uploads so: left alone.
    pub unrecognized: u64,
}

impl MultipartCounts {
    /// Counts an upload that is aborted, or would be.
    pub fn add(&mut self, abandoned: &AbandonedUpload) {
        let parts = abandoned.parts();
        self.aborted += 1;
        self.parts += parts.count;
        self.bytes += parts.bytes;
    }

    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "{} multipart uploads ({})",
            self.aborted,
            human::bytes(self.bytes)
        )
    }
}

/// Garbage that is no blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// Uploads that were given up.
    pub uploads: UploadCounts,
    /// Multipart uploads that nobody completed.
    pub multipart_uploads: MultipartCounts,
    /// Repositories without any manifest, as the latest epoch found them (`--delete-empty-repositories`).
    pub empty_repositories: u64,
    /// Entries of tags' histories that are gone; in a check, that would go: those of dead manifests, stale ones, and those of
    /// empty repositories.
    pub tag_history: u64,
    /// Links of empty repositories that are gone; in a check, that would go.
    #[serde(default)]
    pub empty_repositories_links: LinkGarbage,
    /// Those entries of tags' histories that went by their age (`--purge-tag-history-older-than`).
    #[serde(default)]
    pub stale_tag_history: LinkGarbage,
}

/// Links that go for a reason of their own, counted key by key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GarbageLinks {
    /// Entries of tags' histories, for any reason.
    pub tag_history: u64,
    /// Those of them that went by their age.
    pub stale_tag_history: LinkGarbage,
    /// Links of empty repositories.
    pub empty_repositories: LinkGarbage,
}

impl GarbageLinks {
    /// Counts a removal, if it is one of these.
    pub fn count(&mut self, removal: &Removal) {
        self.tag_history += u64::from(removal.kind == RemovalKind::TagIndexEntry);
        match removal.reason {
            RemovalReason::TagHistory => self.stale_tag_history.count(removal),
            RemovalReason::RepositoryEmpty => self.empty_repositories.count(removal),
            _ => {}
        }
    }

    /// Adds another's to these.
    pub fn add(&mut self, other: Self) {
        // Destructured, so that a new field cannot be forgotten.
        let Self {
            tag_history,
            stale_tag_history,
            empty_repositories,
        } = other;
        self.tag_history += tag_history;
        self.stale_tag_history.add(stale_tag_history);
        self.empty_repositories.add(empty_repositories);
    }
}

impl Garbage {
    /// Takes in what marking found.
    pub fn add_mark(&mut self, mark: &MarkDocument) {
        for range in &mark.ranges {
            self.uploads.found += range.findings.uploads;
            self.empty_repositories += range.findings.empty_repositories;
        }
    }

    /// Takes in what a check would remove.
    pub fn add_planned(&mut self, planned: &Planned) {
        self.uploads.files = planned.upload_files;
        self.uploads.bytes = planned.upload_bytes;
        self.add_links(planned.garbage);
    }

    /// Takes in what all epochs removed.
    pub fn add_accounts(&mut self, accounts: &Accounts) {
        self.uploads.files = accounts.upload_files;
        self.uploads.bytes = accounts.upload_bytes;
        self.add_links(accounts.garbage);
    }

    fn add_links(&mut self, links: GarbageLinks) {
        self.tag_history = links.tag_history;
        self.stale_tag_history = links.stale_tag_history;
        self.empty_repositories_links = links.empty_repositories;
    }
}
