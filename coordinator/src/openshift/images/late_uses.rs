//! What came while streams were pruned, and names an image that was pruned from its stream meanwhile: the image itself must stay,
//! though nothing names it any longer but that.

use std::collections::HashSet;

use super::graph::Graph;

/// Digests of images, and of the children of indexes, that something uses now and nothing did before.
#[must_use]
pub(super) fn late_uses<'a>(before: &'a Graph, now: &'a Graph) -> HashSet<&'a str> {
    let mut late = HashSet::new();
    for stream in before.streams.values() {
        let (namespace, name) = (&stream.metadata.namespace, &stream.metadata.name);
        for tag in &stream.status.tags {
            let tag_is_new = before.uses.of_tag(namespace, name, &tag.tag).is_empty()
                && !now.uses.of_tag(namespace, name, &tag.tag).is_empty();
            for (position, item) in tag.items.iter().enumerate() {
                let image = now.images.get(&item.image);
                let below = image.map(|image| now.descendants(image)).unwrap_or_default();
                let is_used = |digest: &str| {
                    before.uses.of_image(namespace, name, digest).is_empty()
                        && !now.uses.of_image(namespace, name, digest).is_empty()
                };
                if (position == 0 && tag_is_new)
                    || is_used(&item.image)
                    || below.iter().any(|digest| is_used(digest))
                {
                    late.insert(item.image.as_str());
                    late.extend(below);
                }
            }
        }
    }
    late
}
