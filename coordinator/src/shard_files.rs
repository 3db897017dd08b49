//! The files of shards in a sealed mark: several are written at once, and no more than fit into memory (R9).

use std::mem;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::filter::FilterHeader;
use hardprune_common::seal::ShardFilter;
use hardprune_common::segment::{Record, encode_segment};
use hardprune_common::state::{FileRef, StateError, StateStore};

/// Shards whose files are written at once: so many, and no more than so many bytes.
const SHARDS_AT_ONCE: usize = 32;
const BYTES_AT_ONCE: usize = 8 << 20;

/// What is written of a shard that has blobs.
pub(crate) struct ShardFiles {
    pub filter: Vec<u8>,
    pub may_be_absent: Option<Segment>,
    pub manifests: Option<Segment>,
}

/// The bytes of a segment, and its records.
pub(crate) type Segment = (Vec<u8>, u64);

/// The segment of some records, which are ascending and each once. `None` of none.
pub(crate) fn encode_some<R: Record>(records: &[R]) -> Option<Segment> {
    (!records.is_empty()).then(|| (encode_segment(records.iter()), records.len() as u64))
}

impl ShardFiles {
    fn bytes(&self) -> usize {
        let segments = self.may_be_absent.iter().chain(&self.manifests);
        self.filter.len() + segments.map(|(bytes, _)| bytes.len()).sum::<usize>()
    }

    async fn write(
        self,
        state: &StateStore,
        folder: &str,
        header: FilterHeader,
    ) -> Result<ShardFilter, StateError> {
        let key = format!("{folder}filters/{}", header.shard);
        let filter = state.write(&key, self.filter.into(), header.items).await?;
        Ok(ShardFilter {
            may_be_absent: write_segment(state, format!("{key}.may-be-absent"), self.may_be_absent).await?,
            manifests: write_segment(state, format!("{key}.manifests"), self.manifests).await?,
            shard: header.shard,
            filter,
        })
    }
}

async fn write_segment(
    state: &StateStore,
    key: String,
    segment: Option<Segment>,
) -> Result<Option<FileRef>, StateError> {
    match segment {
        Some((bytes, items)) => Ok(Some(state.write(&key, bytes.into(), items).await?)),
        None => Ok(None),
    }
}

/// Writes the files of shards.
pub(crate) struct ShardFilesWriter<'s> {
    state: &'s StateStore,
    folder: &'s str,
    gathered: Vec<(FilterHeader, ShardFiles)>,
    bytes: usize,
    written: Vec<ShardFilter>,
}

impl<'s> ShardFilesWriter<'s> {
    pub fn new(state: &'s StateStore, folder: &'s str) -> Self {
        Self {
            state,
            folder,
            gathered: Vec::new(),
            bytes: 0,
            written: Vec::new(),
        }
    }

    pub async fn push(&mut self, header: FilterHeader, files: ShardFiles) -> Result<(), StateError> {
        self.bytes += files.bytes();
        self.gathered.push((header, files));
        if self.gathered.len() < SHARDS_AT_ONCE && self.bytes < BYTES_AT_ONCE {
            return Ok(());
        }
        self.write().await
    }

    /// The filters, in any order.
    pub async fn finish(mut self) -> Result<Vec<ShardFilter>, StateError> {
        self.write().await?;
        Ok(self.written)
    }

    async fn write(&mut self) -> Result<(), StateError> {
        self.bytes = 0;
        let writes = mem::take(&mut self.gathered)
            .into_iter()
            .map(|(header, files)| files.write(self.state, self.folder, header));
        let written: Vec<ShardFilter> = stream::iter(writes)
            .buffer_unordered(SHARDS_AT_ONCE)
            .try_collect()
            .await?;
        self.written.extend(written);
        Ok(())
    }
}
