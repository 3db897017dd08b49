//! What a prune of a simulated registry should do, and what one did. Both are worked out from the arithmetic of who names
//! whom, not from what requests asked for.

use std::ops::{AddAssign, Bound, ControlFlow, Range};
use std::thread;

use serde::Serialize;

use super::keys::Key;
use super::population::Fate;
use super::{Hash, Simulated};

/// What is in a registry at its start, and what of it is to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// All keys.
    pub keys: u64,
    /// Keys below `repositories/`.
    pub links: u64,
    /// Revision links: the manifests that a mark must read.
    pub revisions: u64,
    /// Blobs that nothing references and that are old enough.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Layer links to orphans.
    pub dangling_links: u64,
    /// Blobs that live manifests name, those manifests among them.
    pub live: u64,
}

/// What has become of a registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Orphans that are gone.
    pub orphans_gone: u64,
    /// Their bytes.
    pub orphan_bytes_gone: u64,
    /// Orphans that are there.
    pub orphans_left: u64,
    /// Their bytes.
    pub orphan_bytes_left: u64,
    /// Dangling layer links that are gone.
    pub dangling_gone: u64,
    /// Dangling layer links that are there.
    pub dangling_left: u64,
    /// Blobs that are gone and should not: those that are referenced, and those that are too young.
    pub blobs_lost: u64,
    /// Links that are gone and should not.
    pub links_lost: u64,
}

impl Verdict {
    /// Whether nothing is gone that should not.
    #[must_use]
    pub fn nothing_is_lost(&self) -> bool {
        self.blobs_lost == 0 && self.links_lost == 0
    }

    /// Whether everything is gone that should, and nothing else.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.nothing_is_lost() && self.orphans_left == 0 && self.dangling_left == 0
    }

    fn blob(&mut self, is_orphan: bool, is_removed: bool, bytes: impl FnOnce() -> u64) {
        match (is_orphan, is_removed) {
            (true, true) => {
                self.orphans_gone += 1;
                self.orphan_bytes_gone += bytes();
            }
            (true, false) => {
                self.orphans_left += 1;
                self.orphan_bytes_left += bytes();
            }
            (false, true) => self.blobs_lost += 1,
            (false, false) => {}
        }
    }

    fn link(&mut self, dangles: bool, is_removed: bool) {
        match (dangles, is_removed) {
            (true, true) => self.dangling_gone += 1,
            (true, false) => self.dangling_left += 1,
            (false, true) => self.links_lost += 1,
            (false, false) => {}
        }
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        let Self {
            orphans_gone,
            orphan_bytes_gone,
            orphans_left,
            orphan_bytes_left,
            dangling_gone,
            dangling_left,
            blobs_lost,
            links_lost,
        } = other;
        self.orphans_gone += orphans_gone;
        self.orphan_bytes_gone += orphan_bytes_gone;
        self.orphans_left += orphans_left;
        self.orphan_bytes_left += orphan_bytes_left;
        self.dangling_gone += dangling_gone;
        self.dangling_left += dangling_left;
        self.blobs_lost += blobs_lost;
        self.links_lost += links_lost;
    }
}

/// What a pass over some repositories adds up.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    verdict: Verdict,
    links: u64,
    revisions: u64,
    live: u64,
}

impl Simulated {
    /// What the registry had at its start, and what of it is to go.
    #[must_use]
    pub fn expected(&self) -> Expected {
        let (sums, shape) = (self.add_up(), self.shape());
        let verdict = sums.verdict;
        Expected {
            keys: shape.blobs + sums.links,
            links: sums.links,
            revisions: sums.revisions,
            orphans: verdict.orphans_gone + verdict.orphans_left,
            orphan_bytes: verdict.orphan_bytes_gone + verdict.orphan_bytes_left,
            dangling_links: verdict.dangling_gone + verdict.dangling_left,
            live: sums.live,
        }
    }

