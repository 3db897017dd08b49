//! What was measured beside what was to be reached.

use anyhow::Result;

use super::bars::{Bar, Bars, Group};
use super::drawing::Drawing;
use super::measure::Series;
use crate::docker_registry::StockCollector;

/// Two programs that did the same, side by side.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What they did.
    pub what: String,
    /// The stock collector.
    pub stock: Series,
    /// hardprune.
    pub product: Series,
    /// How many times faster hardprune is to be; nothing is asked of some.
    pub wanted_ratio: Option<f64>,
}

impl Comparison {
    /// One and the same work, beside each of the stock collectors.
    ///
    /// # Errors
    ///
    /// A collector that does not say its version.
    pub fn with_each(
        what: &str,
        stock: Vec<(&StockCollector, Series)>,
        product: &Series,
        wanted_ratio: f64,
    ) -> Result<Vec<Self>> {
        let comparison = |(collector, stock): (&StockCollector, Series)| {
            Ok(Self {
                what: format!("{what}, against {}", collector.version()?),
                stock,
                product: product.clone(),
                wanted_ratio: Some(wanted_ratio),
            })
        };
        stock.into_iter().map(comparison).collect()
    }

    /// How many times faster hardprune is, by the medians.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.stock.median_seconds() / self.product.median_seconds()
    }

    /// Whether it is as much faster as asked.
    #[must_use]
    pub fn reached(&self) -> Option<bool> {
        self.wanted_ratio.map(|wanted| self.ratio() >= wanted)
    }
}

/// A figure that must not be exceeded.
#[derive(Debug, Clone)]
pub struct Bound {
    /// What is counted.
    pub what: String,
    /// How many there were.
    pub found: u64,
    /// How many there may be.
    pub most: u64,
    /// Where the bound comes from.
    pub because: String,
}

impl Bound {
    /// Whether it is kept.
    #[must_use]
    pub fn reached(&self) -> bool {
        self.found <= self.most
    }
}

/// A figure of any kind, for people.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it is of.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What was to be reached, and whether it was; nothing is asked of some.
    pub wanted: Option<(String, bool)>,
}

impl Figure {
    /// A figure of which nothing is asked.
    #[must_use]
    pub fn told(what: &str, found: String) -> Self {
        Self {
            what: what.to_owned(),
            found,
            wanted: None,
        }
    }

    /// A figure that was to reach something.
    #[must_use]
    pub fn held(what: &str, found: String, wanted: String, reached: bool) -> Self {
        Self {
            what: what.to_owned(),
            found,
            wanted: Some((wanted, reached)),
        }
    }
}

/// What one registry's benchmark found.
#[derive(Debug, Clone)]
pub struct Findings {
    /// What `--only` calls it.
    pub id: &'static str,
    /// What the registry is.
    pub registry: String,
    /// Who is compared with whom: the columns of the stock collector's place and of hardprune's.
    pub sides: (&'static str, &'static str),
    /// Programs side by side.
    pub comparisons: Vec<Comparison>,
    /// What plain tools need for less.
    pub yardsticks: Vec<(String, Series)>,
    /// Figures with bounds.
    pub bounds: Vec<Bound>,
    /// Other figures.
    pub figures: Vec<Figure>,
    /// Charts, beside that of the comparisons.
    pub charts: Vec<Drawing>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            id: "",
            registry: String::new(),
            sides: ("stock", "hardprune"),
            comparisons: Vec::new(),
            yardsticks: Vec::new(),
            bounds: Vec::new(),
            figures: Vec::new(),
            charts: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// No process may need more memory than this.
pub const MOST_MEMORY: u64 = 128 << 20;

impl Findings {
    /// All charts: those that were drawn, and the times of those that were compared.
    #[must_use]
    pub fn drawings(&self) -> Vec<Drawing> {
        let bar = |name: &str, seconds: f64, more: String| Bar {
            name: name.to_owned(),
            value: seconds,
            label: format!("{seconds:.2} s{more}"),
        };
        let group = |comparison: &Comparison| Group {
            name: comparison.what.clone(),
            bars: vec![
                bar(self.sides.0, comparison.stock.median_seconds(), String::new()),
                bar(
                    self.sides.1,
                    comparison.product.median_seconds(),
                    format!(", {:.1} times faster", comparison.ratio()),
                ),
            ],
        };
        let groups: Vec<_> = self.comparisons.iter().map(group).collect();
        let compared = (!groups.is_empty()).then(|| {
            let title = "Seconds, medians";
            Bars { title, groups }.draw(&format!("{}-compared.svg", self.id))
        });
        compared.into_iter().chain(self.charts.iter().cloned()).collect()
    }

    /// Adds the bound on memory, over all of hardprune's runs.
    pub fn bound_memory(&mut self) {
        let most = self
            .comparisons
            .iter()
            .map(|comparison| comparison.product.peak_bytes());
        self.bounds.push(Bound {
            what: "peak memory of hardprune, bytes".to_owned(),
            found: most.max().unwrap_or(0),
            most: MOST_MEMORY,
            because: "128 MiB".to_owned(),
        });
    }
}
