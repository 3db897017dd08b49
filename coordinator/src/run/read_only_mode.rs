//! Where in a run the registry is made read-only, proved to be so, and made to take writes again (R11).

use hardprune_common::run::Epoch;

use super::Run;
use crate::error::RunError;
use crate::lock_registry::RegistryLock;
use crate::read_only::ReadOnly;

impl Run {
    /// Has the registry read-only before the first listing (R11).
    pub(super) async fn establish_read_only(
        &mut self,
        epoch: &Epoch,
        lock: Option<&RegistryLock>,
    ) -> Result<(), RunError> {
        let (Some(read_only), Some(lock)) = (&mut self.read_only, lock) else {
            return Ok(());
        };
        let (registry, stop) = (&*self.registry, &self.stop);
        let established = read_only
            .establish(registry, epoch, lock, stop, &self.progress)
            .await;
        self.note_basis();
        Ok(established?)
    }

    /// Proves between two stages that the registry is still read-only (R11).
    pub(super) async fn prove_read_only_again(&mut self) -> Result<(), RunError> {
        let Some(read_only) = &mut self.read_only else {
            return Ok(());
        };
        let proved = read_only.prove_again().await;
        self.note_basis();
        Ok(proved?)
    }

    /// The result of the stages, unless read-only mode was lost meanwhile: then that is what ended the run, or made its end
    /// doubtful (R11).
    pub(super) async fn held_throughout(&mut self, result: Result<(), RunError>) -> Result<(), RunError> {
        if result.is_ok() {
            return self.prove_read_only_again().await;
        }
        let lost = self.read_only.as_mut().and_then(ReadOnly::take_lost);
        self.note_basis();
        lost.map_or(result, |lost| Err(lost.into()))
    }

    /// Restarts the registry where its cache must go, and lets it take writes again, where the run has switched it. `None`: a check.
    pub(super) async fn restore_read_write(&mut self, lock: &RegistryLock) -> Option<Result<(), RunError>> {
        let read_only = self.read_only.as_mut()?;
        let has_deleted = self.record.deletes_begun();
        Some(
            read_only
                .restore(&*self.registry, lock, has_deleted, &self.progress)
                .await,
        )
    }

    /// Writes into the record how read-only mode is known.
    pub(super) fn note_basis(&mut self) {
        let basis = self.read_only.as_ref().map(|read_only| read_only.basis().clone());
        if let Some(latest) = self.record.epochs.last_mut() {
            latest.read_only = basis;
        }
    }
}
