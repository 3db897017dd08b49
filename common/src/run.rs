//! Runs and epochs: which prune, and which unbroken stretch of it, something belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// The id of one prune of one registry.
pub type RunId = Ulid;

/// One unbroken stretch of read-only time in a run (R11).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The run.
    pub run: RunId,
    /// Counted from 1.
    pub number: u32,
}

impl Epoch {
    /// The first epoch of a run.
    #[must_use]
    pub fn first(run: RunId) -> Self {
        Self { run, number: 1 }
    }

    /// The epoch after this one.
    #[must_use]
    pub fn next(&self) -> Self {
        Self {
            run: self.run,
            number: self.number + 1,
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.number)
    }
}
