//! The keys of repositories in their order. What one repository has is worked out when a listing comes to it.

use std::ops::{Bound, ControlFlow};

use hardprune_common::layout::REPOSITORIES;

use super::digests::Digests;
use super::keys::{self, Key, LAYERS, REVISIONS, TAGS, push_hex, repository_name, tag_name};
use super::manifests::Manifests;
use super::population::{Fate, Population};
use super::{Listed, Simulated};

/// One repository's links, in the order of their keys, deleted ones among them.
#[derive(Debug)]
pub(super) struct RepositoryView {
    pub repository: u64,
    /// Its folder's key, without a `/` at its end.
    folder: String,
    /// Positions of the layers that are linked, ascending.
    layers: Vec<u32>,
    /// Live manifests, by digest.
    revisions: Vec<u32>,
    /// Groups that have a tag.
    tags: Vec<u64>,
}

impl RepositoryView {
    pub fn of(population: &Population, digests: &Digests, manifests: &Manifests, repository: u64) -> Self {
        let mut view = Self {
            repository,
            folder: format!("{REPOSITORIES}{}", repository_name(population, repository)),
            layers: Vec::new(),
            revisions: Vec::new(),
            tags: Vec::new(),
        };
        for manifest in population.manifests_of(repository) {
            let group = population.group_of(manifest);
            if population.has_links(group) {
                let layers = population
                    .own_layers(manifest)
                    .chain(population.base_layers(manifest));
                view.layers
                    .extend(layers.map(|layer| packed(digests.position_of(layer))));
            }
            if population.fate(group) == Fate::Live {
                view.revisions.push(packed(manifest));
                if population.tagged(group) == manifest {
                    view.tags.push(group);
                }
            }
        }
        view.layers.sort_unstable();
        view.layers.dedup();
        view.revisions
            .sort_unstable_by_key(|manifest| manifests.digest(u64::from(*manifest)));
        view.tags.sort_unstable();
        view
    }

    pub fn has_layer(&self, position: u64) -> bool {
        self.layers.binary_search(&packed(position)).is_ok()
    }

    fn len(&self) -> usize {
        self.layers.len() + self.revisions.len() + 2 * self.tags.len()
    }
}

impl Simulated {
    pub(super) fn scan_repositories(
        &self,
        from: Bound<&str>,
        visit: &mut dyn FnMut(&str, Listed) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut name = String::new();
        let first = self.first_repository(from);
        for repository in first..self.population.repositories() {
            let view = self.view(repository);
            let begin = if repository == first {
                self.first_link(&view, from)
            } else {
                0
            };
            for place in begin..view.len() {
                let key = self.write_link(&view, place, &mut name);
                if !self.removed.is_removed(&key, &name) {
                    visit(&name, self.listed(&key))?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The first repository that may have keys within a bound: behind the last key of any comes its folder's, with a letter
    /// behind `_`.
    fn first_repository(&self, from: Bound<&str>) -> u64 {
        let (mut least, mut most) = (0, self.population.repositories());
        while least < most {
            let middle = least.midpoint(most);
            let behind = format!("{REPOSITORIES}{}/`", repository_name(&self.population, middle));
            if is_within(from, &behind) {
                most = middle;
            } else {
                least = middle + 1;
            }
        }
        least
    }

    fn first_link(&self, view: &RepositoryView, from: Bound<&str>) -> usize {
        let mut name = String::new();
        let (mut least, mut most) = (0, view.len());
        while least < most {
            let middle = least.midpoint(most);
            self.write_link(view, middle, &mut name);
            if is_within(from, &name) {
                most = middle;
            } else {
                least = middle + 1;
            }
        }
        least
    }

    /// Writes the key of the link at a place.
    fn write_link(&self, view: &RepositoryView, place: usize, name: &mut String) -> Key {
        let repository = view.repository;
        name.clear();
        name.push_str(&view.folder);
        if let Some(position) = view.layers.get(place) {
            let position = u64::from(*position);
            name.push_str(LAYERS);
            push_hex(name, &self.digests.at(position));
            name.push_str("/link");
            let is_own = self.digests.layer_at(position) >= self.population.hot;
            return Key::LayerLink {
                repository,
                position,
                is_own,
            };
        }
        let place = place - view.layers.len();
        if let Some(manifest) = view.revisions.get(place) {
            let manifest = u64::from(*manifest);
            name.push_str(REVISIONS);
            push_hex(name, self.manifests.digest(manifest));
            name.push_str("/link");
            return Key::Revision { repository, manifest };
        }
        let place = place - view.revisions.len();
        let group = view.tags[place / 2];
        name.push_str(TAGS);
        name.push_str(&tag_name(group));
        if place.is_multiple_of(2) {
            name.push_str("/current/link");
            return Key::TagCurrent { repository, group };
        }
        name.push_str("/index/sha256/");
        push_hex(name, self.manifests.digest(self.population.tagged(group)));
        name.push_str("/link");
        Key::TagIndex { repository, group }
    }

    /// A repository's name.
    #[must_use]
    pub fn repository_name(&self, repository: u64) -> String {
        keys::repository_name(&self.population, repository)
    }
}

/// Whether a key is not before a lower bound.
pub(super) fn is_within(from: Bound<&str>, key: &str) -> bool {
    match from {
        Bound::Unbounded => true,
        Bound::Included(first) => key >= first,
        Bound::Excluded(before) => key > before,
    }
}

fn packed(number: u64) -> u32 {
    u32::try_from(number).expect("a shape has at most 2^31 blobs")
}
