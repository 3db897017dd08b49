//! A simulated registry on an S3 server: to try hardprune on a registry of any size, without a bucket.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use hardprune_common::clock::machine_now;
use hardprune_tests::s3_server::{Latency, Limits, S3Options, S3Server};
use hardprune_tests::simulator::{LogNormal, SimulatedShape};
use tokio::signal::unix::{SignalKind, signal};

/// A simulated registry of any size on an S3 server of its own: computed, not stored. It knows what should go, and says when
/// it ends (Ctrl-C), or at /-/state, what has become of it.
///
/// It needs about 40 bytes of memory for each manifest and a bit for each blob and each layer link. Layers have no bytes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Blobs, manifests among them.
    #[arg(long, default_value_t = 1_000_000)]
    blobs: u64,
    /// Manifests, deleted ones among them. Default: a tenth of the blobs.
    #[arg(long)]
    manifests: Option<u64>,
    /// The share of the blobs that nothing references.
    #[arg(long, default_value_t = 0.3)]
    orphans: f64,
    /// The share of the deleted images whose layer links are still there.
    #[arg(long, default_value_t = 0.5)]
    dangling: f64,
    /// The share of the blobs that nothing references and that are less than an hour old.
    #[arg(long, default_value_t = 0.002)]
    young: f64,
    /// Half of the layers have fewer bytes.
    #[arg(long, default_value_t = 600_000)]
    layer_bytes: u32,
    /// Registries of the same seed and options are the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each request waits before it is executed: 20ms, or lognormal:20ms,0.5 (a median, and the standard deviation of
    /// the logarithms).
    #[arg(long, default_value = "0s")]
    latency: Latency,
    /// What is answered 503: `s3` (more than 5,500 reads or 3,500 deleted keys a second and prefix), or other numbers, such as
    /// 5500/3500.
    #[arg(long)]
    limits: Option<Limits>,
    /// The share of the requests that meet a fault.
    #[arg(long, default_value_t = 0.0)]
    faults: f64,
    /// Where it listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The bucket's name.
    #[arg(long, default_value = "registry")]
    bucket: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut shape = SimulatedShape::of(arguments.blobs, machine_now());
    if let Some(manifests) = arguments.manifests {
        shape = shape.with_manifests(manifests);
    }
    let server = S3Server::start(S3Options {
        listen: arguments.listen,
        bucket: arguments.bucket,
        latency: arguments.latency,
        limits: arguments.limits,
        fault_rate: arguments.faults,
        simulated: Some(SimulatedShape {
            seed: arguments.seed,
            orphans: arguments.orphans,
            dangling: arguments.dangling,
            young: arguments.young,
            layer_bytes: LogNormal {
                median: arguments.layer_bytes.into(),
                ..shape.layer_bytes
            },
            ..shape
        }),
        ..S3Options::default()
    })?;
    println!("export AWS_ENDPOINT_URL={}", server.endpoint());
    println!("export AWS_ACCESS_KEY_ID={}", server.access_key());
    println!("export AWS_SECRET_ACCESS_KEY={}", server.secret_key());
    println!("export AWS_REGION=us-east-1");
    println!("hardprune check s3://{}", server.bucket());
    println!(
        "hardprune delete s3://{} --assume-read-only --state /var/tmp/hardprune-state",
        server.bucket()
    );
    println!("curl {}/-/state", server.endpoint());
    wait_for_a_signal()?;
    println!("{}", server.state());
    Ok(())
}

fn wait_for_a_signal() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
