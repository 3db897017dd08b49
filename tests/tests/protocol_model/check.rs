//! Runs the checker.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// Visits all states: what must always hold does, and what must happen sometimes does, so that the model is not one in which
/// nothing happens.
pub fn hold_everywhere<M>(model: M)
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static> + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{} states, {} steps deep",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

/// Finds, and prints, a way to a state in which a property does not hold.
pub fn find_failure<M>(model: M, property: &'static str)
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static> + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AllOf([property].into()))
        .spawn_bfs()
        .join();
    let actions = checker.assert_any_discovery(property).into_actions();
    println!(
        "{} states until {property:?} fails:",
        checker.unique_state_count()
    );
    for action in actions {
        println!("    {action:?}");
    }
}
