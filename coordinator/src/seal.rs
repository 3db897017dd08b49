//! Seal, the coordinator's part: all segments through a spool by shard, one filter a shard, and the layer links that no
//! reference answers. What comes out can be sealed.
//!
//! Upholds R1 (links of frozen repositories are references, R8) and R9 (one shard in memory at a time).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::digest::{Algorithm, Digest};
use hardprune_common::filter::{FilterError, FilterHeader, FilterSeed, build_filter};
use hardprune_common::layout::BLOBS;
use hardprune_common::mark_cache::SeenManifest;
use hardprune_common::removal::Removal;
use hardprune_common::removal_files::RemovalWriter;
use hardprune_common::run::Epoch;
use hardprune_common::seal::{MarkDocument, MarkedRange, PlanDocument, SealError, SealedMark};
use hardprune_common::segment::{LayerLink, Record, SegmentWriter, for_each_record};
use hardprune_common::shard::{Shard, ShardDigits};
use hardprune_common::state::{FileRef, StateError, StateStore};
use hardprune_common::store::{Store, StoreError};
use jiff::Timestamp;

use crate::dangling::{ReviewedLinks, dangles, removal_of};
use crate::quarantine::sort_copies::SortCopies;
use crate::shard_files::{ShardFiles, ShardFilesWriter, encode_some};
use crate::spool::{Spool, SpoolError};

/// Segments fetched at once.
const SEGMENTS_AT_ONCE: usize = 8;

/// Why a mark could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
    /// The registry's storage.
    #[error("registry: {0}")]
    Registry(#[from] StoreError),
    /// A filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The seal itself.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What a mark is sealed with.
#[derive(Debug)]
pub struct SealOptions<'o> {
    /// The epoch.
    pub epoch: Epoch,
    /// Young is what was modified at this time or later.
    pub cutoff: Timestamp,
    /// The filters' rate.
    pub false_positive_rate: f64,
    /// The filters' seed.
    pub seed: FilterSeed,
    /// How shards must be cut, where that is given by an earlier epoch.
    pub shard_digits: Option<ShardDigits>,
    /// The reviewed plan that is carried out: its shards are cut alike, and links that it does not name stay.
    pub reviewed: Option<&'o PlanDocument>,
    /// References that other sources than the storage named, and those of them that may well have no blob: segments.
    pub sources: (Vec<FileRef>, Vec<FileRef>),
    /// Where spools go.
    pub spool_dir: &'o Path,
    /// Where its files go.
    pub folder: String,
    /// The copies in quarantine that are sorted by what it references.
    pub copies: Option<&'o mut SortCopies>,
}

/// The folders of the blob space.
#[derive(Debug, Default)]
pub struct BlobSpace {
    /// The first two hex digits that blobs of an algorithm have.
    folders: BTreeMap<Algorithm, BTreeSet<String>>,
    /// Folders that no blob can be in: all below is unrecognized.
    stray: Vec<String>,
    /// Keys beside the folders, by the string that they begin with: that of a shard of one digit.
    beside: BTreeMap<String, u64>,
}

/// Looks at the folders of the blob space: a shard without a folder needs no listing.
///
/// # Errors
///
/// The store's.
pub async fn survey_blob_space(registry: &dyn Store) -> Result<BlobSpace, StoreError> {
    let mut space = BlobSpace::default();
    let algorithms = folder(registry, BLOBS, &mut space.beside).await?;
    for path in algorithms {
        let Some(algorithm) = Algorithm::from_name(last_part(&path)) else {
            space.stray.push(path);
            continue;
        };
        let folders = folder(registry, &path, &mut space.beside).await?;
        let known = space.folders.entry(algorithm).or_default();
        for path in folders {
            let name = last_part(&path);
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if name.len() == 2 && name.bytes().all(is_hex) {
                known.insert(name.to_owned());
            } else {
                space.stray.push(path);
            }
        }
    }
    Ok(space)
}

async fn folder(
    registry: &dyn Store,
    path: &str,
    beside: &mut BTreeMap<String, u64>,
) -> Result<Vec<String>, StoreError> {
    let mut folders = Vec::new();
    let mut pages = registry.list_folder(path);
    while let Some(page) = pages.try_next().await? {
        folders.extend(page.folders);
        if let Some(link) = page.links.first() {
            return Err(StoreError::behind_a_link(
                registry.identity(),
                path,
                last_part(link),
            ));
        }
        for object in page.objects {
            let begins = path.len() + object.key[path.len()..].chars().next().map_or(0, char::len_utf8);
            *beside.entry(object.key[..begins].to_owned()).or_default() += 1;
        }
    }
    Ok(folders)
}

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

