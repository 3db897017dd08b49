//! Garbage that is no blob: what of it went, or would go, as the report has it.

use hardprune_common::seal::MarkDocument;
use hardprune_common::store::AbandonedUpload;
use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::human;
use crate::planned::Planned;

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
    /// Entries of tags' histories that are gone; in a check, that would go: those of dead manifests.
    pub tag_history: u64,
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
        self.tag_history = planned.tag_history;
    }

    /// Takes in what all epochs removed.
    pub fn add_accounts(&mut self, accounts: &Accounts) {
        self.uploads.files = accounts.upload_files;
        self.uploads.bytes = accounts.upload_bytes;
        self.tag_history = accounts.tag_history;
    }
}
