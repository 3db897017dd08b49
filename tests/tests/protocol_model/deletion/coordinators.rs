//! The coordinators' steps: coordinator/src/run.rs, lock_registry.rs, silence.rs.

use super::state::{EPOCHS, LEASE, LOOK_AGAIN, Lock, Phase, State, TIMEOUT};
use super::{Action, Rules};

/// A step of a coordinator, which goes by its epoch. One that was killed takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinate {
    /// `RegistryLock::take`: there is none, or `refuse_at_work` sees that it has lapsed and its requests have ended.
    TakeLock,
    /// Mark, seal, plan: mark.rs, seal.rs, plan.rs.
    Plan,
    /// `RegistryLock::allow`.
    Allow,
    /// `rewrite`, its first half: reads the time, and that the lease has not passed.
    ReadTimeToRenew,
    /// `rewrite`, its second half: writes the lock by compare-and-set.
    Renew,
    /// `RegistryLock::forbid`, before it waits: silence.rs.
    Forbid,
    /// `RegistryLock::give_back`, its first half: writes the lock once more by compare-and-set.
    GiveBack,
    /// Its second half: `remove_own`.
    RemoveLock,
}

pub fn actions(rules: &Rules, state: &State, actions: &mut Vec<Action>) {
    for epoch in 0..EPOCHS {
        let place = usize::from(epoch);
        let coordinator = state.coordinators[place];
        let mut may = |step| actions.push(Action::Coordinator(epoch, step));
        // Who renews holds what the others write with.
        if coordinator.renewing.is_some() {
            may(Coordinate::Renew);
            continue;
        }
        match coordinator.phase {
            Phase::NotBegun => {
                let is_next = epoch == 0 || state.coordinators[place - 1].phase != Phase::NotBegun;
                // R11: the operator says that the registry is read-only, and it is.
                if is_next && state.read_only && state.lock.is_none_or(|lock| lock.is_over()) {
                    may(Coordinate::TakeLock);
                }
            }
            Phase::Locked => may(Coordinate::Plan),
            Phase::Planned => may(Coordinate::Allow),
            Phase::Allowed => {
                // Reported, or told to stop.
                may(Coordinate::Forbid);
                if state.books[place].is_reported && !rules.r11_silence_is_waited_for {
                    may(Coordinate::GiveBack);
                }
            }
            Phase::Forbidden { left } => {
                // The journals are looked at once nobody goes by an earlier look at the lock.
                if left == 0 || left <= TIMEOUT && !state.has_open_batches(epoch) {
                    may(Coordinate::GiveBack);
                }
            }
            Phase::Removing => may(Coordinate::RemoveLock),
            Phase::Ended | Phase::Lost => {}
        }
        let renews = matches!(
            coordinator.phase,
            Phase::Planned | Phase::Allowed | Phase::Forbidden { .. }
        );
        // It changes something once time has passed.
        if renews && state.lock_of(epoch).is_none_or(|lock| lock.left < LEASE) {
            may(Coordinate::ReadTimeToRenew);
        }
    }
}

pub fn apply(rules: &Rules, state: &mut State, epoch: u8, step: Coordinate) {
    let place = usize::from(epoch);
    let mut coordinator = state.coordinators[place];
    // R11: what has lapsed is not renewed, even if nobody has taken it.
    let mut held = state.lock_of(epoch).filter(|lock| lock.left > 0);
    let mut phase = Phase::Lost;
    match step {
        Coordinate::TakeLock => {
            if let Some(of) = state.lock.map(|lock| usize::from(lock.epoch))
                && state.coordinators[of].phase != Phase::Removing
            {
                // Whatever it tries, by compare-and-set, it is told.
                state.coordinators[of].lose();
            }
            held = Some(Lock {
                epoch,
                left: LEASE,
                allows: false,
            });
            phase = Phase::Locked;
        }
        Coordinate::Plan => {
            let spared = if rules.r1_references_are_kept {
                state.references()
            } else {
                0
            };
            let earlier = place.checked_sub(1).and_then(|earlier| state.books[earlier].plan);
            let resumed = earlier.filter(|_| !rules.r11_epochs_mark_anew);
            state.books[place].plan = Some(resumed.unwrap_or(state.blobs & !spared));
            phase = Phase::Planned;
        }
        Coordinate::Allow => {
            if let Some(lock) = &mut held {
                (lock.left, lock.allows) = (LEASE, true);
                phase = Phase::Allowed;
            }
        }
        Coordinate::ReadTimeToRenew => {
            if held.is_some() {
                coordinator.renewing = Some(0);
                phase = coordinator.phase;
            }
        }
        Coordinate::Renew => {
            if !rules.r11_lapsed_lock_is_not_written {
                held = state.lock_of(epoch);
            }
            let ago = coordinator.renewing.take().unwrap_or_default();
            if let Some(lock) = &mut held {
                // The lease counts from the time that was read.
                lock.left = (LEASE - ago).max(-TIMEOUT);
                phase = coordinator.phase;
            }
        }
        Coordinate::Forbid => {
            if let Some(lock) = &mut held {
                (lock.left, lock.allows) = (LEASE, false);
                let left = LOOK_AGAIN + TIMEOUT;
                phase = Phase::Forbidden { left };
            }
        }
        Coordinate::GiveBack => {
            if let Some(lock) = &mut held {
                (lock.left, lock.allows) = (LEASE, false);
                phase = Phase::Removing;
            }
        }
        Coordinate::RemoveLock => {
            // Under no condition: what lies there is removed.
            if held.is_some() || !rules.r11_lapsed_lock_is_not_removed {
                state.lock = None;
                held = None;
            }
            phase = Phase::Ended;
        }
    }
    if held.is_some() {
        state.lock = held;
    }
    coordinator.phase = phase;
    state.coordinators[place] = coordinator;
}
