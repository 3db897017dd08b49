//! `images why`: where an image is tagged, what uses it, which rule keeps it, and what would have to change for it to go.

use std::collections::HashSet;

use super::arguments::WhyArgs;
use super::graph::{Graph, stream_key};
use super::image_reference;
use super::list_cluster::list_cluster;
use super::plan_images::{KeptImage, keeps, used_digests};
use super::plan_stream::plan_stream;
use super::rules::{Decider, Keep, Place, Verdict};
use super::uses::{Referrer, Uses};
use super::{Failure, failed_list, no_graph};
use crate::openshift::cluster::Cluster;
use crate::openshift::objects::ImageStream;

/// So many users are named.
const NAMED: usize = 5;

/// Says why an image stays.
pub(super) async fn why(args: &WhyArgs) -> Result<(), Failure> {
    let cluster = Cluster::find(&args.rules.cluster).await.map_err(Failure::said)?;
    let rules = args.rules.rules().map_err(Failure::said)?;
    let ages = rules.ages();
    let namespace = super::namespace(&args.rules, &cluster);
    let listed = list_cluster(&cluster.client, namespace.as_deref(), |line| eprintln!("{line}")).await;
    let (lists, _) = listed.map_err(|error| failed_list(&cluster, &error))?;
    let graph = Graph::of(lists, &ages, args.rules.ignore_invalid_refs).map_err(|error| no_graph(&error))?;
    let digest = digest(&graph, &args.image).map_err(Failure::said)?;
    let decider = Decider {
        graph: &graph,
        late: &Uses::default(),
        rules: &rules,
        ages: &ages,
    };
    let lines = Explained {
        decider,
        all_namespaces: namespace.is_none(),
    }
    .lines(&digest);
    crate::print(&format!("{}\n", lines.join("\n"))).map_err(Failure::Output)
}

/// The digest that is meant: of itself, of a tag's newest revision, of a pull spec.
fn digest(graph: &Graph, text: &str) -> Result<String, String> {
    if text.starts_with("sha256:") {
        return Ok(text.to_owned());
    }
    let reference = image_reference::parse(text).map_err(|problem| {
        format!("{text:?} names no image ({problem}): give a digest, NAMESPACE/STREAM:TAG or a pull spec")
    })?;
    if !reference.digest.is_empty() {
        return Ok(reference.digest);
    }
    let key = format!("{}/{}", reference.namespace, reference.name);
    let tag = if reference.tag.is_empty() {
        "latest"
    } else {
        reference.tag.as_str()
    };
    let stream = graph.streams.get(&key);
    let stream = stream.ok_or_else(|| format!("there is no image stream {key}"))?;
    let found = stream.status.tags.iter().find(|found| found.tag == tag);
    let newest = found.and_then(|found| found.items.first());
    let newest = newest.ok_or_else(|| format!("image stream {key} has no tag {tag}"))?;
    Ok(newest.image.clone())
}

struct Explained<'a> {
    decider: Decider<'a>,
    all_namespaces: bool,
}

