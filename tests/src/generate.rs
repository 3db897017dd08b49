//! A whole synthetic registry in the Distribution layout, written past the registry in seconds, and the truth about
//! it: which blobs live and which are orphans. The benchmarks' registries are its presets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow, ensure};

use crate::content::Seeded;
use crate::manifests::{self, Content, Family};
use crate::storage_writer::{
    Storage, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};

/// What the registry is to look like. All counts are exact; equal shapes give equal registries.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Everything random comes from this.
    pub seed: u64,
    /// Repositories; every third has a name of two parts, and some of those lie inside another's folder.
    pub repositories: usize,
    /// Image manifests, dealt out to the repositories in turn.
    pub images: usize,
    /// How many of the images are tagless children of an index, in percent.
    pub multi_arch_percent: usize,
    /// Children of one index.
    pub images_per_index: usize,
    /// Images with neither a tag nor an index; live unless untagged manifests are to go.
    pub untagged_images: usize,
    /// Images that have a cosign signature: an image of its own under the tag `sha256-<hex>.sig`.
    pub signatures: usize,
    /// Layers that no other image has; the images go through the range in turn.
    pub own_layers: RangeInclusive<usize>,
    /// Layers of base images, shared by the images of all repositories.
    pub base_layers: usize,
    /// How many of them an image on a base uses.
    pub base_layers_per_image: usize,
    /// How many images are built on a base, in percent.
    pub shared_base_percent: usize,
    /// Blobs that no manifest names.
    pub orphans: usize,
    /// How many of the orphans have left a layer link behind, in percent.
    pub linked_orphans_percent: usize,
    /// Blobs that no manifest names and that are an hour old: kept by any sane cutoff.
    pub young_orphans: usize,
    /// Bytes of a layer or orphan.
    pub blob_bytes: RangeInclusive<u64>,
    /// Ages in days of everything but the young orphans.
    pub age_days: RangeInclusive<u64>,
    /// What ages count from.
    pub now: SystemTime,
}

impl Shape {
    /// A few repositories with some of everything, for tests that make many.
    pub fn small(seed: u64) -> Self {
        Self {
            seed,
            repositories: 7,
            images: 40,
            multi_arch_percent: 20,
            images_per_index: 2,
            untagged_images: 5,
            signatures: 4,
            own_layers: 1..=3,
            base_layers: 6,
            base_layers_per_image: 3,
            shared_base_percent: 60,
            orphans: 30,
            linked_orphans_percent: 50,
            young_orphans: 6,
            blob_bytes: 16..=400,
            age_days: 2..=900,
            now: SystemTime::now(),
        }
    }

    /// The filesystem benchmark: 5,000 images, 28,143 live and 10,004 orphan blobs, about 110,000 files.
    pub fn filesystem_benchmark() -> Self {
        Self {
            seed: 5_000,
            repositories: 920,
            images: 5_000,
            multi_arch_percent: 16,
            images_per_index: 2,
            untagged_images: 0,
            signatures: 100,
            own_layers: 3..=4,
            base_layers: 42,
            base_layers_per_image: 7,
            shared_base_percent: 100,
            orphans: 10_004,
            linked_orphans_percent: 100,
            young_orphans: 0,
            ..Self::small(0)
        }
    }

    /// The S3 benchmark: 1,000 images in 1,100 manifests, 5,665 live and 2,004 orphan blobs.
    pub fn s3_benchmark() -> Self {
        Self {
            seed: 1_000,
            repositories: 180,
            images: 1_000,
            signatures: 20,
            base_layers: 44,
            orphans: 2_004,
            ..Self::filesystem_benchmark()
        }
    }
}

/// A tag and what it names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The repository's name.
    pub repository: String,
    /// The tag's name.
    pub tag: String,
    /// The digest of the manifest that it names.
    pub digest: String,
}

