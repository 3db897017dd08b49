//! Which images of the cluster need a digest now, and which tags of image streams name these: for runs that asked it
//! (`--references openshift`).

use std::collections::{BTreeMap, BTreeSet};

use hardprune_common::digest::Digest;

use crate::openshift::cluster::{Cluster, ClusterArgs};
use crate::openshift::list_objects::{ApiError, IMAGE_STREAMS, IMAGES, Pages};
use crate::openshift::objects::{Image, ImageStream};

/// Tags of an image that are named.
const MOST_TAGS: usize = 5;

/// What was found.
#[derive(Debug)]
pub(super) struct ClusterSays {
    /// Whether an image needs it. `None`: it could not be asked.
    pub is_needed: Option<bool>,
    /// That in words, a line each.
    pub lines: Vec<String>,
}

/// Asks the cluster. `named_by` are manifests of the storage that name the digest: an image that is one of them, or lists one of them,
/// needs it too. At most `most` images are named. Never fails: that it cannot be asked is an answer.
pub(super) async fn ask_cluster(
    args: &ClusterArgs,
    digest: &Digest,
    named_by: &BTreeSet<String>,
    most: usize,
) -> ClusterSays {
    let cluster = match Cluster::find(args).await {
        Ok(cluster) => cluster,
        Err(error) => return not_asked(&error.to_string()),
    };
    let found = match find(&cluster, &digest.to_string(), named_by, most).await {
        Ok(found) => found,
        Err(error) => return not_asked(&format!("{}: {error}", cluster.server)),
    };
    let mut lines: Vec<String> = found
        .iter()
        .map(|(image, (why, tags))| format!("  image {image}: {why}; {}", tagged(tags)))
        .collect();
    if found.len() >= most {
        lines.push(format!("  and perhaps more: --namers {most} were asked for"));
    }
    let summary = match found.is_empty() {
        true => format!("no image of the cluster {} needs it now", cluster.server),
        false => format!("images of the cluster {} need it", cluster.server),
    };
    lines.insert(0, summary);
    ClusterSays {
        is_needed: Some(!found.is_empty()),
        lines,
    }
}

fn not_asked(problem: &str) -> ClusterSays {
    ClusterSays {
        is_needed: None,
        lines: vec![format!(
            "the cluster's images decided as well, and cannot be asked now ({problem}); --kubeconfig and --context say which cluster"
        )],
    }
}

fn tagged(tags: &BTreeSet<String>) -> String {
    match tags.len() {
        0 => "no image stream's tag names it".to_owned(),
        all => {
            let named: Vec<&str> = tags.iter().take(MOST_TAGS).map(String::as_str).collect();
            let more = match all.saturating_sub(MOST_TAGS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("tagged {}{more}", named.join(", "))
        }
    }
}

/// Images that need it: why, and the revisions of tags that name them.
type Found = BTreeMap<String, (String, BTreeSet<String>)>;

async fn find(
    cluster: &Cluster,
    digest: &str,
    named_by: &BTreeSet<String>,
    most: usize,
) -> Result<Found, ApiError> {
    let mut found = Found::new();
    let mut pages = Pages::<Image>::of(&cluster.client, IMAGES, None);
    while let Some(page) = pages.next().await? {
        if page.is_first {
            found.clear();
        }
        for image in &page.items {
            if found.len() < most
                && let Some(why) = why(image, digest, named_by)
            {
                found.insert(image.metadata.name.clone(), (why, BTreeSet::new()));
            }
        }
    }
    if found.is_empty() {
        return Ok(found);
    }
    let mut pages = Pages::<ImageStream>::of(&cluster.client, IMAGE_STREAMS, None);
    while let Some(page) = pages.next().await? {
        if page.is_first {
            found.values_mut().for_each(|(_, tags)| tags.clear());
        }
        for stream in &page.items {
            let name = format!("{}/{}", stream.metadata.namespace, stream.metadata.name);
            for tag in &stream.status.tags {
                for (position, item) in tag.items.iter().enumerate() {
                    if let Some((_, tags)) = found.get_mut(&item.image) {
                        let of = tag.items.len();
                        tags.insert(format!("{name}:{} at position {position} out of {of}", tag.tag));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Why an image needs it.
fn why(image: &Image, digest: &str, named_by: &BTreeSet<String>) -> Option<String> {
    let name = &image.metadata.name;
    if name == digest {
        return Some("it is this image's manifest".to_owned());
    }
    if image.layers().any(|layer| layer == digest) {
        return Some("it is a layer of it".to_owned());
    }
    if image.config() == Some(digest) {
        return Some("it is its config".to_owned());
    }
    if image.children().any(|child| child == digest) {
        return Some("it is a child of this index".to_owned());
    }
    if named_by.contains(name) {
        return Some("its manifest in the storage names it".to_owned());
    }
    let child = image.children().find(|child| named_by.contains(*child))?;
    Some(format!("its child {child} names it"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_in_which_an_image_needs_a_digest() {
        let image: Image = serde_json::from_value(json!({
            "metadata": {"name": "sha256:i"},
            "dockerImageLayers": [{"name": "sha256:l", "size": 1}],
            "dockerImageManifestMediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "dockerImageMetadata": {"Id": "sha256:c"},
            "dockerImageManifests": [{"digest": "sha256:m"}],
        }))
        .unwrap();
        let none = BTreeSet::new();
        for (digest, part) in [
            ("sha256:i", "this image's manifest"),
            ("sha256:l", "a layer"),
            ("sha256:c", "its config"),
            ("sha256:m", "a child"),
        ] {
            assert!(why(&image, digest, &none).unwrap().contains(part), "{digest}");
        }
        assert_eq!(why(&image, "sha256:x", &none), None);
        let by = |name: &str| BTreeSet::from([name.to_owned()]);
        assert!(
            why(&image, "sha256:x", &by("sha256:i"))
                .unwrap()
                .contains("in the storage")
        );
        assert!(
            why(&image, "sha256:x", &by("sha256:m"))
                .unwrap()
                .contains("its child sha256:m")
        );
    }

    #[test]
    fn tags_are_named_as_far_as_they_fit() {
        let tags: BTreeSet<String> = (0..7).map(|tag| format!("a/b:{tag}")).collect();
        assert_eq!(
            tagged(&tags),
            "tagged a/b:0, a/b:1, a/b:2, a/b:3, a/b:4 and 2 more"
        );
        assert_eq!(tagged(&BTreeSet::new()), "no image stream's tag names it");
    }
}
