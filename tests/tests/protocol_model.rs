//! Models of the protocol, each checked over all its states: with every rule kept nothing goes wrong, and for each rule that is
//! switched off the checker finds what it is for. docs/protocol-model.md says what is modelled and what is not.

#[path = "protocol_model/deletion.rs"]
mod deletion;

use stateright::{Checker, Model};
use deletion::{Deletion, NO_LIVE_BLOB_IS_MISSING, Rules};

#[test]
fn no_live_blob_goes_missing() {
    let checker = Deletion { rules: Rules::ALL }.checker().spawn_bfs().join();
    println!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
    for (name, path) in checker.discoveries() { println!("{name}: {}", path.into_actions().len()); }
    checker.assert_properties();
}

#[test]
fn all_off() {
    let all = Rules::ALL;
    for (name, rules) in [
        ("r1", Rules { r1_references_are_kept: false, ..all }),
        ("r2", Rules { r2_plans_are_traced: false, ..all }),
        ("r5", Rules { r5_claimants_wait: false, ..all }),
        ("r5b", Rules { r5_claims_are_looked_at_again: false, ..all }),
        ("r10", Rules { r10_requests_end_in_time: false, ..all }),
        ("r11", Rules { r11_epochs_mark_anew: false, ..all }),
        ("r11b", Rules { r11_read_only_is_held: false, ..all }),
        ("write", Rules { lapsed_lock_is_not_written: false, ..all }),
        ("remove", Rules { lapsed_lock_is_not_removed: false, ..all }),
        ("silence", Rules { silence_after_every_delete: false, ..all }),
    ] {
        let began = std::time::Instant::now();
        let checker = Deletion { rules }.checker().finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found = checker.discovery(NO_LIVE_BLOB_IS_MISSING);
        println!("== {name}: {:?}, {} states: {:#?}", began.elapsed(), checker.unique_state_count(), found.map(|path| path.into_actions()));
    }
}
