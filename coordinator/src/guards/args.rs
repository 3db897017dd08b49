//! The options of the guards. None of them is read from the environment: who overrides a guard says so each time.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hardprune_common::byte_size::parse_byte_size;

use super::{GuardLimits, Guards, Percent, must_keep};
use crate::cli::duration;
use crate::error::RunError;

/// What is too much, and what must stay. A check says what a delete with the same options would be refused for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Guards")]
pub struct GuardArgs {
    /// Refuses to delete if a smaller share of the referenced digests has a blob.
    #[arg(long, value_name = "PERCENT", default_value_t = GuardLimits::default().min_present)]
    pub min_present: Percent,
    /// Refuses to delete a larger share of all blobs, or of their bytes. What earlier epochs of a resumed run deleted counts.
    #[arg(long, value_name = "PERCENT", default_value_t = GuardLimits::default().max_delete_percent)]
    pub max_delete_percent: Percent,
    /// Refuses to delete more blobs.
    #[arg(long, value_name = "N")]
    pub max_delete_blobs: Option<u64>,
    /// Refuses to delete more bytes: 500GiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_byte_size)]
    pub max_delete_bytes: Option<u64>,
    /// Refuses to delete if the clocks of this machine and of the storage differ by more.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub max_clock_difference: Duration,
    /// Deletes although nothing at all is referenced.
    #[arg(long)]
    pub accept_no_references: bool,
    /// Refuses to delete unless all that this file names is there and stays: on each line a digest, REPOSITORY:TAG or
    /// REPOSITORY@DIGEST. Empty lines, and lines that begin with #, mean nothing.
    #[arg(long, value_name = "FILE")]
    pub must_keep: Option<PathBuf>,
}

impl GuardArgs {
    /// Those that were given, as words of a command line.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        // Destructured, so that a new option cannot be forgotten.
        let Self {
            min_present,
            max_delete_percent,
            max_delete_blobs,
            max_delete_bytes,
            max_clock_difference,
            accept_no_references,
            must_keep,
        } = self;
        let usual = GuardLimits::default();
        let limits = [
            (
                "--min-present",
                (*min_present != usual.min_present).then(|| min_present.to_string()),
            ),
            (
                "--max-delete-percent",
                (*max_delete_percent != usual.max_delete_percent).then(|| max_delete_percent.to_string()),
            ),
            (
                "--max-delete-blobs",
                max_delete_blobs.map(|blobs| blobs.to_string()),
            ),
            (
                "--max-delete-bytes",
                max_delete_bytes.map(|bytes| bytes.to_string()),
            ),
            (
                "--max-clock-difference",
                (*max_clock_difference != usual.max_clock_difference)
                    .then(|| format!("{}s", max_clock_difference.as_secs())),
            ),
            (
                "--must-keep",
                must_keep.as_ref().map(|path| path.display().to_string()),
            ),
        ];
        let mut words: Vec<String> = limits
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value?]))
            .flatten()
            .collect();
        if *accept_no_references {
            words.push("--accept-no-references".to_owned());
        }
        words
    }

    /// What the guards go by.
    ///
    /// # Errors
    ///
    /// A `--must-keep` file that cannot be read, or has a line that names nothing.
    pub fn guards(&self) -> Result<Guards, RunError> {
        let Self {
            min_present,
            max_delete_percent,
            max_delete_blobs,
            max_delete_bytes,
            max_clock_difference,
            accept_no_references,
            must_keep,
        } = self;
        Ok(Guards {
            limits: GuardLimits {
                accept_no_references: *accept_no_references,
                min_present: *min_present,
                max_delete_percent: *max_delete_percent,
                max_delete_blobs: *max_delete_blobs,
                max_delete_bytes: *max_delete_bytes,
                max_clock_difference: *max_clock_difference,
            },
            must_keep: match must_keep {
                Some(path) => must_keep::read(path)?,
                None => Vec::new(),
            },
        })
    }
}
