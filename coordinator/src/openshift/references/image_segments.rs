//! What images need, as segments of references.

use std::collections::HashSet;

use hardprune_common::digest::Digest;
use hardprune_common::problem::{Problem, ProblemKind};
use hardprune_common::segment::SegmentWriter;
use hardprune_common::state::StateStore;
use hardprune_worker::trace_images::ImageTracer;

use crate::error::RunError;
use crate::openshift::objects::Image;
use crate::reference_source::Said;

/// So many problems are kept: those of manifests that no repository of the registry's needs.
const MOST_PROBLEMS: usize = 1000;

/// Writes what images need.
pub(super) struct ImageSegments<'t> {
    tracer: &'t ImageTracer,
    references: SegmentWriter<Digest>,
    may_be_absent: SegmentWriter<Digest>,
    problems: Vec<Problem>,
}

impl<'t> ImageSegments<'t> {
    pub fn new(state: &StateStore, folder: &str, tracer: &'t ImageTracer) -> Self {
        Self {
            tracer,
            references: SegmentWriter::new(state.clone(), format!("{folder}images")),
            may_be_absent: SegmentWriter::new(state.clone(), format!("{folder}images.may-be-absent")),
            problems: Vec::new(),
        }
    }

    /// Takes a page of images. Returns their names.
    pub async fn push(&mut self, images: &[Image]) -> Result<Vec<Digest>, RunError> {
        let mut names = Vec::new();
        for image in images {
            let Some(name) = self.digest(&image.metadata.name, image) else {
                continue;
            };
            names.push(name);
            let config = image.config().into_iter();
            let named: Vec<&str> = image.layers().chain(image.children()).chain(config).collect();
            let mut digests = vec![name];
            digests.extend(named.into_iter().filter_map(|text| self.digest(text, image)));
            for digest in digests {
                self.references.push(digest).await?;
                // What was only pulled through, or never was, has no blobs here.
                if !image.metadata.is_managed {
                    self.may_be_absent.push(digest).await?;
                }
            }
        }
        // What the cluster keeps of an image may be less than its manifest says.
        let traced = self
            .tracer
            .trace(names.iter().copied().collect::<HashSet<_>>())
            .await?;
        for digest in traced.references {
            self.references.push(digest).await?;
        }
        for digest in traced.may_be_absent {
            self.may_be_absent.push(digest).await?;
        }
        self.problems.extend(traced.problems);
        self.problems.truncate(MOST_PROBLEMS);
        Ok(names)
    }

    /// A digest that an image names; one that is none keeps nothing, and is said.
    fn digest(&mut self, text: &str, image: &Image) -> Option<Digest> {
        let parsed = text.parse();
        if parsed.is_err() && !text.is_empty() {
            self.problems.push(Problem {
                repository: None,
                digest: None,
                kind: ProblemKind::ClusterObject,
                message: format!(
                    "image {:?} names {text:?}, which is no digest",
                    image.metadata.name
                ),
            });
        }
        parsed.ok()
    }

    pub async fn finish(self) -> Result<Said, RunError> {
        Ok(Said {
            references: self.references.finish().await?,
            may_be_absent: self.may_be_absent.finish().await?,
            revisions: None,
            problems: self.problems,
        })
    }
}
