//! What the figures were measured on and with.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::Effort;
use crate::docker_registry::StockCollector;

/// Describes the machine and the versions, a line each: name and value.
///
/// # Errors
///
/// A stock collector that does not say its version.
pub fn describe(effort: &Effort) -> Result<Vec<(&'static str, String)>> {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let stock: Result<Vec<String>> = effort.stock.iter().map(StockCollector::version).collect();
    Ok(vec![
        ("processor", format!("{}, {processors} in use", processor())),
        ("memory", memory()),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        (
            "file system",
            output(
                "df",
                &["--output=fstype,source", &effort.work_folder.to_string_lossy()],
            ),
        ),
        ("load before", first_line("/proc/loadavg")),
        (
            "hardprune",
            format!(
                "{} ({})",
                env!("CARGO_PKG_VERSION"),
                output("git", &["describe", "--always", "--dirty"])
            ),
        ),
        ("stock collector, Distribution", stock?.join(" and ")),
        ("compiler", output("rustc", &["--version"])),
    ])
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |name| name.trim_start_matches([' ', '\t', ':']).to_owned(),
    )
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes: u64 = total
        .and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0);
    format!("{} GiB", kibibytes >> 20)
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The last line that a program prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map_or_else(
        |_| "not known".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    let last = text.lines().last().unwrap_or_default();
    last.split_whitespace().collect::<Vec<_>>().join(" ")
}
