//! How long requests wait before they are executed.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;

use super::chance::Chance;
use crate::simulator::LogNormal;

/// How long requests wait before they are executed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// All of them so long.
    Fixed(Duration),
    /// Half of them less than the median, a few much longer; in seconds.
    LogNormal(LogNormal),
}

impl Default for Latency {
    fn default() -> Self {
        Self::Fixed(Duration::ZERO)
    }
}

impl From<Duration> for Latency {
    fn from(fixed: Duration) -> Self {
        Self::Fixed(fixed)
    }
}

/// Reads `20ms`, or `lognormal:20ms,0.5`: a median, and the standard deviation of the logarithms.
impl FromStr for Latency {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let duration = |text: &str| -> anyhow::Result<Duration> {
            let duration: SignedDuration = text.parse()?;
            Duration::try_from(duration).context("a latency is not negative")
        };
        let Some(parameters) = text.strip_prefix("lognormal:") else {
            return Ok(Self::Fixed(duration(text)?));
        };
        let (median, sigma) = parameters
            .split_once(',')
            .context("lognormal: takes a median and a sigma, such as lognormal:20ms,0.5")?;
        Ok(Self::LogNormal(LogNormal {
            median: duration(median)?.as_secs_f64(),
            sigma: sigma.parse()?,
        }))
    }
}

impl Latency {
    pub(super) async fn wait(self, chance: &Chance) {
        let time = match self {
            Self::Fixed(time) => time,
            Self::LogNormal(times) => {
                let seconds = times.at(chance.fraction(), chance.fraction());
                Duration::from_secs_f64(seconds.clamp(0.0, 60.0))
            }
        };
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_read() {
        let fixed: Latency = "20ms".parse().unwrap();
        assert_eq!(fixed, Latency::Fixed(Duration::from_millis(20)));
        let spread: Latency = "lognormal:20ms,0.5".parse().unwrap();
        let wanted = LogNormal {
            median: 0.02,
            sigma: 0.5,
        };
        assert_eq!(spread, Latency::LogNormal(wanted));
        for wrong in ["", "20", "-1s", "lognormal:20ms", "lognormal:20ms,x"] {
            assert!(wrong.parse::<Latency>().is_err(), "{wrong}");
        }
    }
}
