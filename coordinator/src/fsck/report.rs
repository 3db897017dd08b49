//! The report of an `fsck`, for people and as JSON (schema: `docs/fsck.schema.json`).

use std::fmt::Write as _;

use hardprune_common::store::RequestCounts;
use jiff::Timestamp;
use serde::Serialize;

use super::findings::{Counts, Finding, Findings, Restored};
use super::namespace::Namespace;
use super::passes::Seen;
use crate::cli::OutputFormat;
use crate::error::RunError;
use crate::human::printable;
use crate::print;
use crate::reference_source::SourceName;

/// Tags that a line names.
const TAGS: usize = 5;

/// What was looked at, and how much of it is broken.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub version: u32,
    pub tool: String,
    pub registry: String,
    pub sources: Vec<SourceName>,
    /// With `--namespace`: nothing else was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    pub started: Timestamp,
    pub finished: Timestamp,
    pub seconds: f64,
    pub seen: Seen,
    pub broken: Counts,
    /// With `--restore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restored>,
    pub requests: RequestCounts,
}

impl Report {
    /// Prints it, and all that is broken.
    ///
    /// # Errors
    ///
    /// Standard output, or the file that findings are in.
    pub fn print(&self, format: OutputFormat, findings: Findings) -> Result<(), RunError> {
        match format {
            OutputFormat::Text => print(&self.text(&findings.first(), findings.written)),
            OutputFormat::Json => self.print_json(findings),
        }
    }

    fn print_json(&self, findings: Findings) -> Result<(), RunError> {
        let head = serde_json::to_string_pretty(self).map_err(|error| RunError::Output {
            path: "-".into(),
            source: error.into(),
        })?;
        let head = head.trim_end().trim_end_matches('}').trim_end();
        let mut text = format!("{head},\n  \"findings\": [");
        let mut between = "\n    ";
        for line in findings.lines()? {
            text += between;
            text += &line?;
            between = ",\n    ";
            // However many there are, one piece is in memory.
            if text.len() > 1 << 16 {
                print(&text)?;
                text.clear();
            }
        }
        text += "\n  ]\n}\n";
        print(&text)
    }

    fn text(&self, first: &[&Finding], all: u64) -> String {
        let Seen {
            repositories,
            tags,
            manifests,
            needed_blobs,
            dangling,
            ..
        } = self.seen;
        let of = self
            .namespace
            .as_ref()
            .map_or_else(String::new, |namespace| format!(" of namespace {namespace}"));
        let mut text = format!(
            "Looked at {repositories} repositories{of}, {tags} tags, {manifests} manifests, {needed_blobs} blobs that they need\n"
        );
        if dangling > 0 {
            let _ = writeln!(
                text,
                "{dangling} blobs are gone that nothing needs and layer links still name: no harm"
            );
        }
        let Counts {
            images,
            tags,
            lost,
            findings,
            ..
        } = self.broken;
        if self.seen.not_in_stream > 0 {
            let _ = writeln!(
                text,
                "{} manifests are in no tag of their image stream: what was untagged, and is not pruned yet",
                self.seen.not_in_stream
            );
        }
        if findings == 0 {
            text += "Nothing is broken\n";
        } else {
            let _ = write!(text, "Broken: {images} images, {tags} tags");
            if lost > 0 {
                let _ = write!(text, ", {lost} manifests whose images the cluster does not know");
            }
            text.push('\n');
        }
        for (kind, count) in &self.broken.by_kind {
            let kind = serde_json::to_value(kind).unwrap_or_default();
            let _ = writeln!(text, "  {} {count}", kind.as_str().unwrap_or_default());
        }
        if let Some(restore) = &self.restore {
            text += &restored(restore);
        }
        for finding in first {
            let _ = writeln!(text, "{}", printable(&line(finding)));
        }
        let more = all - first.len() as u64;
        if more > 0 {
            let _ = writeln!(text, "… and {more} more: --output json has all of them");
        }
        text
    }
}

fn restored(counts: &Restored) -> String {
    let Restored {
        would_restore,
        restored,
        failed,
        not_possible,
    } = counts;
    let mut text = String::new();
    if *would_restore > 0 {
        let _ = writeln!(
            text,
            "Would restore {would_restore} images: say --confirm as well to do it"
        );
    }
    if *restored > 0 {
        let _ = writeln!(text, "Restored {restored} images");
    }
    if *failed > 0 {
        let _ = writeln!(
            text,
            "{failed} images could not be restored: run the same command again"
        );
    }
    if *not_possible > 0 {
        let _ = writeln!(text, "{not_possible} images cannot be restored");
    }
    if would_restore + restored + failed + not_possible == 0 {
        text += "Nothing is to be restored\n";
    }
    text
}

/// `team/app:v1 team/app@sha256:…: a layer is missing: sha256:…`
fn line(finding: &Finding) -> String {
    let repository = match finding.repository.as_str() {
        "" => "(no repository)",
        name => name,
    };
    let mut names: Vec<String> = finding
        .tags
        .iter()
        .take(TAGS)
        .map(|tag| format!("{repository}:{tag}"))
        .collect();
    if finding.tags.len() > TAGS {
        names.push(format!("and {} more tags", finding.tags.len() - TAGS));
    }
    if let Some(digest) = finding.digest {
        names.push(format!("{repository}@{digest}"));
    }
    format!("{}: {}", names.join(" "), finding.message)
}
