//! `runs verify`: whether every file of a run is still the one that was written, by the sha256 that the chain from the run's
//! record has for it: report, sealed plans and marks, their files, the copy of a reviewed plan, the index of the books and every
//! journal in it.
//!
//! Nothing vouches for the record itself: whoever can write to the state store can make another chain. While a run deletes, the
//! sha256 of its sealed plan stands in the registry's lock, too; after that it does not.

use std::collections::HashSet;
use std::fmt::Write as _;

use clap::Args;
use futures::{StreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::{MarkDocument, PlanDocument, plan_key};
use hardprune_common::state::{FileRef, StateError, StateStore, epoch_folder, run_folder};

use crate::book_index::list_books;
use crate::cli::RunsPlace;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::report::Report;
use crate::run_record::RunRecord;
use crate::runs::places::{find_run, optional};
use crate::{human, print};

/// Files read at once.
const READS_AT_ONCE: usize = 16;

/// Arguments of `runs verify`.
#[derive(Debug, Args)]
pub struct RunsVerifyArgs {
    /// The run.
    pub run: RunId,
    /// Where to look.
    #[command(flatten)]
    pub place: RunsPlace,
}

/// The kinds of files, in the order of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Report,
    Plans,
    Marks,
    Segments,
    Filters,
    Findings,
    Removals,
    Reviewed,
    Index,
    Journals,
}

impl Kind {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Report, "report"),
        (Self::Plans, "sealed plans"),
        (Self::Marks, "sealed marks"),
        (Self::Segments, "segments"),
        (Self::Filters, "filters"),
        (Self::Findings, "findings of marking"),
        (Self::Removals, "files of removals"),
        (Self::Reviewed, "reviewed plan"),
        (Self::Index, "index of the books"),
        (Self::Journals, "journals, problems"),
    ];
}

/// What was found.
struct Verification<'s> {
    state: &'s StateStore,
    good: [u64; Kind::ALL.len()],
    tidied: [u64; Kind::ALL.len()],
    /// What is missing, differs or is there too much, as it is told.
    bad: Vec<String>,
    /// What nothing in the chain names.
    uncovered: Vec<String>,
}

pub(super) async fn verify(args: &RunsVerifyArgs) -> Result<ExitStatus, RunError> {
    let (state, record) = find_run(&args.place, args.run).await?;
    let mut found = Verification {
        state: &state,
        good: [0; Kind::ALL.len()],
        tidied: [0; Kind::ALL.len()],
        bad: Vec::new(),
        uncovered: Vec::new(),
    };
    let reported = found.report(&record).await?;
    for epoch in &record.epochs {
        let number = epoch.number;
        let Some(plan) = epoch.sealed_plan else {
            found.uncovered.push(format!(
                "epoch {number} has no sealed plan: nothing names its files"
            ));
            continue;
        };
        // What a run tidied up after its report is not missed; what a killed one left must be there.
        let is_tidied = reported.is_some_and(|reported| number <= reported);
        found
            .epoch(
                &Epoch {
                    run: record.run,
                    number,
                },
                plan,
                is_tidied,
            )
            .await?;
    }
    if let Some(sha256) = record.reviewed_plan {
        found.reviewed(record.run, sha256).await?;
    }
    found.books(&record).await?;
    print(&found.in_words(&record))?;
    Ok(if found.bad.is_empty() {
        ExitStatus::Done
    } else {
        ExitStatus::Failed
    })
}

