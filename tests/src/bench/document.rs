//! Writes what was measured as Markdown, between two marks; what people wrote around them stays.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use super::measure::Series;
use super::verdict::Findings;

const BEGIN: &str = "<!-- Written by `make bench` from here on. -->";
const END: &str = "<!-- Written by `make bench` up to here. -->";
const INTRODUCTION: &str = "\
# Benchmarks

`make bench` measures hardprune and the stock collector (`docker-registry garbage-collect`, Debian's package) side by side,
in one run and on the same registries, and writes the figures below. Every run is also checked: a `check` must find exactly
the orphans that were made; after a delete the orphans and nothing else must be gone, an independent checker must find
everything live complete, and the freed bytes reported must be exact.

Times are medians, from the start of a process to its end; in brackets the shortest and the longest. Memory is the peak of
the resident set, of the run that had the most. The programs take turns, so that other load on the machine meets both.
";

/// Renders all findings.
#[must_use]
pub fn render(command: &str, machine: &[(&'static str, String)], all: &[Findings]) -> String {
    let mut text = format!("Command: `{command}`\n\n| | |\n| --- | --- |\n");
    for (name, value) in machine {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    for findings in all {
        let _ = write!(text, "\n{}", render_one(findings));
    }
    text
}

fn render_one(findings: &Findings) -> String {
    let mut text = format!(
        "## {}\n\n| | {} | {} | times faster | to reach | reached |\n| --- | --- | --- | --- | --- | --- |\n",
        findings.registry, findings.sides.0, findings.sides.1
    );
    for comparison in &findings.comparisons {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.1} | {} | {} |",
            comparison.what,
            time(&comparison.stock),
            time(&comparison.product),
            comparison.ratio(),
            comparison
                .wanted_ratio
                .map_or_else(String::new, |wanted| format!("{wanted:.1}")),
            comparison.reached().map_or("", yes_or_no),
        );
    }
    for (what, series) in &findings.yardsticks {
        let _ = writeln!(text, "| {what} | {} | | | | |", time(series));
    }
    let _ = write!(
        text,
        "\n| | {} | {} |\n| --- | --- | --- |\n",
        findings.sides.0, findings.sides.1
    );
    for comparison in &findings.comparisons {
        let _ = writeln!(
            text,
            "| peak memory, {} | {} | {} |",
            comparison.what,
            mebibytes(comparison.stock.peak_bytes()),
            mebibytes(comparison.product.peak_bytes()),
        );
    }
    if !findings.bounds.is_empty() {
        text.push_str("\n| | found | at most | which is | reached |\n| --- | --- | --- | --- | --- |\n");
    }
    for bound in &findings.bounds {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            bound.what,
            bound.found,
            bound.most,
            bound.because,
            yes_or_no(bound.reached())
        );
    }
    for note in &findings.notes {
        let _ = write!(text, "\n{note}\n");
    }
    text
}

fn yes_or_no(reached: bool) -> &'static str {
    if reached { "yes" } else { "**no**" }
}

fn time(series: &Series) -> String {
    let (least, most) = series.extremes();
    format!(
        "{:.2} s ({least:.2}–{most:.2}, {} runs)",
        series.median_seconds(),
        series.runs()
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Puts the generated part into a document, which is made where it is not there.
///
/// # Errors
///
/// A file that cannot be read or written.
pub fn write(path: &Path, generated: &str) -> Result<()> {
    let old = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, merge(&old, generated)).with_context(|| format!("writing {}", path.display()))
}

fn merge(old: &str, generated: &str) -> String {
    let parts = old
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.unwrap_or((INTRODUCTION, "\n"));
    format!(
        "{}\n\n{BEGIN}\n\n{}\n\n{END}{after}",
        before.trim_end(),
        generated.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays() {
        let first = merge("", "one");
        assert!(first.starts_with("# Benchmarks"));
        let edited = format!("mine\n{}theirs\n", &first[first.find(BEGIN).unwrap()..]);
        let second = merge(&edited, "two");
        assert!(
            second.starts_with("mine\n") && second.ends_with("theirs\n"),
            "{second}"
        );
        assert!(second.contains("two") && !second.contains("one"), "{second}");
        assert_eq!(merge(&second, "two"), second);
    }
}
