//! `docs/metrics.md`, from what the programs register: every metric with its type, its labels and what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use hardprune_common::metrics::Label;
use hardprune_common::store::RequestKind;
use hardprune_common::task::WorkKind;
use hardprune_coordinator::metrics::{CoordinatorMetrics, Stage};
use hardprune_coordinator::metrics_file::FinishedRunMetrics;
use hardprune_worker::metrics::{RefusalReason, TaskOutcome, WorkerMetrics};
use prometheus::Registry;
use prometheus::proto::{MetricFamily, MetricType};

/// Where the document lies, from the workspace's root.
pub const PATH: &str = "docs/metrics.md";

const INTRODUCTION: &str = "\
# Metrics

<!-- Written by `make docs`; a test compares this file with what the programs register. -->

With `--health-addr ADDRESS` (`:8080`, `127.0.0.1:8080`, `[::1]:8080`) both programs answer HTTP requests, without TLS and
without a password: what they show has no secrets. `/metrics` has the metrics below in Prometheus' text format; all series are there
from the start. `/healthz` answers 200 while the main loop turns, `/readyz` while the process can do its work; both
answer 503 and say why in a line of text otherwise.

A time series is never labelled with a digest, a repository or the text of an error: the labels have the values listed here and no others.
";

/// What is registered in one place.
struct Place {
    title: &'static str,
    introduction: &'static str,
    families: Vec<MetricFamily>,
    labels: Vec<LabelValues>,
}

/// A closed set of values of a label, with what each means.
struct LabelValues {
    label: &'static str,
    meanings: Vec<(&'static str, &'static str)>,
}

impl LabelValues {
    fn of<L: Label>() -> Self {
        Self {
            label: L::NAME,
            meanings: L::ALL
                .iter()
                .map(|value| (value.value(), value.meaning()))
                .collect(),
        }
    }

    /// Whether these are exactly the values that a metric's label was found with.
    fn are(&self, label: &str, values: &BTreeSet<&str>) -> bool {
        self.label == label
            && self.meanings.len() == values.len()
            && self.meanings.iter().all(|(value, _)| values.contains(value))
    }
}

fn places() -> Result<[Place; 3]> {
    let [coordinator, worker, file] = [Registry::new(), Registry::new(), Registry::new()];
    CoordinatorMetrics::register(&coordinator)?;
    WorkerMetrics::register(&worker)?;
    FinishedRunMetrics::register(&file)?;
    Ok([
        Place {
            title: "`/metrics` of `hardprune`",
            introduction: "Of one run: the process ends with it.",
            families: coordinator.gather(),
            labels: vec![LabelValues::of::<Stage>(), LabelValues::of::<RequestKind>()],
        },
        Place {
            title: "`/metrics` of `hardprune-worker`",
            introduction: "Of one process, all runs that it works for together.",
            families: worker.gather(),
            labels: vec![
                LabelValues::of::<WorkKind>(),
                LabelValues::of::<TaskOutcome>(),
                LabelValues::of::<RefusalReason>(),
                LabelValues::of::<RequestKind>(),
            ],
        },
        Place {
            title: "`--metrics-file` of `hardprune`",
            introduction: "Written once, when a run has ended, for a node exporter's textfile collector. Figures that `/metrics` has too \
                           have the same names.",
            families: file.gather(),
            labels: Vec::new(),
        },
    ])
}

/// Renders the document.
///
/// # Errors
///
/// A name that is registered twice, a label with values that no closed set has.
pub fn render() -> Result<String> {
    let mut text = INTRODUCTION.to_owned();
    for place in places()? {
        text.push_str(&render_place(&place)?);
    }
    Ok(text)
}

fn render_place(place: &Place) -> Result<String> {
    let Place {
        title,
        introduction,
        families,
        labels,
    } = place;
    let mut text = format!(
        "\n## {title}\n\n{introduction}\n\n| name | type | labels | meaning |\n| --- | --- | --- | --- |\n"
    );
    // The metrics that have each of the sets, in the order of the sets.
    let mut metrics_of = vec![Vec::new(); labels.len()];
    for family in families {
        let name = family.name();
        let found = labels_of(family);
        for (label, values) in &found {
            let set = labels.iter().position(|set| set.are(label, values));
            let set = set.with_context(|| {
                format!("{name}: {label} has the values {values:?}, which are described nowhere")
            })?;
            metrics_of[set].push(format!("`{name}`"));
        }
        let found: Vec<_> = found.keys().map(|label| format!("`{label}`")).collect();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {} |",
            type_of(family),
            found.join(", "),
            family.help().replace('|', "\\|")
        );
    }
    for (set, metrics) in labels.iter().zip(metrics_of) {
        ensure!(
            !metrics.is_empty(),
            "no metric has the label {} with the values {:?}",
            set.label,
            set.meanings
        );
        let _ = write!(
            text,
            "\nThe label `{}` of {}:\n\n| value | meaning |\n| --- | --- |\n",
            set.label,
            metrics.join(", ")
        );
        for (value, meaning) in &set.meanings {
            let _ = writeln!(text, "| `{value}` | {meaning} |");
        }
    }
    Ok(text)
}

/// The values of each label.
fn labels_of(family: &MetricFamily) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for pair in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
        labels.entry(pair.name()).or_default().insert(pair.value());
    }
    labels
}

fn type_of(family: &MetricFamily) -> String {
    match family.get_field_type() {
        MetricType::COUNTER => "counter".to_owned(),
        MetricType::GAUGE => "gauge".to_owned(),
        MetricType::SUMMARY => "summary".to_owned(),
        MetricType::UNTYPED => "untyped".to_owned(),
        MetricType::HISTOGRAM => {
            let buckets = family
                .get_metric()
                .first()
                .map(|metric| metric.get_histogram().get_bucket());
            let bounds: Vec<_> = buckets
                .unwrap_or_default()
                .iter()
                .map(|bucket| bucket.upper_bound().to_string())
                .collect();
            format!("histogram, buckets up to {}", bounds.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = include_str!("../../docs/metrics.md");

    #[test]
    fn the_document_is_that_of_the_registered_metrics() {
        assert!(
            WRITTEN == render().unwrap(),
            "{PATH} is not what the programs register: run `make docs`"
        );
    }

    #[test]
    fn every_name_is_of_the_house_and_means_one_thing() {
        let mut meanings = BTreeMap::new();
        for place in places().unwrap() {
            for family in &place.families {
                let name = family.name();
                let noun = name
                    .strip_prefix("hardprune_coordinator_")
                    .or_else(|| name.strip_prefix("hardprune_worker_"))
                    .unwrap();
                assert!(
                    noun.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                    "{name}"
                );
                let is_counter = family.get_field_type() == MetricType::COUNTER;
                assert_eq!(name.ends_with("_total"), is_counter, "{name}");
                let meaning = (type_of(family), family.help().to_owned());
                assert!(meaning.1.ends_with('.'), "{name}");
                let known = meanings.insert(name.to_owned(), meaning.clone());
                assert!(known.is_none_or(|known| known == meaning), "{name}");
            }
        }
    }
}
