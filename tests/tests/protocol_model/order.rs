//! Is what is served whole at any moment, and does the next run remove what a crash left (R6)? Two repositories that serve the
//! same dead image: each has a revision link and a layer link; manifest and layer are blobs of two shards.
//!
//! Coordinator: coordinator/src/run.rs, unlink.rs, sweep.rs. Workers: `TracedPlan::parts_due` in common/src/authority.rs. Each key
//! is a task of its own, which may come to workers at any time and any number of times. Who may delete at all is the
//! deletion model's.

use stateright::{Model, Property};

/// Epochs; nothing is refused and nobody dies in the last.
const EPOCHS: u8 = 3;

/// Keys, by their bits.
const REVISIONS: [u8; 2] = [0b00_0001, 0b00_0010];
const LAYER_LINKS: [u8; 2] = [0b00_0100, 0b00_1000];
const MANIFEST: u8 = 0b01_0000;
const LAYER: u8 = 0b10_0000;
const ALL: u8 = 0b11_1111;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    Unlink,
    Links,
    Sweep,
}

const STAGES: [Stage; 3] = [Stage::Unlink, Stage::Links, Stage::Sweep];

/// The keys that go in a stage.
fn keys_of(stage: Stage) -> u8 {
    match stage {
        Stage::Unlink => REVISIONS[0] | REVISIONS[1],
        Stage::Links => LAYER_LINKS[0] | LAYER_LINKS[1],
        Stage::Sweep => MANIFEST | LAYER,
    }
}

/// What the protocol keeps to, all of it R6's.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A worker does a task only once the lock says that its stage has come.
    pub workers_look_at_the_stage: bool,
    /// A stage begins once the tasks of the one before have been reported.
    pub stages_wait: bool,
    /// Blobs stay while a link of a dead manifest does.
    pub links_hold_blobs_back: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        workers_look_at_the_stage: true,
        stages_wait: true,
        links_hold_blobs_back: true,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Marks, seals, plans: `Run::stages_of`.
    Plan,
    /// `RegistryLock::allow`
    Allow(Stage),
    /// A task comes to a worker, and its request is sent.
    Send {
        key: u8,
    },
    Land {
        key: u8,
    },
    Refuse {
        key: u8,
    },
    End,
    Crash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// No epoch goes on.
    Over,
    Planned,
    Allowed(Stage),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    present: u8,
    epoch: u8,
    phase: Phase,
    plan: u8,
    in_flight: u8,
    reported: u8,
    refused: u8,
}

impl State {
    fn has(&self, key: u8) -> bool {
        self.present & key != 0
    }

    /// R8: a revision without its manifest.
    fn is_frozen(&self, repository: usize) -> bool {
        self.has(REVISIONS[repository]) && !self.has(MANIFEST)
    }

    /// What marking and planning find to remove.
    fn orphans(&self) -> u8 {
        let mut referenced = 0;
        for repository in [0, 1] {
            if self.is_frozen(repository) {
                referenced |= REVISIONS[repository] | LAYER_LINKS[repository] | MANIFEST;
                // All its links count as references.
                if self.has(LAYER_LINKS[repository]) {
                    referenced |= LAYER;
                }
            }
        }
        self.present & !referenced
    }

    fn serves_whole(&self, repository: usize) -> bool {
        !self.has(REVISIONS[repository])
            || self.has(LAYER_LINKS[repository]) && self.has(MANIFEST) && self.has(LAYER)
    }

    fn is_last(&self) -> bool {
        self.epoch == EPOCHS
    }
}

pub const SERVED_IS_WHOLE: &str = "no revision that is served lacks its layers";
pub const NOTHING_IS_LEFT: &str = "a run that nothing disturbs leaves nothing";

#[derive(Debug, Clone)]
pub struct Order {
    pub rules: Rules,
}

impl Order {
    /// Whether all of a stage was reported, and may the next begin.
    fn may_follow(&self, state: &State, stage: Stage) -> bool {
        let planned = keys_of(stage) & state.plan;
        let is_reported = state.reported & planned == planned || !self.rules.stages_wait;
        // A dangling link that the store refuses to delete holds nothing back: it leads nowhere.
        let is_held_back = stage == Stage::Unlink && state.refused & planned != 0;
        is_reported && !(is_held_back && self.rules.links_hold_blobs_back)
    }
}

impl Model for Order {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            present: ALL,
            epoch: 0,
            phase: Phase::Over,
            plan: 0,
            in_flight: 0,
            reported: 0,
            refused: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let keys = (0..6).map(|bit| 1 << bit);
        for key in keys.clone().filter(|key| state.in_flight & key != 0) {
            actions.push(Action::Land { key });
            if !state.is_last() {
                actions.push(Action::Refuse { key });
            }
        }
        match state.phase {
            Phase::Over => {
                if state.epoch < EPOCHS && state.in_flight == 0 {
                    actions.push(Action::Plan);
                }
                return;
            }
            Phase::Planned => actions.push(Action::Allow(Stage::Unlink)),
            Phase::Allowed(stage) => {
                let next = STAGES.into_iter().find(|next| *next > stage);
                let has_ended = state.reported & keys_of(stage) & state.plan == keys_of(stage) & state.plan;
                match next.filter(|_| self.may_follow(state, stage)) {
                    Some(next) => actions.push(Action::Allow(next)),
                    None if has_ended => actions.push(Action::End),
                    None => {}
                }
                for key in keys.filter(|key| state.plan & !state.in_flight & key != 0) {
                    // `parts_due`
                    let is_due = STAGES
                        .into_iter()
                        .any(|due| due <= stage && keys_of(due) & key != 0);
                    if is_due || !self.rules.workers_look_at_the_stage {
                        actions.push(Action::Send { key });
                    }
                }
            }
        }
        if !state.is_last() {
            actions.push(Action::Crash);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Plan => {
                state.epoch += 1;
                state.plan = state.orphans();
                (state.reported, state.refused) = (0, 0);
                state.phase = Phase::Planned;
            }
            Action::Allow(stage) => state.phase = Phase::Allowed(stage),
            Action::Send { key } => state.in_flight |= key,
            Action::Land { key } => {
                state.present &= !key;
                state.in_flight &= !key;
                state.reported |= key;
                state.refused &= !key;
            }
            Action::Refuse { key } => {
                state.in_flight &= !key;
                state.reported |= key;
                state.refused |= key & state.present;
            }
            Action::End | Action::Crash => state.phase = Phase::Over,
        }
        Some(state).filter(|state| state != last)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SERVED_IS_WHOLE, |_, state: &State| {
                state.serves_whole(0) && state.serves_whole(1)
            }),
            Property::always(NOTHING_IS_LEFT, |_, state: &State| {
                !(state.is_last() && state.phase == Phase::Over) || state.present == 0
            }),
            Property::sometimes("one run removes everything", |_, state: &State| {
                state.epoch == 1 && state.present == 0
            }),
            Property::sometimes(
                "a crash leaves blobs that no link leads to",
                |_, state: &State| state.phase == Phase::Over && state.present == LAYER,
            ),
            Property::sometimes("a link that cannot go holds blobs back", |_, state: &State| {
                state.phase == Phase::Over && state.refused & keys_of(Stage::Unlink) != 0
            }),
            Property::sometimes("three epochs are needed", |_, state: &State| {
                state.is_last() && state.plan == ALL && state.phase == Phase::Over
            }),
        ]
    }
}
