//! `make bench`: hardprune and the stock collector side by side, into docs/benchmarks.md.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use hardprune_tests::bench::{Effort, document, filesystem, machine, s3, scale_out, second_run};

/// Measures hardprune and the stock collector side by side.
#[derive(Debug, Parser)]
struct Arguments {
    /// Small registries and few runs, written to target/benchmarks.md.
    #[arg(long)]
    quick: bool,
    /// Measure only this, and print the figures instead of writing them.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Where registries are made; on a disk, so that a cold cache can be measured.
    #[arg(long, default_value = "/var/tmp")]
    work_folder: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Filesystem,
    S3,
    ScaleOut,
    SecondRun,
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
    let is_wanted = |part| arguments.only.is_none_or(|only| only == part);
    if is_wanted(Part::Filesystem) {
        findings.push(filesystem::measure_filesystem(&effort)?);
    }
    if is_wanted(Part::S3) {
        findings.push(s3::measure_s3(&effort)?);
    }
    if is_wanted(Part::ScaleOut) {
        findings.push(scale_out::measure_scale_out(&effort)?);
    }
    if is_wanted(Part::SecondRun) {
        findings.push(second_run::measure_second_run(&effort)?);
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
