//! Shares, compared exactly.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A share from 0 to 100 %, with two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct Percent {
    hundredths: u16,
}

const WHOLE: u16 = 100 * 100;

impl Percent {
    /// A whole number of percent; 100 where it is more.
    #[must_use]
    pub const fn whole(percent: u8) -> Self {
        let percent = if percent > 100 { 100 } else { percent };
        Self {
            // At most 10,000.
            hundredths: percent as u16 * 100,
        }
    }

    /// How much a part is of a whole, rounded down; of nothing, nothing.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Self {
        let hundredths = (u128::from(part) * u128::from(WHOLE))
            .checked_div(u128::from(whole))
            .unwrap_or_default();
        Self {
            hundredths: u16::try_from(hundredths).unwrap_or(WHOLE).min(WHOLE),
        }
    }

    /// Whether a part is a smaller share of a whole than this. Exact: nothing is rounded.
    #[must_use]
    pub fn is_more_than(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(WHOLE) < u128::from(whole) * u128::from(self.hundredths)
    }

    /// Whether a part is a larger share of a whole than this. Exact: nothing is rounded.
    #[must_use]
    pub fn is_less_than(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(WHOLE) > u128::from(whole) * u128::from(self.hundredths)
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        Self::from(percent.hundredths) / 100.0
    }
}

impl TryFrom<f64> for Percent {
    type Error = String;

    fn try_from(percent: f64) -> Result<Self, String> {
        format!("{percent:.2}").parse()
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.hundredths / 100, self.hundredths % 100);
        match decimals {
            0 => write!(f, "{whole}"),
            _ if decimals % 10 == 0 => write!(f, "{whole}.{}", decimals / 10),
            _ => write!(f, "{whole}.{decimals:02}"),
        }
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let how = || "a share is a number from 0 to 100, with two decimals at most: 50, 99.5".to_owned();
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
            return Err(how());
        }
        let whole: u16 = whole.parse().map_err(|_| how())?;
        let hundredths: u16 = format!("{decimals:0<2}").parse().map_err(|_| how())?;
        whole
            .checked_mul(100)
            .and_then(|sum| sum.checked_add(hundredths))
            .filter(|sum| *sum <= WHOLE)
            .map(|hundredths| Self { hundredths })
            .ok_or_else(how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_shown() {
        for text in ["0", "50", "100", "99.5", "0.01", "33.33"] {
            assert_eq!(text.parse::<Percent>().unwrap().to_string(), text);
        }
        assert_eq!("50.0".parse::<Percent>(), Ok(Percent::whole(50)));
        for wrong in [
            "", "-1", "101", "100.01", "50%", "1.234", ".5", "5.", "x", "99999999",
        ] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
        assert_eq!(Percent::of(1, 3).to_string(), "33.33");
        assert_eq!(
            (Percent::of(0, 0), Percent::of(9, 3)),
            (Percent::whole(0), Percent::whole(100))
        );
    }

    #[test]
    fn a_share_that_is_just_the_limit_is_neither_more_nor_less() {
        let half = Percent::whole(50);
        assert!(!half.is_less_than(5, 10) && !half.is_more_than(5, 10));
        assert!(half.is_less_than(u64::MAX / 2 + 1, u64::MAX) && half.is_more_than(u64::MAX / 2, u64::MAX));
        assert!(!half.is_less_than(0, 0) && !half.is_more_than(0, 0));
        assert!(!Percent::whole(100).is_less_than(10, 10) && !Percent::whole(0).is_more_than(0, 10));
    }
}
