//! The workers' steps: worker/src/run_task.rs, delete_blobs.rs, settle_batches.rs, common/src/authority.rs, nats/hand.rs.

use super::state::{EPOCHS, Phase, State, Step, TIMEOUT, Worker};
use super::{Action, Rules};

/// A step of a worker. One that was killed takes no more, but the store may carry out what it has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A task is delivered, the first time or again (`ack_wait`), its plan traced to the lock (`TracedPlan::trace`), and claimed
    /// (`NatsHand::claim`): at once where nobody holds the claim; otherwise from one that is silent, or seems so.
    Claim { epoch: u8 },
    /// It has waited, and settles what its predecessor left open: `settle_predecessors`.
    Settle,
    /// `Sender::delete_once`: the start is journaled, the time noted.
    Begin,
    /// `NatsHand::leave` and `TracedPlan::permit`: is the claim still its, does the lock allow it for long enough?
    Ask,
    /// The store's `delete`: sent, unless its deadline has passed.
    Send,
    /// The store carries the request out.
    Land,
    /// The store refuses it, or never gets it.
    GetLost,
    /// The end is journaled, and it is tried again: `delete_until_settled`.
    TryAgain,
    /// The end is journaled, and the task reported as far as it could be done: `NatsHand::report`.
    Report,
    /// The run was told to stop: `ClaimError::Halted` is reported by who has no claim, though another may be at work.
    ReportHalted { epoch: u8 },
}

pub fn actions(rules: &Rules, state: &State, actions: &mut Vec<Action>) {
    for (number, worker) in state.workers.iter().enumerate() {
        if number > 0 && *worker == state.workers[number - 1] {
            continue;
        }
        let mut may = |step| actions.push(Action::Worker(number, step));
        match worker.step {
            Step::Idle => {
                for epoch in 0..EPOCHS {
                    let is_reported = state.books[usize::from(epoch)].is_reported;
                    if !is_reported && is_traced(rules, state, epoch) {
                        may(Work::Claim { epoch });
                        if state.coordinators[usize::from(epoch)].phase == Phase::Allowed {
                            may(Work::ReportHalted { epoch });
                        }
                    }
                }
            }
            Step::Waiting { left, .. } => {
                if left == 0 || !rules.r5_claimants_wait {
                    may(Work::Settle);
                }
            }
            Step::Claimed { .. } => may(Work::Begin),
            Step::Asked { .. } => may(Work::Ask),
            Step::Permitted { .. } => may(Work::Send),
            Step::InFlight { .. } => {
                may(Work::Land);
                may(Work::GetLost);
            }
            Step::Answered { .. } => {
                may(Work::TryAgain);
                may(Work::Report);
            }
        }
    }
}

/// R2: whether the lock allows the sealed plan of an epoch.
fn is_traced(rules: &Rules, state: &State, epoch: u8) -> bool {
    let by_lock = || {
        state
            .lock_of(epoch)
            .is_some_and(|lock| lock.allows && lock.left > 0)
    };
    match rules.r2_plans_are_traced {
        true => by_lock(),
        false => state.books[usize::from(epoch)].plan.is_some(),
    }
}

/// R10: whether a request that is asked for in this tick ends before the lease does of the lock that allows it.
fn is_permitted(rules: &Rules, state: &State, epoch: u8) -> bool {
    let lock = match rules.r2_plans_are_traced {
        true => state.lock_of(epoch).filter(|lock| lock.allows),
        false => state.lock,
    };
    lock.is_some_and(|lock| lock.left > TIMEOUT)
}

pub fn apply(rules: &Rules, state: &mut State, number: usize, step: Work) {
    let mut worker = state.workers[number];
    match (step, worker.step) {
        (Work::Claim { epoch }, _) => {
            let mut is_of_another = false;
            for other in state
                .workers
                .iter_mut()
                .filter(|other| other.epoch() == Some(epoch))
            {
                is_of_another |= std::mem::take(&mut other.holds_claim);
            }
            worker.holds_claim = true;
            worker.has_looked = is_permitted(rules, state, epoch);
            worker.step = match is_of_another {
                true => Step::Waiting { epoch, left: TIMEOUT },
                false => Step::Claimed { epoch },
            };
        }
        (Work::Settle, Step::Waiting { epoch, .. }) => {
            // The other's claim is the later one where this one's is not good any more.
            if worker.holds_claim || !rules.r5_only_predecessors_are_settled {
                for other in state
                    .workers
                    .iter_mut()
                    .filter(|other| other.epoch() == Some(epoch))
                {
                    other.has_open_batch = false;
                }
            }
            worker.step = Step::Claimed { epoch };
        }
        (Work::Begin, Step::Claimed { epoch }) => {
            worker.has_open_batch = true;
            worker.step = Step::Asked { epoch, left: TIMEOUT };
        }
        // `may_go_on`
        (Work::TryAgain, _) if !worker.holds_claim && rules.r5_claims_are_looked_at_again => {
            worker = Worker::IDLE
        }
        (Work::Ask, Step::Asked { epoch, left }) => {
            let has_leave = worker.holds_claim || !rules.r5_claims_are_looked_at_again;
            worker.has_looked |= is_permitted(rules, state, epoch);
            match has_leave && worker.has_looked {
                true => worker.step = Step::Permitted { epoch, left },
                // Journaled as not sent, and given back.
                false => worker = Worker::IDLE,
            }
        }
        (Work::Send, Step::Permitted { epoch, left }) => {
            worker.step = match left > 0 || !rules.r10_requests_end_in_time {
                true => Step::InFlight { epoch, left },
                false => Step::Answered { epoch },
            };
        }
        (Work::Land, Step::InFlight { epoch, .. }) => {
            state.blobs &= !state.books[usize::from(epoch)].plan.unwrap_or_default();
            worker.step = Step::Answered { epoch };
        }
        (Work::GetLost, Step::InFlight { epoch, .. }) => worker.step = Step::Answered { epoch },
        (Work::TryAgain, Step::Answered { epoch }) => {
            worker.has_open_batch = false;
            worker.step = Step::Claimed { epoch };
        }
        (Work::Report, Step::Answered { epoch }) | (Work::ReportHalted { epoch }, _) => {
            state.books[usize::from(epoch)].is_reported = true;
            worker = Worker::IDLE;
        }
        _ => {}
    }
    state.workers[number] = worker;
}

/// A worker whose epoch is over, and that goes by no earlier look at the lock, gives its task back whatever it does next. Done
/// here at once: fewer states, and a coordinator that waits for its open batch waits no longer than it may.
pub fn forget_what_is_over(state: &mut State) {
    for number in 0..state.workers.len() {
        let worker = state.workers[number];
        let has_sent_nothing = matches!(
            worker.step,
            Step::Waiting { .. } | Step::Claimed { .. } | Step::Asked { .. }
        );
        let Some(epoch) = worker.epoch() else { continue };
        let phase = state.coordinators[usize::from(epoch)].phase;
        if has_sent_nothing && !worker.has_looked && phase != Phase::Allowed {
            state.workers[number] = Worker::IDLE;
        }
    }
}
