//! Who is there, and who names whom, by arithmetic alone.
//!
//! Manifests come in blocks of 16: eight images by themselves, two indexes with two children each, an image and an artifact
//! about it. What stands and falls together is a *group*; a group is live, or was deleted, or was deleted a moment ago.
//! Repositories are runs of blocks. Each manifest that is no index has a config and layers of its own; most have a base
//! image below them, too, whose layers are *hot*: a few of those are in most images.

use std::collections::HashSet;
use std::ops::Range;

use anyhow::Result;

use super::mixing::{below, fraction, mix};
use super::shape::SimulatedShape;

/// Manifests of a block.
pub(super) const BLOCK: u64 = 16;
/// Groups of a block: slots 0 to 7 are one each, then two indexes, then an image with its artifact.
pub(super) const GROUPS: u64 = 11;
/// Manifests of a block that have layers.
const IMAGES: u64 = 14;
/// Layers of a base image.
const BASE_LAYERS: u64 = 3;
/// The first repository of each so many is so many times as large as the others.
const HUNDRED: u64 = 100;
const LARGE: u64 = 40;

/// What a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    DockerImage,
    OciImage,
    Schema1,
    /// Of the two manifests before it.
    DockerList,
    /// Of the two manifests before it.
    OciIndex,
    /// About the manifest before it.
    Artifact,
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Live,
    /// Deleted: its blobs are orphans.
    Deleted,
    /// Deleted within the last hour: its blobs are too young to go.
    Young,
}

#[derive(Debug)]
pub(super) struct Population {
    pub shape: SimulatedShape,
    /// Layers and configs: the hot ones first, then those of each image.
    pub plain: u64,
    pub hot: u64,
    images: u64,
    blocks: u64,
    fate_key: u64,
    image_key: u64,
    size_key: u64,
}

impl Population {
    /// # Errors
    ///
    /// A shape that cannot be.
    pub fn new(shape: SimulatedShape) -> Result<Self> {
        shape.check()?;
        let plain = shape.blobs - shape.manifests;
        // A base image for a thousand manifests, and never more than a tenth of all layers.
        let bases = (shape.manifests / 1000)
            .clamp(1, 5_000)
            .min(plain / 10 / BASE_LAYERS);
        let blocks = shape.manifests.div_ceil(BLOCK);
        let key = |what| mix(shape.seed, what);
        Ok(Self {
            plain,
            hot: bases * BASE_LAYERS,
            images: images_before(shape.manifests),
            blocks,
            fate_key: key(0xFA7E),
            image_key: key(0x13A6E),
            size_key: key(0x512E),
            shape,
        })
    }

    pub fn repositories(&self) -> u64 {
        self.shape.repositories.min(self.blocks)
    }

    pub fn groups(&self) -> u64 {
        self.blocks * GROUPS
    }

    /// The blocks of a repository.
    pub fn blocks_of(&self, repository: u64) -> Range<u64> {
        self.first_block(repository)..self.first_block(repository + 1)
    }

    /// The manifests of a repository.
    pub fn manifests_of(&self, repository: u64) -> Range<u64> {
        let blocks = self.blocks_of(repository);
        let end = |block: u64| (block * BLOCK).min(self.shape.manifests);
        end(blocks.start)..end(blocks.end)
    }

    fn first_block(&self, repository: u64) -> u64 {
        let weight_before = |repository: u64| {
            let (hundreds, rest) = (repository / HUNDRED, repository % HUNDRED);
            hundreds * (LARGE + HUNDRED - 1) + if rest == 0 { 0 } else { LARGE + rest - 1 }
        };
        self.blocks * weight_before(repository) / weight_before(self.repositories())
    }

    pub fn kind(manifest: u64) -> Kind {
        let block = manifest / BLOCK;
        match manifest % BLOCK {
            7 if block % 16 == 5 => Kind::Schema1,
            0..=3 | 11 | 12 => Kind::DockerImage,
            10 => Kind::OciIndex,
            13 => Kind::DockerList,
            15 => Kind::Artifact,
            _ => Kind::OciImage,
        }
    }

    pub fn group_of(&self, manifest: u64) -> u64 {
        let of_block = match manifest % BLOCK {
            slot @ 0..=7 => slot,
            8..=10 => 8,
            11..=13 => 9,
            _ => 10,
        };
        manifest / BLOCK * GROUPS + of_block
    }

    /// The manifest of a group that a tag names; beyond the last manifest, there is none.
    pub fn tagged(&self, group: u64) -> u64 {
        let slot = match group % GROUPS {
            8 => 10,
            9 => 13,
            10 => 14,
            slot => slot,
        };
        group / GROUPS * BLOCK + slot
    }

    pub fn fate(&self, group: u64) -> Fate {
        let chance = fraction(mix(self.fate_key, group));
        if chance < self.shape.orphans {
            Fate::Deleted
        } else if chance < self.shape.orphans + self.shape.young {
            Fate::Young
        } else {
            Fate::Live
        }
    }

    /// Whether the repository has the layer links of a group: of live ones always, of deleted ones mostly.
    pub fn has_links(&self, group: u64) -> bool {
        self.fate(group) == Fate::Live || fraction(mix(!self.fate_key, group)) < self.shape.dangling
    }

