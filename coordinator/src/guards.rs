//! Guards: what stands between a sealed plan and the first delete.
//!
//! Comes in: exact totals of the sealed mark and the sealed plan, and the limits of the command line. Goes out: every guard
//! that refuses. A `delete` ends there, with nothing deleted; a `check` says so and goes on. What is exact and what is not
//! stands in decision 0014.

mod args;
mod canaries;
mod clocks;
mod cluster_changed;
mod examine;
mod missing_after_all;
mod must_keep;
mod percent;

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::RunError;
use crate::human;
use crate::planned::Planned;
use crate::progress::Progress;
use crate::run_record::Mode;

pub use args::GuardArgs;
pub(crate) use clocks::compare_clocks;
pub(crate) use examine::{examine, examine_purge};
pub use must_keep::Canary;
pub use percent::Percent;

/// A guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Nothing at all is referenced.
    NoReferences,
    /// Too few of the references have a blob.
    MinPresent,
    /// Too large a share of the blobs, or of their bytes, would go.
    MaxDeletePercent,
    /// Too many blobs would go.
    MaxDeleteBlobs,
    /// Too many bytes would go.
    MaxDeleteBytes,
    /// The machine's clock and the store's differ.
    ClockDifference,
    /// Something that must survive would not, or is not whole already.
    MustKeep,
    /// A manifest that was missing is there after all.
    MissingAfterAll,
    /// The cluster has come to use what would go.
    ClusterChanged,
}

/// A guard that refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which.
    pub guard: Guard,
    /// What was seen, and which option raises the limit.
    pub message: String,
}

/// What guards allow. Of the command line of each run, of a resumed one as well, and never of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardLimits {
    /// Whether a registry without any reference is what it seems.
    pub accept_no_references: bool,
    /// The least share of references that must have a blob.
    pub min_present: Percent,
    /// The largest share of blobs, and of bytes, that may go.
    pub max_delete_percent: Percent,
    /// The most blobs that may go.
    pub max_delete_blobs: Option<u64>,
    /// The most bytes that may go.
    pub max_delete_bytes: Option<u64>,
    /// The most that the machine's clock and the store's may differ.
    #[serde(
        rename = "max_clock_difference_seconds",
        serialize_with = "in_seconds",
        deserialize_with = "of_seconds"
    )]
    pub max_clock_difference: Duration,
}

fn in_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

fn of_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

impl Default for GuardLimits {
    /// What is allowed where nothing is said.
    fn default() -> Self {
        Self {
            accept_no_references: false,
            min_present: Percent::whole(95),
            max_delete_percent: Percent::whole(50),
            max_delete_blobs: None,
            max_delete_bytes: None,
            max_clock_difference: Duration::from_secs(5 * 60),
        }
    }
}

/// What guards go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guards {
    /// What is allowed.
    pub limits: GuardLimits,
    /// What must survive.
    pub must_keep: Vec<Canary>,
}

/// Blobs and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Blobs.
    pub blobs: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            blobs: self.blobs + other.blobs,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// The totals that guards look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Repositories marked.
    pub repositories: u64,
    /// Manifests understood.
    pub manifests: u64,
    /// Distinct references.
    pub references: u64,
    /// Those of them that must have a blob.
    pub must_be_present: u64,
    /// Those of these that have one.
    pub present: u64,
    /// Blobs that the filters are expected to have taken for referenced by chance; taken off `present` already.
    pub by_chance: u64,
    /// All blobs that are there now.
    pub there: Amount,
    /// Those that would go.
    pub going: Amount,
    /// Those that earlier epochs of this run deleted: they count towards every limit.
    pub gone_before: Amount,
    /// What goes beside the blobs.
    pub planned: Planned,
}

