//! Generated clusters: what anything live refers to never goes, nor do its blobs; and what nothing refers to does.

use std::collections::{BTreeMap, BTreeSet};

use hardprune_coordinator::openshift::images::graph::{Graph, Lists};
use hardprune_coordinator::openshift::images::plan_images::{plan_images, used_digests};
use hardprune_coordinator::openshift::images::plan_stream::plan_stream;
use hardprune_coordinator::openshift::images::rules::{Ages, Decider, Rules};
use hardprune_coordinator::openshift::images::uses::{Users, Uses};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

const IMAGES: usize = 9;
const STREAMS: usize = 3;
const TAGS: usize = 2;
/// Layers are few, so that images share them.
const LAYERS: usize = 6;
/// Of which as many times are younger as are older.
const NOW: &str = "2026-01-02T00:00:00Z";
const OLD: &str = "2026-01-01T00:00:00Z";
const YOUNG: &str = "2026-01-01T23:59:00Z";
const CUTOFF: &str = "2026-01-01T23:00:00Z";

#[derive(Debug, Clone)]
struct GeneratedImage {
    is_young: bool,
    layers: Vec<usize>,
    /// Of an index. A child has a greater number, so that there are no circles, as digests have none.
    children: Vec<usize>,
    size: i64,
}

#[derive(Debug, Clone)]
struct GeneratedStream {
    is_young: bool,
    /// Images with ages, or such as there is no image of.
    tags: [Vec<(usize, bool)>; TAGS],
}

/// What uses an image: by a pod that runs, by one that ended long ago, by a workload, by a build.
#[derive(Debug, Clone, Copy)]
enum User {
    Running,
    Ended,
    EndedJustNow,
    Deployment,
    CronJob,
    Build,
}

#[derive(Debug, Clone)]
struct Use {
    user: User,
    stream: usize,
    /// A tag, or the digest of an image.
    what: Result<usize, usize>,
}

#[derive(Debug, Clone)]
struct Cluster {
    images: Vec<GeneratedImage>,
    streams: Vec<GeneratedStream>,
    uses: Vec<Use>,
    revisions: usize,
    over_size_limit: bool,
}

fn digest(number: usize) -> String {
    format!("sha256:{number:064x}")
}

fn layer(number: usize) -> String {
    format!("sha256:1{number:063x}")
}

fn config(number: usize) -> String {
    format!("sha256:2{number:063x}")
}

fn time(is_young: bool) -> &'static str {
    if is_young { YOUNG } else { OLD }
}

fn clusters() -> impl Strategy<Value = Cluster> {
    let image = (
        any::<bool>(),
        prop::collection::vec(0..LAYERS, 0..3),
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(1..4_usize, 1..3)],
        0..3_i64,
    );
    let images = prop::collection::vec(image, IMAGES).prop_map(|images| {
        let images = images.into_iter().enumerate();
        let images = images.map(|(number, (is_young, layers, steps, size))| GeneratedImage {
            is_young,
            layers,
            children: steps.iter().map(|step| number + step).collect(),
            size,
        });
        images.collect::<Vec<_>>()
    });
    let items = || prop::collection::vec((0..IMAGES + 1, prop::bool::weighted(0.2)), 0..5);
    let stream =
        (prop::bool::weighted(0.1), items(), items()).prop_map(|(is_young, one, two)| GeneratedStream {
            is_young,
            tags: [one, two],
        });
    let user = prop_oneof![
        Just(User::Running),
        Just(User::Ended),
        Just(User::EndedJustNow),
        Just(User::Deployment),
        Just(User::CronJob),
        Just(User::Build),
    ];
    let what = prop_oneof![(0..TAGS).prop_map(Ok), (0..IMAGES + 1).prop_map(Err)];
    let one_use = (user, 0..STREAMS, what).prop_map(|(user, stream, what)| Use { user, stream, what });
    (
        images,
        prop::collection::vec(stream, STREAMS),
        prop::collection::vec(one_use, 0..5),
        0..3_usize,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(images, streams, uses, revisions, over_size_limit)| Cluster {
            images,
            streams,
            uses,
            revisions,
            over_size_limit,
        })
}

