//! Where in a run its sources of references are asked: once the registry is read-only, before the first listing of a mark.

use hardprune_common::run::Epoch;
use hardprune_common::task::{KeyRange, MarkRules};

use super::Run;
use crate::error::RunError;
use crate::reference_source::{Asking, Gathered};

impl Run {
    /// What all sources say that is not found by marking.
    pub(super) async fn gather_references(
        &self,
        epoch: &Epoch,
        ranges: &[KeyRange],
        rules: &MarkRules,
    ) -> Result<Gathered, RunError> {
        let asking = Asking {
            registry: &self.registry,
            state: &self.state,
            epoch,
            ranges,
            accept_no_references: self.guards.limits.accept_no_references,
            reads_in_flight: self.reads_in_flight,
        };
        self.references.gather(&asking, rules).await
    }
}
