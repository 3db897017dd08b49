//! The lines on standard output, which scripts know from `oc adm prune images`, and the figures of their summary.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::RunError;
use crate::human;

/// Figures of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Images that are gone.
    pub images: u64,
    /// Revisions of tags that are gone.
    pub tag_items: u64,
    /// Streams that lost some.
    pub streams: u64,
    /// Links to layers that are gone.
    pub layer_links: u64,
    /// Links to manifests that are gone.
    pub manifest_links: u64,
    /// Blobs that are gone.
    pub blobs: u64,
}

impl Figures {
    fn add(&mut self, other: Self) {
        let Self {
            images,
            tag_items,
            streams,
            layer_links,
            manifest_links,
            blobs,
        } = other;
        self.images += images;
        self.tag_items += tag_items;
        self.streams += streams;
        self.layer_links += layer_links;
        self.manifest_links += manifest_links;
        self.blobs += blobs;
    }

    /// `deleted 3 image object(s), …`
    #[must_use]
    pub fn summary(&self) -> String {
        let parts = [
            (self.images, "deleted", "image object(s)"),
            (self.tag_items, "deleted", "image stream tag item(s)"),
            (self.streams, "updated", "image stream(s)"),
            (self.layer_links, "deleted", "layer link(s)"),
            (self.manifest_links, "deleted", "manifest link(s)"),
            (self.blobs, "deleted", "blob(s)"),
        ];
        let parts = parts.iter().filter(|(count, ..)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, verb, what)| format!("{verb} {count} {what}"))
            .collect();
        match parts.as_slice() {
            [] => "deleted 0 objects".to_owned(),
            parts => parts.join(", "),
        }
    }
}

/// Bytes of blobs, each digest once.
#[derive(Debug, Clone, Default)]
pub struct Freed {
    seen: HashSet<String>,
    bytes: u64,
    /// Blobs of which the cluster tells no size.
    unknown: u64,
}

impl Freed {
    /// Counts a blob.
    pub fn count(&mut self, digest: &str, size: Option<u64>) {
        if self.seen.insert(digest.to_owned()) {
            match size {
                Some(size) => self.bytes = self.bytes.saturating_add(size),
                None => self.unknown += 1,
            }
        }
    }

    /// The line. The registry says of a blob that was not there that it is gone, so this is a bound.
    #[must_use]
    pub fn line(&self, is_dry_run: bool) -> String {
        let verb = if is_dry_run { "Would free" } else { "Freed" };
        let mut line = format!(
            "{verb} at most {} ({} bytes)",
            human::bytes(self.bytes),
            self.bytes
        );
        if self.unknown > 0 {
            line += &format!(
                ", and {} blob(s) of which the cluster does not know the size",
                self.unknown
            );
        }
        line
    }
}

/// Writes lines, and adds up.
#[derive(Debug, Default)]
pub struct Output {
    totals: Mutex<(Figures, Freed)>,
    failed: Mutex<Option<RunError>>,
}

impl Output {
    /// A line on standard output.
    pub fn line(&self, line: &str) {
        if let Err(error) = crate::print(&format!("{}\n", human::printable(line))) {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
        }
    }

    /// A line on standard error.
    pub fn problem(&self, line: &str) {
        eprintln!("{}", human::printable_lines(line));
    }

    /// Adds figures.
    pub fn add(&self, figures: Figures) {
        self.totals().0.add(figures);
    }

    /// Counts the bytes of a blob.
    pub fn freed(&self, digest: &str, size: Option<u64>) {
        self.totals().1.count(digest, size);
    }

    /// The last lines.
    ///
    /// # Errors
    ///
    /// A standard output that could not be written to, now or before.
    pub fn finish(self, is_dry_run: bool) -> Result<(), RunError> {
        let (figures, freed) = self.totals().clone();
        self.line(&format!("Summary: {}", figures.summary()));
        self.line(&freed.line(is_dry_run));
        let failed = self.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }

    fn totals(&self) -> MutexGuard<'_, (Figures, Freed)> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        assert_eq!(Figures::default().summary(), "deleted 0 objects");
        let figures = Figures {
            tag_items: 2,
            streams: 1,
            ..Figures::default()
        };
        let expected = "deleted 2 image stream tag item(s), updated 1 image stream(s)";
        assert_eq!(figures.summary(), expected);
    }

    #[test]
    fn a_digest_counts_once() {
        let mut freed = Freed::default();
        freed.count("a", Some(1536));
        freed.count("a", Some(1536));
        assert_eq!(freed.line(false), "Freed at most 1.5 KiB (1536 bytes)");
        freed.count("b", None);
        let expected = "Would free at most 1.5 KiB (1536 bytes), and 1 blob(s) of which the cluster does not know the size";
        assert_eq!(freed.line(true), expected);
    }
}
