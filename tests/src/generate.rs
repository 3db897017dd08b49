//! A whole synthetic registry in the Distribution layout, written past the registry in seconds, and the truth about
//! it: which blobs live and which are orphans. The benchmarks' registries are its presets.

mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow, ensure};

use crate::content::Seeded;
use crate::manifests::{self, Content, Family};
use crate::storage_writer::{
    Storage, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key,
};
use crate::truth::{Ledger, Need, Tag};

pub use shape::Shape;

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

struct Registry<'a> {
    shape: &'a Shape,
    seeded: Seeded,
    base: Vec<Content>,
    objects: Objects,
    ledger: Ledger,
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
            ledger: Ledger::default(),
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
            if number < shape.orphans {
                self.blob(&orphan, Need::Nothing);
            } else {
                let an_hour_ago = shape.now - Duration::from_secs(3600);
                self.truth
                    .young_orphans
                    .insert(orphan.digest.clone(), orphan.size());
                self.objects
                    .insert(blob_key(&orphan.digest), (orphan.bytes, an_hour_ago));
                continue;
            }
            if number * 37 % 100 < shape.linked_orphans_percent {
                let repository = repository_name(number % shape.repositories, shape.repositories);
                self.link(layer_link_key(&repository, &orphan.digest), &orphan.digest);
                self.truth.dangling_links.insert((repository, orphan.digest));
            }
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
        if self.ledger.note(blob, need) {
            let modified = self.age();
            self.objects
                .insert(blob_key(&blob.digest), (blob.bytes.clone(), modified));
        }
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
        truth.live = self.ledger.of(Need::Tagged);
        truth.untagged = self.ledger.of(Need::Untagged);
        truth.orphans = self.ledger.of(Need::Nothing);
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
