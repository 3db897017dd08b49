//! The simulated registry: that its listings are true, that it is the registry that it says it is, and that a run on it
//! leaves the truth exact.

#[path = "simulator/listing.rs"]
mod listing;
#[path = "simulator/pruned.rs"]
mod pruned;

use hardprune_tests::s3_server::{S3Options, S3Server};
use hardprune_tests::simulator::{LogNormal, SimulatedShape};

/// A small registry whose layers are small enough to be written to a disk.
fn shape(blobs: u64) -> SimulatedShape {
    let now = hardprune_common::clock::machine_now();
    SimulatedShape {
        layer_bytes: LogNormal {
            median: 300.0,
            sigma: 0.5,
        },
        young: 0.05,
        ..SimulatedShape::of(blobs, now)
    }
}

fn server(shape: SimulatedShape, options: S3Options) -> S3Server {
    let simulated = Some(shape);
    S3Server::start(S3Options { simulated, ..options }).expect("the shape can be")
}
