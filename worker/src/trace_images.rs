//! What images need that no repository names: those that a cluster knows. Their manifests are read from the storage, because what
//! a cluster keeps of an image may be less than its manifest says (R1).

use std::collections::HashSet;
use std::sync::Arc;

use hardprune_common::digest::Digest;
use hardprune_common::problem::Problem;
use hardprune_common::store::{Store, StoreError};
use hardprune_common::task::ManifestCounts;

use crate::read_manifests::{ManifestReader, Remember};
use crate::trace_live::Tracer;

/// What images need.
#[derive(Debug, Default)]
pub struct TracedImages {
    /// References: the manifests, and what they name. Of one that is not understood, every digest-shaped string in it (R8).
    pub references: Vec<Digest>,
    /// Those of them that may well have no blob.
    pub may_be_absent: Vec<Digest>,
    /// What is wrong with manifests.
    pub problems: Vec<Problem>,
}

/// Traces images, each manifest once.
#[derive(Debug)]
pub struct ImageTracer {
    manifests: ManifestReader,
    reads_in_flight: usize,
}

impl ImageTracer {
    /// Makes one that remembers so many manifests (R9).
    #[must_use]
    pub fn new(registry: Arc<dyn Store>, reads_in_flight: usize, at_most: usize) -> Self {
        Self {
            manifests: ManifestReader::new(registry, Remember::ThatItWasRead { at_most }, None),
            reads_in_flight,
        }
    }

    /// Follows images through indexes to all that they need. A manifest that is not there need not be: images may be elsewhere.
    ///
    /// # Errors
    ///
    /// A store that fails.
    pub async fn trace(&self, images: HashSet<Digest>) -> Result<TracedImages, StoreError> {
        let none = HashSet::new();
        let tracer = Tracer {
            repository: "".into(),
            manifests: &self.manifests,
            reads_in_flight: self.reads_in_flight,
            revisions: &none,
            may_be_missing: &none,
            looks_for_referrers: false,
        };
        let mut live = tracer.trace(images).await?;
        for problem in &mut live.problems {
            problem.repository = None;
        }
        Ok(TracedImages {
            references: live.references.into_iter().collect(),
            may_be_absent: live.may_be_absent,
            problems: live.problems,
        })
    }

    /// Manifests read so far.
    #[must_use]
    pub fn counts(&self) -> ManifestCounts {
        self.manifests.counts()
    }
}
