//! The blobs in the order of their keys: layers, which are in order by construction, and manifests, merged.

use std::ops::{Bound, ControlFlow};

use super::keys::{Key, write_blob_key};
use super::repositories::is_within;
use super::{Hash, Listed, Simulated};

impl Simulated {
    pub(super) fn scan_blobs(
        &self,
        from: Bound<&str>,
        visit: &mut dyn FnMut(&str, Listed) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut position = first(self.digests.count(), from, |position| self.digests.at(position));
        let mut place = first(self.manifests.count(), from, |place| {
            *self.manifests.digest(self.manifests.at(place))
        });
        let layer = |position| (position < self.digests.count()).then(|| self.digests.at(position));
        let manifest = |place| (place < self.manifests.count()).then(|| self.manifests.at(place));
        let (mut next_layer, mut next_manifest) = (layer(position), manifest(place));
        let mut name = String::new();
        loop {
            let of_manifest = next_manifest.map(|manifest| *self.manifests.digest(manifest));
            let key = match (next_layer, of_manifest) {
                (None, None) => return ControlFlow::Continue(()),
                (Some(digest), other) if other.is_none_or(|other| digest < other) => {
                    let key = Key::Layer { position };
                    position += 1;
                    next_layer = layer(position);
                    if self.removed.is_removed(&key, "") {
                        continue;
                    }
                    write_blob_key(&mut name, &digest);
                    key
                }
                (_, Some(digest)) => {
                    let manifest_here = self.manifests.at(place);
                    let key = Key::Manifest {
                        manifest: manifest_here,
                    };
                    place += 1;
                    next_manifest = manifest(place);
                    if self.removed.is_removed(&key, "") {
                        continue;
                    }
                    write_blob_key(&mut name, &digest);
                    key
                }
                (Some(_), None) => unreachable!("the arm above takes a layer without a manifest"),
            };
            visit(&name, self.listed(&key))?;
        }
    }
}

/// The first of so many digests, ascending, whose key is within a bound.
fn first(count: u64, from: Bound<&str>, digest: impl Fn(u64) -> Hash) -> u64 {
    let mut name = String::new();
    let (mut least, mut most) = (0, count);
    while least < most {
        let middle = least.midpoint(most);
        write_blob_key(&mut name, &digest(middle));
        if is_within(from, &name) {
            most = middle;
        } else {
            least = middle + 1;
        }
    }
    least
}
