//! Where in a run its sources of references are asked: once the registry is read-only, before the first listing of a mark, and again
//! before anything is deleted.

use hardprune_common::run::Epoch;
use hardprune_common::task::{KeyRange, MarkRules};

use super::Run;
use crate::error::RunError;
use crate::reference_source::{Asking, Gathered, News};

impl Run {
    /// What all sources say that is not found by marking.
    pub(super) async fn gather_references(
        &self,
        epoch: &Epoch,
        ranges: &[KeyRange],
        rules: &MarkRules,
    ) -> Result<Gathered, RunError> {
        let asking = self.asking(epoch, ranges);
        self.references.gather(&asking, rules).await
    }

    /// What they have come to name since.
    pub(crate) async fn news_of_references(&self, epoch: &Epoch) -> Result<News, RunError> {
        self.references.news(&self.asking(epoch, &[])).await
    }

    fn asking<'a>(&'a self, epoch: &'a Epoch, ranges: &'a [KeyRange]) -> Asking<'a> {
        Asking {
            registry: &self.registry,
            state: &self.state,
            epoch,
            ranges,
            accept_no_references: self.guards.limits.accept_no_references,
            reads_in_flight: self.reads_in_flight,
        }
    }
}
