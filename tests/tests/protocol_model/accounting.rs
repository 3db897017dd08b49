//! Is what the journals add up to what was really freed (R5)? Two runs with a state store each, of which one may be resumed, on
//! two orphans; two workers that may have the same task; whoever looks at a run's books while nobody is at work.
//!
//! Time is left out. What the deletion model shows is taken for granted: a lock is taken over, and a claimant has waited, when no
//! request of those before is under way, and whoever was about to send one comes too late.

#[path = "accounting/books.rs"]
mod books;

use stateright::{Model, Property};

use self::books::{BATCHES, Batch, BatchEnd, Fate, Fates, LookedAt, gone, is_unsettled, look_at, planned};

/// Times that the lock may be taken, at most.
const TENURES: usize = 3;
const RUNS: usize = 2;
const ALL: u8 = 0b11;

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

/// One tenure of the lock: an epoch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenure {
    run: u8,
    plan: u8,
    /// Times that its task was claimed.
    claims: u8,
    batches: [Batch; BATCHES],
}

impl Tenure {
    fn end_of(&self, batch: usize) -> BatchEnd {
        self.batches[batch].read(self.plan)
    }

    fn ends(&self) -> impl Iterator<Item = BatchEnd> {
        (0..BATCHES).map(|batch| self.end_of(batch))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
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
struct Worker {
    tenure: usize,
    step: Step,
    /// The number of its claim. It is still its while there is no later one.
    claim: u8,
}

impl Worker {
    const IDLE: Self = Self {
        tenure: 0,
        step: Step::Idle,
        claim: 0,
    };

    fn has_task_of(&self, tenure: usize) -> bool {
        self.step != Step::Idle && self.tenure == tenure
    }

    fn is_in_flight(&self) -> bool {
        matches!(self.step, Step::InFlight { .. })
    }

    /// Its deadline passes.
    fn be_late(&mut self) {
        if let Step::Permitted { is_late, .. } = &mut self.step {
            *is_late = true;
        }
    }
}

/// Somebody who has looked at a run's books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Settler {
    run: u8,
    looked_at: [[Option<LookedAt>; BATCHES]; TENURES],
    /// What last-delete.json said then.
    last_delete: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    present: u8,
    /// What really became of the blobs: those that each run removed.
    removed: [u8; RUNS],
    /// In the order in which the lock was had.
    tenures: [Option<Tenure>; TENURES],
    /// Whether the latest still has it.
    is_locked: bool,
    /// last-delete.json: one of the tenures.
    last_delete: Option<usize>,
    /// Whether a run finds the other's state store.
    is_reachable: bool,
    workers: [Worker; 2],
    settler: Option<Settler>,
    /// Blobs that reports said were removed.
    reported: [u8; RUNS],
}

impl State {
    fn tenures_had(&self) -> usize {
        self.tenures.iter().flatten().count()
    }

    fn of_run(&self, run: u8) -> impl Iterator<Item = &Tenure> {
        self.tenures
            .iter()
            .flatten()
            .filter(move |tenure| tenure.run == run)
    }

    /// What the books of a run add up to.
    fn accounted(&self, run: u8) -> u8 {
        gone(self.of_run(run).flat_map(Tenure::ends))
    }

    fn is_settled(&self, run: u8) -> bool {
        !self.of_run(run).flat_map(Tenure::ends).any(is_unsettled)
    }

    fn is_at_work(&self, tenure: usize) -> bool {
        self.is_locked && self.tenures_had() == tenure + 1
    }