impl Cluster {
    fn lists(&self) -> Lists {
        let images = self.images.iter().enumerate().map(|(number, image)| {
            let kind = if image.children.is_empty() {
                "manifest"
            } else {
                "index"
            };
            let layers: Vec<_> = image
                .layers
                .iter()
                .map(|number| json!({"name": layer(*number), "size": 1}))
                .collect();
            let children: Vec<_> = image
                .children
                .iter()
                .map(|child| json!({"digest": digest(*child)}))
                .collect();
            json!({
                "metadata": {"name": digest(number), "creationTimestamp": time(image.is_young)},
                "dockerImageManifestMediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
                "dockerImageMetadata": {"Id": config(number), "Size": image.size},
                "dockerImageLayers": layers, "dockerImageManifests": children,
            })
        });
        let streams = self.streams.iter().enumerate().map(|(number, stream)| {
            let tags = stream.tags.iter().enumerate().map(|(tag, items)| {
                let items: Vec<_> = items
                    .iter()
                    .map(|(image, is_young)| json!({"image": digest(*image), "created": time(*is_young)}))
                    .collect();
                json!({"tag": format!("t{tag}"), "items": items})
            });
            json!({
                "metadata": {"namespace": "ns", "name": format!("s{number}"), "creationTimestamp": time(stream.is_young)},
                "status": {"tags": tags.collect::<Vec<_>>()},
            })
        });
        let mut users: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (number, one) in self.uses.iter().enumerate() {
            let what = match one.what {
                Ok(tag) => format!(":t{tag}"),
                Err(image) => format!("@{}", digest(image)),
            };
            let image = format!("registry:5000/ns/s{}{what}", one.stream);
            let containers = json!({"containers": [{"name": "c", "image": image}]});
            let of_pod = |phase: &str, created: &str| json!({"metadata": {"creationTimestamp": created}, "spec": containers, "status": {"phase": phase}});
            let template = json!({"spec": {"template": {"spec": containers}}});
            let (kind, mut object) = match one.user {
                User::Running => ("pod", of_pod("Running", OLD)),
                User::Ended => ("pod", of_pod("Succeeded", OLD)),
                User::EndedJustNow => ("pod", of_pod("Failed", YOUNG)),
                User::Deployment => ("deployment", template),
                User::CronJob => ("cronjob", json!({"spec": {"jobTemplate": template}})),
                User::Build => {
                    let from = json!({"kind": "DockerImage", "name": image});
                    (
                        "build",
                        json!({"spec": {"strategy": {"dockerStrategy": {"from": from}}}}),
                    )
                }
            };
            object["metadata"]["namespace"] = json!("ns");
            object["metadata"]["name"] = json!(format!("user{number}"));
            users.entry(kind).or_default().push(object);
        }
        let mut of_kind = |kind: &str| Value::from(users.remove(kind).unwrap_or_default());
        let users = Users {
            pods: serde_json::from_value(of_kind("pod")).unwrap(),
            workloads: vec![(
                "deployment",
                serde_json::from_value(of_kind("deployment")).unwrap(),
            )],
            builds: vec![("build", serde_json::from_value(of_kind("build")).unwrap())],
            cron_jobs: serde_json::from_value(of_kind("cronjob")).unwrap(),
        };
        let limit = json!([{
            "metadata": {"namespace": "ns", "name": "l"},
            "spec": {"limits": [{"type": "openshift.io/Image", "max": {"storage": "1"}}]},
        }]);
        Lists {
            images: serde_json::from_value(images.collect()).unwrap(),
            streams: serde_json::from_value(streams.collect()).unwrap(),
            users,
            limit_ranges: serde_json::from_value(limit).unwrap(),
        }
    }

    /// Images with their children, and theirs.
    fn with_children(&self, images: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut open: Vec<_> = images.into_iter().collect();
        let mut all = BTreeSet::new();
        while let Some(number) = open.pop() {
            if all.insert(number)
                && let Some(image) = self.images.get(number)
            {
                open.extend(&image.children);
            }
        }
        all
    }

