//! The workers' steps: worker/src/delete_blobs.rs, settle_batches.rs, common/src/journal.rs, nats/hand.rs.

use super::books::{Batch, BatchEnd, Fate, planned};
use super::state::{State, Step, Tenure, Worker};
use super::{Accounting, Action};

/// What a worker may do next.
pub fn actions(model: &Accounting, state: &State, number: usize, actions: &mut Vec<Action>) {
    let worker = state.workers[number];
    let tenure = worker.tenure;
    match worker.step {
        Step::Idle => {
            let latest = state.tenures_had();
            let may_be_claimed = |tenure: Tenure| tenure.plan != 0 && tenure.claims < model.bounds.claims;
            if state.is_locked && state.tenures[latest - 1].is_some_and(may_be_claimed) {
                actions.push(Action::Claim { worker: number });
            }
        }
        Step::Waiting => {
            let is_in_flight = |other: &Worker| other.has_task_of(tenure) && other.is_in_flight();
            if !model.rules.claimants_wait || !state.workers.iter().any(is_in_flight) {
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

/// Does it. `None` where there is no place for it in the model.
pub fn apply(model: &Accounting, state: &mut State, number: usize, action: Action) -> Option<()> {
    let mut worker = state.workers[number];
    if let Action::Claim { .. } = action {
        worker.tenure = state.tenures_had() - 1;
    }
    let is_at_work = state.is_at_work(worker.tenure);
    let present = state.present;
    if matches!(action, Action::Settle { .. }) && model.rules.open_batches_are_settled {
        let looked_at = state.look_at(|place, _, batch| {
            let is_before = batch.claim < worker.claim || !model.rules.only_predecessors_are_settled;
            place == worker.tenure && is_before
        });
        state.write_down(&model.rules, looked_at, state.last_delete);
    }
    let tenure = state.tenures[worker.tenure].as_mut()?;
    match (action, worker.step) {
        (Action::Claim { .. }, Step::Idle) => {
            let holds_it = |other: &Worker| other.has_task_of(worker.tenure) && other.claim == tenure.claims;
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
            if model.rules.claimants_wait {
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
            let mut places = tenure.batches.iter().take(model.bounds.batches);
            let batch = places.position(|batch| *batch == Batch::NONE)?;
            tenure.batches[batch].started = model.rules.starts_are_journaled;
            tenure.batches[batch].claim = worker.claim;
            worker.step = Step::Started { batch };
        }
        (Action::Ask { .. }, Step::Started { batch }) => {
            let has_leave = worker.claim == tenure.claims || !model.rules.claims_are_looked_at_again;
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
            if !is_settled || !model.rules.settled_is_not_written_over {
                tenure.batches[batch].write_end(fates);
            }
            worker.step = Step::Ended { fates };
        }
        (Action::Report { .. }, Step::Ended { fates }) => {
            if !model.rules.journals_are_united {
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
