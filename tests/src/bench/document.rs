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

Debian has Distribution 2.8.2. The collector of another release is measured beside it where its program is named
(`make bench BENCH_ARGUMENTS='--also-against PROGRAM'`; CONTRIBUTING.md says how 3.1.1 was built).
";

/// Renders all findings.
#[must_use]
pub fn render(command: &str, machine: &[(&'static str, String)], all: &[Findings]) -> String {
    let mut text = render_machine(command, machine);
    for findings in all {
        let _ = write!(text, "\n{}", render_section(findings, ""));
    }
    text
}

/// Renders findings that were measured by themselves, with what they were measured on.
#[must_use]
pub fn render_alone(command: &str, machine: &[(&'static str, String)], findings: &Findings) -> String {
    render_section(findings, &render_machine(command, machine))
}

fn render_machine(command: &str, machine: &[(&'static str, String)]) -> String {
    let mut text = format!("Command: `{command}`\n\n| | |\n| --- | --- |\n");
    for (name, value) in machine {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text
}

fn render_section(findings: &Findings, measured_on: &str) -> String {
    let mut text = format!("{}\n## {}\n", section_begins(findings.id), findings.registry);
    if !measured_on.is_empty() {
        let _ = write!(text, "\n{measured_on}");
    }
    if !findings.comparisons.is_empty() {
        render_comparisons(&mut text, findings);
    }
    if !findings.figures.is_empty() {
        text.push_str("\n| | found | to reach | reached |\n| --- | --- | --- | --- |\n");
    }
    for figure in &findings.figures {
        let (wanted, reached) = match &figure.wanted {
            Some((wanted, reached)) => (wanted.as_str(), yes_or_no(*reached)),
            None => ("", ""),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {wanted} | {reached} |",
            figure.what, figure.found
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
    for drawing in findings.drawings() {
        let _ = write!(text, "\n![{}](benchmarks/{})\n", drawing.title, drawing.file);
    }
    text + &section_ends(findings.id) + "\n"
}

fn section_begins(id: &str) -> String {
    format!("<!-- {id} begins -->")
}

fn section_ends(id: &str) -> String {
    format!("<!-- {id} ends -->")
}

fn render_comparisons(text: &mut String, findings: &Findings) {
    let _ = write!(
        text,
        "\n| | {} | {} | times faster | to reach | reached |\n| --- | --- | --- | --- | --- | --- |\n",
        findings.sides.0, findings.sides.1
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
    rewrite(path, |old| merge(old, generated))
}

/// Puts one section into a document: in the place of the older one of the same, or behind all others.
///
/// # Errors
///
/// A file that cannot be read or written.
pub fn write_section(path: &Path, id: &str, section: &str) -> Result<()> {
    rewrite(path, |old| merge_section(old, id, section))
}

/// Writes charts into the folder beside the document that it shows them from.
///
/// # Errors
///
/// A folder that cannot be written to.
pub fn write_charts(document: &Path, findings: &Findings) -> Result<()> {
    let folder = document.with_file_name("benchmarks");
    for drawing in findings.drawings() {
        fs::create_dir_all(&folder)?;
        let path = folder.join(&drawing.file);
        fs::write(&path, &drawing.svg).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn rewrite(path: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let old = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, change(&old)).with_context(|| format!("writing {}", path.display()))
}

fn merge_section(old: &str, id: &str, section: &str) -> String {
    let generated = old
        .split_once(BEGIN)
        .and_then(|(_, rest)| Some(rest.split_once(END)?.0));
    let generated = generated.unwrap_or_default();
    let (begins, ends) = (section_begins(id), section_ends(id));
    let around = generated
        .split_once(&begins)
        .and_then(|(before, rest)| Some((before, rest.split_once(&ends)?.1)));
    let (before, after) = around.unwrap_or((generated, ""));
    merge(
        old,
        format!(
            "{}\n\n{}\n\n{}",
            before.trim_end(),
            section.trim_end(),
            after.trim_start()
        )
        .trim(),
    )
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

    #[test]
    fn a_section_takes_the_place_of_the_older_one() {
        let section = |id: &'static str, registry: &str| {
            let registry = registry.to_owned();
            render_section(
                &Findings {
                    id,
                    registry,
                    ..Findings::default()
                },
                "",
            )
        };
        let one = merge_section("", "a", &section("a", "first"));
        let two = merge_section(&one, "b", &section("b", "second"));
        let three = merge_section(&two, "a", &section("a", "third"));
        assert!(three.starts_with("# Benchmarks"), "{three}");
        let place = |text| three.find(text);
        assert!(
            place("third") < place("second") && place("third").is_some(),
            "{three}"
        );
        assert_eq!(place("first"), None, "{three}");
        assert_eq!(merge_section(&three, "a", &section("a", "third")), three);
    }
}
