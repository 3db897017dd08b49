//! The plan of a reviewed check, for the run that carries it out (`delete --plan RUN`): what it does not name stays.
//!
//! Its files are copied into the run's own state, where the workers look, and the copied plan's sha256 stands in the run's
//! record: a run that goes on needs nothing of the check any more.

use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::{PlanDocument, plan_key};
use hardprune_common::state::{FileRef, StateError, StateStore, run_folder};
use hardprune_common::store::Store;
use hardprune_common::task::Scope;

use crate::error::RunError;
use crate::open_stores::user_state;
use crate::run_record::RunRecord;
use crate::start_run::load_record;

/// A reviewed plan whose files lie in the state of the run that carries it out, where the workers look.
#[derive(Debug)]
pub struct ReviewedPlan {
    folder: String,
    document: PlanDocument,
    unlink: FileRef,
}

impl ReviewedPlan {
    /// Opens the reviewed plan that a run is to carry out, if it is to carry one out: its own copy where it has one, and else
    /// the check's, of which it makes that copy and notes it in the run's record.
    ///
    /// # Errors
    ///
    /// A copy that has changed; no such check, one of another registry, one that did not come to a sealed plan; state stores
    /// that fail.
    pub async fn of_run(
        state: &StateStore,
        registry: &dyn Store,
        record: &mut RunRecord,
    ) -> Result<Option<Self>, RunError> {
        let Some(reviewed) = record.options.plan else {
            return Ok(None);
        };
        let folder = format!("{}reviewed/", run_folder(record.run));
        let document = match record.reviewed_plan {
            Some(sha256) => state.read_sealed(&copy_key(&folder), sha256).await?,
            None => {
                let document = Self::take_over(state, registry, &folder, reviewed).await?;
                let copy = state.write_json(&copy_key(&folder), &document).await?;
                record.reviewed_plan = Some(copy.sha256);
                document
            }
        };
        let unlink = state
            .write_lines(&format!("{folder}unlink.jsonl"), &document.unlink)
            .await?;
        Ok(Some(Self {
            folder,
            document,
            unlink,
        }))
    }

    /// Finds the plan of the check `reviewed`, and copies its files into `folder`.
    async fn take_over(
        state: &StateStore,
        registry: &dyn Store,
        folder: &str,
        reviewed: RunId,
    ) -> Result<PlanDocument, RunError> {
        let mut source = state.clone();
        let record = match load_record(state, reviewed).await {
            Err(RunError::NoSuchRun { .. }) => {
                source = user_state()?;
                load_record(&source, reviewed).await?
            }
            result => result?,
        };
        if record.registry != registry.identity() {
            let detail = format!(
                "the plan of run {reviewed} is for {}, not for {}",
                record.registry,
                registry.identity()
            );
            return Err(RunError::Usage(detail));
        }
        let sealed = record
            .epochs
            .last()
            .and_then(|epoch| Some((epoch.number, epoch.sealed_plan?)));
        let Some((number, sha256)) = sealed else {
            return Err(RunError::Usage(format!(
                "run {reviewed} has no sealed plan: it did not get that far"
            )));
        };
        let key = plan_key(&Epoch {
            run: reviewed,
            number,
        });
        let mut document: PlanDocument = source.read_sealed(&key, sha256).await?;
        let shards = document.shards.iter_mut();
        let files = document
            .unlink
            .iter_mut()
            .chain(&mut document.dangling)
            .chain(shards.flat_map(|shard| &mut shard.findings.parts));
        for (place, file) in files.enumerate() {
            let bytes = source.read(file).await?;
            *file = state
                .write(&format!("{folder}{place}.jsonl"), bytes, file.items)
                .await?;
        }
        Ok(document)
    }

    /// The plan.
    #[must_use]
    pub fn document(&self) -> &PlanDocument {
        &self.document
    }

    /// The list of its files of links of dead manifests.
    #[must_use]
    pub fn unlink(&self) -> &FileRef {
        &self.unlink
    }

    /// Writes the list of its parts for what a plan task lists: a task carries no list, which could be long.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn list_parts(
        &self,
        state: &StateStore,
        task: &str,
        scope: &Scope,
    ) -> Result<FileRef, StateError> {
        let of_scope = self.document.shards.iter().filter(|shard| shard.scope == *scope);
        let parts: Vec<&FileRef> = of_scope.flat_map(|shard| &shard.findings.parts).collect();
        state
            .write_lines(&format!("{}{task}.jsonl", self.folder), &parts)
            .await
    }
}

fn copy_key(folder: &str) -> String {
    format!("{folder}plan.json")
}
