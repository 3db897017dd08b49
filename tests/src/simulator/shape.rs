//! What a simulated registry is made from.

use anyhow::{Result, ensure};
use jiff::Timestamp;

use super::Hash;
use super::digests::FOLDERS;
use super::mixing::{LogNormal, below};

const DAY: u64 = 86_400;
/// What is not young was written between two days ago and this.
const OLDEST: u64 = 700 * DAY;
const YOUNGEST_OLD: u64 = 2 * DAY;
const HOUR: u64 = 3_600;

/// What a simulated registry is made from. Equal shapes give equal registries.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedShape {
    /// Everything random comes from this.
    pub seed: u64,
    /// Blobs, manifests among them.
    pub blobs: u64,
    /// Manifests of all kinds, deleted ones among them.
    pub manifests: u64,
    /// Repositories; one in a hundred is forty times as large as the others.
    pub repositories: u64,
    /// Tenants: the first parts of repositories' names.
    pub tenants: u64,
    /// The share of the blobs that nothing references: those of deleted images.
    pub orphans: f64,
    /// The share of the deleted images whose layer links are still there.
    pub dangling: f64,
    /// The share of the blobs that nothing references and that are younger than an hour.
    pub young: f64,
    /// Layers' blobs lie in the first so many of the 256 folders. In real registries they lie in all.
    pub folders: u64,
    /// Bytes of a layer.
    pub layer_bytes: LogNormal,
    /// The time that everything was written before.
    pub now: Timestamp,
}

impl SimulatedShape {
    /// A registry of so many blobs: a tenth of them manifests, 64 manifests a repository, 50 repositories a tenant.
    #[must_use]
    pub fn of(blobs: u64, now: Timestamp) -> Self {
        let manifests = (blobs / 10).max(1);
        let repositories = (manifests / 64).max(1);
        Self {
            seed: 1,
            blobs,
            manifests,
            repositories,
            tenants: (repositories / 50).clamp(1, 1_000),
            orphans: 0.3,
            dangling: 0.5,
            young: 0.002,
            folders: FOLDERS,
            layer_bytes: LogNormal {
                median: 600_000.0,
                sigma: 2.0,
            },
            now,
        }
    }

    /// The same with another number of manifests, and repositories to match.
    #[must_use]
    pub fn with_manifests(mut self, manifests: u64) -> Self {
        self.manifests = manifests;
        self.repositories = (manifests / 64).max(1);
        self.tenants = (self.repositories / 50).clamp(1, 1_000);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.manifests >= 1 && self.blobs >= 3 * self.manifests,
            "a manifest needs a config and a layer: at least three times as many blobs as manifests"
        );
        ensure!(self.blobs <= 1 << 31, "at most 2^31 blobs");
        ensure!(
            self.repositories >= 1 && self.tenants >= 1 && self.tenants <= self.repositories,
            "a registry has repositories, and no more tenants than these"
        );
        ensure!(
            (1..=FOLDERS).contains(&self.folders),
            "blobs lie in 1 to {FOLDERS} folders"
        );
        let shares = [self.orphans, self.young, self.dangling];
        ensure!(
            shares.iter().all(|share| (0.0..=1.0).contains(share)) && self.orphans + self.young <= 0.95,
            "shares lie between 0 and 1; orphans and young ones together are at most 0.95 of all"
        );
        Ok(())
    }

    /// When the object of a digest was written: to the second.
    pub(super) fn written(&self, digest: &Hash, is_young: bool) -> Timestamp {
        let tail: [u8; 8] = digest[24..].try_into().expect("the last 8 of 32 bytes are 8");
        let mixed = u64::from_le_bytes(tail);
        let age = if is_young {
            below(mixed, HOUR)
        } else {
            YOUNGEST_OLD + below(mixed, OLDEST - YOUNGEST_OLD)
        };
        let age = i64::try_from(age).expect("two years of seconds fit");
        Timestamp::from_second(self.now.as_second() - age).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}
