//! Can a live blob go missing (R1, R2, R5, R10, R11)? A registry with two blobs, clients that push, tag and delete when they
//! may, an operator, two epochs of a run (the second by whoever takes over), two workers, and a task that both may have.
//!
//! Time passes in ticks. A timer comes to its end at a tick; between two ticks anything may happen, in any order. Who does
//! nothing for many ticks was suspended.

#[path = "deletion/coordinators.rs"]
mod coordinators;
#[path = "deletion/state.rs"]
mod state;
#[path = "deletion/workers.rs"]
mod workers;

use stateright::{Model, Property};

pub use self::coordinators::Coordinate;
use self::state::{LEASE, Phase, Push, REUSED, State, Step, TIMEOUT, Worker};
pub use self::workers::Work;

/// What the protocol keeps to. Each may be switched off.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub r1_references_are_kept: bool,
    /// A worker deletes by nothing but a plan that it traced to the lock.
    pub r2_plans_are_traced: bool,
    /// Who takes a claim over waits until the requests of its holder must have ended.
    pub r5_claimants_wait: bool,
    /// The claim is looked at between the journal and the request.
    pub r5_claims_are_looked_at_again: bool,
    /// Who takes over a claim settles the batches of claims before its own, and no later ones.
    pub r5_only_predecessors_are_settled: bool,
    /// A request has no hidden retries, and ends before the lease does that it was permitted under.
    pub r10_requests_end_in_time: bool,
    /// A resumed run marks and plans anew.
    pub r11_epochs_mark_anew: bool,
    /// The registry stays read-only until the last attempt has ended.
    pub r11_read_only_is_held: bool,
    /// Who writes the lock does so before the lease has lapsed that it saw (R11).
    pub r11_lapsed_lock_is_not_written: bool,
    /// Who gives the lock back removes it before it has lapsed, or not at all.
    pub r11_lapsed_lock_is_not_removed: bool,
    /// Before the lock is given back silence is waited for, whatever was reported.
    pub r11_silence_is_waited_for: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        r1_references_are_kept: true,
        r2_plans_are_traced: true,
        r5_claimants_wait: true,
        r5_claims_are_looked_at_again: true,
        r5_only_predecessors_are_settled: true,
        r10_requests_end_in_time: true,
        r11_epochs_mark_anew: true,
        r11_read_only_is_held: true,
        r11_lapsed_lock_is_not_written: true,
        r11_lapsed_lock_is_not_removed: true,
        r11_silence_is_waited_for: true,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Tick,
    /// Layers of image 1 and their links. A blob that is there is not written anew: an orphan is reused.
    PushLayers,
    /// A registry takes a manifest, by a tag, only where it has what that names.
    PushManifest,
    MoveTag {
        image: u8,
    },
    DeleteImage {
        image: u8,
    },
    SwitchReadOnly,
    LiftReadOnly,
    /// By epoch.
    Coordinator(u8, Coordinate),
    /// By its place, which may be another after each step.
    Worker(usize, Work),
}

pub const NO_LIVE_BLOB_IS_MISSING: &str = "no live blob is missing";

#[derive(Debug, Clone)]
pub struct Deletion {
    pub rules: Rules,
}

