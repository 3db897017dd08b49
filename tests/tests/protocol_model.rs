#[path = "protocol_model/accounting.rs"]
mod accounting;
#[path = "protocol_model/deletion.rs"]
mod deletion;

#[path = "protocol_model/order.rs"]
mod order;
use stateright::{Checker, Model};
use accounting::*;

#[test]
fn acc() {
    for bounds in [Bounds::ONE_TASK, Bounds::TWO_RUNS] {
    let began = std::time::Instant::now();
    let checker = accounting::Accounting { rules: accounting::Rules::ALL, bounds }.checker().finish_when(stateright::HasDiscoveries::AnyFailures).timeout(std::time::Duration::from_secs(60)).spawn_bfs().join();
    println!("{:?} {} states, depth {}", began.elapsed(), checker.unique_state_count(), checker.max_depth());
    for (name, path) in checker.discoveries() { println!("{name}: {:?}", path.into_actions()); }
    }
}

#[test]
fn acc_off() {
    let all = Rules::ALL;
    for (name, rules) in [
        ("start", Rules { starts_are_journaled: false, ..all }),
        ("leave", Rules { claims_are_looked_at_again: false, ..all }),
        ("wait", Rules { claimants_wait: false, ..all }),
        ("settle", Rules { open_batches_are_settled: false, ..all }),
        ("union", Rules { journals_are_united: false, ..all }),
        ("looks", Rules { looks_come_before_questions: false, ..all }),
        ("last", Rules { last_delete_is_settled: false, ..all }),
        ("epochs", Rules { epochs_are_compared: false, ..all }),
        ("pred", Rules { only_predecessors_are_settled: false, ..all }),
        ("over", Rules { settled_is_not_written_over: false, ..all }),
    ] {
    for bounds in [Bounds::ONE_TASK, Bounds::TWO_RUNS] {
        let began = std::time::Instant::now();
        let checker = Accounting { rules, bounds }.checker().finish_when(stateright::HasDiscoveries::AnyFailures).timeout(std::time::Duration::from_secs(20)).spawn_bfs().join();
        println!("== {name}: {:?}, {} states", began.elapsed(), checker.unique_state_count());
        for name in [FREED_IS_EXACT, NEVER_TOO_MUCH] {
        if let Some(path) = checker.discovery(name) { println!("  {name} {:?}", path.into_actions()); }
        }
    }}
}

#[test]
fn ord() {
    use order::*;
    let all = Rules::ALL;
    for (name, rules) in [
        ("all", all),
        ("due", Rules { workers_look_at_the_stage: false, ..all }),
        ("wait", Rules { stages_wait: false, ..all }),
        ("hold", Rules { links_hold_blobs_back: false, ..all }),
    ] {
        let began = std::time::Instant::now();
        for name in [SERVED_IS_WHOLE, NOTHING_IS_LEFT] {
        let checker = Order { rules }.checker().finish_when(stateright::HasDiscoveries::AllOf([name].into())).timeout(std::time::Duration::from_secs(20)).spawn_bfs().join();
        if let Some(path) = checker.discovery(name) { println!("  {name} {:?}", path.into_actions()); }
        for name in checker.discoveries() { println!("  {}", name.0); }
        println!("== {:?}, {} states", began.elapsed(), checker.unique_state_count());
        }
        println!("^^ {name}");
    }
}
