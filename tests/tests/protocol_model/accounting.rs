//! Is what the journals add up to what was really freed (R5)? Two runs with a state store each, of which one may be resumed, on
//! two orphans; two workers that may have the same task; whoever looks at a run's books while nobody is at work.
//!
//! Time is left out. What the deletion model shows is taken for granted: a lock is taken over, and a claimant has waited, when no
//! request of those before is under way, and whoever was about to send one comes too late.

#[path = "accounting/books.rs"]
mod books;
#[path = "accounting/state.rs"]
mod state;
#[path = "accounting/workers.rs"]
mod workers;

use stateright::{Model, Property};

use self::books::{BATCHES, Batch, BatchEnd, Fate, gone};
use self::state::{ALL, RUNS, Settler, State, Step, TENURES, Tenure, Worker};

/// What the protocol keeps to. Each may be switched off; all are R5's.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A batch's start is journaled before its request is sent.
    pub starts_are_journaled: bool,
    /// The claim is looked at between the journal and the request.
    pub claims_are_looked_at_again: bool,
    /// Who takes over a claim waits until the requests of its holder must have ended.
    pub claimants_wait: bool,
    /// Who takes over a claim settles what its holder left open, and so does who takes the lock.
    pub open_batches_are_settled: bool,
    /// What is freed is the union of the journals, not the sum of what was reported.
    pub journals_are_united: bool,
    /// Who settles looks at the keys first and then who has deleted since (decision 0010).
    pub looks_come_before_questions: bool,
    /// Who takes the lock closes the books of the run that deleted last (decision 0010).
    pub last_delete_is_settled: bool,
    /// A worker that wakes up late does not write over what was settled meanwhile.
    pub settled_is_not_written_over: bool,
    /// Who takes over a claim settles batches of claims before its own, and no later ones.
    pub only_predecessors_are_settled: bool,
    /// What is absent counts only while the epoch that deleted last is the batch's own, not just one of its run.
    pub epochs_are_compared: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        starts_are_journaled: true,
        claims_are_looked_at_again: true,
        claimants_wait: true,
        open_batches_are_settled: true,
        journals_are_united: true,
        looks_come_before_questions: true,
        last_delete_is_settled: true,
        settled_is_not_written_over: true,
        epochs_are_compared: true,
        only_predecessors_are_settled: true,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `RegistryLock::take`, `Run::begin`, plan, `RegistryLock::allow`: settles, plans, and notes who deletes.
    TakeLock { run: u8 },
    /// `Run::finish`, after `wait_for_silence`: settles its own books, and gives the lock back.
    End,
    /// `NatsHand::claim`
    Claim { worker: usize },
    /// `settle_predecessors`
    Settle { worker: usize },
    /// `Journal::start`
    Start { worker: usize },
    /// `NatsHand::leave`, `TracedPlan::permit`
    Ask { worker: usize },
    /// The store's `delete`, unless its deadline has passed.
    Send { worker: usize },
    /// The store carries it out for some of its blobs and refuses the others; the answer may be lost.
    Land {
        worker: usize,
        blobs: u8,
        is_answered: bool,
    },
    /// `Journal::end`
    JournalEnd { worker: usize },
    /// `delete_until_settled`
    TryAgain { worker: usize },
    /// `NatsHand::report`
    Report { worker: usize },
    /// `runs show`: looks at what a run left open, while nobody is at work (`NobodyAtWork`).
    Look { run: u8 },
    /// It asks who has deleted since, and writes down what it saw.
    WriteDown,
}
pub const FREED_IS_EXACT: &str = "what is settled is exact";
pub const NEVER_TOO_MUCH: &str = "no run counts what it has not freed";

/// How much of everything there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Times that the lock is taken.
    tenures: usize,
    /// Whether the second run, with its own state store, takes it too, and somebody may look at the books.
    has_others: bool,
    /// Times that a task is claimed.
    claims: u8,
    /// Batches that are begun for it.
    batches: usize,
}

impl Bounds {
    /// Two workers that have one task at the same time, and again after the run is resumed.
    pub const ONE_TASK: Self = Self {
        tenures: 2,
        has_others: false,
        claims: 3,
        batches: 2,
    };
    /// Two runs, of which either may be resumed, and who looks on.
    pub const TWO_RUNS: Self = Self {
        tenures: 3,
        has_others: true,
        claims: 1,
        batches: 1,
    };
}

#[derive(Debug, Clone)]
pub struct Accounting {
    pub rules: Rules,
    pub bounds: Bounds,
}