/// What a generated registry really holds: blob digests with sizes, in sets that share nothing.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// Blobs that a tag needs, through indexes too, manifests included.
    pub live: BTreeMap<String, u64>,
    /// Blobs that only untagged manifests need, those included: orphans if untagged manifests are to go.
    pub untagged: BTreeMap<String, u64>,
    /// Blobs that nothing names.
    pub orphans: BTreeMap<String, u64>,
    /// Blobs that nothing names and that are too young to go.
    pub young_orphans: BTreeMap<String, u64>,
    /// Layer links to orphans, repository and digest.
    pub dangling_links: BTreeSet<(String, String)>,
    /// Every tag.
    pub tags: Vec<Tag>,
    /// Revision links: manifests as the repositories count them.
    pub manifests: usize,
    /// Objects written.
    pub objects: usize,
    /// Bytes written, links included.
    pub bytes: u64,
}

impl Truth {
    /// Bytes of the orphans: what a prune is to free.
    pub fn orphan_bytes(&self) -> u64 {
        self.orphans.values().sum()
    }
}

/// Writes the registry of a shape into an empty storage.
pub fn generate(shape: &Shape, storage: &dyn Storage) -> Result<Truth> {
    ensure!(
        shape.repositories > 0 && shape.images_per_index > 0,
        "a shape needs repositories and children"
    );
    ensure!(
        shape.base_layers >= shape.base_layers_per_image,
        "an image cannot use more base layers than there are"
    );
    let mut registry = Registry::new(shape);
    registry.images();
    registry.orphans();
    write(storage, &registry.objects)?;
    Ok(registry.into_truth())
}

/// One object that is to be written: key, bytes, time.
type Objects = BTreeMap<String, (Vec<u8>, SystemTime)>;

/// Objects are many and small, so the time goes into system calls: two threads on any machine help.
fn write(storage: &dyn Storage, objects: &Objects) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let objects: Vec<_> = objects.iter().collect();
    let share = objects.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let writers: Vec<_> = objects
            .chunks(share)
            .map(|chunk| {
                scope.spawn(move || {
                    chunk
                        .iter()
                        .try_for_each(|(key, (bytes, modified))| storage.put(key, bytes, *modified))
                })
            })
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| anyhow!("a writer panicked"))?)
    })
}

/// What needs a blob; a tag's need is the stronger one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Untagged,
    Tagged,
}

struct Registry<'a> {
    shape: &'a Shape,
    seeded: Seeded,
    base: Vec<Content>,
    objects: Objects,
    needs: BTreeMap<String, Need>,
    truth: Truth,
}

impl<'a> Registry<'a> {
    fn new(shape: &'a Shape) -> Self {
        let mut seeded = Seeded::new(shape.seed);
        let base = (0..shape.base_layers)
            .map(|_| {
                let length = seeded.between(*shape.blob_bytes.start(), *shape.blob_bytes.end());
                manifests::layer(Family::Docker, &mut seeded, length)
            })
            .collect();
        Self {
            shape,
            seeded,
            base,
            objects: Objects::new(),
            needs: BTreeMap::new(),
            truth: Truth::default(),
        }
    }

    /// Images go to the repositories in turn; the children of an index go to one repository together.
    fn images(&mut self) {
        let shape = self.shape;
        let children =
            shape.images * shape.multi_arch_percent / 100 / shape.images_per_index * shape.images_per_index;
        let untagged = shape.untagged_images.min(shape.images - children);
        let mut signatures = shape.signatures;
        let mut number = 0;
        while number < shape.images {
            let repository = repository_name(number % shape.repositories, shape.repositories);
            let tag = format!("v{}", number / shape.repositories);
            if number < children {
                let family = if number.is_multiple_of(4) {
                    Family::Docker
                } else {
                    Family::Oci
                };
                let images: Vec<Content> = (number..number + shape.images_per_index)
                    .map(|child| self.image(child, family, &repository, Need::Tagged))
                    .collect();
                let index = manifests::index(family, &images.iter().collect::<Vec<_>>());
                self.manifest(&repository, &index, Need::Tagged);
                self.tag(&repository, &format!("multi-{tag}"), &index);
                number += shape.images_per_index;
                continue;
            }
            let family = if number.is_multiple_of(3) {
                Family::Oci
            } else {
                Family::Docker
            };
            if number < children + untagged {
                self.image(number, family, &repository, Need::Untagged);
            } else {
                let image = self.image(number, family, &repository, Need::Tagged);
                self.tag(&repository, &tag, &image);
                if signatures > 0 {
                    signatures -= 1;
                    self.signature(&repository, &image);
                }
            }
            number += 1;
        }
    }

