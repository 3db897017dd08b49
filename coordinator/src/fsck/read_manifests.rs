//! The second pass: reads every manifest once, however many repositories have it, and says what each of them needs.
//!
//! Comes in: the manifests that must be whole. Goes out: what they need, themselves included, and those that are not what their
//! digest says. One whose blob is not there needs itself: the third pass finds that.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::Digest;
use hardprune_common::layout::blob_key;
use hardprune_common::manifest::{LARGEST_MANIFEST, Parts};
use hardprune_common::shard::Shard;
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
            read_shard(passes, &shard).await?;
        }
    }
}

async fn read_shard(passes: &mut Passes, shard: &Shard) -> Result<(), RunError> {
    let roots = passes.roots.take(shard)?;
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
) -> Result<(Bytes, ManifestRead), StoreError> {
    let broken = |fault, detail| Ok((Bytes::new(), ManifestRead::Broken(fault, detail)));
    let bytes = match read_small_blob(registry, digest).await {
        Ok(BlobRead::Verified(bytes)) => bytes,
        Ok(BlobRead::Missing) => return Ok((Bytes::new(), ManifestRead::Missing)),
        Ok(BlobRead::TooLarge(size)) => {
            let detail = format!("it has {size} bytes; no manifest has more than {LARGEST_MANIFEST}");
            return broken(Fault::Corrupt, detail);
        }
        Ok(BlobRead::Corrupt(size, actual)) => {
            return broken(
                Fault::Corrupt,
                format!("its {size} bytes have the digest {actual}"),
            );
        }
        Err(StoreError::Denied { detail, .. }) => {
            return broken(Fault::Unreadable, format!("its blob may not be read: {detail}"));
        }
        Err(error) => return Err(error),
    };
    match Parts::parse(&bytes) {
        Ok(parts) => Ok((bytes, ManifestRead::Understood(parts))),
        Err(error) => broken(Fault::NotUnderstood, format!("it is {error}")),
    }
}

/// What reading a blob gave that is no larger than a manifest.
pub(super) enum BlobRead {
    /// Its bytes, which are what its digest says.
    Verified(Bytes),
    Missing,
    /// Its bytes are so many.
    TooLarge(u64),
    /// So many bytes, and their digest.
    Corrupt(usize, Digest),
}

/// Reads a manifest, or a config.
///
/// # Errors
///
/// The store's.
pub(super) async fn read_small_blob(registry: &dyn Store, digest: &Digest) -> Result<BlobRead, StoreError> {
    let object = match registry.get(&blob_key(digest), 0, LARGEST_MANIFEST + 1).await {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return Ok(BlobRead::Missing),
        Err(error) => return Err(error),
    };
    if object.size > LARGEST_MANIFEST {
        return Ok(BlobRead::TooLarge(object.size));
    }
    let actual = Digest::of(digest.algorithm(), &object.bytes);
    Ok(if actual == *digest {
        BlobRead::Verified(object.bytes)
    } else {
        BlobRead::Corrupt(object.bytes.len(), actual)
    })
}