impl Model for Accounting {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = State {
            present: ALL,
            removed: [0; RUNS],
            tenures: [None; TENURES],
            is_locked: false,
            last_delete: None,
            is_reachable: true,
            workers: [Worker::IDLE; 2],
            settler: None,
            reported: [0; RUNS],
        };
        let unreachable = State {
            is_reachable: false,
            ..first
        };
        match self.bounds.has_others {
            true => vec![first, unreachable],
            false => vec![first],
        }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let are_silent = !state.workers.iter().any(Worker::is_in_flight);
        if state.tenures_had() < self.bounds.tenures && are_silent {
            // Given back, or lapsed. The second run begins once the first has.
            actions.push(Action::TakeLock { run: 0 });
            if state.tenures_had() > 0 && self.bounds.has_others {
                actions.push(Action::TakeLock { run: 1 });
            }
        }
        if state.is_locked && are_silent {
            actions.push(Action::End);
        }
        if state.settler.is_some() {
            actions.push(Action::WriteDown);
        } else if !state.is_locked && self.bounds.has_others {
            let unsettled = [0, 1].into_iter().filter(|run| !state.is_settled(*run));
            actions.extend(unsettled.map(|run| Action::Look { run }));
        }
        for worker in 0..state.workers.len() {
            workers::actions(self, state, worker, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::TakeLock { run } => self.take_lock(&mut state, run),
            Action::End => {
                let run = state.tenures[state.tenures_had() - 1]?.run;
                state.workers.iter_mut().for_each(Worker::be_late);
                state.settle(&self.rules, run);
                state.is_locked = false;
            }
            Action::Look { run } => {
                state.settler = Some(Settler {
                    run,
                    looked_at: state.look_at(|_, tenure, _| tenure.run == run),
                    last_delete: state.last_delete,
                });
            }
            Action::WriteDown => {
                let settler = state.settler.take()?;
                match self.rules.looks_come_before_questions {
                    true => state.write_down(&self.rules, settler.looked_at, state.last_delete),
                    false => {
                        let looks_now = state.look_at(|_, tenure, _| tenure.run == settler.run);
                        state.write_down(&self.rules, looks_now, settler.last_delete);
                    }
                }
            }
            Action::Claim { worker }
            | Action::Settle { worker }
            | Action::Start { worker }
            | Action::Ask { worker }
            | Action::Send { worker }
            | Action::Land { worker, .. }
            | Action::JournalEnd { worker }
            | Action::TryAgain { worker }
            | Action::Report { worker } => workers::apply(self, &mut state, worker, action)?,
        }
        state.workers.sort_unstable();
        Some(state).filter(|state| state != last)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(FREED_IS_EXACT, |model: &Self, state: &State| {
                let is_over = !state.is_locked && !state.workers.iter().any(Worker::is_in_flight);
                [0, 1].into_iter().all(|run| {
                    let place = usize::from(run);
                    !(is_over && state.is_settled(run) && state.is_reachable)
                        || match model.rules.journals_are_united {
                            true => state.accounted(run) == state.removed[place],
                            false => u32::from(state.reported[place]) == state.removed[place].count_ones(),
                        }
                })
            }),
            Property::always(NEVER_TOO_MUCH, |_, state: &State| {
                [0, 1]
                    .into_iter()
                    .all(|run| state.accounted(run) & !state.removed[usize::from(run)] == 0)
            }),
            Property::sometimes("a run frees something in two epochs", |_, state: &State| {
                let epochs = state.of_run(0).filter(|tenure| gone(tenure.ends()) != 0);
                epochs.count() == 2 && state.accounted(0) == ALL
            }),
        ];
        properties.extend(match self.bounds.has_others {
            true => [
                Property::sometimes("both runs free something", |_, state: &State| {
                    state.accounted(0) != 0 && state.accounted(1) != 0
                }),
                Property::sometimes("something counts for nobody", |_, state: &State| {
                    let mut ends = state.tenures.iter().flatten().flat_map(Tenure::ends);
                    ends.any(|end| matches!(end, BatchEnd::Ended(fates) if fates.contains(&Fate::Unattributed)))
                }),
            ],
            false => [
                Property::sometimes("two workers delete the same", |_, state: &State| {
                    let both = |tenure: &Tenure| tenure.ends().all(|end| gone([end].into_iter()) == ALL);
                    state.tenures.iter().flatten().any(both)
                }),
                Property::sometimes("a task is done by who took it over", |_, state: &State| {
                    let took_over = |worker: &Worker| worker.claim > 1 && matches!(worker.step, Step::Ended { .. });
                    state.workers.iter().any(took_over)
                }),
            ],
        });
        properties
    }
}

impl Accounting {
    fn take_lock(&self, state: &mut State, run: u8) {
        // R10: whoever was about to send something for the one before comes too late.
        state.workers.iter_mut().for_each(Worker::be_late);
        if self.rules.open_batches_are_settled {
            state.settle(&self.rules, run);
        }
        let last = state.last_delete.and_then(|last| state.tenures[last]);
        if let Some(last) = last.filter(|last| last.run != run)
            && self.rules.last_delete_is_settled
            && state.is_reachable
        {
            state.settle(&self.rules, last.run);
        }
        let place = state.tenures_had();
        state.tenures[place] = Some(Tenure {
            run,
            plan: state.present,
            claims: 0,
            batches: [Batch::NONE; BATCHES],
        });
        state.last_delete = Some(place);
        state.is_locked = true;
    }
}