impl Model for Deletion {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.actions_outside(state, actions);
        coordinators::actions(&self.rules, state, actions);
        workers::actions(&self.rules, state, actions);
        actions.push(Action::Tick);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Tick => tick(&self.rules, &mut state),
            Action::PushLayers => {
                state.blobs |= state::blobs_of(1);
                state.push = Push::Linked;
            }
            Action::PushManifest => {
                state.revisions |= 1 << 1;
                state.tag = Some(1);
                state.push = Push::Done;
            }
            Action::MoveTag { image } => state.tag = Some(image),
            Action::DeleteImage { image } => {
                state.revisions &= !(1 << image);
                state.tag = state.tag.filter(|tagged| *tagged != image);
            }
            Action::SwitchReadOnly => state.read_only = true,
            Action::LiftReadOnly => state.read_only = false,
            Action::Coordinator(epoch, step) => coordinators::apply(&self.rules, &mut state, epoch, step),
            Action::Worker(number, step) => workers::apply(&self.rules, &mut state, number, step),
        }
        if self.rules.r2_plans_are_traced {
            workers::forget_what_is_over(&mut state);
        }
        state.workers.sort_unstable();
        Some(state).filter(|state| state != last)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_LIVE_BLOB_IS_MISSING, |_, state: &State| state.live_are_whole()),
            Property::sometimes("an orphan is deleted", |_, state: &State| {
                state.blobs & REUSED == 0
            }),
            Property::sometimes(
                "an orphan that was deleted is pushed again",
                |_, state: &State| {
                    state.coordinators[0].phase == Phase::Ended
                        && state.books[0].plan == Some(REUSED)
                        && state.tag == Some(1)
                },
            ),
            Property::sometimes("a second coordinator takes over", |_, state: &State| {
                state.coordinators.map(|coordinator| coordinator.phase) == [Phase::Lost, Phase::Allowed]
            }),
            Property::sometimes("a run is resumed, and ends", |_, state: &State| {
                state.coordinators.map(|coordinator| coordinator.phase) == [Phase::Lost, Phase::Ended]
            }),
            Property::sometimes("an orphan is reused between two epochs", |_, state: &State| {
                state.coordinators[1].phase == Phase::Ended
                    && state.books[0].plan == Some(REUSED)
                    && state.books[1].plan == Some(0)
            }),
            Property::sometimes("a redelivered task is done", |_, state: &State| {
                // One still works on it that has lost its claim.
                let lost_it = |worker: &Worker| worker.epoch() == Some(0) && !worker.holds_claim;
                state.books[0].is_reported && state.blobs & REUSED == 0 && state.workers.iter().any(lost_it)
            }),
            Property::sometimes(
                "a worker wakes up too late for its request",
                |_, state: &State| {
                    let is_late = |step| matches!(step, Step::Permitted { left: 0, .. });
                    state.workers.iter().any(|worker| is_late(worker.step))
                },
            ),
        ]
    }
}

impl Deletion {
    /// What clients and the operator may do.
    fn actions_outside(&self, state: &State, actions: &mut Vec<Action>) {
        if state.read_only {
            // All that the operator sees is the lock: given back, or lapsed, and its requests' time over
            // (`LockDocument::requests_end`, docs/runbook.md).
            let is_over = state.lock.is_none_or(|lock| lock.is_over());
            if is_over || !self.rules.r11_read_only_is_held {
                actions.push(Action::LiftReadOnly);
            }
            return;
        }
        actions.push(Action::SwitchReadOnly);
        match state.push {
            Push::Linked if state.has_all_of(1) => actions.push(Action::PushManifest),
            // Where something is gone by then, the manifest is refused, and the client pushes it again.
            Push::NotBegun | Push::Linked => actions.push(Action::PushLayers),
            Push::Done => {}
        }
        if state.has_revision(0) {
            if state.push == Push::Done {
                actions.push(Action::MoveTag {
                    image: 1 - state.tag.unwrap_or(0),
                });
            }
            actions.push(Action::DeleteImage { image: 0 });
        }
    }
}

fn tick(rules: &Rules, state: &mut State) {
    if let Some(lock) = &mut state.lock {
        lock.left = (lock.left - 1).max(-TIMEOUT);
        let owner = &mut state.coordinators[usize::from(lock.epoch)];
        if lock.left == 0 && rules.r11_lapsed_lock_is_not_written && owner.phase != Phase::Removing {
            owner.lose();
        }
    }
    for coordinator in &mut state.coordinators {
        if let Some(ago) = &mut coordinator.renewing {
            *ago = (*ago + 1).min(LEASE + TIMEOUT);
        }
        if let Phase::Forbidden { left } = &mut coordinator.phase {
            *left = (*left - 1).max(0);
        }
    }
    for worker in &mut state.workers {
        worker.has_looked = false;
        if let Step::Waiting { left, .. }
        | Step::Asked { left, .. }
        | Step::Permitted { left, .. }
        | Step::InFlight { left, .. } = &mut worker.step
        {
            *left = (*left - 1).max(0);
        }
        // Given up: the store has carried it out by now, or never will.
        if let Step::InFlight { epoch, left: 0 } = worker.step
            && rules.r10_requests_end_in_time
        {
            worker.step = Step::Answered { epoch };
        }
    }
}
