//! A large cluster: what it takes to decide.

use std::io::Read;
use std::process::Stdio;

use anyhow::{Context, Result};
use hardprune_tests::kubernetes_api::KubernetesApi;
use hardprune_tests::program::Hardprune;
use serde_json::{Value, json};

const IMAGES: usize = 10_000;
const STREAMS: usize = 2_000;
const PODS: usize = 20_000;
const LAYERS: usize = 12;
const MOST_BYTES: u64 = 300 << 20;

fn digest(kind: u8, number: usize) -> String {
    format!("sha256:{kind:02x}{number:062x}")
}

fn image(number: usize) -> Value {
    let layers =
        (0..LAYERS).map(|layer| json!({"name": digest(1, number / 3 * LAYERS + layer), "size": 1 << 20}));
    // As many bytes as images have with their history, labels and environment, in a few texts: the server of the tests is slow.
    let history: Vec<_> = (0..4)
        .map(|step| json!({"created_by": format!("RUN step {step} of {number} && {}", "x".repeat(1_500))}))
        .collect();
    json!({
        "apiVersion": "image.openshift.io/v1", "kind": "Image",
        "metadata": {
            "name": digest(0, number), "creationTimestamp": "2020-01-01T00:00:00Z",
            "annotations": {"openshift.io/image.managed": "true"},
        },
        "dockerImageReference": format!("registry:5000/ns{}/is{}@{}", number % 50, number % STREAMS, digest(0, number)),
        "dockerImageManifestMediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "dockerImageMetadata": {"Id": digest(2, number), "Size": (LAYERS << 20) + 4096, "History": history},
        "dockerImageLayers": layers.collect::<Vec<_>>(),
    })
}

fn stream(number: usize) -> Value {
    let items = (0..IMAGES / STREAMS).map(|revision| {
        let image = digest(0, number + revision * STREAMS);
        json!({"created": "2020-01-01T00:00:00Z", "image": image, "generation": revision, "dockerImageReference": "x"})
    });
    json!({
        "apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
        "metadata": {"name": format!("is{number}"), "namespace": format!("ns{}", number % 50), "creationTimestamp": "2020-01-01T00:00:00Z"},
        "status": {"tags": [{"tag": "latest", "items": items.collect::<Vec<_>>()}]},
    })
}

fn pod(number: usize) -> Value {
    let used = number % IMAGES;
    let environment: Vec<_> = (0..2)
        .map(|name| json!({"name": format!("NAME{name}"), "value": "y".repeat(300)}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod{number}"), "namespace": format!("ns{}", number % 50), "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"containers": [{
            "name": "c", "env": environment,
            "image": format!("registry:5000/ns{}/is{}@{}", used % 50, used % STREAMS, digest(0, used - used % 7)),
        }]},
        "status": {"phase": "Running"},
    })
}

/// 10,000 images, 2,000 streams, 20,000 pods take less than 300 MB.
#[test]
fn a_large_cluster_takes_little_memory() -> Result<()> {
    let objects = (0..IMAGES)
        .map(image)
        .chain((0..STREAMS).map(stream))
        .chain((0..PODS).map(pod));
    let api = KubernetesApi::start(objects.collect())?;
    let home = tempfile::tempdir()?;
    let config = api.kubeconfig(home.path())?;
    let program = Hardprune::new()?.with("KUBECONFIG", &config);
    let mut child = program.command(&["images"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut output = child.stdout.take().context("its output")?;
    let (mut stdout, mut part, mut peak) = (Vec::new(), [0; 1 << 16], 0);
    loop {
        let length = output.read(&mut part)?;
        // What it says comes after everything is listed and decided.
        peak = peak.max(peak_bytes(child.id())?.unwrap_or_default());
        if length == 0 {
            break;
        }
        stdout.extend_from_slice(&part[..length]);
    }
    assert!(child.wait()?.success());
    let stdout = String::from_utf8(stdout)?;
    assert!(stdout.contains("Summary: deleted "), "{stdout:.500}");
    assert!((1..MOST_BYTES).contains(&peak), "{peak} bytes");
    Ok(())
}

/// The most memory that a process had so far; `None` when it is gone.
fn peak_bytes(process: u32) -> Result<Option<u64>> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak = peak.map(|peak| peak.trim().parse::<u64>()).transpose()?;
    Ok(peak.map(|kibibytes| kibibytes << 10))
}