    /// What has become of the registry until now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.add_up().verdict
    }

    fn add_up(&self) -> Sums {
        let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let repositories = self.population.repositories();
        let parts: Vec<Range<u64>> = (0..threads)
            .map(|part| repositories * part / threads..repositories * (part + 1) / threads)
            .collect();
        let mut sums = thread::scope(|scope| {
            let parts: Vec<_> = parts
                .into_iter()
                .map(|part| scope.spawn(|| self.add_up_repositories(part)))
                .collect();
            parts.into_iter().fold(Sums::default(), |mut all, part| {
                let part = part.join().expect("adding up does not panic");
                all.verdict += part.verdict;
                all.links += part.links;
                all.revisions += part.revisions;
                all.live += part.live;
                all
            })
        });
        for layer in 0..self.population.hot {
            let is_cold = self.cold.contains(&layer);
            sums.live += u64::from(!is_cold);
            let position = self.digests.position_of(layer);
            sums.verdict
                .blob(is_cold, self.removed.is_layer_removed(position), || {
                    self.population.layer_bytes(layer)
                });
        }
        // Links to hot layers are counted as if all were there: those that are gone have names.
        for name in self.removed.others().iter() {
            match self.parse(name) {
                Some(Key::LayerLink { position, .. })
                    if self.cold.contains(&self.digests.layer_at(position)) =>
                {
                    sums.verdict.dangling_left -= 1;
                    sums.verdict.dangling_gone += 1;
                }
                _ => sums.verdict.links_lost += 1,
            }
        }
        sums
    }

    fn add_up_repositories(&self, repositories: Range<u64>) -> Sums {
        let population = &self.population;
        let mut sums = Sums::default();
        let mut hot = Vec::new();
        for repository in repositories {
            hot.clear();
            for manifest in population.manifests_of(repository) {
                let group = population.group_of(manifest);
                let (fate, has_links) = (population.fate(group), population.has_links(group));
                let is_orphan = fate == Fate::Deleted;
                sums.verdict
                    .blob(is_orphan, self.removed.is_manifest_removed(manifest), || {
                        self.manifests.size(manifest)
                    });
                let own = population.own_layers(manifest);
                if fate == Fate::Live {
                    sums.revisions += 1;
                    sums.live += 1 + own.end - own.start;
                    sums.links += if population.tagged(group) == manifest {
                        3
                    } else {
                        1
                    };
                }
                if has_links {
                    hot.extend(population.base_layers(manifest));
                    sums.links += own.end - own.start;
                }
                for layer in own {
                    let position = self.digests.position_of(layer);
                    sums.verdict
                        .blob(is_orphan, self.removed.is_layer_removed(position), || {
                            population.layer_bytes(layer)
                        });
                    if has_links {
                        let is_removed = self.removed.is_own_link_removed(position);
                        sums.verdict.link(is_orphan, is_removed);
                    }
                }
            }
            hot.sort_unstable();
            hot.dedup();
            sums.links += hot.len() as u64;
            sums.verdict.dangling_left += hot.iter().filter(|layer| self.cold.contains(layer)).count() as u64;
        }
        sums
    }

    /// Whether a blob is an orphan; `None` of what is no blob of this registry's.
    #[must_use]
    pub fn is_orphan(&self, digest: &Hash) -> Option<bool> {
        let population = &self.population;
        if let Some(position) = self.digests.find(digest) {
            let layer = self.digests.layer_at(position);
            return Some(match population.owner(layer) {
                Some(group) => population.fate(group) == Fate::Deleted,
                None => self.cold.contains(&layer),
            });
        }
        let manifest = self.manifests.find(digest)?;
        Some(population.fate(population.group_of(manifest)) == Fate::Deleted)
    }

    /// The keys of all orphans that are there, ascending.
    #[must_use]
    pub fn orphan_keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let _ = self.scan_blobs(Bound::Unbounded, &mut |key, _| {
            let fate = match self.parse(key) {
                Some(Key::Layer { position }) => self.is_orphan(&self.digests.at(position)),
                Some(Key::Manifest { manifest }) => self.is_orphan(self.manifests.digest(manifest)),
                _ => None,
            };
            if fate == Some(true) {
                keys.push(key.to_owned());
            }
            ControlFlow::Continue(())
        });
        keys
    }
}