impl Explained<'_> {
    fn lines(&self, digest: &str) -> Vec<String> {
        let mut lines = Vec::new();
        match self.decider.graph.images.get(digest) {
            None => lines.push(format!("{digest}: the cluster has no such image")),
            Some(image) => {
                let origin = if image.metadata.is_managed {
                    "pushed to this registry"
                } else {
                    "imported"
                };
                let created = image.metadata.creation_timestamp;
                let created = created.map_or("at an unknown time".to_owned(), |time| time.to_string());
                lines.push(format!("{digest}: {origin}, created {created}"));
            }
        }
        let mut left = Vec::new();
        for stream in self.decider.graph.streams.values() {
            left.push(self.stream(stream, digest, &mut lines));
        }
        lines.extend(self.named_elsewhere(digest));
        let mut images: Vec<_> = self.decider.graph.images.iter().collect();
        images.sort_unstable_by_key(|(name, _)| *name);
        for (name, image) in images {
            if self.decider.graph.descendants(image).contains(&digest) {
                lines.push(format!(
                    "  is a child of the index {name}: see `hardprune images why {name}`"
                ));
            } else if image
                .blobs()
                .is_some_and(|mut blobs| blobs.any(|blob| blob == digest))
            {
                lines.push(format!(
                    "  is a blob of the image {name}: see `hardprune images why {name}`"
                ));
            }
        }
        lines.push(self.end(digest, &used_digests(self.decider.graph, &left)));
        lines
    }

    /// Who names the image under a stream that does not have it: that keeps nothing.
    fn named_elsewhere(&self, digest: &str) -> Vec<String> {
        let graph = self.decider.graph;
        let named = graph.uses.images().filter(|(_, named)| *named == digest);
        let elsewhere = named.filter_map(|(key, _)| {
            let tags = graph
                .streams
                .get(key)
                .map_or(&[][..], |stream| &stream.status.tags);
            let items = tags.iter().flat_map(|tag| &tag.items);
            let mut images = items.filter_map(|item| graph.images.get(&item.image));
            let is_there = images
                .any(|image| image.metadata.name == digest || graph.descendants(image).contains(&digest));
            let (namespace, stream) = key.split_once('/')?;
            let users = graph.uses.of_image(namespace, stream, digest);
            (!is_there).then(|| {
                format!(
                    "  is named by {} as {key}, which does not have it: that keeps nothing",
                    named_users(&users)
                )
            })
        });
        let mut elsewhere: Vec<_> = elsewhere.collect();
        elsewhere.sort_unstable();
        elsewhere
    }

    /// Tells of the image's places in a stream; returns what would be left of the stream.
    fn stream(&self, stream: &ImageStream, digest: &str, lines: &mut Vec<String>) -> ImageStream {
        let is_young = self.decider.is_young(stream.metadata.creation_timestamp);
        for tag in &stream.status.tags {
            for (position, item) in tag.items.iter().enumerate() {
                if item.image != digest {
                    continue;
                }
                let namespace = &stream.metadata.namespace;
                let name = &stream.metadata.name;
                lines.push(format!(
                    "  in project {namespace}: {name}:{} at position {position} out of {}",
                    tag.tag,
                    tag.items.len()
                ));
                let place = Place {
                    namespace,
                    stream: name,
                    tag: &tag.tag,
                    position,
                    item,
                };
                let verdict = self.decider.decide(place);
                lines.extend(match is_young {
                    true => vec![
                        "    stays: the image stream is younger than --keep-younger-than".to_owned(),
                        "    goes with time, or with a shorter --keep-younger-than".to_owned(),
                    ],
                    false => self.verdict(&verdict, place),
                });
            }
        }
        if is_young {
            return stream.clone();
        }
        match plan_stream(self.decider, stream, stream) {
            Ok(plan) => plan.remaining(stream),
            Err(problem) => {
                lines.push(format!(
                    "  nothing of image stream {} goes: {problem}",
                    stream_key(stream)
                ));
                stream.clone()
            }
        }
    }

    fn verdict(&self, verdict: &Verdict<'_>, place: Place<'_>) -> Vec<String> {
        let keep = match verdict {
            Verdict::Keep(keep) => keep,
            Verdict::ImageMissing => return vec!["    goes: its image is missing".to_owned()],
            Verdict::OverSizeLimit => {
                return vec!["    goes: it is over the limit of its project".to_owned()];
            }
            Verdict::Unneeded => {
                return vec![format!(
                    "    goes: it is old, not among the first {} revisions, and nothing uses it",
                    self.decider.rules.keep_tag_revisions
                )];
            }
        };
        let (stays, goes) = match keep {
            Keep::Young => (
                "it is younger than --keep-younger-than".to_owned(),
                "with time, or with a shorter --keep-younger-than".to_owned(),
            ),
            Keep::TagUsed(users) => (
                format!(
                    "it is the newest revision of a tag that is used by {}",
                    named_users(users)
                ),
                "when these are deleted or changed, or when something newer is pushed to the tag".to_owned(),
            ),
            Keep::Revision => (
                format!(
                    "--keep-tag-revisions={} keeps it",
                    self.decider.rules.keep_tag_revisions
                ),
                format!(
                    "with --keep-tag-revisions={}, when {} newer revision(s) are pushed to the tag, or when the tag is deleted",
                    place.position,
                    self.decider.rules.keep_tag_revisions - place.position
                ),
            ),
            Keep::WithinLimit => (
                "it is not over a limit of its project".to_owned(),
                "with a smaller LimitRange (openshift.io/Image), or without --prune-over-size-limit"
                    .to_owned(),
            ),
            Keep::ImageUsed(users) => (
                format!("its image is used by {}", named_users(users)),
                "when these are deleted or changed".to_owned(),
            ),
            Keep::ChildUsed(child, users) => (
                format!("its child {child} is used by {}", named_users(users)),
                "when these are deleted or changed".to_owned(),
            ),
        };
        vec![format!("    stays: {stays}"), format!("    goes {goes}")]
    }

    fn end(&self, digest: &str, used: &HashSet<&str>) -> String {
        let Some(image) = self.decider.graph.images.get(digest) else {
            return "Nothing to prune.".to_owned();
        };
        if !self.all_namespaces {
            return "The image stays: with --namespace images themselves are not pruned.".to_owned();
        }
        match keeps(image, used, self.decider.rules, self.decider.ages) {
            None => "The image goes.".to_owned(),
            Some(KeptImage::Used) => {
                "The image stays, as long as one of these stays, or an index whose child it is.".to_owned()
            }
            Some(KeptImage::External) => {
                "The image stays: it was imported, and --all=false. It goes with --all=true.".to_owned()
            }
            Some(KeptImage::Young) => {
                "The image stays: it is younger than --keep-younger-than. It goes with time, or with a shorter one.".to_owned()
            }
        }
    }
}

fn named_users(users: &[&Referrer]) -> String {
    let named: Vec<_> = users.iter().take(NAMED).map(ToString::to_string).collect();
    let named = named.join(", ");
    match users.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{named}, and {more} more"),
        _ => named,
    }
}