/// Every guard of the totals that refuses.
#[must_use]
pub fn refusals(totals: &Totals, limits: &GuardLimits) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |guard, message| refusals.push(Refusal { guard, message });
    let goes_in_all = totals.gone_before.plus(totals.going);
    let was_there = totals.gone_before.plus(totals.there);
    let anything_goes = totals.going != Amount::default() || totals.planned != Planned::default();
    if totals.references == 0 && anything_goes && !limits.accept_no_references {
        refuse(
            Guard::NoReferences,
            format!(
                "marking found no reference at all in {} repositories, so every old blob seems to be an orphan. Is this the \
                 whole registry? If really nothing of it is needed any more, say --accept-no-references",
                totals.repositories
            ),
        );
    }
    if limits
        .min_present
        .is_more_than(totals.present, totals.must_be_present)
    {
        let chance = match totals.by_chance {
            0 => String::new(),
            chance => format!(
                ", without {chance} that the filters are likely to take for referenced by chance (--false-positive-rate)"
            ),
        };
        refuse(
            Guard::MinPresent,
            format!(
                "only {} of {} referenced digests have a blob ({} %{chance}); {} % are wanted. The links and the blobs seem to \
                 be of two registries, or of one that was copied in part: is this the right bucket or folder? --min-present \
                 PERCENT lowers the limit",
                totals.present,
                totals.must_be_present,
                Percent::of(totals.present, totals.must_be_present),
                limits.min_present,
            ),
        );
    }
    let before = match totals.gone_before.blobs {
        0 => String::new(),
        blobs => format!(
            " (with {blobs} blobs, {}, that this run has deleted before)",
            human::bytes(totals.gone_before.bytes)
        ),
    };
    let limit = limits.max_delete_percent;
    if limit.is_less_than(goes_in_all.blobs, was_there.blobs) {
        refuse(
            Guard::MaxDeletePercent,
            format!(
                "{} of {} blobs would go{before}: {} %, more than the {limit} % that may. --max-delete-percent PERCENT raises the limit",
                goes_in_all.blobs,
                was_there.blobs,
                Percent::of(goes_in_all.blobs, was_there.blobs),
            ),
        );
    }
    if limit.is_less_than(goes_in_all.bytes, was_there.bytes) {
        refuse(
            Guard::MaxDeletePercent,
            format!(
                "{} of {} would go{before}: {} % of the bytes, more than the {limit} % that may. --max-delete-percent PERCENT raises \
                 the limit",
                human::bytes(goes_in_all.bytes),
                human::bytes(was_there.bytes),
                Percent::of(goes_in_all.bytes, was_there.bytes),
            ),
        );
    }
    if let Some(most) = limits.max_delete_blobs.filter(|most| goes_in_all.blobs > *most) {
        refuse(
            Guard::MaxDeleteBlobs,
            format!(
                "{} blobs would go{before}, more than the {most} that may. --max-delete-blobs N raises the limit",
                goes_in_all.blobs
            ),
        );
    }
    if let Some(most) = limits.max_delete_bytes.filter(|most| goes_in_all.bytes > *most) {
        refuse(
            Guard::MaxDeleteBytes,
            format!(
                "{} ({} bytes) would go{before}, more than the {} that may. --max-delete-bytes SIZE raises the limit",
                human::bytes(goes_in_all.bytes),
                goes_in_all.bytes,
                human::bytes(most),
            ),
        );
    }
    refusals
}

/// Ends a `delete` whose guards refuse; of a `check` only says that a `delete` would end here.
///
/// # Errors
///
/// [`RunError::Refused`], with all that was seen.
pub(crate) fn heed(
    mode: Mode,
    refusals: &[Refusal],
    in_all: &str,
    progress: &Progress,
) -> Result<(), RunError> {
    if mode == Mode::Check {
        for refusal in refusals {
            progress.say(&format!(
                "a delete would be refused: {}",
                human::printable(&refusal.message)
            ));
        }
        return Ok(());
    }
    if refusals.is_empty() {
        return Ok(());
    }
    let messages: Vec<&str> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    Err(RunError::Refused(format!(
        "{}{in_all}",
        messages.join(". Also: ")
    )))
}

#[cfg(test)]
mod tests;
