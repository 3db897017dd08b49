//! How metrics are made: registered in the registry that is handed in, labelled by closed enums only, every series there
//! from the start.

mod store_requests;

use std::fmt;
use std::marker::PhantomData;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

pub use store_requests::StoreRequests;

use crate::store::RequestKind;

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values.
    const ALL: &'static [Self];

    /// The value, as Prometheus shows it.
    fn value(self) -> &'static str;

    /// What the value means, for `docs/metrics.md`.
    fn meaning(self) -> &'static str;
}

impl Label for RequestKind {
    const NAME: &'static str = "kind";
    const ALL: &'static [Self] = &[
        Self::List,
        Self::Get,
        Self::Head,
        Self::Put,
        Self::Copy,
        Self::Delete,
    ];

    fn value(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Delete => "delete",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::List => "a page of a listing; on a filesystem a folder read",
            Self::Get => "the bytes of an object",
            Self::Head => "an object's properties",
            Self::Put => "a write",
            Self::Copy => "a server-side copy",
            Self::Delete => "a delete, of one key or of a batch",
        }
    }
}

/// The labels of a family: one, or a pair.
pub trait Labels: Copy + 'static {
    /// Their names.
    fn names() -> Vec<&'static str>;

    /// All combinations.
    fn all() -> Vec<Self>;

    /// The values of one combination, in the order of the names.
    fn values(self) -> Vec<&'static str>;
}

impl<L: Label> Labels for L {
    fn names() -> Vec<&'static str> {
        vec![L::NAME]
    }

    fn all() -> Vec<Self> {
        L::ALL.to_vec()
    }

    fn values(self) -> Vec<&'static str> {
        vec![self.value()]
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn names() -> Vec<&'static str> {
        vec![A::NAME, B::NAME]
    }

    fn all() -> Vec<Self> {
        A::ALL
            .iter()
            .flat_map(|a| B::ALL.iter().map(|b| (*a, *b)))
            .collect()
    }

    fn values(self) -> Vec<&'static str> {
        vec![self.0.value(), self.1.value()]
    }
}

/// What keeps a metric for each combination of labels: prometheus' own `…Vec` types.
pub trait SeriesByLabels: Collector + Clone + 'static {
    /// The metric.
    type Metric;

    /// The metric of these values, made if it is not there.
    ///
    /// # Errors
    ///
    /// More or fewer values than labels.
    fn series(&self, values: &[&str]) -> Result<Self::Metric, Error>;
}

impl<B: MetricVecBuilder + 'static> SeriesByLabels for MetricVec<B> {
    type Metric = B::M;

    fn series(&self, values: &[&str]) -> Result<B::M, Error> {
        self.get_metric_with_label_values(values)
    }
}

/// A family of metrics, one for each combination of its labels.
#[derive(Clone)]
pub struct Family<S, L> {
    series: S,
    labels: PhantomData<fn(L)>,
}

impl<S: SeriesByLabels, L: Labels> Family<S, L> {
    /// Registers a family that `make` makes with these label names. All of its metrics are there at once.
    ///
    /// # Errors
    ///
    /// A name that is no name, or is taken.
    pub fn register(
        registry: &Registry,
        make: impl FnOnce(&[&str]) -> Result<S, Error>,
    ) -> Result<Self, Error> {
        let series = make(&L::names())?;
        for labels in L::all() {
            series.series(&labels.values())?;
        }
        Ok(Self {
            series: register(registry, series)?,
            labels: PhantomData,
        })
    }

    /// The metric of one combination.
    #[must_use]
    pub fn of(&self, labels: L) -> S::Metric {
        self.series
            .series(&labels.values())
            .expect("the family was made with the names that these values belong to")
    }
}

impl<S, L> fmt::Debug for Family<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").finish_non_exhaustive()
    }
}

/// Counters by labels.
pub type Counters<L> = Family<IntCounterVec, L>;

/// Gauges of whole numbers by labels.
pub type Gauges<L> = Family<IntGaugeVec, L>;

/// Histograms by labels.
pub type Histograms<L> = Family<HistogramVec, L>;

/// Registers a metric.
///
/// # Errors
///
/// A name that is taken.
pub fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Registers a counter.
///
/// # Errors
///
/// A name that is no name, or is taken.
pub fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    register(registry, IntCounter::new(name, help)?)
}

/// Registers a gauge of whole numbers.
///
/// # Errors
///
/// A name that is no name, or is taken.
pub fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    register(registry, IntGauge::new(name, help)?)
}

/// Registers counters by labels.
///
/// # Errors
///
/// A name that is no name, or is taken.
pub fn counters<L: Labels>(registry: &Registry, name: &str, help: &str) -> Result<Counters<L>, Error> {
    Family::register(registry, |labels| {
        IntCounterVec::new(Opts::new(name, help), labels)
    })
}

/// Registers gauges of whole numbers by labels.
///
/// # Errors
///
/// A name that is no name, or is taken.
pub fn gauges<L: Labels>(registry: &Registry, name: &str, help: &str) -> Result<Gauges<L>, Error> {
    Family::register(registry, |labels| IntGaugeVec::new(Opts::new(name, help), labels))
}

/// Registers histograms by labels; `bounds` are their buckets' upper ones, ascending.
///
/// # Errors
///
/// A name that is no name, or is taken.
pub fn histograms<L: Labels>(
    registry: &Registry,
    name: &str,
    help: &str,
    bounds: &[f64],
) -> Result<Histograms<L>, Error> {
    let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
    Family::register(registry, |labels| HistogramVec::new(options, labels))
}

/// A count as a gauge takes it.
#[must_use]
pub fn gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn every_combination_of_labels_is_there_from_the_start() {
        let registry = Registry::new();
        let family = counters::<(RequestKind, RequestKind)>(&registry, "pairs_total", "Help.");
        assert!(family.is_err(), "two labels of one name");
        let family = counters::<RequestKind>(&registry, "requests_total", "Help.").unwrap();
        family.of(RequestKind::Put).inc();
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for kind in RequestKind::ALL {
            let count = u8::from(*kind == RequestKind::Put);
            let line = format!("requests_total{{kind=\"{}\"}} {count}\n", kind.value());
            assert!(text.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn a_name_can_be_taken_once() {
        let registry = Registry::new();
        counter(&registry, "things_total", "Help.").unwrap();
        assert!(gauge(&registry, "things_total", "Help.").is_err());
    }
}
