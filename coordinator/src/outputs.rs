//! Files that were asked for: orphans (`--candidates`), removals (`--removals`), figures (`--metrics-file`).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hardprune_common::digest::Digest;
use hardprune_common::removal::Removal;
use hardprune_common::seal::PlanDocument;
use hardprune_common::state::{FileRef, StateStore};
use jiff::Timestamp;
use serde::Serialize;

use crate::error::RunError;

/// Files that were asked for.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// Every orphan as a JSON line.
    pub candidates: Option<PathBuf>,
    /// Everything that would go, or went, as a JSON line.
    pub removals: Option<PathBuf>,
    /// The run's figures.
    pub metrics: Option<PathBuf>,
}

#[derive(Serialize)]
struct Candidate {
    digest: Digest,
    size: u64,
    last_modified: Option<Timestamp>,
}

impl Outputs {
    /// Makes sure that the files can be written, before anything else happens.
    ///
    /// # Errors
    ///
    /// The first one that cannot.
    pub fn prepare(&self) -> Result<(), RunError> {
        for path in [&self.candidates, &self.removals, &self.metrics]
            .into_iter()
            .flatten()
        {
            File::options()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|source| RunError::Output {
                    path: path.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    /// Writes the orphans of a plan.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, a plan that cannot be read.
    pub async fn write_candidates(&self, state: &StateStore, plan: &PlanDocument) -> Result<(), RunError> {
        let Some(path) = &self.candidates else {
            return Ok(());
        };
        let sink = Sink::create(path)?;
        for file in parts(plan) {
            for removal in state.read_lines::<Removal>(file).await? {
                if let Some(digest) = removal.blob() {
                    let Removal {
                        size, last_modified, ..
                    } = removal;
                    sink.write(&Candidate {
                        digest,
                        size,
                        last_modified,
                    });
                }
            }
        }
        sink.finish()
    }

    /// Writes everything that a plan would remove.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, a plan that cannot be read.
    pub async fn write_planned_removals(
        &self,
        state: &StateStore,
        plan: &PlanDocument,
    ) -> Result<(), RunError> {
        let sink = self.removals_sink()?;
        if self.removals.is_some() {
            for file in plan.before_shards().chain(parts(plan)) {
                for removal in state.read_lines::<Removal>(file).await? {
                    sink.write(&removal);
                }
            }
        }
        sink.finish()
    }

    /// Where removals are written to.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn removals_sink(&self) -> Result<Sink, RunError> {
        self.removals
            .as_ref()
            .map_or_else(|| Ok(Sink::none()), Sink::create)
    }
}

fn parts(plan: &PlanDocument) -> impl Iterator<Item = &FileRef> {
    plan.shards.iter().flat_map(|shard| &shard.findings.parts)
}

/// Takes JSON lines. The first failure is kept until the end: it must not keep a run from closing its books.
#[derive(Debug)]
pub struct Sink {
    path: PathBuf,
    file: Mutex<Option<Result<BufWriter<File>, io::Error>>>,
}

impl Sink {
    fn none() -> Self {
        Self {
            path: PathBuf::new(),
            file: Mutex::new(None),
        }
    }

    fn create(path: &PathBuf) -> Result<Self, RunError> {
        let file = File::create(path).map_err(|source| RunError::Output {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path: path.clone(),
            file: Mutex::new(Some(Ok(BufWriter::new(file)))),
        })
    }

    /// Writes a line.
    pub fn write(&self, value: &impl Serialize) {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(file)) = slot.as_mut() {
            let written = serde_json::to_writer(&mut *file, value).map_err(io::Error::from);
            if let Err(error) = written.and_then(|()| file.write_all(b"\n")) {
                *slot = Some(Err(error));
            }
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn finish(self) -> Result<(), RunError> {
        let result = match self.file.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Ok(mut file)) => file.flush(),
            Some(Err(error)) => Err(error),
        };
        result.map_err(|source| RunError::Output {
            path: self.path,
            source,
        })
    }
}
