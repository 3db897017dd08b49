//! Keys of a simulated registry: written, and taken apart. What is not exactly a key that was there at the start is none.

use hardprune_common::layout::{BLOBS, REPOSITORIES};

use super::population::{Fate, Population};
use super::{Hash, Simulated};

/// What a key names. All of it was there at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A layer's or config's bytes, by the position of its digest.
    Layer { position: u64 },
    /// A manifest's bytes.
    Manifest { manifest: u64 },
    /// A repository's link to a layer.
    LayerLink {
        repository: u64,
        position: u64,
        /// Whether the layer is one image's own, and so has no other link.
        is_own: bool,
    },
    /// A repository's link to a manifest.
    Revision { repository: u64, manifest: u64 },
    /// What a tag means. A tag belongs to a group.
    TagCurrent { repository: u64, group: u64 },
    /// What a tag meant.
    TagIndex { repository: u64, group: u64 },
}

const SHA256: &str = "sha256/";
pub(super) const LAYERS: &str = "/_layers/sha256/";
pub(super) const REVISIONS: &str = "/_manifests/revisions/sha256/";
pub(super) const TAGS: &str = "/_manifests/tags/";

/// A repository's name. Names are in the order of repositories.
pub(super) fn repository_name(population: &Population, repository: u64) -> String {
    let tenant = repository * population.shape.tenants / population.repositories();
    format!("tenant-{tenant:05}/repository-{repository:08}")
}

/// A tag's name. Names are in the order of groups.
pub(super) fn tag_name(group: u64) -> String {
    format!("v{group:09}")
}

/// Writes the key of a blob.
pub(super) fn write_blob_key(key: &mut String, digest: &Hash) {
    key.clear();
    key.push_str(BLOBS);
    key.push_str(SHA256);
    push_hex(key, &digest[..1]);
    key.push('/');
    push_hex(key, digest);
    key.push_str("/data");
}

/// Writes a digest's hex digits behind a text.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    let mut digits = [0; 64];
    let digits = &mut digits[..2 * bytes.len()];
    hex::encode_to_slice(bytes, digits).expect("two digits a byte, and at most 32 bytes");
    text.push_str(std::str::from_utf8(digits).expect("hex digits are ASCII"));
}

fn read_hex(digits: &str) -> Option<Hash> {
    let is_canonical = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let mut hash = [0; 32];
    hex::decode_to_slice(digits, &mut hash).ok()?;
    digits.bytes().all(is_canonical).then_some(hash)
}

impl Simulated {
    /// Takes a key apart; `None` if it never was one of this registry's.
    pub(super) fn parse(&self, key: &str) -> Option<Key> {
        if let Some(rest) = key.strip_prefix(BLOBS) {
            let (folder, rest) = rest.strip_prefix(SHA256)?.split_once('/')?;
            let digits = rest.strip_suffix("/data")?;
            if digits.get(..2) != Some(folder) {
                return None;
            }
            return self.blob(&read_hex(digits)?);
        }
        let path = key.strip_prefix(REPOSITORIES)?;
        let end = path.find("/_")?;
        let repository = self.repository(&path[..end])?;
        let rest = &path[end..];
        if let Some(digits) = rest.strip_prefix(LAYERS) {
            let digest = read_hex(digits.strip_suffix("/link")?)?;
            return self.layer_link(repository, &digest);
        }
        if let Some(digits) = rest.strip_prefix(REVISIONS) {
            let manifest = self.manifests.find(&read_hex(digits.strip_suffix("/link")?)?)?;
            let group = self.population.group_of(manifest);
            let is_there = self.population.fate(group) == Fate::Live
                && self.population.manifests_of(repository).contains(&manifest);
            return is_there.then_some(Key::Revision { repository, manifest });
        }
        let (tag, rest) = rest.strip_prefix(TAGS)?.split_once('/')?;
        let group = self.tag(repository, tag)?;
        if rest == "current/link" {
            return Some(Key::TagCurrent { repository, group });
        }
        let digits = rest.strip_prefix("index/sha256/")?.strip_suffix("/link")?;
        let is_there = read_hex(digits)? == *self.manifests.digest(self.population.tagged(group));
        is_there.then_some(Key::TagIndex { repository, group })
    }

    fn blob(&self, digest: &Hash) -> Option<Key> {
        let layer = self.digests.find(digest).map(|position| Key::Layer { position });
        layer.or_else(|| {
            let manifest = self.manifests.find(digest)?;
            Some(Key::Manifest { manifest })
        })
    }

    fn repository(&self, name: &str) -> Option<u64> {
        let (_, number) = name.rsplit_once('-')?;
        let repository: u64 = number.parse().ok()?;
        let is_there = repository < self.population.repositories()
            && repository_name(&self.population, repository) == name;
        is_there.then_some(repository)
    }

    fn layer_link(&self, repository: u64, digest: &Hash) -> Option<Key> {
        let position = self.digests.find(digest)?;
        let is_there = match self.population.owner(self.digests.layer_at(position)) {
            Some(group) => {
                let manifest = self.population.tagged(group);
                let first = manifest - manifest % super::population::BLOCK;
                self.population.manifests_of(repository).contains(&first) && self.population.has_links(group)
            }
            None => self.view(repository).has_layer(position),
        };
        let is_own = self.digests.layer_at(position) >= self.population.hot;
        is_there.then_some(Key::LayerLink {
            repository,
            position,
            is_own,
        })
    }

    fn tag(&self, repository: u64, tag: &str) -> Option<u64> {
        let group: u64 = tag.strip_prefix('v')?.parse().ok()?;
        if group >= self.population.groups() || tag_name(group) != tag {
            return None;
        }
        let tagged = self.population.tagged(group);
        let is_there = self.population.manifests_of(repository).contains(&tagged)
            && self.population.fate(group) == Fate::Live;
        is_there.then_some(group)
    }
}