    /// The layers that a manifest has for itself; the first is its config. Indexes have none.
    pub fn own_layers(&self, manifest: u64) -> Range<u64> {
        match Self::kind(manifest) {
            Kind::DockerList | Kind::OciIndex => 0..0,
            _ => {
                let image = images_before(manifest);
                self.hot + self.first_own(image)..self.hot + self.first_own(image + 1)
            }
        }
    }

    /// Where the layers of an image begin, behind the hot ones. No image has none, none has twice as many as others have.
    fn first_own(&self, image: u64) -> u64 {
        let all = self.plain - self.hot;
        let even = all * image / self.images;
        if image == 0 || image >= self.images {
            return even;
        }
        let each = all / self.images;
        even + mix(self.image_key, image) % each - each / 2
    }

    /// The hot layers of a manifest: those of its base image, if it has one.
    pub fn base_layers(&self, manifest: u64) -> Range<u64> {
        let chance = mix(!self.image_key, manifest);
        let has_base = match Self::kind(manifest) {
            Kind::DockerList | Kind::OciIndex | Kind::Artifact => false,
            _ => chance % 10 < 8,
        };
        if !has_base {
            return 0..0;
        }
        // The product of three numbers in 0..1: half of all images share a twelfth of the base images.
        let part = |number| mix(chance, number);
        let base = below(below(part(1), below(part(2), part(3))), self.hot / BASE_LAYERS);
        base * BASE_LAYERS..(base + 1) * BASE_LAYERS
    }

    /// The group whose own a layer is; a hot one is nobody's.
    pub fn owner(&self, layer: u64) -> Option<u64> {
        let own = layer.checked_sub(self.hot)?;
        let all = self.plain - self.hot;
        let mut image = (own * self.images / all).min(self.images - 1);
        while self.first_own(image) > own {
            image -= 1;
        }
        while self.first_own(image + 1) <= own {
            image += 1;
        }
        Some(self.group_of(image_at(image)))
    }

    /// Bytes of a layer.
    pub fn layer_bytes(&self, layer: u64) -> u64 {
        let mixed = mix(self.size_key, layer);
        let bytes = self
            .shape
            .layer_bytes
            .at(fraction(mixed), fraction(mix(mixed, 1)));
        to_bytes(bytes)
    }

    /// Hot layers that no live manifest uses.
    pub fn cold_layers(&self) -> HashSet<u64> {
        let mut cold: HashSet<u64> = (0..self.hot).collect();
        for manifest in 0..self.shape.manifests {
            if cold.is_empty() {
                break;
            }
            if self.fate(self.group_of(manifest)) == Fate::Live {
                for layer in self.base_layers(manifest) {
                    cold.remove(&layer);
                }
            }
        }
        cold
    }
}

/// Up to 4 GiB: larger ones are not met.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within 64 bytes and 4 GiB"
)]
fn to_bytes(bytes: f64) -> u64 {
    bytes.clamp(64.0, 4_294_967_296.0) as u64
}

/// The manifests with layers among the first so many.
fn images_before(manifest: u64) -> u64 {
    let of_block = match manifest % BLOCK {
        slot @ 0..=10 => slot,
        slot @ 11..=13 => slot - 1,
        slot => slot - 2,
    };
    manifest / BLOCK * IMAGES + of_block
}

/// The manifest that is the so-manieth with layers.
fn image_at(image: u64) -> u64 {
    let slot = match image % IMAGES {
        place @ 0..=9 => place,
        place @ 10..=11 => place + 1,
        place => place + 2,
    };
    image / IMAGES * BLOCK + slot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn population() -> Population {
        Population::new(SimulatedShape::of(7_000, jiff::Timestamp::UNIX_EPOCH)).unwrap()
    }

    #[test]
    fn every_layer_of_its_own_has_one_owner() {
        let population = population();
        let mut next = population.hot;
        for manifest in 0..population.shape.manifests {
            let own = population.own_layers(manifest);
            if own.is_empty() {
                assert!(matches!(
                    Population::kind(manifest),
                    Kind::OciIndex | Kind::DockerList
                ));
                continue;
            }
            assert_eq!(own.start, next);
            next = own.end;
            for layer in own {
                assert_eq!(population.owner(layer), Some(population.group_of(manifest)));
            }
        }
        assert_eq!(next, population.plain);
        assert_eq!(population.owner(0), None);
    }

    #[test]
    fn repositories_share_all_manifests_among_them() {
        let population = population();
        let mut next = 0;
        for repository in 0..population.repositories() {
            let manifests = population.manifests_of(repository);
            assert_eq!(manifests.start, next);
            next = manifests.end;
        }
        assert_eq!(next, population.shape.manifests);
    }

    #[test]
    fn a_group_names_a_manifest_of_its_own() {
        let population = population();
        for group in 0..population.groups() {
            let tagged = population.tagged(group);
            assert_eq!(population.group_of(tagged), group);
        }
    }

    #[test]
    fn the_shares_are_about_what_was_asked_for() {
        let population = population();
        let deleted = (0..population.groups())
            .filter(|group| population.fate(*group) == Fate::Deleted)
            .count();
        let share = deleted * 100 / usize::try_from(population.groups()).unwrap();
        assert!((25..=35).contains(&share), "{share} %");
    }
}
