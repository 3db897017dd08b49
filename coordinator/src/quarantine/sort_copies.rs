//! Sorts the copies of a run into those that a mark needs again and those that nothing needs: exactly, because references and copies
//! are at hand together while the mark is sealed, shard by shard (R9).

use futures::TryStreamExt;
use hardprune_common::digest::Digest;
use hardprune_common::layout::{digest_of, parse_blob_key};
use hardprune_common::quarantine::{copies_of, copy_key, parse_copy_key};
use hardprune_common::removal::{Removal, RemovalKind, RemovalReason};
use hardprune_common::removal_files::RemovalWriter;
use hardprune_common::run::RunId;
use hardprune_common::seal::ShardPlan;
use hardprune_common::segment::Record;
use hardprune_common::shard::{Shard, ShardDigits};
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::store::{ListRange, ListedObject, Store};
use hardprune_common::task::{PlanFindings, Scope, ShardTotals};
use jiff::Timestamp;

use super::copies::Class;
use crate::seal::SealingError;
use crate::spool::Spool;

/// What a run's copies came to.
#[derive(Debug, Default)]
pub struct SortedCopies {
    /// Those that a reference names: they go back.
    pub needed: Vec<FileRef>,
    /// Links that none names.
    pub links: Vec<FileRef>,
    /// Blobs that none names, by shard.
    pub shards: Vec<ShardPlan>,
}

impl SortedCopies {
    /// Copies that go back.
    #[must_use]
    pub fn needed_keys(&self) -> u64 {
        self.needed.iter().map(|file| file.items).sum()
    }
}

/// Sorts copies while a mark is sealed.
#[derive(Debug)]
pub struct SortCopies {
    run: RunId,
    state: StateStore,
    /// Where its files go.
    folder: String,
    spool: Spool,
    needed: RemovalWriter,
    links: RemovalWriter,
    shards: Vec<ShardPlan>,
}

/// A copy, as the spool has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Copy {
    digest: Digest,
    original: String,
    size: u64,
    /// Seconds since the epoch.
    last_modified: i64,
}

impl SortCopies {
    /// Of a run's copies; `folder` is where files of this epoch go.
    #[must_use]
    pub fn new(run: RunId, state: &StateStore, folder: &str, spool: Spool) -> Self {
        Self {
            run,
            state: state.clone(),
            folder: folder.to_owned(),
            spool,
            needed: RemovalWriter::new(state.clone(), format!("{folder}purge/needed")),
            links: RemovalWriter::new(state.clone(), format!("{folder}purge/links")),
            shards: Vec::new(),
        }
    }

    /// Lists the copies. What a tag means or meant is no reference to anybody: it never goes back by itself.
    pub(crate) async fn gather(
        &mut self,
        registry: &dyn Store,
        digits: ShardDigits,
    ) -> Result<(), SealingError> {
        let mut pages = registry.list(ListRange::prefix(copies_of(self.run)));
        while let Some(page) = pages.try_next().await? {
            for object in page.into_iter().filter(|object| object.exact) {
                let Some(original) = parse_copy_key(&object.key).map(|key| key.original.to_owned()) else {
                    continue;
                };
                let is_of_tag = matches!(Class::of(&original), Class::Tag | Class::TagHistory);
                match digest_of(&original).filter(|_| !is_of_tag) {
                    None => self.links.push(removal_of(&object)).await?,
                    Some(digest) => {
                        let copy = Copy {
                            digest,
                            original,
                            size: object.size,
                            last_modified: object.last_modified.as_second(),
                        };
                        self.spool.push(&digits.shard_of(&digest), &copy)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The shards that have copies.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.spool.shards()
    }

    /// Sorts the copies of a shard by its references, which ascend.
    pub(crate) async fn sort(&mut self, shard: &Shard, referenced: &[Digest]) -> Result<(), SealingError> {
        let mut parts = RemovalWriter::new(self.state.clone(), format!("{}purge/{shard}", self.folder));
        let mut totals = ShardTotals::default();
        for copy in self.spool.take::<Copy>(shard)? {
            let is_needed = referenced.binary_search(&copy.digest).is_ok();
            let removal = removal_of(&ListedObject {
                key: copy_key(self.run, &copy.original),
                size: copy.size,
                last_modified: Timestamp::from_second(copy.last_modified).unwrap_or_default(),
                etag: None,
                exact: true,
            });
            let is_blob = removal.kind == RemovalKind::QuarantinedBlob;
            if is_blob {
                totals.scanned += 1;
                totals.scanned_bytes += copy.size;
            }
            match (is_needed, is_blob) {
                (true, _) => {
                    totals.referenced += u64::from(is_blob);
                    self.needed.push(removal).await?;
                }
                (false, true) => {
                    totals.orphaned += 1;
                    totals.orphaned_bytes += copy.size;
                    parts.push(removal).await?;
                }
                (false, false) => self.links.push(removal).await?,
            }
        }
        let parts = parts.finish().await?;
        if totals.scanned > 0 {
            self.shards.push(ShardPlan {
                scope: Scope::Shard(shard.clone()),
                findings: PlanFindings {
                    parts,
                    totals,
                    ..PlanFindings::default()
                },
            });
        }
        Ok(())
    }

    /// What they came to.
    ///
    /// # Errors
    ///
    /// The state store's.
    pub async fn finish(self) -> Result<SortedCopies, StateError> {
        Ok(SortedCopies {
            needed: self.needed.finish().await?,
            links: self.links.finish().await?,
            shards: self.shards,
        })
    }
}

fn removal_of(copy: &ListedObject) -> Removal {
    let is_blob = parse_copy_key(&copy.key).is_some_and(|key| parse_blob_key(key.original).is_some());
    Removal {
        kind: match is_blob {
            true => RemovalKind::QuarantinedBlob,
            false => RemovalKind::QuarantinedLink,
        },
        key: copy.key.clone(),
        size: if is_blob { copy.size } else { 0 },
        last_modified: Some(copy.last_modified),
        reason: RemovalReason::Purged,
    }
}

impl Record for Copy {
    const MAGIC: [u8; 4] = *b"HPQ1";
    const EXTENSION: &'static str = "copies";

    fn encode(&self, to: &mut Vec<u8>) {
        self.digest.encode(to);
        to.extend_from_slice(&self.size.to_le_bytes());
        to.extend_from_slice(&self.last_modified.to_le_bytes());
        // Stores' keys are far shorter than 64 KiB.
        let key = &self.original.as_bytes()[..self.original.len().min(usize::from(u16::MAX))];
        to.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        to.extend_from_slice(key);
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        let digest = Digest::decode(from)?;
        let (size, rest) = from.split_first_chunk::<8>()?;
        let (last_modified, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let copy = Self {
            digest,
            original: String::from_utf8(key.to_vec()).ok()?,
            size: u64::from_le_bytes(*size),
            last_modified: i64::from_le_bytes(*last_modified),
        };
        *from = rest;
        Some(copy)
    }
}
