//! The program's exit status: part of its interface.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done.
    Done = 0,
    /// Failed; nothing was deleted.
    Failed = 1,
    /// The command line or a configuration cannot be used.
    Usage = 2,
    /// A guard refused; nothing was deleted.
    Refused = 3,
    /// Stopped after deletes had begun; can be resumed.
    Stopped = 4,
    /// Done, but some deletions or tasks failed.
    Partly = 5,
    /// What was looked at is broken (`fsck`).
    Broken = 6,
    /// Another run owns the registry.
    Locked = 7,
}

impl ExitStatus {
    /// The status of a run that did its deletes and failed at something else, such as a file that was asked for.
    #[must_use]
    pub fn at_best_partly(self) -> Self {
        match self {
            Self::Done => Self::Partly,
            other => other,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
