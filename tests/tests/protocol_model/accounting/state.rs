//! What there is in the accounting model: blobs, tenures of the lock with their journals, workers.

use super::Rules;
use super::books::{BATCHES, Batch, BatchEnd, Fates, LookedAt, gone, is_unsettled, look_at};

/// Times that the lock may be taken, at most.
pub const TENURES: usize = 3;
pub const RUNS: usize = 2;
/// All blobs.
pub const ALL: u8 = 0b11;

/// One tenure of the lock: an epoch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenure {
    pub run: u8,
    pub plan: u8,
    /// Times that its task was claimed.
    pub claims: u8,
    pub batches: [Batch; BATCHES],
}

impl Tenure {
    pub fn end_of(&self, batch: usize) -> BatchEnd {
        self.batches[batch].read(self.plan)
    }

    pub fn ends(&self) -> impl Iterator<Item = BatchEnd> {
        (0..BATCHES).map(|batch| self.end_of(batch))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Idle,
    Waiting,
    Claimed,
    Started {
        batch: usize,
    },
    Permitted {
        batch: usize,
        is_late: bool,
    },
    InFlight {
        batch: usize,
    },
    Answered {
        batch: usize,
        fates: Fates,
    },
    /// Its end is journaled.
    Ended {
        fates: Fates,
    },
}

/// A worker, with the tenure that its task is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    pub tenure: usize,
    pub step: Step,
    /// The number of its claim. It is still its while there is no later one.
    pub claim: u8,
}

impl Worker {
    pub const IDLE: Self = Self {
        tenure: 0,
        step: Step::Idle,
        claim: 0,
    };

    pub fn has_task_of(&self, tenure: usize) -> bool {
        self.step != Step::Idle && self.tenure == tenure
    }

    pub fn is_in_flight(&self) -> bool {
        matches!(self.step, Step::InFlight { .. })
    }

    /// Its deadline passes.
    pub fn be_late(&mut self) {
        if let Step::Permitted { is_late, .. } = &mut self.step {
            *is_late = true;
        }
    }
}

/// Somebody who has looked at a run's books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settler {
    pub run: u8,
    pub looked_at: [[Option<LookedAt>; BATCHES]; TENURES],
    /// What last-delete.json said then.
    pub last_delete: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub present: u8,
    /// What really became of the blobs: those that each run removed.
    pub removed: [u8; RUNS],
    /// In the order in which the lock was had.
    pub tenures: [Option<Tenure>; TENURES],
    /// Whether the latest still has it.
    pub is_locked: bool,
    /// last-delete.json: one of the tenures.
    pub last_delete: Option<usize>,
    /// Whether a run finds the other's state store.
    pub is_reachable: bool,
    pub workers: [Worker; 2],
    pub settler: Option<Settler>,
    /// Blobs that reports said were removed.
    pub reported: [u8; RUNS],
}

impl State {
    pub fn tenures_had(&self) -> usize {
        self.tenures.iter().flatten().count()
    }

    pub fn of_run(&self, run: u8) -> impl Iterator<Item = &Tenure> {
        self.tenures
            .iter()
            .flatten()
            .filter(move |tenure| tenure.run == run)
    }

    /// What the books of a run add up to.
    pub fn accounted(&self, run: u8) -> u8 {
        gone(self.of_run(run).flat_map(Tenure::ends))
    }

    pub fn is_settled(&self, run: u8) -> bool {
        !self.of_run(run).flat_map(Tenure::ends).any(is_unsettled)
    }

    pub fn is_at_work(&self, tenure: usize) -> bool {
        self.is_locked && self.tenures_had() == tenure + 1
    }

    /// `settle_open_batches`, its first half: looks at some batches.
    pub fn look_at(
        &self,
        which: impl Fn(usize, &Tenure, &Batch) -> bool,
    ) -> [[Option<LookedAt>; BATCHES]; TENURES] {
        std::array::from_fn(|place| {
            let tenure = self.tenures[place];
            std::array::from_fn(|batch| {
                let tenure = tenure.filter(|tenure| which(place, tenure, &tenure.batches[batch]))?;
                look_at(tenure.end_of(batch), tenure.plan, self.present)
            })
        })
    }

    /// Settles a run, at one stroke.
    pub fn settle(&mut self, rules: &Rules, run: u8) {
        let looked_at = self.look_at(|_, tenure, _| tenure.run == run);
        self.write_down(rules, looked_at, self.last_delete);
    }

    /// Its second half: writes down what was seen, knowing who deleted last.
    pub fn write_down(
        &mut self,
        rules: &Rules,
        looked_at: [[Option<LookedAt>; BATCHES]; TENURES],
        last_delete: Option<usize>,
    ) {
        let run_of = self.tenures.map(|tenure| tenure.map(|tenure| tenure.run));
        for (place, tenure) in self.tenures.iter_mut().enumerate() {
            let Some(tenure) = tenure else { continue };
            // `deleted_since`
            let another_has_deleted = last_delete.is_some_and(|last| match rules.epochs_are_compared {
                true => last != place,
                false => run_of[last] != Some(tenure.run),
            });
            for (batch, looked_at) in looked_at[place].iter().enumerate() {
                // Who deleted since may have settled it before that.
                let is_settled = another_has_deleted && !is_unsettled(tenure.end_of(batch));
                if let Some(looked_at) = looked_at.filter(|_| !is_settled) {
                    tenure.batches[batch].write_end(looked_at.attribute(another_has_deleted));
                }
            }
        }
    }
}