impl BlobSpace {
    /// The shards that may have blobs.
    fn shards(&self, digits: ShardDigits) -> BTreeSet<Shard> {
        let mut shards = BTreeSet::new();
        for (algorithm, folders) in &self.folders {
            for folder in folders {
                let folder = usize::from_str_radix(folder, 16).unwrap_or_default();
                let range = match usize::from(digits).checked_sub(2) {
                    Some(finer) => folder << (4 * finer)..(folder + 1) << (4 * finer),
                    None => folder >> 4..(folder >> 4) + 1,
                };
                shards.extend(range.map(|index| digits.shard_at(*algorithm, index)));
            }
        }
        shards
    }

    /// Stray folders that the listing of no shard covers, and how many stray keys lie beside.
    fn stray(&self, listed: &BTreeSet<Shard>) -> (Vec<String>, u64) {
        let prefixes: Vec<String> = listed.iter().map(Shard::key_prefix).collect();
        let is_listed = |key: &String| prefixes.iter().any(|prefix| key.starts_with(prefix));
        let folders = self.stray.iter().filter(|folder| !is_listed(folder)).cloned();
        let beside = self.beside.iter().filter(|(begin, _)| !is_listed(begin));
        (folders.collect(), beside.map(|(_, keys)| keys).sum())
    }
}

/// Seals a mark.
///
/// # Errors
///
/// Anything that leaves the mark incomplete: nothing is planned then (R2).
pub async fn seal(
    state: &StateStore,
    registry: &dyn Store,
    ranges: Vec<MarkedRange>,
    space: &BlobSpace,
    mut options: SealOptions<'_>,
) -> Result<SealedMark, SealingError> {
    let folder = options.folder.clone();
    let of_ranges =
        |files: fn(&MarkedRange) -> &Vec<FileRef>| ranges.iter().flat_map(files).cloned().collect::<Vec<_>>();
    let (of_sources, sources_may_be_absent) = std::mem::take(&mut options.sources);
    let reference_files = [of_ranges(|range| &range.findings.references), of_sources.clone()].concat();
    let at_most = reference_files.iter().map(|file| file.items).sum();
    let digits = options
        .reviewed
        .map(|plan| plan.shard_digits)
        .or(options.shard_digits)
        .unwrap_or_else(|| ShardDigits::for_blobs(at_most));

    let mut references = Spool::new(options.spool_dir)?;
    spool_segments(state, reference_files, |digest: &Digest| {
        references.push(&digits.shard_of(digest), digest)
    })
    .await?;
    references.rest()?;
    let mut may_be_absent = Spool::new(options.spool_dir)?;
    let absent_files = [
        of_ranges(|range| &range.findings.may_be_absent),
        sources_may_be_absent.clone(),
    ]
    .concat();
    spool_segments(state, absent_files, |digest: &Digest| {
        may_be_absent.push(&digits.shard_of(digest), digest)
    })
    .await?;
    may_be_absent.rest()?;
    let frozen = frozen_repositories(state, &ranges).await?;
    let mut links = Spool::new(options.spool_dir)?;
    spool_segments(
        state,
        of_ranges(|range| &range.findings.layer_links),
        |link: &LayerLink| {
            let shard = digits.shard_of(&link.digest);
            // R8: every blob that a manifest names has a layer link in its repository.
            if frozen.contains(&link.repository) {
                may_be_absent.push(&shard, &link.digest)?;
                references.push(&shard, &link.digest)
            } else {
                links.push(&shard, link)
            }
        },
    )
    .await?;
    for filled in [&mut links, &mut references, &mut may_be_absent] {
        filled.rest()?;
    }

    let mut manifests = Spool::new(options.spool_dir)?;
    spool_segments(
        state,
        of_ranges(|range| &range.findings.manifests_seen),
        |manifest: &SeenManifest| manifests.push(&digits.shard_of(&manifest.digest), manifest),
    )
    .await?;
    manifests.rest()?;
    if let Some(copies) = &mut options.copies {
        copies.gather(registry, digits).await?;
    }
    let listed = space.shards(digits);
    let mut shards = listed.clone();
    shards.extend(manifests.shards().cloned());
    shards.extend(references.shards().cloned());
    shards.extend(links.shards().cloned());
    if let Some(copies) = &options.copies {
        shards.extend(copies.shards().cloned());
    }

    let (mut distinct, mut absent, mut remembered) = (0, 0, 0);
    let mut files = ShardFilesWriter::new(state, &folder);
    // Of all shards together: most have a handful, and each file is a request when they go.
    let mut dangling = RemovalWriter::new(state.clone(), format!("{folder}unlink/dangling"));
    let mut doubted: SegmentWriter<Digest> =
        SegmentWriter::new(state.clone(), format!("{folder}mark/doubted"));
    let mut reviewed = options.reviewed.map(|plan| ReviewedLinks::of(state, plan));
    for shard in shards {
        let referenced: Vec<Digest> = references.take(&shard)?;
        distinct += referenced.len() as u64;
        let mut may_be_absent: Vec<Digest> = may_be_absent.take(&shard)?;
        // Whatever a worker says: only of references, so that what must be present is what remains of them.
        may_be_absent.retain(|digest| referenced.binary_search(digest).is_ok());
        absent += may_be_absent.len() as u64;
        let named = match &mut reviewed {
            Some(reviewed) => Some(reviewed.take(&shard, digits).await?),
            None => None,
        };
        for link in links.take_where(&shard, |link| dangles(&referenced, link))? {
            let removal = removal_of(&link);
            if named.as_ref().is_none_or(|named| named.contains(&removal.key)) {
                dangling.push(removal).await?;
            }
        }
        if let Some(copies) = &mut options.copies {
            copies.sort(&shard, &referenced).await?;
        }
        let manifests: Vec<SeenManifest> = manifests.take(&shard)?;
        let is_listed = listed.contains(&shard);
        for digest in remembered_digests(&manifests) {
            remembered += 1;
            if !is_listed {
                doubted.push(digest).await?;
            }
        }
        if !is_listed {
            continue;
        }
        let header = FilterHeader {
            epoch: options.epoch.clone(),
            shard,
            items: referenced.len() as u64,
            false_positive_rate: options.false_positive_rate,
            seed: options.seed,
        };
        files
            .push(
                header.clone(),
                ShardFiles {
                    filter: build_filter(&header, referenced.into_iter())?,
                    may_be_absent: encode_some(&may_be_absent),
                    manifests: encode_some(&manifests),
                },
            )
            .await?;
    }
    let mut filters = files.finish().await?;
    filters.sort_by(|a, b| a.shard.cmp(&b.shard));

    let (stray_folders, stray_keys) = space.stray(&listed);
    let document = MarkDocument {
        version: 1,
        epoch: options.epoch.clone(),
        registry: registry.identity().to_owned(),
        cutoff: options.cutoff,
        source_references: of_sources,
        source_may_be_absent: sources_may_be_absent,
        references: distinct,
        may_be_absent: absent,
        remembered,
        doubted: doubted.finish().await?,
        shard_digits: digits,
        false_positive_rate: options.false_positive_rate,
        seed: options.seed,
        filters,
        unlink: gather_removals(state, &folder, &ranges).await?,
        dangling: dangling.finish().await?,
        stray_folders,
        stray_keys,
        ranges,
    };
    Ok(SealedMark::seal(document, &folder, state).await?)
}

