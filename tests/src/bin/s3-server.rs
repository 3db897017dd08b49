//! Runs the S3 server of the tests by itself, to try hardprune or a registry on it.

use clap::Parser;
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::s3_server::{Latency, S3Options, S3Server};

/// An S3 server with one empty bucket, held in memory, on 127.0.0.1.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port of 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Name of the bucket.
    #[arg(long, default_value = "registry")]
    bucket: String,
    /// How long each request waits before it is executed: 20ms, or lognormal:20ms,0.5.
    #[arg(long, default_value = "0s")]
    latency: Latency,
    /// The most keys that a page of a listing has.
    #[arg(long, default_value_t = 1000)]
    page_size: usize,
    /// Fill the bucket with a synthetic registry: `small`, or `filesystem`, `s3` or `scale-out` as in the benchmarks.
    #[arg(long)]
    registry: Option<String>,
    /// Keep versions: what is deleted only hides.
    #[arg(long)]
    versioned: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let server = S3Server::start(S3Options {
        listen: (std::net::Ipv4Addr::LOCALHOST, arguments.port).into(),
        bucket: arguments.bucket,
        latency: arguments.latency,
        page_size: arguments.page_size,
        versioned: arguments.versioned,
        ..S3Options::default()
    })?;
    if let Some(shape) = arguments.registry {
        generate(&Shape::named(&shape)?, &server)?;
    }
    println!("AWS_ENDPOINT_URL={}", server.endpoint());
    println!("AWS_ACCESS_KEY_ID={}", server.access_key());
    println!("AWS_SECRET_ACCESS_KEY={}", server.secret_key());
    println!("AWS_REGION=us-east-1");
    println!(
        "bucket: s3://{}    (Ctrl-C ends the server and forgets its content)",
        server.bucket()
    );
    // The server's own threads do the work; a signal ends the process.
    loop {
        std::thread::park();
    }
}
