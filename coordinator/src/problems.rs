//! What was found wrong in a run: all of it counted, the first ones shown (R9). All of them are JSON lines in the state store.

use std::collections::BTreeMap;

use hardprune_common::problem::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};

/// Problems that the report itself holds.
pub const FIRST_PROBLEMS: usize = 20;

/// What was found wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    /// How many.
    pub total: u64,
    /// By kind.
    pub by_kind: BTreeMap<ProblemKind, u64>,
    /// The first ones.
    pub first: Vec<Problem>,
}

impl Problems {
    /// Counts a problem, and shows it if it is one of the first.
    pub fn add(&mut self, problem: &Problem) {
        self.count(problem.kind, 1);
        self.show(problem);
    }

    /// Counts and shows what others have counted and shown.
    pub fn add_all(&mut self, others: &Self) {
        for (kind, count) in &others.by_kind {
            self.count(*kind, *count);
        }
        for problem in &others.first {
            self.show(problem);
        }
    }

    /// Counts problems of a kind.
    pub fn count(&mut self, kind: ProblemKind, count: u64) {
        *self.by_kind.entry(kind).or_default() += count;
        self.total += count;
    }

    /// Shows a problem that was counted, if it is one of the first.
    pub fn show(&mut self, problem: &Problem) {
        if self.first.len() < FIRST_PROBLEMS {
            self.first.push(problem.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_shown() {
        let mut problems = Problems::default();
        for number in 0..100 {
            problems.add(&Problem {
                repository: None,
                digest: None,
                kind: ProblemKind::DeleteFailed,
                message: number.to_string(),
            });
        }
        let mut sum = problems.clone();
        sum.add_all(&problems);
        assert_eq!((sum.total, sum.by_kind[&ProblemKind::DeleteFailed]), (200, 200));
        assert_eq!((sum.first.len(), &sum.first), (FIRST_PROBLEMS, &problems.first));
    }
}
