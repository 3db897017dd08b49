//! Plan: holds a shard's listing against the manifests that marking had from its cache, and against those that it read.
//!
//! A manifest that was remembered and is not listed as it was may be missing, or broken: its repository must be marked again
//! (R8). One that was read and is not listed so must not be remembered: it lies behind a symbolic link, or is just being written.

use hardprune_common::digest::Digest;
use hardprune_common::layout::parse_blob_key;
use hardprune_common::mark_cache::SeenManifest;
use hardprune_common::segment::{encode_segment, read_segment};
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::store::ListedObject;
use hardprune_common::task::PlanFindings;

/// The manifests of a shard.
#[derive(Debug, Default)]
pub(crate) struct Confirmation {
    /// Ascending by digest.
    seen: Vec<(SeenManifest, bool)>,
}

impl Confirmation {
    /// Reads which manifests must be listed.
    ///
    /// # Errors
    ///
    /// A segment that cannot be read.
    pub async fn open(state: &StateStore, segment: Option<&FileRef>) -> Result<Self, StateError> {
        let seen = match segment {
            Some(segment) => read_segment::<SeenManifest>(state, segment).await?,
            None => Vec::new(),
        };
        Ok(Self {
            seen: seen.into_iter().map(|manifest| (manifest, false)).collect(),
        })
    }

    /// Takes in what the listing shows.
    pub fn take(&mut self, blob: &ListedObject) {
        if self.seen.is_empty() || !blob.exact {
            return;
        }
        let Some(digest) = parse_blob_key(&blob.key) else {
            return;
        };
        let first = self
            .seen
            .partition_point(|(manifest, _)| manifest.digest < digest);
        for (manifest, confirmed) in &mut self.seen[first..] {
            if manifest.digest != digest {
                break;
            }
            *confirmed = manifest.is(blob.size, blob.last_modified);
        }
    }

    /// Says what came of it: a digest counts once, and only if all that was remembered of it is so.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn finish(
        self,
        state: &StateStore,
        key_prefix: &str,
        findings: &mut PlanFindings,
    ) -> Result<(), StateError> {
        let (mut doubted, mut unconfirmed) = (Vec::new(), Vec::new());
        for same in self.seen.chunk_by(|(a, _), (b, _)| a.digest == b.digest) {
            let digest = same[0].0.digest;
            let confirmed = |cached: bool| {
                let mut these = same.iter().filter(|(manifest, _)| manifest.cached == cached);
                these.all(|(_, confirmed)| *confirmed)
            };
            let is_remembered = same.iter().any(|(manifest, _)| manifest.cached);
            if !confirmed(true) {
                doubted.push(digest);
            } else if is_remembered {
                findings.totals.remembered += 1;
            }
            if !confirmed(false) {
                unconfirmed.push(digest);
            }
        }
        findings.doubted = write(state, format!("{key_prefix}.doubted"), &doubted).await?;
        findings.unconfirmed = write(state, format!("{key_prefix}.unconfirmed"), &unconfirmed).await?;
        Ok(())
    }
}

async fn write(state: &StateStore, key: String, digests: &[Digest]) -> Result<Option<FileRef>, StateError> {
    if digests.is_empty() {
        return Ok(None);
    }
    let bytes = encode_segment(digests.iter());
    Ok(Some(state.write(&key, bytes.into(), digests.len() as u64).await?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hardprune_common::digest::Algorithm;
    use hardprune_common::layout::blob_key;
    use hardprune_common::store::filesystem::FilesystemStore;
    use jiff::Timestamp;

    use super::*;

    fn seen(name: &str, verified: i64, cached: bool) -> SeenManifest {
        SeenManifest {
            digest: Digest::of(Algorithm::Sha256, name.as_bytes()),
            size: 10,
            verified,
            cached,
        }
    }

    fn blob(name: &str, size: u64, modified: i64, exact: bool) -> ListedObject {
        ListedObject {
            key: blob_key(&Digest::of(Algorithm::Sha256, name.as_bytes())),
            size,
            last_modified: Timestamp::from_microsecond(modified).unwrap(),
            etag: None,
            exact,
        }
    }

    #[tokio::test]
    async fn only_what_is_listed_as_it_was_is_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateStore::new(Arc::new(FilesystemStore::open(folder.path()).unwrap()));
        let mut records = [
            seen("same", 5, true),
            seen("same", 7, false),
            seen("gone", 5, true),
            seen("longer", 5, true),
            seen("rewritten", 5, true),
            seen("behind a link", 5, false),
            seen("one of two", 5, true),
            seen("one of two", 9, true),
        ];
        records.sort_unstable();
        let bytes = encode_segment(records.iter());
        let segment = state
            .write("hardprune/x", bytes.into(), records.len() as u64)
            .await
            .unwrap();
        let mut confirmation = Confirmation::open(&state, Some(&segment)).await.unwrap();
        for listed in [
            blob("same", 10, 4, true),
            blob("longer", 11, 4, true),
            blob("rewritten", 10, 5, true),
            blob("behind a link", 10, 4, false),
            blob("one of two", 10, 6, true),
            blob("another", 10, 4, true),
        ] {
            confirmation.take(&listed);
        }
        let mut findings = PlanFindings::default();
        confirmation
            .finish(&state, "hardprune/y", &mut findings)
            .await
            .unwrap();
        assert_eq!(findings.totals.remembered, 1);
        let read = async |file: Option<FileRef>| -> Vec<Digest> {
            read_segment(&state, &file.unwrap()).await.unwrap()
        };
        let digests = |names: &[&str]| {
            let mut digests: Vec<_> = names.iter().map(|name| seen(name, 0, true).digest).collect();
            digests.sort_unstable();
            digests
        };
        assert_eq!(
            read(findings.doubted).await,
            digests(&["gone", "longer", "rewritten", "one of two"])
        );
        assert_eq!(read(findings.unconfirmed).await, digests(&["behind a link"]));
    }
}
