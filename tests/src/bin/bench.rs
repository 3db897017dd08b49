//! `make bench`: hardprune and the stock collector side by side, into docs/benchmarks.md.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use hardprune_tests::bench::verdict::Findings;
use hardprune_tests::bench::{
    Effort, bare_delete, document, filesystem, filter, growth, hundred_million, images, machine, memory,
    provider_limit, s3, scale_out, second_run, sim_requests, stock_latency, worker_memory,
};
use hardprune_tests::docker_registry::StockCollector;

/// Measures hardprune and the stock collector side by side.
#[derive(Debug, Parser)]
struct Arguments {
    /// Small registries and few runs, written to target/benchmarks.md.
    #[arg(long)]
    quick: bool,
    /// Measure only this, and print the figures instead of writing them.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// With --only: writes the figures, too, in the place of the older ones of the same.
    #[arg(long, requires = "only")]
    write: bool,
    /// Where registries are made; on a disk, so that a cold cache can be measured.
    #[arg(long, default_value = "/var/tmp")]
    work_folder: PathBuf,
    /// Another release's registry program, whose collector is measured beside Debian's; may be repeated.
    #[arg(long, value_name = "PROGRAM")]
    also_against: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Filesystem,
    S3,
    ScaleOut,
    SecondRun,
    SimRequests,
    Growth,
    Memory,
    WorkerMemory,
    Filter,
    ProviderLimit,
    BareDelete,
    StockLatency,
    HundredMillion,
    Images,
}

impl Part {
    fn measure(self, effort: &Effort) -> Result<Findings> {
        match self {
            Self::Filesystem => filesystem::measure_filesystem(effort),
            Self::S3 => s3::measure_s3(effort),
            Self::ScaleOut => scale_out::measure_scale_out(effort),
            Self::SecondRun => second_run::measure_second_run(effort),
            Self::SimRequests => sim_requests::measure_sim_requests(effort),
            Self::Growth => growth::measure_growth(effort),
            Self::Memory => memory::measure_memory(effort),
            Self::WorkerMemory => worker_memory::measure_worker_memory(effort),
            Self::Filter => filter::measure_filter(effort),
            Self::ProviderLimit => provider_limit::measure_provider_limit(effort),
            Self::BareDelete => bare_delete::measure_bare_delete(effort),
            Self::StockLatency => stock_latency::measure_stock_latency(effort),
            Self::HundredMillion => hundred_million::measure_hundred_million(effort),
            Self::Images => images::measure_images(effort),
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut effort = if arguments.quick {
        Effort::quick(arguments.work_folder)
    } else {
        Effort::full(arguments.work_folder)
    };
    effort
        .stock
        .extend(arguments.also_against.into_iter().map(StockCollector::at));
    let (command, path) = if arguments.quick {
        ("make bench BENCH_ARGUMENTS=--quick", "target/benchmarks.md")
    } else {
        ("make bench", "docs/benchmarks.md")
    };
    let path = Path::new(path);
    let machine = machine::describe(&effort)?;
    let Some(only) = arguments.only else {
        let parts = Part::value_variants().iter();
        let all = parts
            .map(|part| part.measure(&effort))
            .collect::<Result<Vec<_>>>()?;
        document::write(path, &document::render(command, &machine, &all))?;
        for findings in &all {
            document::write_charts(path, findings)?;
        }
        println!("written to {}", path.display());
        return Ok(());
    };
    let findings = only.measure(&effort)?;
    let command = format!("bench --only {}", findings.id);
    let section = document::render_alone(&command, &machine, &findings);
    print!("{section}");
    if arguments.write {
        document::write_section(path, findings.id, &section)?;
        document::write_charts(path, &findings)?;
        println!("written to {}", path.display());
    }
    Ok(())
}
