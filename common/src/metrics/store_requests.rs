//! The requests that stores count themselves, read when somebody looks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::{Error, Registry, proto};

use super::Label;
use crate::store::{RequestCounts, RequestKind, Store};

/// A counter of the requests that stores have been sent, by kind.
#[derive(Debug, Clone)]
pub struct StoreRequests {
    description: Desc,
    stores: Arc<Mutex<Vec<Arc<dyn Store>>>>,
}

impl StoreRequests {
    /// Registers the counter. It counts no store yet.
    ///
    /// # Errors
    ///
    /// A name that is no name, or is taken.
    pub fn register(registry: &Registry, name: &str, help: &str) -> Result<Self, Error> {
        let labels = vec![RequestKind::NAME.to_owned()];
        let description = Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?;
        super::register(
            registry,
            Self {
                description,
                stores: Arc::default(),
            },
        )
    }

    /// Counts the requests of a store from now on, those that it was sent before too. It is kept from then on: a counter
    /// must not fall. A store that is counted already is not counted twice.
    pub fn count(&self, store: &Arc<dyn Store>) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if !stores.iter().any(|counted| Arc::ptr_eq(counted, store)) {
            stores.push(Arc::clone(store));
        }
    }

    fn counts(&self) -> RequestCounts {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores
            .iter()
            .fold(RequestCounts::default(), |sum, store| sum.plus(store.requests()))
    }
}

impl Collector for StoreRequests {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let counts = self.counts();
        let series = RequestKind::ALL.iter().map(|kind| {
            let mut label = proto::LabelPair::default();
            label.set_name(RequestKind::NAME.to_owned());
            label.set_value(kind.value().to_owned());
            let mut counter = proto::Counter::default();
            #[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
            counter.set_value(counts.of(*kind) as f64);
            let mut metric = proto::Metric::from_label(vec![label]);
            metric.set_counter(counter);
            metric
        });
        let mut family = proto::MetricFamily::default();
        family.set_name(self.description.fq_name.clone());
        family.set_help(self.description.help.clone());
        family.set_field_type(proto::MetricType::COUNTER);
        family.set_metric(series.collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::store::PutCondition;
    use crate::store::filesystem::FilesystemStore;

    #[tokio::test]
    async fn requests_are_those_of_all_stores_each_counted_once() {
        let registry = Registry::new();
        let requests = StoreRequests::register(&registry, "requests_total", "Help.").unwrap();
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for folder in &folders {
            let store: Arc<dyn Store> = Arc::new(FilesystemStore::open(folder.path()).unwrap());
            requests.count(&store);
            requests.count(&store);
            store.put("a", "b".into(), PutCondition::Always).await.unwrap();
        }
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("# TYPE requests_total counter\n"), "{text}");
        assert!(text.contains("requests_total{kind=\"put\"} 2\n"), "{text}");
        assert!(text.contains("requests_total{kind=\"delete\"} 0\n"), "{text}");
    }
}
