//! Records by the shard of a digest: in a spool that is cut finely, taken out in shards as large as there is room for.

use std::path::Path;

use hardprune_common::digest::Digest;
use hardprune_common::segment::Record;
use hardprune_common::shard::{Shard, ShardDigits};

use crate::spool::{Spool, SpoolError};

/// Spools are cut as finely as this; passes take as many of these shards at once as have few records together.
const FINEST: usize = 3;

/// Records by the shard of a digest.
#[derive(Debug)]
pub(super) struct Sharded<R> {
    spool: Spool,
    finest: ShardDigits,
    pushed: u64,
    records: std::marker::PhantomData<R>,
}

impl<R: Record> Sharded<R> {
    /// Makes an empty one whose files go below a folder.
    pub fn new(below: &Path) -> Result<Self, SpoolError> {
        Ok(Self {
            spool: Spool::new(below)?,
            finest: ShardDigits::try_from(FINEST).unwrap_or_else(|_| ShardDigits::for_blobs(u64::MAX)),
            pushed: 0,
            records: std::marker::PhantomData,
        })
    }

    pub fn push(&mut self, digest: &Digest, record: &R) -> Result<(), SpoolError> {
        self.pushed += 1;
        self.spool.push(&self.finest.shard_of(digest), record)
    }

    /// As many digits as keep the records of a shard few, if all that were pushed are here.
    pub fn digits(&self) -> ShardDigits {
        let wanted = ShardDigits::for_blobs(self.pushed);
        if usize::from(wanted) > FINEST {
            self.finest
        } else {
            wanted
        }
    }

    /// The shards that have records, ascending.
    pub fn shards(&self, digits: ShardDigits) -> Vec<Shard> {
        let mut shards: Vec<Shard> = self.spool.shards().map(|shard| shard.within(digits)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Takes all records of a shard out, sorted, each once.
    pub fn take(&mut self, shard: &Shard) -> Result<Vec<R>, SpoolError> {
        let mut records = Vec::new();
        for finer in shard.cut(self.finest) {
            records.extend(self.spool.take(&finer)?);
        }
        // By the digest first, and so as the shards are.
        records.sort_unstable();
        records.dedup();
        Ok(records)
    }
}

/// The most digits of these: so that no shard has many records of any kind.
pub(super) fn finest(digits: &[ShardDigits]) -> ShardDigits {
    let finest = digits.iter().copied().max_by_key(|digits| usize::from(*digits));
    finest.unwrap_or_else(|| ShardDigits::for_blobs(0))
}

#[cfg(test)]
mod tests {
    use hardprune_common::digest::Algorithm;

    use super::super::records::Root;
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(Algorithm::Sha256, name.as_bytes())
    }

    #[test]
    fn a_shard_has_what_its_finer_ones_have() {
        let folder = tempfile::tempdir().unwrap();
        let mut sharded = Sharded::<Root>::new(folder.path()).unwrap();
        let mut roots: Vec<Root> = (0..1_000)
            .map(|number| Root {
                manifest: digest(&number.to_string()),
                repository: "a".to_owned(),
                in_stream: number % 2 == 0,
            })
            .collect();
        for root in roots.iter().chain(&roots) {
            sharded.push(&root.manifest, root).unwrap();
        }
        roots.sort_unstable();
        let digits = sharded.digits();
        let mut found = Vec::new();
        for shard in sharded.shards(digits) {
            found.extend(sharded.take(&shard).unwrap());
        }
        assert_eq!(found, roots);
        assert!(sharded.shards(digits).is_empty());
    }
}