    /// `settle_open_batches`, its first half: looks at some batches.
    fn look_at(
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
    fn settle(&mut self, rules: &Rules, run: u8) {
        let looked_at = self.look_at(|_, tenure, _| tenure.run == run);
        self.write_down(rules, looked_at, self.last_delete);
    }

    /// Its second half: writes down what was seen, knowing who deleted last.
    fn write_down(
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
            self.work(state, worker, actions);
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
            | Action::Report { worker } => self.do_work(&mut state, worker, action)?,
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

    fn work(&self, state: &State, number: usize, actions: &mut Vec<Action>) {
        let worker = state.workers[number];
        let tenure = worker.tenure;
        match worker.step {
            Step::Idle => {
                let latest = state.tenures_had();
                let may_be_claimed = |tenure: Tenure| tenure.plan != 0 && tenure.claims < self.bounds.claims;
                if state.is_locked && state.tenures[latest - 1].is_some_and(may_be_claimed) {
                    actions.push(Action::Claim { worker: number });
                }
            }
            Step::Waiting => {
                let is_in_flight = |other: &Worker| other.has_task_of(tenure) && other.is_in_flight();
                if !self.rules.claimants_wait || !state.workers.iter().any(is_in_flight) {
                    actions.push(Action::Settle { worker: number });
                }
            }
            Step::Claimed => actions.push(Action::Start { worker: number }),
            Step::Started { .. } => actions.push(Action::Ask { worker: number }),
            Step::Permitted { .. } => actions.push(Action::Send { worker: number }),
            Step::InFlight { .. } => {
                let plan = state.tenures[tenure].map_or(0, |tenure| tenure.plan);
                // All, the first, none. They are alike, so that it need not be the second.
                let first = plan & plan.wrapping_neg();
                let mut choices = vec![plan, first, 0];
                choices.dedup();
                for blobs in choices {
                    for is_answered in [true, false] {
                        actions.push(Action::Land {
                            worker: number,
                            blobs,
                            is_answered,
                        });
                    }
                }
            }
            Step::Answered { .. } => actions.push(Action::JournalEnd { worker: number }),
            Step::Ended { fates } => {
                if fates.contains(&Fate::Unknown) {
                    actions.push(Action::TryAgain { worker: number });
                }
                actions.push(Action::Report { worker: number });
            }
        }
    }

    fn do_work(&self, state: &mut State, number: usize, action: Action) -> Option<()> {
        let mut worker = state.workers[number];
        if let Action::Claim { .. } = action {
            worker.tenure = state.tenures_had() - 1;
        }
        let is_at_work = state.is_at_work(worker.tenure);
        let present = state.present;
        if matches!(action, Action::Settle { .. }) && self.rules.open_batches_are_settled {
            let looked_at = state.look_at(|place, _, batch| {
                let is_before = batch.claim < worker.claim || !self.rules.only_predecessors_are_settled;
                place == worker.tenure && is_before
            });
            state.write_down(&self.rules, looked_at, state.last_delete);
        }
        let tenure = state.tenures[worker.tenure].as_mut()?;
        match (action, worker.step) {
            (Action::Claim { .. }, Step::Idle) => {
                let holds_it =
                    |other: &Worker| other.has_task_of(worker.tenure) && other.claim == tenure.claims;
                worker.step = match state.workers.iter().any(holds_it) {
                    true => Step::Waiting,
                    false => Step::Claimed,
                };
                tenure.claims += 1;
                worker.claim = tenure.claims;
            }
            (Action::Settle { .. }, Step::Waiting) => {
                let all_gone = planned(tenure.plan, |_| Fate::Gone);
                // What is gone is not sent again.
                worker.step = match tenure.ends().any(|end| end == BatchEnd::Ended(all_gone)) {
                    true => Step::Ended { fates: all_gone },
                    false => Step::Claimed,
                };
                if self.rules.claimants_wait {
                    for other in state
                        .workers
                        .iter_mut()
                        .filter(|other| other.has_task_of(worker.tenure))
                    {
                        other.be_late();
                    }
                }
            }
            (Action::Start { .. } | Action::TryAgain { .. }, Step::Claimed | Step::Ended { .. }) => {
                // As many as the model has place for.
                let mut places = tenure.batches.iter().take(self.bounds.batches);
                let batch = places.position(|batch| *batch == Batch::NONE)?;
                tenure.batches[batch].started = self.rules.starts_are_journaled;
                tenure.batches[batch].claim = worker.claim;
                worker.step = Step::Started { batch };
            }
            (Action::Ask { .. }, Step::Started { batch }) => {
                let has_leave = worker.claim == tenure.claims || !self.rules.claims_are_looked_at_again;
                if has_leave && is_at_work {
                    worker.step = Step::Permitted {
                        batch,
                        is_late: false,
                    };
                } else {
                    // `not_sent`
                    tenure.batches[batch].write_end(planned(tenure.plan, |_| Fate::NotDone));
                    worker = Worker::IDLE;
                }
            }
            (
                Action::Send { .. },
                Step::Permitted {
                    batch,
                    is_late: false,
                },
            ) => {
                worker.step = Step::InFlight { batch };
            }
            (Action::Send { .. }, Step::Permitted { batch, .. }) => {
                let fates = planned(tenure.plan, |_| Fate::Unknown);
                worker.step = Step::Answered { batch, fates };
            }
            (
                Action::Land {
                    blobs, is_answered, ..
                },
                Step::InFlight { batch },
            ) => {
                // A store says of what is not there that it is deleted.
                let fates = planned(tenure.plan, |blob| match (is_answered, blobs & (1 << blob)) {
                    (false, _) => Fate::Unknown,
                    (true, 0) => Fate::Failed,
                    (true, _) => Fate::Gone,
                });
                state.removed[usize::from(tenure.run)] |= present & blobs;
                state.present &= !blobs;
                worker.step = Step::Answered { batch, fates };
            }
            (Action::JournalEnd { .. }, Step::Answered { batch, fates }) => {
                let is_settled = tenure.batches[batch].ended.is_some();
                if !is_settled || !self.rules.settled_is_not_written_over {
                    tenure.batches[batch].write_end(fates);
                }
                worker.step = Step::Ended { fates };
            }
            (Action::Report { .. }, Step::Ended { fates }) => {
                if !self.rules.journals_are_united {
                    let removed = fates.iter().filter(|fate| **fate == Fate::Gone).count();
                    state.reported[usize::from(tenure.run)] += u8::from(removed > 0) + u8::from(removed > 1);
                }
                worker = Worker::IDLE;
            }
            _ => return None,
        }
        state.workers[number] = worker;
        Some(())
    }
}