async fn spool_segments<R: Record>(
    state: &StateStore,
    files: Vec<FileRef>,
    mut push: impl FnMut(&R) -> Result<(), SpoolError>,
) -> Result<(), SealingError> {
    let mut segments = stream::iter(files)
        .map(|file| async move { Ok::<_, StateError>((state.read(&file).await?, file)) })
        .buffer_unordered(SEGMENTS_AT_ONCE);
    while let Some((bytes, file)) = segments.try_next().await? {
        for_each_record(&bytes, &file, |record| Ok::<_, SealingError>(push(record)?))?;
    }
    Ok(())
}

/// Gathers the removals of all ranges into few files, in their order.
async fn gather_removals(
    state: &StateStore,
    folder: &str,
    ranges: &[MarkedRange],
) -> Result<Vec<FileRef>, StateError> {
    let files: Vec<FileRef> = ranges
        .iter()
        .flat_map(|range| range.findings.removals.clone())
        .collect();
    let mut reads = stream::iter(files)
        .map(|file| async move { state.read_lines::<Removal>(&file).await })
        .buffered(SEGMENTS_AT_ONCE);
    let key_prefix = format!("{folder}unlink/dead");
    let mut gathered = RemovalWriter::new(state.clone(), key_prefix);
    while let Some(removals) = reads.try_next().await? {
        for removal in removals {
            gathered.push(removal).await?;
        }
    }
    gathered.finish().await
}

async fn frozen_repositories(
    state: &StateStore,
    ranges: &[MarkedRange],
) -> Result<HashSet<String>, StateError> {
    let mut names = HashSet::new();
    for file in ranges.iter().filter_map(|range| range.findings.frozen.as_ref()) {
        names.extend(state.read_lines::<String>(file).await?);
    }
    Ok(names)
}

/// The manifests that were not read, each once.
fn remembered_digests(manifests: &[SeenManifest]) -> impl Iterator<Item = Digest> {
    let same = manifests.chunk_by(|a, b| a.digest == b.digest);
    same.filter(|same| same.iter().any(|manifest| manifest.cached))
        .map(|same| same[0].digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_follow_the_folders() {
        let mut space = BlobSpace::default();
        space
            .folders
            .entry(Algorithm::Sha256)
            .or_default()
            .insert("ab".to_owned());
        let names = |digits| -> Vec<String> {
            let digits = ShardDigits::try_from(digits).unwrap();
            space.shards(digits).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(1), ["sha256-a"]);
        assert_eq!(names(2), ["sha256-ab"]);
        let finer = names(3);
        assert_eq!(finer.len(), 16);
        assert_eq!(
            (finer[0].as_str(), finer[15].as_str()),
            ("sha256-ab0", "sha256-abf")
        );
    }
}
