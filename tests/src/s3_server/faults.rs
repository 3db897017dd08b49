//! The scripted faults of a server: which requests they meet and what they do to them. A request meets every
//! fault that matches it, in the order in which they were added.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::call::{Call, Operation};

/// What goes wrong, and when.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The requests that meet it.
    pub when: Matcher,
    /// How many requests it meets; `None` is all of them.
    pub times: Option<u64>,
    /// What it does to them.
    pub effect: Effect,
}

/// Which requests a fault meets; the default is all of them.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// Only requests of this kind.
    pub operation: Option<Operation>,
    /// Only requests whose key (listing prefix, any key of a `DeleteObjects`) contains this.
    pub text: Option<String>,
    /// Lets the first so many requests pass that match otherwise.
    pub skip: u64,
    /// Lets so many requests pass between two that it meets.
    pub between: u64,
}

/// What a fault does. Except where it says otherwise the operation is not executed.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answers with an HTTP status and an error document of this S3 code.
    Status(u16, &'static str),
    /// Executes and answers this much later, also if the client has gone away by then.
    DelayBefore(Duration),
    /// Executes, then answers this much later.
    DelayAfter(Duration),
    /// Never answers.
    Hang,
    /// Executes, announces the whole answer, sends this many bytes of its body and closes the connection.
    CutBody(usize),
    /// Answers with an HTML page and status 200.
    Html200,
    /// Answers with an error document and status 200.
    ErrorDocument200,
    /// Closes the connection without an answer.
    DropConnection,
    /// Executes, then closes the connection without an answer.
    DropAfter,
    /// Listing: the first half of the page, said to be truncated, without a token.
    ShortPage,
    /// Listing: the whole page, said to be truncated, without a token.
    TruncatedWithoutToken,
    /// Listing: a token on a page that is said to be the last.
    TokenWithoutTruncated,
    /// Listing: the keys in reverse order.
    UnorderedPage,
    /// Listing: one key more, which sorts last and does not have the prefix.
    ForeignKeyInPage,
    /// `DeleteObjects`: an error for each key that matches; these keys stay.
    KeyError {
        /// The S3 code of the error.
        code: &'static str,
        /// Its message.
        message: &'static str,
    },
    /// `DeleteObjects`: keys that match are left out of the answer, and stay.
    KeySilentlyMissing,
    /// `DeleteObjects`: the answer says that this key was deleted, too.
    UnexpectedKey(&'static str),
}

impl Fault {
    /// Makes a fault that meets all requests of a kind, for ever.
    #[must_use]
    pub fn on(operation: Operation, effect: Effect) -> Self {
        let when = Matcher {
            operation: Some(operation),
            ..Matcher::default()
        };
        Self {
            when,
            times: None,
            effect,
        }
    }

    /// Makes a fault that meets every request, for ever.
    #[must_use]
    pub fn on_all(effect: Effect) -> Self {
        Self {
            when: Matcher::default(),
            times: None,
            effect,
        }
    }

    /// Narrows the fault to keys (listing prefixes) that contain a text.
    #[must_use]
    pub fn of_keys_with(mut self, text: impl Into<String>) -> Self {
        self.when.text = Some(text.into());
        self
    }

    /// Lets the first so many matching requests pass.
    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.when.skip = skip;
        self
    }

    /// Meets one matching request of so many.
    #[must_use]
    pub fn one_in(mut self, requests: u64) -> Self {
        self.when.between = requests.saturating_sub(1);
        self
    }

    /// Ends the fault once it has met so many requests.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

/// The faults of a server.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    met: u64,
}

/// A fault that a request has met: what it does, and to which of its keys.
#[derive(Clone, Debug)]
pub(super) struct MetFault {
    pub effect: Effect,
    pub text: Option<String>,
}

impl MetFault {
    pub(super) fn concerns(&self, key: &str) -> bool {
        self.text.as_ref().is_none_or(|text| key.contains(text.as_str()))
    }
}

impl Faults {
    /// Adds a fault for requests that come from now on.
    pub fn add(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Ends all faults (what has met one already stays as it is).
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    /// Returns how many times a request has met a fault.
    #[must_use]
    pub fn met(&self) -> u64 {
        self.lock().met
    }

    /// Returns what happens to a request, and counts it in every fault that it meets.
    pub(super) fn meet(&self, call: &Call) -> Vec<MetFault> {
        let mut state = self.lock();
        let met: Vec<MetFault> = state
            .faults
            .iter_mut()
            .filter_map(|fault| fault.meet(call))
            .collect();
        state.met += met.len() as u64;
        met
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    fn meet(&mut self, call: &Call) -> Option<MetFault> {
        let met = MetFault {
            effect: self.effect.clone(),
            text: self.when.text.clone(),
        };
        let is_match = self
            .when
            .operation
            .is_none_or(|operation| operation == call.operation)
            && (self.when.text.is_none() || call.keys.iter().any(|key| met.concerns(key)));
        if !is_match || self.times == Some(0) {
            return None;
        }
        if self.when.skip > 0 {
            self.when.skip -= 1;
            return None;
        }
        self.when.skip = self.when.between;
        self.times = self.times.map(|times| times - 1);
        Some(met)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_skips_then_meets_then_ends() {
        let faults = Faults::default();
        faults.add(
            Fault::on(Operation::Get, Effect::Hang)
                .of_keys_with("b")
                .after(1)
                .times(2),
        );
        let meets = |operation, key: &str| {
            faults
                .meet(&Call {
                    operation,
                    keys: vec!["x".into(), key.into()],
                    after: None,
                })
                .len()
        };
        assert_eq!([meets(Operation::Get, "a"), meets(Operation::Put, "b")], [0, 0]);
        let gets: Vec<usize> = (0..4).map(|_| meets(Operation::Get, "abc")).collect();
        assert_eq!(gets, [0, 1, 1, 0]);
        assert_eq!(faults.met(), 2);
    }
}