    fn image(&mut self, number: usize, family: Family, repository: &str, need: Need) -> Content {
        let shape = self.shape;
        let mut layers = Vec::new();
        if number * 37 % 100 < shape.shared_base_percent && !self.base.is_empty() {
            let first = usize::try_from(self.seeded.number() % self.base.len() as u64).unwrap_or(0);
            let from_base = self
                .base
                .iter()
                .cycle()
                .skip(first)
                .take(shape.base_layers_per_image);
            layers.extend(from_base.cloned());
        }
        let choices = shape.own_layers.end() - shape.own_layers.start() + 1;
        for _ in 0..shape.own_layers.start() + number % choices {
            let length = self.blob_length();
            layers.push(manifests::layer(family, &mut self.seeded, length));
        }
        let all: Vec<&Content> = layers.iter().collect();
        let config = manifests::config(family, &format!("machine-{number}"), &all);
        let image = manifests::image(family, &config, &all, None);
        for part in all.into_iter().chain([&config]) {
            self.linked_blob(repository, part, need);
        }
        self.manifest(repository, &image, need);
        image
    }

    fn signature(&mut self, repository: &str, signed: &Content) {
        let length = self.blob_length();
        let layer = manifests::layer(Family::Oci, &mut self.seeded, length);
        let config = manifests::empty_config();
        let signature = manifests::image(Family::Oci, &config, &[&layer], None);
        self.linked_blob(repository, &layer, Need::Tagged);
        self.linked_blob(repository, &config, Need::Tagged);
        self.manifest(repository, &signature, Need::Tagged);
        self.tag(
            repository,
            &format!("{}.sig", signed.digest.replace(':', "-")),
            &signature,
        );
    }

    fn orphans(&mut self) {
        let shape = self.shape;
        for number in 0..shape.orphans + shape.young_orphans {
            let length = self.blob_length();
            let orphan = manifests::layer(Family::Docker, &mut self.seeded, length);
            let young = number >= shape.orphans;
            let modified = if young {
                shape.now - Duration::from_secs(3600)
            } else {
                self.age()
            };
            let into = if young {
                &mut self.truth.young_orphans
            } else {
                &mut self.truth.orphans
            };
            into.insert(orphan.digest.clone(), orphan.size());
            if !young && number * 37 % 100 < shape.linked_orphans_percent {
                let repository = repository_name(number % shape.repositories, shape.repositories);
                self.link(layer_link_key(&repository, &orphan.digest), &orphan.digest);
                self.truth
                    .dangling_links
                    .insert((repository, orphan.digest.clone()));
            }
            self.objects
                .insert(blob_key(&orphan.digest), (orphan.bytes, modified));
        }
    }

    fn manifest(&mut self, repository: &str, manifest: &Content, need: Need) {
        self.blob(manifest, need);
        self.link(revision_link_key(repository, &manifest.digest), &manifest.digest);
        self.truth.manifests += 1;
    }

    fn tag(&mut self, repository: &str, tag: &str, manifest: &Content) {
        self.link(tag_link_key(repository, tag), &manifest.digest);
        self.link(tag_index_key(repository, tag, &manifest.digest), &manifest.digest);
        let (repository, tag, digest) = (repository.to_string(), tag.to_string(), manifest.digest.clone());
        self.truth.tags.push(Tag {
            repository,
            tag,
            digest,
        });
    }

    fn linked_blob(&mut self, repository: &str, blob: &Content, need: Need) {
        self.blob(blob, need);
        self.link(layer_link_key(repository, &blob.digest), &blob.digest);
    }

    fn blob(&mut self, blob: &Content, need: Need) {
        let known = self.needs.get(&blob.digest).copied();
        if known.is_none() {
            let modified = self.age();
            self.objects
                .insert(blob_key(&blob.digest), (blob.bytes.clone(), modified));
        }
        self.needs
            .insert(blob.digest.clone(), known.map_or(need, |known| known.max(need)));
    }

    fn link(&mut self, key: String, digest: &str) {
        let modified = self.age();
        self.objects.insert(key, (digest.as_bytes().to_vec(), modified));
    }

