//! The stages of a run, as its metrics name them.

use hardprune_common::metrics::Label;

/// A stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Workers list repositories and read manifests.
    Mark,
    /// The mark is gathered and sealed.
    Seal,
    /// Workers list shards and decide per blob; the plan is sealed.
    Plan,
    /// Workers delete links of dead manifests, and uploads.
    Unlink,
    /// Workers delete dangling layer links.
    Links,
    /// Workers delete blobs.
    Sweep,
    /// What is open is settled, the books are closed, the report is made.
    Settle,
}

impl Label for Stage {
    const NAME: &'static str = "stage";
    const ALL: &'static [Self] = &[
        Self::Mark,
        Self::Seal,
        Self::Plan,
        Self::Unlink,
        Self::Links,
        Self::Sweep,
        Self::Settle,
    ];

    fn value(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Seal => "seal",
            Self::Plan => "plan",
            Self::Unlink => "unlink",
            Self::Links => "links",
            Self::Sweep => "sweep",
            Self::Settle => "settle",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Mark => "workers list repositories and read manifests",
            Self::Seal => "the coordinator gathers what they found; it has no tasks",
            Self::Plan => "workers list shards and decide per blob",
            Self::Unlink => "workers delete links of dead manifests, and uploads",
            Self::Links => "workers delete dangling layer links",
            Self::Sweep => "workers delete blobs",
            Self::Settle => "the coordinator closes the books; it has no tasks",
        }
    }
}
