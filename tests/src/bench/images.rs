//! `hardprune images` on a large cluster: what it takes to list and to decide.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Effort;
use super::measure::measure;
use super::verdict::{Figure, Findings};
use crate::kubernetes_api::KubernetesApi;
use crate::large_cluster::LargeCluster;
use crate::program::Hardprune;

/// It may need so much memory.
pub const MOST_BYTES: u64 = 300_000_000;
const MOST_PROCESSOR: Duration = Duration::from_secs(2);

/// Measures.
///
/// # Errors
///
/// A program that fails, one that lets other images go than it should, one that does not list in pages.
pub fn measure_images(effort: &Effort) -> Result<Findings> {
    let scale = usize::try_from(effort.scale)?;
    let whole = LargeCluster::OF_THE_TARGET;
    let cluster = LargeCluster {
        streams: whole.streams / scale,
        pods: whole.pods / scale,
    };
    let LargeCluster { streams, pods } = cluster;
    let images = cluster.images();
    eprintln!("images: {images} images");
    let api = KubernetesApi::start(cluster.objects().collect())?;
    let home = tempfile::tempdir()?;
    let program = Hardprune::new()?.with("KUBECONFIG", api.kubeconfig(home.path())?);
    let (mut processor, mut peak, mut elapsed) = (Duration::ZERO, 0, Duration::ZERO);
    let rounds = effort.few_rounds;
    for _ in 0..rounds {
        let run = measure(program.command(&["images"]))?;
        cluster.check(&run.stdout)?;
        processor = processor.max(run.processor);
        peak = peak.max(run.peak_bytes);
        elapsed = elapsed.max(run.elapsed);
    }
    let requests = api.requests();
    let whole_lists = requests.iter().filter(|request| !request.path.contains("limit="));
    ensure!(whole_lists.count() == 0, "something is not listed in pages");
    Ok(Findings {
        id: "images",
        registry: format!(
            "`hardprune images` on a cluster of {images} images, {streams} image streams, {pods} pods: a dry run, the most of {rounds} runs"
        ),
        figures: vec![
            Figure::held(
                "processor time",
                format!("{:.2} s", processor.as_secs_f64()),
                format!("under {} s", MOST_PROCESSOR.as_secs()),
                processor < MOST_PROCESSOR,
            ),
            Figure::held(
                "peak memory",
                format!("{} MB", peak / 1_000_000),
                format!("under {} MB", MOST_BYTES / 1_000_000),
                peak < MOST_BYTES,
            ),
            Figure::told(
                "from its start to its end, most of it the tests' API",
                format!("{:.1} s", elapsed.as_secs_f64()),
            ),
            Figure::told("pages of lists", (requests.len() / rounds).to_string()),
        ],
        ..Findings::default()
    })
}
