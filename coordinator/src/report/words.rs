//! The report in words: what people read, and the lines that operators know from OpenShift's hard prune.

use std::fmt::Write as _;

use hardprune_common::store::Versioning;

use super::{BlobCounts, Outcome, Report};
use crate::accounts::LinkCounts;
use crate::garbage::LinkGarbage;
use crate::human;
use crate::open_stores::storage_of;
use crate::prune::quoted;
use crate::run_record::Mode;

/// Tenants that the report for people names.
const TENANTS_IN_WORDS: usize = 5;

/// What stands before a line, and the rest of it.
type Line = (&'static str, String);

impl Report {
    /// The report for people, without the closing lines.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut lines = self.run_in_words();
        lines.extend(self.blobs_in_words());
        lines.extend(self.links_in_words());
        let tenants = self.tenants_in_words();
        let mut rest = self.garbage_in_words();
        rest.extend(self.quarantine_in_words());
        rest.extend(self.hidden_in_words());
        rest.extend(self.end_in_words());
        let lines = lines.into_iter().map(|(name, value)| (name.to_owned(), value));
        let rest = rest.into_iter().map(|(name, value)| (name.to_owned(), value));
        let mut text = String::new();
        for (name, value) in lines.chain(tenants).chain(rest) {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<22}{value}");
        }
        for problem in &self.problems.first {
            let place = problem.repository.as_deref().unwrap_or("-");
            let digest = problem.digest.map(|digest| format!(" {digest}"));
            let digest = digest.unwrap_or_default();
            let line = format!("{place}{digest}: {}: {}", problem.kind, problem.message);
            let _ = writeln!(text, "  {}", human::printable(&line));
        }
        text
    }

    /// The lines that operators and their scripts know. `command` is what would do what a check only says. A check that did
    /// not come to its end has nothing to say.
    #[must_use]
    pub fn closing_lines(&self, command: &str) -> String {
        match self.mode {
            Mode::Check if self.outcome != Outcome::Completed => String::new(),
            Mode::Check => format!(
                "Would delete {} blobs\nWould free up {} of disk space\nUse `{command}` to delete them\n",
                self.blobs.orphaned,
                human::bytes(self.bytes.orphaned - self.bytes.hidden),
            ),
            Mode::Delete if self.bytes.quarantined > 0 || self.blobs.quarantined > 0 => format!(
                "Quarantined {} blobs\nWould free up {} of disk space when they are purged\nUse `hardprune purge {} --registry {}` to \
                 delete them for good, `hardprune restore {} --registry {}` to have them back\n",
                self.blobs.quarantined,
                human::bytes(self.bytes.quarantined),
                self.run,
                quoted(storage_of(&self.registry)),
                self.run,
                quoted(storage_of(&self.registry)),
            ),
            Mode::Delete | Mode::Purge => format!(
                "Deleted {} blobs\nFreed up {} of disk space\n",
                self.blobs.deleted,
                human::bytes(self.bytes.freed),
            ),
        }
    }

    fn run_in_words(&self) -> Vec<Line> {
        let mut lines = vec![("run", format!("{} ({})", self.run, self.outcome_in_words()))];
        if let Some(error) = &self.error {
            lines.push(("error", human::printable(error)));
        }
        lines.push(("registry", self.registry.clone()));
        let frozen = match self.frozen_repositories {
            0 => String::new(),
            frozen => format!(", {frozen} of them frozen (nothing of them goes; see problems)"),
        };
        lines.push(("repositories", format!("{}{frozen}", self.repositories)));
        let cached = match self.manifests.cached {
            0 => String::new(),
            cached => format!(", and {cached} known from an earlier run"),
        };
        lines.push(("manifests read", format!("{}{cached}", self.manifests.read)));
        lines
    }

    fn blobs_in_words(&self) -> Vec<Line> {
        let BlobCounts {
            scanned,
            referenced,
            young,
            orphaned,
            ..
        } = self.blobs;
        let with_bytes = |count: u64, bytes: u64| format!("{count} ({})", human::bytes(bytes));
        let mut lines = vec![
            ("blobs", with_bytes(scanned, self.bytes.scanned)),
            ("  referenced", referenced.to_string()),
            ("  young", with_bytes(young, self.bytes.young)),
            ("  orphaned", with_bytes(orphaned, self.bytes.orphaned)),
        ];
        if self.mode.deletes() {
            lines.push(("  deleted", self.blobs.deleted.to_string()));
            if self.blobs.quarantined > 0 {
                let quarantined = with_bytes(self.blobs.quarantined, self.bytes.quarantined);
                lines.push(("  in quarantine", quarantined));
            }
            if self.blobs.failed + self.blobs.not_attempted > 0 {
                lines.push(("  failed", self.blobs.failed.to_string()));
                lines.push(("  not attempted", self.blobs.not_attempted.to_string()));
            }
        }
        lines
    }

    fn links_in_words(&self) -> Option<Line> {
        let links = self.links;
        let counts = format!(
            "{} layer, {} revision, {} tag history",
            links.layer, links.revision, links.tag
        );
        (links != LinkCounts::default()).then_some((self.told("links to delete", "links deleted"), counts))
    }

    /// What a check says, or what says who has carried it out.
    fn told(&self, to_do: &'static str, done: &'static str) -> &'static str {
        match self.mode {
            Mode::Check => to_do,
            Mode::Delete | Mode::Purge => done,
        }
    }

    /// The largest tenants.
    fn tenants_in_words(&self) -> Vec<(String, String)> {
        let shares = &self.tenants;
        // Where no link told any, there is nothing to tell.
        if shares.iter().all(|share| share.tenant.is_none()) {
            return Vec::new();
        }
        let what = match self.mode {
            Mode::Check => "to free by tenant",
            Mode::Delete if self.options.quarantine => "quarantined by tenant",
            Mode::Delete | Mode::Purge => "freed by tenant",
        };
        let count = match shares.len() {
            all if all <= TENANTS_IN_WORDS => String::new(),
            _ => format!("the largest {TENANTS_IN_WORDS} (all: tenants.jsonl in the state store)"),
        };
        let mut lines = vec![(what.to_owned(), count)];
        lines.extend(shares.iter().take(TENANTS_IN_WORDS).map(|share| {
            let name = match (&share.tenant, share.others) {
                (Some(name), _) => human::printable(name),
                (None, Some(others)) => format!("{others} others"),
                (None, None) => "not known".to_owned(),
            };
            (
                format!("  {name:<19} "),
                format!("{} ({} blobs)", human::bytes(share.bytes), share.blobs),
            )
        }));
        lines
    }

    /// What goes beside blobs and their links.
    fn garbage_in_words(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.bytes.uploads > 0 {
            let bytes = human::bytes(self.bytes.uploads);
            let files = format!("{bytes} in {} files", self.garbage.uploads.files);
            lines.push(("abandoned uploads", files));
        }
        let multipart = &self.garbage.multipart_uploads;
        if multipart.aborted + multipart.failed > 0 {
            let failed = match multipart.failed {
                0 => String::new(),
                failed => format!(", {failed} could not be aborted"),
            };
            lines.push((
                self.told("multipart to abort", "multipart aborted"),
                format!("{}{failed}", multipart.describe()),
            ));
        }
        if self.garbage.empty_repositories > 0 {
            let links = of_links(self.garbage.empty_repositories_links);
            let empty = format!("{} ({links})", self.garbage.empty_repositories);
            lines.push(("empty repositories", empty));
        }
        if self.garbage.stale_tag_history.links > 0 {
            lines.push(("stale tag history", of_links(self.garbage.stale_tag_history)));
        }
        lines
    }

    /// What was put back, and how online mode ended.
    fn quarantine_in_words(&self) -> Vec<Line> {
        let Some(quarantine) = &self.quarantine else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        if quarantine.put_back.in_place() > 0 {
            lines.push(("needed and put back", quarantine.put_back.describe()));
        }
        if let Some(online) = &quarantine.online {
            let complete = match online.complete {
                true => "the last found nothing",
                false => "not complete",
            };
            let away = match online.longest_away_seconds {
                0 => String::new(),
                seconds => format!(", away for at most {seconds} s"),
            };
            lines.push((
                "looked again",
                format!("{} times, {complete}{away}", online.looks),
            ));
        }
        lines
    }

    /// What is deleted and frees nothing, or not yet.
    fn hidden_in_words(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.bytes.hidden > 0 {
            let hidden = human::bytes(self.bytes.hidden);
            let why = match self.versioning {
                Versioning::KeptForAWhile => "the storage keeps what is deleted for a while: soft delete",
                _ => "the bucket keeps versions",
            };
            lines.push(("hidden, not freed", format!("{hidden} ({why})")));
        }
        if self.versioning == Versioning::Unknown {
            let why = "not known whether the bucket keeps what is deleted; freed may mean: freed later";
            lines.push(("versions", why.to_owned()));
        }
        lines
    }

    fn end_in_words(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.blobs.unrecognized_keys > 0 {
            let keys = format!("{} (left alone)", self.blobs.unrecognized_keys);
            lines.push(("unrecognized keys", keys));
        }
        lines.push(("seconds", format!("{:.1}", self.seconds.total)));
        if self.mode == Mode::Check {
            let refusals = self.guards.iter();
            lines.extend(refusals.map(|refusal| ("a delete is refused", human::printable(&refusal.message))));
        }
        if self.problems.total > 0 {
            let kinds = self.problems.by_kind.iter();
            let kinds: Vec<_> = kinds.map(|(kind, count)| format!("{count} {kind}")).collect();
            let problems = format!("{}: {}", self.problems.total, kinds.join(", "));
            lines.push(("problems", problems));
        }
        lines
    }

    fn outcome_in_words(&self) -> &'static str {
        match (self.outcome, self.mode) {
            (Outcome::Completed, Mode::Check) => "check, completed",
            (Outcome::Completed, Mode::Delete) => "delete, completed",
            (Outcome::Completed, Mode::Purge) => "purge, completed",
            (Outcome::Stopped, Mode::Check) => "check, stopped before its end",
            (Outcome::Stopped, Mode::Delete | Mode::Purge) => "stopped; continue with --resume",
            (Outcome::Refused, _) => "refused, nothing deleted",
            (Outcome::Failed, _) => "failed, nothing deleted",
        }
    }
}

fn of_links(garbage: LinkGarbage) -> String {
    format!("{} in {} links", human::bytes(garbage.bytes), garbage.links)
}
