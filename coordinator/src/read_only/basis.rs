//! How it is known that nothing was written while a run went on, as record and report say it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How it is known; what is less comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was proved, and later was not so any more.
    Lost,
    /// It was not, before the run ended.
    Unproved,
    /// It was not, on purpose: what was needed again was put back.
    Online,
    /// The operator asserted it.
    Assumed,
    /// The operator's command said that it is so.
    Commanded,
    /// The cluster says that no pod is left that writes.
    Managed,
    /// Every replica that was named was asked, again and again.
    Proved,
}

impl How {
    /// Its name, as the report has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Unproved => "unproved",
            Self::Online => "online",
            Self::Assumed => "assumed",
            Self::Commanded => "commanded",
            Self::Managed => "managed",
            Self::Proved => "proved",
        }
    }
}

/// How it is known, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// How.
    pub how: How,
    /// Replicas that were asked, and what switched the registry.
    pub by: Vec<String>,
}

impl Basis {
    /// By the operator's word.
    #[must_use]
    pub fn assumed() -> Self {
        Self {
            how: How::Assumed,
            by: Vec::new(),
        }
    }

    /// It is not.
    #[must_use]
    pub fn online() -> Self {
        Self {
            how: How::Online,
            by: Vec::new(),
        }
    }

    /// Not yet.
    #[must_use]
    pub fn unproved() -> Self {
        Self {
            how: How::Unproved,
            by: Vec::new(),
        }
    }

    /// What is known of several epochs: no more than of the least of them.
    #[must_use]
    pub fn of_all<'b>(all: impl Iterator<Item = &'b Self>) -> Option<Self> {
        all.cloned().reduce(|mut sum, next| {
            sum.how = sum.how.min(next.how);
            for by in next.by {
                if !sum.by.contains(&by) {
                    sum.by.push(by);
                }
            }
            sum
        })
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.how.as_str())?;
        if self.by.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.by.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_as_well_as_its_least_epoch() {
        let proved = Basis {
            how: How::Proved,
            by: vec!["https://r".to_owned()],
        };
        let both = Basis::of_all([&proved, &Basis::assumed(), &proved].into_iter()).unwrap();
        assert_eq!((both.how, both.by.len()), (How::Assumed, 1));
        assert_eq!(both.to_string(), "assumed (https://r)");
        assert_eq!(Basis::of_all(std::iter::empty()), None);
    }
}
