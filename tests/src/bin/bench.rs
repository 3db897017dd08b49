//! `make bench`: hardprune and the stock collector side by side, into docs/benchmarks.md.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use hardprune_tests::bench::{Effort, document, filesystem, machine, s3};

/// Measures hardprune and the stock collector side by side.
#[derive(Debug, Parser)]
struct Arguments {
    /// Small registries and few runs, written to target/benchmarks.md.
    #[arg(long)]
    quick: bool,
    /// Measure only this kind of storage, and print the figures instead of writing them.
    #[arg(long, value_enum)]
    only: Option<Storage>,
    /// Where registries are made; on a disk, so that a cold cache can be measured.
    #[arg(long, default_value = "/var/tmp")]
    work_folder: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Storage {
    Filesystem,
    S3,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let effort = if arguments.quick {
        Effort::quick(arguments.work_folder)
    } else {
        Effort::full(arguments.work_folder)
    };
    let machine = machine::describe(&effort.work_folder);
    let mut findings = Vec::new();
    if arguments.only != Some(Storage::S3) {
        findings.push(filesystem::measure_filesystem(&effort)?);
    }
    if arguments.only != Some(Storage::Filesystem) {
        findings.push(s3::measure_s3(&effort)?);
    }
    let command = if arguments.quick {
        "make bench BENCH_ARGUMENTS=--quick"
    } else {
        "make bench"
    };
    let generated = document::render(command, &machine, &findings);
    if arguments.only.is_some() {
        print!("{generated}");
        return Ok(());
    }
    let path = if arguments.quick {
        "target/benchmarks.md"
    } else {
        "docs/benchmarks.md"
    };
    document::write(path.as_ref(), &generated)?;
    println!("written to {path}");
    Ok(())
}
