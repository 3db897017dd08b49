//! An OpenShift cluster of any size, and the truth about it: what `oc adm prune images` takes from it by default.
//!
//! Each stream has one tag of five revisions, the newest three of which stay. Three images in a row share their layers. Pods run every
//! seventh image by its digest, so that one of those stays in any place; other pods name images that their stream does not have.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Revisions of each tag.
const REVISIONS: usize = 5;
/// So many stay, whatever uses them.
const KEPT_REVISIONS: usize = 3;
const NAMESPACES: usize = 50;
const LAYERS: usize = 12;
const LAYER_BYTES: usize = 1 << 20;
const CONFIG_BYTES: usize = 4096;
const SHARING: usize = 3;
/// Of so many images one is run where it is.
const USED: usize = 7;
const LONG_AGO: &str = "2020-01-01T00:00:00Z";

/// Its size.
#[derive(Debug, Clone, Copy)]
pub struct LargeCluster {
    /// Image streams. Each has five images.
    pub streams: usize,
    /// Pods: at least as many as images, so that each image is named by one.
    pub pods: usize,
}

fn digest(kind: u8, number: usize) -> String {
    format!("sha256:{kind:02x}{number:062x}")
}

fn layers(image: usize) -> impl Iterator<Item = String> {
    (0..LAYERS).map(move |layer| digest(1, image / SHARING * LAYERS + layer))
}

impl LargeCluster {
    /// 10,000 images, 2,000 streams, 20,000 pods: what issue 6 asks for.
    pub const OF_THE_TARGET: Self = Self {
        streams: 2_000,
        pods: 20_000,
    };

    /// How many images it has.
    #[must_use]
    pub fn images(&self) -> usize {
        self.streams * REVISIONS
    }

    /// All of its objects.
    pub fn objects(&self) -> impl Iterator<Item = Value> {
        let images = (0..self.images()).map(|number| self.image(number));
        let streams = (0..self.streams).map(|number| self.stream(number));
        images
            .chain(streams)
            .chain((0..self.pods).map(|number| self.pod(number)))
    }

    fn image(&self, number: usize) -> Value {
        let layers: Vec<_> = layers(number)
            .map(|layer| json!({"name": layer, "size": LAYER_BYTES}))
            .collect();
        // As many bytes as images have with their history, labels and environment, in a few texts: the server of the tests is slow.
        let history: Vec<_> = (0..4)
            .map(
                |step| json!({"created_by": format!("RUN step {step} of {number} && {}", "x".repeat(1_500))}),
            )
            .collect();
        json!({
            "apiVersion": "image.openshift.io/v1", "kind": "Image",
            "metadata": {
                "name": digest(0, number), "creationTimestamp": LONG_AGO,
                "annotations": {"openshift.io/image.managed": "true"},
            },
            "dockerImageReference": self.reference(number, number),
            "dockerImageManifestMediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "dockerImageMetadata": {"Id": digest(2, number), "Size": LAYERS * LAYER_BYTES + CONFIG_BYTES, "History": history},
            "dockerImageLayers": layers,
        })
    }

    /// An image, by the stream of another one.
    fn reference(&self, of: usize, image: usize) -> String {
        let stream = of % self.streams;
        let namespace = stream % NAMESPACES;
        format!("registry:5000/ns{namespace}/is{stream}@{}", digest(0, image))
    }

    fn stream(&self, number: usize) -> Value {
        let items = (0..REVISIONS).map(|revision| {
            let image = digest(0, number + revision * self.streams);
            json!({"created": LONG_AGO, "image": image, "generation": revision, "dockerImageReference": "x"})
        });
        json!({
            "apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
            "metadata": {
                "name": format!("is{number}"), "namespace": format!("ns{}", number % NAMESPACES),
                "creationTimestamp": LONG_AGO,
            },
            "status": {"tags": [{"tag": "latest", "items": items.collect::<Vec<_>>()}]},
        })
    }

    fn pod(&self, number: usize) -> Value {
        let of = number % self.images();
        let environment: Vec<_> = (0..2)
            .map(|name| json!({"name": format!("NAME{name}"), "value": "y".repeat(300)}))
            .collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("pod{number}"), "namespace": format!("ns{}", number % NAMESPACES),
                "creationTimestamp": LONG_AGO,
            },
            "spec": {"containers": [{
                "name": "c", "env": environment, "image": self.reference(of, of - of % USED),
            }]},
            "status": {"phase": "Running"},
        })
    }

    /// The numbers of the images that go.
    fn gone(&self) -> Vec<usize> {
        let old = self.streams * KEPT_REVISIONS..self.images();
        old.filter(|number| number % USED != 0).collect()
    }

    /// Compares the standard output of a dry run of `hardprune images` without options with what must go.
    ///
    /// # Errors
    ///
    /// An image too many or too few, other figures.
    pub fn check(&self, stdout: &str) -> Result<()> {
        ensure!(
            self.pods >= self.images() && self.streams >= USED,
            "pods name what is not foreseen here"
        );
        let gone = self.gone();
        let expected: BTreeSet<String> = gone.iter().map(|number| digest(0, *number)).collect();
        let said: BTreeSet<String> = stdout
            .lines()
            .filter_map(|line| line.strip_prefix("Deleting image sha256:"))
            .map(|hex| format!("sha256:{hex}"))
            .collect();
        let wrong: Vec<_> = said.symmetric_difference(&expected).take(5).collect();
        ensure!(
            wrong.is_empty(),
            "{} images of {}; among those that are wrong are {wrong:?}",
            said.len(),
            expected.len()
        );
        let stays = (0..self.images()).filter(|number| gone.binary_search(number).is_err());
        let kept: BTreeSet<String> = stays.flat_map(layers).collect();
        let layers: BTreeSet<String> = gone
            .iter()
            .flat_map(|number| layers(*number))
            .filter(|layer| !kept.contains(layer))
            .collect();
        let streams: BTreeSet<usize> = gone.iter().map(|number| number % self.streams).collect();
        let images = gone.len();
        let summary = format!(
            "Summary: deleted {images} image object(s), deleted {images} image stream tag item(s), updated {} image stream(s), deleted {} \
             layer link(s), deleted {images} manifest link(s), deleted {} blob(s)",
            streams.len(),
            images * (LAYERS + 1),
            layers.len() + 2 * images,
        );
        ensure!(stdout.contains(&summary), "no {summary:?}");
        let freed = format!(
            "({} bytes), and {images} blob(s)",
            layers.len() * LAYER_BYTES + images * CONFIG_BYTES
        );
        ensure!(stdout.contains(&freed), "no {freed:?}");
        Ok(())
    }
}