    /// What must stay, worked out in another way than the program does.
    fn live(&self) -> BTreeSet<usize> {
        let mut live = BTreeSet::new();
        for one in &self.uses {
            // With --prune-over-size-limit ages do not count: a pod that ended counts as young.
            if matches!(one.user, User::Ended) && !self.over_size_limit {
                continue;
            }
            let tags = &self.streams[one.stream].tags;
            match one.what {
                Ok(tag) => live.extend(tags[tag].first().map(|(image, _)| *image)),
                Err(image) => {
                    let named = tags.iter().flatten().map(|(named, _)| *named);
                    if self
                        .with_children(named.filter(|named| *named < IMAGES))
                        .contains(&image)
                    {
                        live.insert(image);
                    }
                }
            }
        }
        if !self.over_size_limit {
            for stream in &self.streams {
                for tag in &stream.tags {
                    let kept = tag.iter().enumerate().filter(|(position, (_, is_young))| {
                        stream.is_young || *is_young || *position < self.revisions
                    });
                    live.extend(kept.map(|(_, (image, _))| *image));
                }
            }
        }
        self.with_children(live)
    }

    fn blobs(&self, number: usize) -> BTreeSet<String> {
        let Some(image) = self.images.get(number) else {
            return BTreeSet::new();
        };
        let mut blobs: BTreeSet<_> = image.layers.iter().map(|number| layer(*number)).collect();
        blobs.insert(digest(number));
        if image.children.is_empty() {
            blobs.insert(config(number));
        }
        blobs
    }
}

fn times(text: &str) -> Timestamp {
    text.parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_live_stays(cluster in clusters()) {
        let hour = times(NOW).duration_since(times(CUTOFF));
        prop_assert_eq!(hour, SignedDuration::from_hours(1));
        let rules = Rules {
            keep_younger_than: (!cluster.over_size_limit).then_some(hour),
            keep_tag_revisions: cluster.revisions,
            over_size_limit: cluster.over_size_limit,
            all_images: true,
        };
        let ages = Ages::at((!cluster.over_size_limit).then(|| times(CUTOFF)));
        let graph = Graph::of(cluster.lists(), &ages, false).unwrap();
        let decider = Decider { graph: &graph, late: &Uses::default(), rules: &rules, ages: &ages };
        let left: Vec<_> = graph.streams.values().map(|stream| {
            if decider.is_young(stream.metadata.creation_timestamp) {
                return stream.clone();
            }
            plan_stream(decider, stream, stream).unwrap().remaining(stream)
        }).collect();
        let used = used_digests(&graph, &left);
        let plans = plan_images(&graph, &used, &rules, &ages, true).unwrap();
        let gone: BTreeSet<_> = plans.iter().map(|plan| plan.name.clone()).collect();
        let blobs: BTreeSet<_> = plans.iter().flat_map(|plan| plan.blobs.iter().cloned()).collect();
        for number in cluster.live() {
            prop_assert!(!gone.contains(&digest(number)), "image {number} is live, and goes");
            let lost: Vec<_> = cluster.blobs(number).intersection(&blobs).cloned().collect();
            prop_assert!(lost.is_empty(), "image {number} is live, and loses {lost:?}");
        }
        // The other way round: what no stream names any longer, and is old, goes.
        for (number, image) in cluster.images.iter().enumerate() {
            let is_young = image.is_young && !cluster.over_size_limit;
            let is_kept = is_young || used.contains(digest(number).as_str());
            prop_assert_eq!(gone.contains(&digest(number)), !is_kept, "image {}", number);
        }
        // A blob goes only if no image is left that has it.
        for (number, _) in cluster.images.iter().enumerate().filter(|(number, _)| !gone.contains(&digest(*number))) {
            prop_assert!(cluster.blobs(number).is_disjoint(&blobs), "image {number} stays, and loses a blob");
        }
    }
}