    fn age(&mut self) -> SystemTime {
        let days = self
            .seeded
            .between(*self.shape.age_days.start(), *self.shape.age_days.end());
        self.shape.now - Duration::from_secs(86_400 * days)
    }

    fn blob_length(&mut self) -> u64 {
        self.seeded
            .between(*self.shape.blob_bytes.start(), *self.shape.blob_bytes.end())
    }

    fn into_truth(self) -> Truth {
        let mut truth = self.truth;
        for (digest, need) in self.needs {
            let size = self
                .objects
                .get(&blob_key(&digest))
                .map_or(0, |(bytes, _)| bytes.len() as u64);
            let into = if need == Need::Tagged {
                &mut truth.live
            } else {
                &mut truth.untagged
            };
            into.insert(digest, size);
        }
        truth.objects = self.objects.len();
        truth.bytes = self.objects.values().map(|(bytes, _)| bytes.len() as u64).sum();
        truth
    }
}

/// Names as they are met: `team-3`, `team-4/app-4`, and `team-3/app-5` inside the folder of `team-3`.
fn repository_name(number: usize, repositories: usize) -> String {
    let width = repositories.to_string().len();
    match number % 3 {
        0 => format!("team-{number:0width$}"),
        1 => format!("team-{number:0width$}/app-{number}"),
        _ => format!("team-{:0width$}/app-{number}", number - 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{Roots, check_bytes, check_storage};
    use crate::inventory::Inventory;
    use crate::storage_writer::Memory;

    fn generated(shape: &Shape) -> (Memory, Truth) {
        let storage = Memory::default();
        let truth = generate(shape, &storage).unwrap();
        (storage, truth)
    }

    #[test]
    fn the_truth_is_what_the_checker_finds() {
        let shape = Shape::small(3);
        let (storage, truth) = generated(&shape);
        assert_eq!(truth.orphans.len(), shape.orphans);
        assert_eq!(truth.young_orphans.len(), shape.young_orphans);
        assert_eq!(truth.dangling_links.len(), shape.orphans / 2);

        let mut tagged = check_storage(&storage, Roots::Tags).unwrap();
        check_bytes(&storage, &mut tagged).unwrap();
        assert_eq!(tagged.violations, BTreeSet::new());
        assert_eq!(tagged.live_blobs, truth.live);

        let all = check_storage(&storage, Roots::Revisions).unwrap();
        assert_eq!(all.violations, BTreeSet::new());
        assert_eq!(all.live_manifests.len(), truth.manifests);
        assert_eq!(
            all.live_blobs,
            truth.live.into_iter().chain(truth.untagged).collect()
        );
    }

    #[test]
    fn equal_shapes_give_equal_registries() {
        let inventory = |seed| Inventory::take(&generated(&Shape::small(seed)).0).unwrap();
        assert_eq!(inventory(4), inventory(4));
        assert_ne!(inventory(4), inventory(5));
    }

    #[test]
    fn ages_are_as_the_shape_says() {
        let shape = Shape::small(6);
        let (storage, truth) = generated(&shape);
        let age = |digest| {
            shape
                .now
                .duration_since(storage.modified(&blob_key(digest)).unwrap())
                .unwrap()
        };
        let oldest = Duration::from_secs(86_400 * *shape.age_days.end());
        let youngest = Duration::from_secs(86_400 * *shape.age_days.start());
        assert!(
            truth
                .orphans
                .keys()
                .all(|digest| (youngest..=oldest).contains(&age(digest)))
        );
        assert!(truth.young_orphans.keys().all(|digest| age(digest) < youngest));
    }

    #[test]
    fn the_benchmarks_registries_have_the_sizes_they_are_known_by() {
        let (_, truth) = generated(&Shape::s3_benchmark());
        assert_eq!(
            (truth.manifests, truth.live.len(), truth.orphans.len()),
            (1_100, 5_665, 2_004)
        );
        let (storage, truth) = generated(&Shape::filesystem_benchmark());
        assert_eq!(
            (truth.manifests, truth.live.len(), truth.orphans.len()),
            (5_500, 28_143, 10_004)
        );
        assert_eq!(storage.keys().unwrap().len(), truth.objects);
        assert!(
            (109_500..=110_500).contains(&truth.objects),
            "{} files",
            truth.objects
        );
    }
}
