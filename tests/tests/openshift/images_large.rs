//! A large cluster: what it takes to decide.

use anyhow::Result;
use hardprune_tests::bench::images::MOST_BYTES;
use hardprune_tests::bench::measure::measure;
use hardprune_tests::kubernetes_api::KubernetesApi;
use hardprune_tests::large_cluster::LargeCluster;
use hardprune_tests::program::Hardprune;

/// 10,000 images, 2,000 streams, 20,000 pods take less than 300 MB, and what goes is what must.
#[test]
fn a_large_cluster_takes_little_memory() -> Result<()> {
    let cluster = LargeCluster::OF_THE_TARGET;
    let api = KubernetesApi::start(cluster.objects().collect())?;
    let home = tempfile::tempdir()?;
    let config = api.kubeconfig(home.path())?;
    let program = Hardprune::new()?.with("KUBECONFIG", &config);
    let run = measure(program.command(&["images"]))?;
    cluster.check(&run.stdout)?;
    assert!(
        (1..MOST_BYTES).contains(&run.peak_bytes),
        "{} bytes",
        run.peak_bytes
    );
    Ok(())
}
