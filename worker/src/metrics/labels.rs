//! The closed sets of values that the worker's labels have.

use hardprune_common::metrics::Label;

/// How an attempt at a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskOutcome {
    /// All of it is done and reported.
    Done,
    /// It ended with an error, which was recorded.
    Failed,
    /// It went back to the queue, for this worker or another, without an error recorded.
    GivenBack,
    /// It ended before its end because its run is to stop.
    Stopped,
}

impl Label for TaskOutcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Done, Self::Failed, Self::GivenBack, Self::Stopped];

    fn value(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::GivenBack => "given_back",
            Self::Stopped => "stopped",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done and reported",
            Self::Failed => "ended with an error; after five of them a task is set aside",
            Self::GivenBack => {
                "back in the queue, without an error: the worker drains, or another has the claim"
            }
            Self::Stopped => "ended early because its run stops, pauses or is aborted",
        }
    }
}

/// Why a task was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// It is for a store that this worker was not started with.
    Store,
    /// Its messages are of another version.
    Version,
    /// It asks for deletes that could not be traced to the lock (R2).
    Authority,
}

impl Label for RefusalReason {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[Self::Store, Self::Version, Self::Authority];

    fn value(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Version => "version",
            Self::Authority => "authority",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Store => "it is for a store that this worker was not started with",
            Self::Version => "its messages are of an older or newer version than this worker's",
            Self::Authority => "its deletes could not be traced to the lock in the registry's storage",
        }
    }
}
