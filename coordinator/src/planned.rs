//! What a sealed plan would remove, beside what its shards count: read from its files, and said before it happens (R7).

use hardprune_common::removal::{Removal, RemovalKind};
use hardprune_common::seal::PlanDocument;
use hardprune_common::state::{StateError, StateStore};

use crate::accounts::LinkCounts;
use crate::garbage::GarbageLinks;
use crate::human;

/// What goes before the shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned {
    /// Links.
    pub links: LinkCounts,
    /// Those that go for a reason of their own.
    pub garbage: GarbageLinks,
    /// Files of abandoned uploads.
    pub upload_files: u64,
    /// Their bytes.
    pub upload_bytes: u64,
}

impl Planned {
    /// Reads what a plan would remove before its shards.
    ///
    /// # Errors
    ///
    /// A plan that cannot be read.
    pub async fn read(state: &StateStore, plan: &PlanDocument) -> Result<Self, StateError> {
        let mut planned = Self::default();
        planned.links.layer = plan.dangling_links();
        for file in &plan.unlink {
            for removal in state.read_lines::<Removal>(file).await? {
                planned.garbage.count(&removal);
                match removal.original_kind() {
                    RemovalKind::LayerLink => planned.links.layer += 1,
                    RemovalKind::RevisionLink | RemovalKind::SignatureLink => planned.links.revision += 1,
                    RemovalKind::TagIndexEntry | RemovalKind::TagCurrent => planned.links.tag += 1,
                    RemovalKind::UploadFile => {
                        planned.upload_files += 1;
                        planned.upload_bytes += removal.size;
                    }
                    RemovalKind::Blob | RemovalKind::QuarantinedLink | RemovalKind::QuarantinedBlob => {}
                }
            }
        }
        Ok(planned)
    }

    /// All that goes, by kind.
    #[must_use]
    pub fn describe(&self, plan: &PlanDocument) -> String {
        let totals = &plan.totals;
        let LinkCounts { layer, revision, tag } = self.links;
        format!(
            "{} of {} blobs ({}), {layer} layer links, {revision} links of dead manifests, {tag} tag history \
             entries and {} files of abandoned uploads ({})",
            totals.orphaned - totals.not_reviewed,
            totals.scanned,
            human::bytes(totals.orphaned_bytes - totals.not_reviewed_bytes),
            self.upload_files,
            human::bytes(self.upload_bytes),
        )
    }
}
