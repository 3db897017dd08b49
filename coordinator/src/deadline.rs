//! When a run is to stop: `--deadline 04:00` or `--max-duration 3h`. It stops so much earlier that it has ended by then.

use std::time::Duration;

use hardprune_common::clock;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use tokio_util::sync::CancellationToken;

/// What the end of a run takes beside its last requests: journals, accounts, report.
const CLOSING: Duration = Duration::from_secs(10);

/// When a run is to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// The next time that clocks of this machine's zone show this.
    At(Time),
    /// So long after its start.
    In(Duration),
}

/// A deadline that was worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// When, in this machine's zone.
    pub at: Zoned,
    /// How long before that the run begins to stop.
    lead: Duration,
}

impl Deadline {
    /// Reads `04:00`, `16:30` or `04:00:00`.
    ///
    /// # Errors
    ///
    /// What is no time of a day.
    pub fn at(text: &str) -> Result<Self, String> {
        let time = Time::strptime("%H:%M", text).or_else(|_| Time::strptime("%H:%M:%S", text));
        time.map(Self::At).map_err(|error| {
            format!("{error}; write the time of day as 04:00 or 16:30, in this machine's zone")
        })
    }

    /// Works out when that is, seen from `now`. `longest_request` is how long a delete request may take.
    ///
    /// # Errors
    ///
    /// A time that no calendar has.
    pub fn due(self, now: &Zoned, longest_request: Duration) -> Result<Due, jiff::Error> {
        let at = match self {
            Self::At(time) => {
                let today = now.date().to_datetime(time).to_zoned(now.time_zone().clone())?;
                if today > *now {
                    today
                } else {
                    let tomorrow = now.date().checked_add(1.day())?;
                    tomorrow.to_datetime(time).to_zoned(now.time_zone().clone())?
                }
            }
            Self::In(duration) => now.checked_add(duration)?,
        };
        let left = Duration::try_from(at.timestamp().duration_since(now.timestamp())).unwrap_or_default();
        // Of a short time a tenth: it is somebody's who tries it out.
        let lead = (longest_request + CLOSING).min(left / 10);
        Ok(Due { at, lead })
    }
}

impl Due {
    /// Says when that is, in which zone, and how long from now.
    #[must_use]
    pub fn describe(&self, now: &Zoned) -> String {
        let left = self.at.timestamp().duration_since(now.timestamp());
        let minutes = left.as_mins();
        let left = if minutes < 2 {
            format!("{} s", left.as_secs())
        } else if minutes < 120 {
            format!("{minutes} min")
        } else {
            format!("{} h {} min", minutes / 60, minutes % 60)
        };
        let at = self.at.strftime("%Y-%m-%d %H:%M:%S");
        let zone = self.at.time_zone().iana_name().map_or_else(
            || self.at.strftime("UTC%:z").to_string(),
            |name| format!("{name}, {}", self.at.strftime("UTC%:z")),
        );
        format!("stops by {at} ({zone}), in {left}")
    }

    /// When, for all zones.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.at.timestamp()
    }

    /// Cancels `stop` in time.
    pub fn watch(&self, stop: CancellationToken) {
        let begin = clock::earlier(self.at.timestamp(), self.lead);
        tokio::spawn(async move {
            // A machine that is suspended, or whose clock is set, must not miss it: so it looks often.
            while clock::machine_now() < begin {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            eprintln!("the deadline has come; batches in flight end first");
            stop.cancel();
        });
    }
}

/// The time now in this machine's zone.
#[must_use]
pub fn zoned_now() -> Zoned {
    clock::machine_now().to_zoned(TimeZone::system())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Duration = Duration::from_secs(20);

    fn due(now: &str, deadline: &str) -> Due {
        let now: Zoned = now.parse().unwrap();
        Deadline::at(deadline).unwrap().due(&now, REQUEST).unwrap()
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        let evening = due("2026-11-24T22:00:00+01:00[Europe/Berlin]", "04:00");
        assert_eq!(evening.at.to_string(), "2026-11-25T04:00:00+01:00[Europe/Berlin]");
        let night = due("2026-11-25T03:59:59+01:00[Europe/Berlin]", "04:00");
        assert_eq!(night.at.to_string(), "2026-11-25T04:00:00+01:00[Europe/Berlin]");
        let sharp = due("2026-11-25T04:00:00+01:00[Europe/Berlin]", "04:00");
        assert_eq!(sharp.at.to_string(), "2026-11-26T04:00:00+01:00[Europe/Berlin]");
    }

    #[test]
    fn a_night_in_which_clocks_change_has_its_deadline_too() {
        // 02:30 does not exist on that day: the first moment after the gap as far behind it.
        let spring = due("2026-03-28T23:00:00+01:00[Europe/Berlin]", "02:30");
        assert_eq!(spring.at.to_string(), "2026-03-29T03:30:00+02:00[Europe/Berlin]");
        let autumn = due("2026-10-24T23:00:00+02:00[Europe/Berlin]", "02:30");
        assert_eq!(autumn.at.to_string(), "2026-10-25T02:30:00+02:00[Europe/Berlin]");
    }

    #[test]
    fn it_begins_to_stop_before() {
        let now: Zoned = "2026-11-24T22:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let long = Deadline::In(Duration::from_secs(3 * 3600))
            .due(&now, REQUEST)
            .unwrap();
        assert_eq!(long.lead, REQUEST + CLOSING);
        let short = Deadline::In(Duration::from_secs(10)).due(&now, REQUEST).unwrap();
        assert_eq!(short.lead, Duration::from_secs(1));
    }

    #[test]
    fn it_says_zone_and_time() {
        let now: Zoned = "2026-11-24T22:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let text = due("2026-11-24T22:00:00+01:00[Europe/Berlin]", "04:00").describe(&now);
        assert_eq!(
            text,
            "stops by 2026-11-25 04:00:00 (Europe/Berlin, UTC+01:00), in 6 h 0 min"
        );
        assert!(Deadline::at("4 o'clock").is_err() && Deadline::at("25:00").is_err());
    }
}
