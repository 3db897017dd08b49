//! The second pass: reads every manifest once, however many repositories have it, and says what each of them needs.
//!
//! Comes in: the manifests that must be whole. Goes out: what they need, themselves included, and those that are not what their
//! digest says. One whose blob is not there needs itself: the third pass finds that.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::blob_key;
use hardprune_common::manifest::{LARGEST_MANIFEST, Parts};
use hardprune_common::shard::{Shard, ShardDigits};
use hardprune_common::store::{Store, StoreError};

use super::passes::Passes;
use super::records::{Fault, Need, Role, Root};
use crate::error::RunError;

/// What reading a manifest gave.
pub(super) enum ManifestRead {
    Understood(Parts),
    Missing,
    Broken(Fault, String),
}

/// Reads them.
///
/// # Errors
///
/// A registry that cannot be read: nothing is known then.
pub(super) async fn read_manifests(passes: &mut Passes) -> Result<(), RunError> {
    // Where it is the cluster that says what is there, children are found by their indexes, and need not have links.
    loop {
        let digits = passes.roots.digits();
        let shards = passes.roots.shards(digits);
        if shards.is_empty() {
            return Ok(());
        }
        for shard in shards {
            read_shard(passes, &shard, digits).await?;
        }
    }
}

async fn read_shard(passes: &mut Passes, shard: &Shard, digits: ShardDigits) -> Result<(), RunError> {
    let roots = passes.roots.take(shard, digits)?;
    let registry = Arc::clone(&passes.registry);
    let by_manifest: Vec<&[Root]> = roots.chunk_by(|a, b| a.manifest == b.manifest).collect();
    let mut reads = stream::iter(by_manifest)
        .map(|roots| {
            let registry = &*registry;
            async move { Ok::<_, StoreError>((read_manifest(registry, &roots[0].manifest).await?.1, roots)) }
        })
        .buffer_unordered(passes.reads_in_flight);
    while let Some((read, roots)) = reads.try_next().await? {
        passes.seen.manifests += u64::from(!matches!(read, ManifestRead::Missing));
        for root in roots {
            needs(passes, root, &read)?;
        }
    }
    Ok(())
}

fn needs(passes: &mut Passes, root: &Root, read: &ManifestRead) -> Result<(), RunError> {
    let Root {
        manifest,
        repository,
        in_stream,
    } = root;
    let itself = Need {
        digest: *manifest,
        repository: repository.clone(),
        manifest: *manifest,
        role: Role::Manifest,
        size: None,
    };
    match read {
        ManifestRead::Understood(parts) => {
            for part in &parts.needed {
                let need = Need {
                    digest: part.digest,
                    role: part.role.into(),
                    size: part.size,
                    ..itself.clone()
                };
                passes.need(&need)?;
                if need.role == Role::Child && !passes.looks_at_links {
                    passes.child(&need, *in_stream)?;
                }
            }
        }
        ManifestRead::Missing => {}
        ManifestRead::Broken(fault, detail) => {
            passes
                .broken
                .push(manifest, &itself.broken(*fault, detail.clone()))?;
        }
    }
    passes.need(&itself)?;
    Ok(())
}

/// Reads one. Returns its bytes, too, where they are what its digest says.
///
/// # Errors
///
/// A store that fails: whether the manifest is there is not known.
pub(super) async fn read_manifest(
    registry: &dyn Store,
    digest: &Digest,
) -> Result<(bytes::Bytes, ManifestRead), StoreError> {
    let broken = |fault, detail| Ok((bytes::Bytes::new(), ManifestRead::Broken(fault, detail)));
    let object = match registry.get(&blob_key(digest), 0, LARGEST_MANIFEST + 1).await {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return Ok((bytes::Bytes::new(), ManifestRead::Missing)),
        Err(StoreError::Denied { detail, .. }) => {
            return broken(Fault::Unreadable, format!("its blob may not be read: {detail}"));
        }
        Err(error) => return Err(error),
    };
    if object.size > LARGEST_MANIFEST {
        let detail = format!(
            "it has {} bytes; no manifest has more than {LARGEST_MANIFEST}",
            object.size
        );
        return broken(Fault::Corrupt, detail);
    }
    let actual = Digest::of(digest.algorithm(), &object.bytes);
    if actual != *digest {
        let detail = format!("its {} bytes have the digest {actual}", object.bytes.len());
        return broken(Fault::Corrupt, detail);
    }
    match Parts::parse(&object.bytes) {
        Ok(parts) => Ok((object.bytes, ManifestRead::Understood(parts))),
        Err(error) => broken(Fault::NotUnderstood, format!("it is {error}")),
    }
}
