//! A restore in a bucket that keeps versions: the delete markers go that hide what the run removed, by the run's own books.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout;
use hardprune_common::manifest::{LARGEST_MANIFEST, Manifest};
use hardprune_common::quarantine::Keeping;
use hardprune_common::removal::{Removal, RemovalKind};
use hardprune_common::state::StateStore;
use hardprune_common::store::{Store, Undeletion};
use tokio_util::sync::CancellationToken;

use super::args::RestoreArgs;
use super::copies::Class;
use super::put_back::PutBackCounts;
use crate::books::EpochBooks;
use crate::error::RunError;
use crate::gone::{Detail, GoneParts};
use crate::open_stores::state_of;
use crate::start_run::load_record;

/// Keys asked about at once.
const AT_ONCE: usize = 64;

/// Takes back the deletes of a run.
///
/// # Errors
///
/// Books that cannot be had, a store that fails.
pub(super) async fn undelete(
    registry: &Arc<dyn Store>,
    keeping: &Keeping,
    args: &RestoreArgs,
    stop: &CancellationToken,
    counts: &mut PutBackCounts,
) -> Result<(), RunError> {
    let state = match keeping.state == registry.identity() {
        true => StateStore::new(Arc::clone(registry)),
        false => state_of(&keeping.state)?,
    };
    let record = load_record(&state, keeping.run).await?;
    let books = EpochBooks::open_all(&state, &record).await?;
    let wanted = Wanted::of(&**registry, &state, &books, args).await?;
    for class in Class::ALL {
        let mut parts = GoneParts::of(&state, &books, Detail::Keys);
        while let Some(part) = parts.next().await? {
            if stop.is_cancelled() {
                return Ok(());
            }
            let removals = part.into_iter().map(|gone| gone.removal);
            let of_class = removals.filter(|removal| {
                removal.kind != RemovalKind::UploadFile
                    && Class::of(&removal.key) == class
                    && wanted.has(removal)
            });
            undelete_all(registry, of_class.collect(), &wanted, counts).await;
            // A link must not lead to what is not there.
            if counts.failed > 0 && class == Class::Blob {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn undelete_all(
    registry: &Arc<dyn Store>,
    removals: Vec<Removal>,
    wanted: &Wanted,
    counts: &mut PutBackCounts,
) {
    let work: Vec<_> = removals
        .into_iter()
        .map(|removal| {
            let registry = Arc::clone(registry);
            async move {
                let undeleted = registry.undelete(&removal.key).await;
                (removal, undeleted)
            }
        })
        .collect();
    let mut work = stream::iter(work).buffered(AT_ONCE);
    while let Some((removal, undeleted)) = work.next().await {
        let is_back = match &undeleted {
            Ok(Undeletion::Undeleted) => true,
            Ok(Undeletion::StillThere) => removal
                .blob()
                .is_some_and(|digest| wanted.back_already.contains(&digest)),
            _ => false,
        };
        match undeleted {
            _ if is_back && removal.blob().is_some() => {
                counts.blobs += 1;
                counts.bytes += removal.size;
            }
            _ if is_back => counts.links += 1,
            Ok(Undeletion::Undeleted | Undeletion::StillThere) => counts.already_there += 1,
            Ok(Undeletion::Nothing) => counts.fail(&removal.key, "no version of it is left"),
            Err(error) => counts.fail(&removal.key, &error.to_string()),
        }
    }
}

/// What is asked for.
struct Wanted {
    repository: Option<String>,
    /// `None`: all.
    digests: Option<HashSet<Digest>>,
    by_digest: bool,
    /// Manifests that were brought back to be read.
    back_already: HashSet<Digest>,
}

impl Wanted {
    async fn of(
        registry: &dyn Store,
        state: &StateStore,
        books: &[EpochBooks],
        args: &RestoreArgs,
    ) -> Result<Self, RunError> {
        let mut wanted = Self {
            repository: args.repository.clone(),
            digests: None,
            by_digest: !args.digests.is_empty(),
            back_already: HashSet::new(),
        };
        let mut queue: Vec<(Digest, bool)> = args.digests.iter().map(|digest| (*digest, true)).collect();
        if args.digests.is_empty() {
            let Some(repository) = &args.repository else {
                return Ok(wanted);
            };
            let mut parts = GoneParts::of(state, books, Detail::Keys);
            while let Some(part) = parts.next().await? {
                let ours = part
                    .iter()
                    .filter(|gone| gone.removal.repository() == Some(repository));
                queue.extend(ours.filter_map(|gone| {
                    let is_revision = gone.removal.kind == RemovalKind::RevisionLink;
                    Some((gone.removal.digest()?, is_revision))
                }));
            }
        }
        let (mut all, mut read) = (HashSet::new(), HashSet::new());
        while let Some((digest, may_be_manifest)) = queue.pop() {
            all.insert(digest);
            if !may_be_manifest || !read.insert(digest) {
                continue;
            }
            let key = layout::blob_key(&digest);
            if registry.undelete(&key).await? == Undeletion::Undeleted {
                wanted.back_already.insert(digest);
            }
            let manifest = match registry.get(&key, 0, LARGEST_MANIFEST).await {
                Ok(object) if object.size <= LARGEST_MANIFEST => Manifest::parse(&object.bytes).ok(),
                Ok(_) => None,
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            };
            if let Some(manifest) = manifest {
                all.extend(manifest.references());
                queue.extend(manifest.children.iter().map(|child| (*child, true)));
            }
        }
        wanted.digests = Some(all);
        Ok(wanted)
    }

    fn has(&self, removal: &Removal) -> bool {
        let Some(digests) = &self.digests else {
            return true;
        };
        if removal.blob().is_some() {
            return removal.blob().is_some_and(|digest| digests.contains(&digest));
        }
        let is_of_repository = self
            .repository
            .as_deref()
            .is_none_or(|repository| removal.repository() == Some(repository));
        // What a tag means stands in its link, which is hidden: it comes back with its repository.
        is_of_repository
            && (!self.by_digest || removal.digest().is_some_and(|digest| digests.contains(&digest)))
    }
}
