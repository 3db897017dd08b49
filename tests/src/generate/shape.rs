//! The parameters of a generated registry, and the presets.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use anyhow::{Result, bail};

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
    /// The shape of this name: `small`, or that of a benchmark, `filesystem`, `s3` or `scale-out`.
    ///
    /// # Errors
    ///
    /// Another name.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "small" => Self::small(1),
            "filesystem" => Self::filesystem_benchmark(),
            "s3" => Self::s3_benchmark(),
            "scale-out" => Self::scale_out_benchmark(),
            other => bail!("there is no shape {other:?}: small, filesystem, s3, scale-out"),
        })
    }

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

    /// The scale-out benchmark: 60,000 blobs that few images need, three of ten old enough to go, without links.
    pub fn scale_out_benchmark() -> Self {
        Self {
            orphans: 18_000,
            young_orphans: 42_000,
            linked_orphans_percent: 0,
            blob_bytes: 16..=64,
            ..Self::small(9)
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
