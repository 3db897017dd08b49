//! `hardprune images` on a large cluster: what it takes to list and to decide.

use anyhow::{Result, ensure};

use super::Effort;
use super::measure::{Series, measure};
use super::verdict::{Figure, Findings};
use crate::kubernetes_api::KubernetesApi;
use crate::large_cluster::LargeCluster;
use crate::program::Hardprune;

/// It may need so much memory.
pub const MOST_BYTES: u64 = 300_000_000;
const MOST_SECONDS: f64 = 2.0;

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
    let (mut processor, mut elapsed) = (Series::default(), Series::default());
    for _ in 0..effort.few_rounds {
        let run = measure(program.command(&["images"]))?;
        cluster.check(&run.stdout)?;
        processor.add_part(run.processor.as_secs_f64(), run.peak_bytes);
        elapsed.add(&run);
    }
    let (seconds, peak) = (processor.median_seconds(), processor.peak_bytes());
    let (least, most) = processor.extremes();
    let requests = api.requests();
    let whole_lists = requests.iter().filter(|request| !request.path.contains("limit="));
    ensure!(whole_lists.count() == 0, "something is not listed in pages");
    Ok(Findings {
        id: "images",
        registry: format!(
            "`hardprune images` on a cluster of {images} images, {streams} image streams, {pods} pods: a dry run"
        ),
        figures: vec![
            Figure::held(
                "processor time",
                format!("{seconds:.2} s ({least:.2}–{most:.2}, {} runs)", processor.runs()),
                format!("under {MOST_SECONDS} s"),
                seconds < MOST_SECONDS,
            ),
            Figure::held(
                "peak memory",
                format!("{} MB", peak / 1_000_000),
                format!("under {} MB", MOST_BYTES / 1_000_000),
                peak < MOST_BYTES,
            ),
            Figure::told(
                "from its start to its end, most of it the tests' API",
                format!("{:.1} s", elapsed.median_seconds()),
            ),
            Figure::told("pages of lists", (requests.len() / processor.runs()).to_string()),
        ],
        ..Findings::default()
    })
}
