//! The memory that this process holds, as Linux tells it, read when somebody looks.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::{Error, IntGauge, proto};

/// A gauge of the resident set. Without a figure where the system has no `/proc`.
#[derive(Debug, Clone)]
pub struct ResidentBytes(IntGauge);

impl ResidentBytes {
    /// Makes the gauge.
    ///
    /// # Errors
    ///
    /// None: its name is one.
    pub fn new() -> Result<Self, Error> {
        let help = "Bytes of memory that the process holds (its resident set).";
        Ok(Self(IntGauge::new("hardprune_worker_resident_bytes", help)?))
    }
}

impl Collector for ResidentBytes {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        // `status` has the figure of `statm` in a unit that does not depend on the machine's pages.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let Some(bytes) = resident_bytes(&status) else {
            return Vec::new();
        };
        self.0.set(bytes);
        self.0.collect()
    }
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_read_from_its_line() {
        assert_eq!(
            resident_bytes("VmHWM:\t    9 kB\nVmRSS:\t    1480 kB\nRssAnon:\t 1 kB\n"),
            Some(1_515_520)
        );
        assert_eq!(resident_bytes("VmRSS:\t many kB\n"), None);
        assert_eq!(resident_bytes("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_holds_some_memory() {
        let families = ResidentBytes::new().unwrap().collect();
        assert!(families[0].get_metric()[0].get_gauge().get_value() > 100_000.0);
    }
}