impl Verification<'_> {
    /// The report; returns which epoch it is of.
    async fn report(&mut self, record: &RunRecord) -> Result<Option<u32>, RunError> {
        let key = format!("{}report.json", run_folder(record.run));
        match &record.report {
            Some(file) => self.check(Kind::Report, std::slice::from_ref(file), false).await?,
            None => self
                .uncovered
                .push("the record names no report: the run has none of its latest epoch, or is of an earlier version".to_owned()),
        }
        let report: Option<Report> = match optional(self.state.read_json(&key).await) {
            // It differs then, and that is told.
            Err(RunError::State(StateError::Format { .. })) => None,
            result => result?,
        };
        Ok(report.map(|report| report.epochs))
    }

    async fn epoch(&mut self, epoch: &Epoch, plan: Digest, is_tidied: bool) -> Result<(), RunError> {
        let Some(plan) = self
            .document::<PlanDocument>(Kind::Plans, plan_key(epoch), plan)
            .await?
        else {
            return Ok(());
        };
        let parts = plan.shards.iter().flat_map(|shard| &shard.findings.parts);
        let removals: Vec<FileRef> = plan.before_shards().chain(parts).cloned().collect();
        self.check(Kind::Removals, &removals, false).await?;
        let key = format!("{}mark.json", epoch_folder(epoch));
        let Some(mark) = self.document::<MarkDocument>(Kind::Marks, key, plan.mark).await? else {
            return Ok(());
        };
        let findings = || mark.ranges.iter().map(|range| &range.findings);
        let segments: Vec<FileRef> = findings()
            .flat_map(|found| found.references.iter().chain(&found.layer_links))
            .cloned()
            .collect();
        self.check(Kind::Segments, &segments, is_tidied).await?;
        let filters: Vec<FileRef> = mark.filters.iter().map(|filter| filter.filter.clone()).collect();
        self.check(Kind::Filters, &filters, is_tidied).await?;
        let others: Vec<FileRef> = findings()
            .flat_map(|found| found.removals.iter().chain(&found.frozen).chain(&found.problems))
            .cloned()
            .collect();
        self.check(Kind::Findings, &others, false).await
    }

    async fn reviewed(&mut self, run: RunId, sha256: Digest) -> Result<(), RunError> {
        let key = format!("{}reviewed/plan.json", run_folder(run));
        if let Some(plan) = self.document::<PlanDocument>(Kind::Reviewed, key, sha256).await? {
            let parts = plan.shards.iter().flat_map(|shard| &shard.findings.parts);
            let files: Vec<FileRef> = plan.before_shards().chain(parts).cloned().collect();
            self.check(Kind::Reviewed, &files, false).await?;
        }
        Ok(())
    }

    /// The journals: all that the index names, and no other.
    async fn books(&mut self, record: &RunRecord) -> Result<(), RunError> {
        if !record.deletes_begun() {
            return Ok(());
        }
        let mut unnamed: HashSet<String> = list_books(self.state, record).await?.into_iter().collect();
        if record.books.is_empty() {
            if !unnamed.is_empty() {
                self.uncovered.push(format!(
                    "{} files of journals and problems: the run is not over, its books are not closed, or it is of an earlier version",
                    unnamed.len()
                ));
            }
            return Ok(());
        }
        let mut is_whole = true;
        for index in &record.books {
            let before = self.bad.len();
            self.check(Kind::Index, std::slice::from_ref(index), false)
                .await?;
            if self.bad.len() > before {
                is_whole = false;
                continue;
            }
            let files: Vec<FileRef> = self.state.read_lines(index).await?;
            for file in &files {
                unnamed.remove(&file.key);
            }
            self.check(Kind::Journals, &files, false).await?;
        }
        if is_whole {
            let mut unnamed: Vec<String> = unnamed.into_iter().collect();
            unnamed.sort();
            let told = |key| format!("{key}: it was added after the report");
            self.bad.extend(unnamed.into_iter().map(told));
        }
        Ok(())
    }

    /// Checks a document and reads it. `None` where it is not the one that was written.
    async fn document<T: serde::de::DeserializeOwned>(
        &mut self,
        kind: Kind,
        key: String,
        sha256: Digest,
    ) -> Result<Option<T>, RunError> {
        let (size, items) = (0, 1);
        let file = FileRef {
            key,
            sha256,
            size,
            items,
        };
        let before = self.bad.len();
        self.check(kind, std::slice::from_ref(&file), false).await?;
        if self.bad.len() > before {
            return Ok(None);
        }
        Ok(Some(self.state.read_sealed(&file.key, sha256).await?))
    }

    /// Checks files. What is not there is no fault where it was tidied up.
    async fn check(&mut self, kind: Kind, files: &[FileRef], is_tidied: bool) -> Result<(), RunError> {
        let state = self.state;
        let reads = files
            .iter()
            .map(|file| async move { (file, state.read(file).await.map(|_| ())) });
        let mut reads = stream::iter(reads).buffered(READS_AT_ONCE);
        while let Some((file, result)) = reads.next().await {
            match result {
                Ok(()) => self.good[kind as usize] += 1,
                Err(StateError::Store(error)) if error.is_not_found() => {
                    if is_tidied {
                        self.tidied[kind as usize] += 1;
                    } else {
                        self.bad.push(format!("{}: it is missing", file.key));
                    }
                }
                Err(StateError::Changed { found, wanted, .. }) => {
                    self.bad
                        .push(format!("{}: its sha256 is {found}, not {wanted}", file.key));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn in_words(&self, record: &RunRecord) -> String {
        let mut text = format!("run {} in {}\n", record.run, self.state.identity());
        for (kind, name) in Kind::ALL {
            let (good, tidied) = (self.good[kind as usize], self.tidied[kind as usize]);
            let tidied = match tidied {
                0 => String::new(),
                tidied => format!("{tidied} removed on purpose when the run ended"),
            };
            let good = match (good, tidied.is_empty()) {
                (0, true) => continue,
                (0, false) => String::new(),
                (good, true) => format!("{good} as written"),
                (good, false) => format!("{good} as written, "),
            };
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<22}{good}{tidied}");
        }
        for uncovered in &self.uncovered {
            let _ = writeln!(text, "{:<22}{uncovered}", "not covered");
        }
        for bad in &self.bad {
            let _ = writeln!(text, "{:<22}{}", "DIFFERS", human::printable(bad));
        }
        let _ = match self.bad.len() {
            0 => writeln!(text, "Every file that the record leads to is as it was written"),
            bad => writeln!(text, "{bad} files are not as they were written"),
        };
        text
    }
}
